//! All that is connected: programs that have not said yet what they want, connections, and the rest
//! of what a guest has sent before it closed.

use std::{
    collections::{HashMap, VecDeque},
    fmt, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    time::{Duration, Instant},
};

use log::Level;
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    time::TimeSpec,
    timer::TimerSetTimeFlags,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags},
};

use super::{
    connection::{Connection, Fate, Filled, put, write_all},
    greeting::{self, Greeting},
    host::HostSocket,
    packet::{BadPacket, HEADER_LEN, Header, MOST_DATA, Op, Packet, Ports},
};
use crate::{addrspace::GuestBuffer, ratelimit::RateLimit};

/// The most of them at a time.
const MOST: usize = 256;
/// The most RSTs that wait for the guest to make room.
const MOST_REFUSED: usize = 256;

/// A program has this long to say what it wants, and the guest to accept it.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The guest has this long to confirm that a connection is over.
const CONFIRMATION: Duration = Duration::from_secs(30);
/// A program has this long to take the rest.
const LINGER: Duration = Duration::from_secs(60);
/// When the host had no file descriptors left, it is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);

/// Ports of the host's that the guest sees of programs that connect.
const FIRST_PORT: u32 = 1 << 30;

const LISTENER: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

enum Peer {
    /// A program that has not said yet which port it wants.
    Greeting {
        socket: UnixStream,
        deadline: Instant,
    },
    Connection(Box<Connection>),
    /// The guest has closed; the program still gets this.
    Lingering {
        socket: UnixStream,
        rest: VecDeque<u8>,
        deadline: Instant,
    },
}

impl Peer {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Greeting { deadline, .. } | Self::Lingering { deadline, .. } => Some(*deadline),
            Self::Connection(connection) => connection.deadline,
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Greeting { socket, .. } | Self::Lingering { socket, .. } => socket.as_fd(),
            Self::Connection(connection) => connection.fd(),
        }
    }
}

/// All of them. Whoever has this watches [`Self::events`].
pub struct Peers {
    /// The device's, for messages.
    name: String,
    host: Arc<HostSocket>,
    guest_cid: u64,
    epoll: Epoll,
    timer: TimerFd,
    /// When the timer goes off.
    alarm: Option<Instant>,
    peers: HashMap<u64, Peer>,
    by_ports: HashMap<Ports, u64>,
    next_id: u64,
    next_port: u32,
    /// Connections that may have something for the guest, each once.
    queue: VecDeque<u64>,
    refused: VecDeque<Header>,
    scratch: Box<[u8]>,
    trouble: RateLimit,
    refusals: RateLimit,
}

impl Peers {
    /// Nobody yet; those who wait at `host` are let in from now on.
    ///
    /// # Errors
    /// The host has no file descriptors left.
    pub fn new(name: String, host: Arc<HostSocket>, guest_cid: u64) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let edges = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(host.listener(), EpollEvent::new(edges, LISTENER))?;
        epoll.add(&timer, EpollEvent::new(edges, TIMER))?;
        Ok(Self {
            name,
            host,
            guest_cid,
            epoll,
            timer,
            alarm: None,
            peers: HashMap::new(),
            by_ports: HashMap::new(),
            next_id: 0,
            next_port: FIRST_PORT,
            queue: VecDeque::new(),
            refused: VecDeque::new(),
            scratch: vec![0; MOST_DATA].into(),
            trouble: RateLimit::new(3, Duration::from_secs(10)),
            refusals: RateLimit::new(3, Duration::from_secs(10)),
        })
    }

    /// Readable when [`Self::on_events`] has something to do.
    pub fn events(&self) -> &OwnedFd {
        &self.epoll.0
    }

    /// Does what the host's side has to do now.
    pub fn on_events(&mut self) {
        let mut events = [EpollEvent::empty(); 64];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        for event in &events[..count] {
            match event.data() {
                LISTENER => self.accept(),
                TIMER => self.expire(Instant::now()),
                id => self.on_event(id, event.events()),
            }
        }
    }

    fn accept(&mut self) {
        loop {
            match self.host.listener().accept() {
                // Who is one too many sees the end of the connection.
                Ok(_) if self.peers.len() >= MOST => {}
                Ok((socket, _)) => {
                    let deadline = Instant::now() + HANDSHAKE;
                    let set = socket.set_nonblocking(true);
                    if set.is_ok() {
                        self.add(Peer::Greeting { socket, deadline });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.complain(
                        Level::Warn,
                        &format_args!("no connection from the host: {error}"),
                    );
                    return self.wake_at(Instant::now() + RETRY);
                }
            }
        }
    }

    /// Adds a peer and watches its socket; `None`: the host has no memory left for that.
    fn add(&mut self, peer: Peer) -> Option<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let events = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        self.epoll.add(peer.fd(), EpollEvent::new(events, id)).ok()?;
        if let Some(deadline) = peer.deadline() {
            self.wake_at(deadline);
        }
        self.peers.insert(id, peer);
        Some(id)
    }

    /// Has [`Self::expire`] called then, or before.
    fn wake_at(&mut self, deadline: Instant) {
        if self.alarm.is_some_and(|alarm| alarm <= deadline) {
            return;
        }
        self.alarm = Some(deadline);
        // Never 0, which would stop the timer.
        let wait = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        let expiration = Expiration::OneShot(TimeSpec::from_duration(wait));
        // Fails for none that can be set.
        let _ = self.timer.set(expiration, TimerSetTimeFlags::empty());
    }

    /// Ends what has not finished in its time.
    fn expire(&mut self, now: Instant) {
        self.alarm = None;
        let is_late = |peer: &Peer| peer.deadline().is_some_and(|deadline| deadline <= now);
        let late: Vec<u64> =
            self.peers.iter().filter(|(_, peer)| is_late(peer)).map(|(id, _)| *id).collect();
        for id in late {
            self.settle(id, Fate::Broken);
        }
        if let Some(next) = self.peers.values().filter_map(Peer::deadline).min() {
            self.wake_at(next);
        }
        self.accept();
    }

    fn on_event(&mut self, id: u64, events: EpollFlags) {
        match self.peers.get_mut(&id) {
            None => {}
            Some(Peer::Greeting { socket, .. }) => match greeting::take(socket) {
                Ok(Greeting::Incomplete) => {}
                Ok(Greeting::Port(port)) => self.ask_guest(id, port, events),
                Err(_) => drop(self.remove(id)),
            },
            Some(Peer::Connection(connection)) => {
                let fate = connection.on_event(events);
                self.settle(id, fate);
            }
            Some(Peer::Lingering { socket, rest, .. }) => {
                let is_over = write_all(socket, rest).is_err() || rest.is_empty();
                if is_over {
                    self.remove(id);
                }
            }
        }
    }

    /// A program wants to connect to a port of the guest's.
    fn ask_guest(&mut self, id: u64, guest: u32, events: EpollFlags) {
        let Some(Peer::Greeting { socket, .. }) = self.peers.remove(&id) else { return };
        let ports = loop {
            let ports = Ports { host: self.next_port, guest };
            self.next_port = FIRST_PORT | ((self.next_port + 1) % FIRST_PORT);
            // There are far fewer connections than ports.
            if !self.by_ports.contains_key(&ports) {
                break ports;
            }
        };
        let deadline = Instant::now() + HANDSHAKE;
        self.wake_at(deadline);
        let mut connection = Connection::asked_by_program(socket, self.guest_cid, ports, deadline);
        // What came behind the line has been announced already.
        connection.on_event(events | EpollFlags::EPOLLIN);
        self.by_ports.insert(ports, id);
        self.peers.insert(id, Peer::Connection(Box::new(connection)));
        self.settle(id, Fate::Lives);
    }

    /// Takes what the guest has sent.
    pub fn take(&mut self, buffer: GuestBuffer) {
        match Packet::read(buffer, self.guest_cid) {
            Ok(packet) => match self.by_ports.get(&packet.ports) {
                Some(id) => self.take_for(*id, packet),
                None if packet.op == Op::Request => self.ask_host(&packet),
                None if packet.op == Op::Rst => {}
                None => self.refuse(packet.ports),
            },
            Err(BadPacket::Unknown(header)) if header.is_rst() => {}
            Err(BadPacket::Unknown(header)) => self.answer(header.refused()),
            Err(bad) => self.complain(Level::Warn, &bad),
        }
    }

    fn take_for(&mut self, id: u64, packet: Packet) {
        if let Some(Peer::Connection(connection)) = self.peers.get_mut(&id) {
            let fate = connection.take(packet);
            self.settle(id, fate);
        }
    }

    /// The guest wants to connect to a port of the host's.
    fn ask_host(&mut self, request: &Packet) {
        let ports = request.ports;
        if self.peers.len() >= MOST {
            return self.refuse(ports);
        }
        let socket = match self.host.connect(ports.host) {
            Ok(socket) => socket,
            Err(error) => {
                let what = format_args!("no connection to port {}: {error}", ports.host);
                self.complain(Level::Debug, &what);
                return self.refuse(ports);
            }
        };
        let connection = Connection::asked_by_guest(socket, self.guest_cid, request);
        match self.add(Peer::Connection(Box::new(connection))) {
            None => self.refuse(ports),
            Some(id) => {
                self.by_ports.insert(ports, id);
                self.settle(id, Fate::Lives);
            }
        }
    }

    /// Does to a peer what has been found for it.
    fn settle(&mut self, id: u64, fate: Fate) {
        let Some(Peer::Connection(connection)) = self.peers.get_mut(&id) else {
            if fate != Fate::Lives {
                self.remove(id);
            }
            return;
        };
        let ports = connection.ports;
        match fate {
            Fate::Lives => {
                if !connection.is_queued && connection.has_packet() {
                    connection.is_queued = true;
                    self.queue.push_back(id);
                }
                if connection.deadline.is_none() && connection.waits_for_confirmation() {
                    let deadline = Instant::now() + CONFIRMATION;
                    connection.deadline = Some(deadline);
                    self.wake_at(deadline);
                }
            }
            Fate::Gone => drop(self.remove(id)),
            Fate::Broken => {
                self.remove(id);
                self.refuse(ports);
            }
            Fate::Closed => {
                self.refuse(ports);
                self.linger(id);
            }
        }
    }

    /// What the guest has sent still goes to the program.
    fn linger(&mut self, id: u64) {
        let Some(connection) = self.remove(id) else { return };
        let (socket, rest) = connection.into_rest();
        if rest.is_empty() {
            return;
        }
        let deadline = Instant::now() + LINGER;
        self.wake_at(deadline);
        self.peers.insert(id, Peer::Lingering { socket, rest, deadline });
    }

    /// Takes a peer away; the watch for its socket goes with that.
    fn remove(&mut self, id: u64) -> Option<Connection> {
        let Some(Peer::Connection(connection)) = self.peers.remove(&id) else { return None };
        self.by_ports.remove(&connection.ports);
        if connection.is_queued {
            // A guest that makes no room would have it grow for ever.
            self.queue.retain(|queued| *queued != id);
        }
        Some(*connection)
    }

    fn refuse(&mut self, ports: Ports) {
        self.answer(Header::new(self.guest_cid, ports, Op::Rst));
    }

    fn answer(&mut self, rst: Header) {
        if self.refused.len() < MOST_REFUSED {
            self.refused.push_back(rst);
        }
    }

    /// Whether there is something for the guest, or may be.
    pub fn has_packets(&self) -> bool {
        !self.refused.is_empty() || !self.queue.is_empty()
    }

    /// Puts the next packet for the guest into its buffer and says how long it is; `None`: there is
    /// none. A buffer without room for data is given back empty.
    pub fn fill(&mut self, room: &GuestBuffer) -> Option<u32> {
        if room.len() <= HEADER_LEN {
            self.complain(
                Level::Warn,
                &format_args!("{} bytes are no room for a packet", room.len()),
            );
            return Some(0);
        }
        if let Some(rst) = self.refused.pop_front() {
            return put(room, &rst, &[]);
        }
        while let Some(id) = self.queue.pop_front() {
            let Some(Peer::Connection(connection)) = self.peers.get_mut(&id) else { continue };
            connection.is_queued = false;
            match connection.fill(room, &mut self.scratch) {
                Filled::Nothing => self.settle(id, Fate::Lives),
                Filled::Packet(len) => {
                    self.settle(id, Fate::Lives);
                    return Some(len);
                }
                Filled::End(len) => {
                    self.remove(id);
                    return Some(len);
                }
            }
        }
        None
    }

    fn complain(&self, level: Level, what: &dyn fmt::Display) {
        let limit = if level == Level::Warn { &self.trouble } else { &self.refusals };
        if let Some(untold) = limit.pass() {
            log::log!(level, "{}: {what} ({untold} more such since the last told)", self.name);
        }
    }
}
