//! One connection between a program of the host's and one of the guest's.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    time::Instant,
};

use nix::sys::epoll::EpollFlags;
use zerocopy::IntoBytes;

use super::{
    credit::{OWN_ROOM, OwnRoom, PeerRoom},
    packet::{
        HEADER_LEN, Header, MOST_DATA, Op, Packet, Ports, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE,
        SHUTDOWN_SEND,
    },
};
use crate::addrspace::GuestBuffer;

bitflags::bitflags! {
    /// What the guest is to be told, beside data.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Pending: u8 {
        const REQUEST = 1;
        const RESPONSE = 2;
        const SHUTDOWN = 4;
        const CREDIT_UPDATE = 8;
        const CREDIT_REQUEST = 16;
    }
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Lives,
    /// Both ends of the guest's are shut: it is told that this is done, and what it has sent still
    /// goes to the program.
    Closed,
    /// It cannot go on; the guest is told.
    Broken,
    /// The guest has ended it.
    Gone,
}

/// What has been put into a buffer of the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Nothing: there is nothing to say.
    Nothing,
    /// A packet of so many bytes.
    Packet(u32),
    /// An RST of so many bytes, which ends the connection.
    End(u32),
}

/// A connection's state.
#[derive(Debug)]
pub struct Connection {
    pub ports: Ports,
    guest_cid: u64,
    socket: UnixStream,
    /// Whether both sides have agreed to it.
    is_open: bool,
    peer_room: PeerRoom,
    own_room: OwnRoom,
    /// What the guest has sent and the program has no room for yet: less than is advertised.
    backlog: VecDeque<u8>,
    pending: Pending,
    /// There may be something to read from the program.
    is_readable: bool,
    /// The program has closed the socket, not only one direction.
    has_hung_up: bool,
    /// Which directions the program has ended, as the guest has been told or will be.
    program_ended: u32,
    /// Which directions the guest has ended.
    guest_ended: u32,
    /// The guest has been asked to say how much room it has.
    has_asked: bool,
    /// When it is given up, unless something happens before.
    pub deadline: Option<Instant>,
    /// Whether it stands in the queue of those that have something for the guest.
    pub is_queued: bool,
}

impl Connection {
    /// A connection that a program asks for: the guest is asked in turn, until `deadline`.
    pub fn asked_by_program(
        socket: UnixStream,
        guest_cid: u64,
        ports: Ports,
        deadline: Instant,
    ) -> Self {
        let new = Self::new(socket, guest_cid, ports);
        Self { pending: Pending::REQUEST, deadline: Some(deadline), ..new }
    }

    /// A connection that the guest asks for by `request`, to a program that listens.
    pub fn asked_by_guest(socket: UnixStream, guest_cid: u64, request: &Packet) -> Self {
        let mut new = Self::new(socket, guest_cid, request.ports);
        new.peer_room.update(request.buf_alloc, request.fwd_cnt);
        Self { pending: Pending::RESPONSE, is_open: true, ..new }
    }

    fn new(socket: UnixStream, guest_cid: u64, ports: Ports) -> Self {
        Self {
            ports,
            guest_cid,
            socket,
            is_open: false,
            peer_room: PeerRoom::default(),
            own_room: OwnRoom::default(),
            backlog: VecDeque::new(),
            pending: Pending::empty(),
            is_readable: false,
            has_hung_up: false,
            program_ended: 0,
            guest_ended: 0,
            has_asked: false,
            deadline: None,
            is_queued: false,
        }
    }

    /// The program's socket.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The guest has been told of the program's end in both directions, and is to confirm it.
    pub fn waits_for_confirmation(&self) -> bool {
        self.program_ended == SHUTDOWN_BOTH && !self.pending.contains(Pending::SHUTDOWN)
    }

    /// The program's socket, and what is to go there, when the guest knows of neither any more.
    pub fn into_rest(self) -> (UnixStream, VecDeque<u8>) {
        (self.socket, self.backlog)
    }

    /// Takes a packet of the guest's.
    pub fn take(&mut self, packet: Packet) -> Fate {
        self.peer_room.update(packet.buf_alloc, packet.fwd_cnt);
        self.has_asked = false;
        match packet.op {
            Op::Rst => Fate::Gone,
            Op::Response if !self.is_open => self.opened(),
            _ if !self.is_open => Fate::Broken,
            Op::Request | Op::Response => Fate::Broken,
            Op::Rw => self.take_data(packet.data),
            Op::Shutdown => self.take_shutdown(packet.flags),
            Op::CreditUpdate => Fate::Lives,
            Op::CreditRequest => {
                self.pending |= Pending::CREDIT_UPDATE;
                Fate::Lives
            }
        }
    }

    /// The guest has accepted.
    fn opened(&mut self) -> Fate {
        self.is_open = true;
        self.deadline = None;
        let line = format!("OK {}\n", self.ports.host);
        // A socket to which nothing has been written has room for a line.
        match (&self.socket).write(line.as_bytes()) {
            Ok(len) if len == line.len() => Fate::Lives,
            _ => Fate::Broken,
        }
    }

    fn take_data(&mut self, data: GuestBuffer) -> Fate {
        let may_send = self.guest_ended & SHUTDOWN_SEND == 0;
        if !may_send || self.own_room.receive(data.len() as u32).is_none() {
            return Fate::Broken;
        }
        if data.is_empty() {
            return Fate::Lives;
        }
        let mut done = 0;
        if self.backlog.is_empty() {
            match data.write_to(self.socket.as_fd(), None) {
                Ok(len) => done = len,
                Err(error) if is_temporary(&error) => {}
                Err(_) => return Fate::Broken,
            }
        }
        self.forwarded(done);
        let mut rest = vec![0; data.len().saturating_sub(done)];
        if data.read_at(done, &mut rest).is_none() || rest.is_empty() {
            return Fate::Lives;
        }
        self.backlog.extend(rest);
        self.flush()
    }

    fn take_shutdown(&mut self, flags: u32) -> Fate {
        self.guest_ended |= flags & SHUTDOWN_BOTH;
        if self.guest_ended == SHUTDOWN_BOTH {
            return Fate::Closed;
        }
        if self.guest_ended & SHUTDOWN_RECEIVE != 0 {
            // The program may be gone already.
            let _ = self.socket.shutdown(Shutdown::Read);
        }
        self.pass_on_end();
        Fate::Lives
    }

    /// The program sees the end of what the guest sends when it has got all of it.
    fn pass_on_end(&self) {
        if self.guest_ended & SHUTDOWN_SEND != 0 && self.backlog.is_empty() {
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }

    /// Something has happened to the program's socket.
    pub fn on_event(&mut self, events: EpollFlags) -> Fate {
        let ended = EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        self.has_hung_up |= events.intersects(ended);
        self.is_readable |= events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | ended);
        self.flush()
    }

    /// Gives the program what it has room for.
    fn flush(&mut self) -> Fate {
        if self.backlog.is_empty() {
            return Fate::Lives;
        }
        match write_all(&self.socket, &mut self.backlog) {
            Ok(written) => {
                self.forwarded(written);
                self.pass_on_end();
                Fate::Lives
            }
            Err(_) => Fate::Broken,
        }
    }

    fn forwarded(&mut self, bytes: usize) {
        self.own_room.forward(bytes as u32);
        if self.own_room.is_news() {
            self.pending |= Pending::CREDIT_UPDATE;
        }
    }

    /// Whether there is something for the guest, or may be.
    pub fn has_packet(&self) -> bool {
        let may_read = self.may_read() && (self.peer_room.free() > 0 || !self.has_asked);
        !self.pending.is_empty() || may_read
    }

    fn may_read(&self) -> bool {
        self.is_open && self.is_readable && self.guest_ended & SHUTDOWN_RECEIVE == 0
    }

    /// Puts the next packet into the guest's buffer, which has room for more than a header;
    /// `scratch` has room for the most data of one.
    pub fn fill(&mut self, room: &GuestBuffer, scratch: &mut [u8]) -> Filled {
        if let Some(op) = self.next_handshake() {
            return self.put(room, self.header(op), &[]);
        }
        if self.may_read() {
            let free = self.peer_room.free() as usize;
            let most = free.min(room.len() - HEADER_LEN).min(MOST_DATA).min(scratch.len());
            if most > 0 {
                match (&self.socket).read(&mut scratch[..most]) {
                    Ok(0) => self.program_has_ended(),
                    Ok(len) => {
                        self.peer_room.sent(len as u32);
                        let header = Header { len: (len as u32).into(), ..self.header(Op::Rw) };
                        return self.put(room, header, &scratch[..len]);
                    }
                    Err(error) if is_temporary(&error) => self.is_readable = false,
                    Err(_) => return self.end(room),
                }
            } else if !self.has_asked {
                self.has_asked = true;
                self.pending |= Pending::CREDIT_REQUEST;
            }
        }
        if self.take_pending(Pending::SHUTDOWN) {
            let flags = self.program_ended.into();
            return self.put(room, Header { flags, ..self.header(Op::Shutdown) }, &[]);
        }
        let update = self.take_pending(Pending::CREDIT_UPDATE);
        if self.take_pending(Pending::CREDIT_REQUEST) {
            return self.put(room, self.header(Op::CreditRequest), &[]);
        }
        match update {
            true => self.put(room, self.header(Op::CreditUpdate), &[]),
            false => Filled::Nothing,
        }
    }

    fn next_handshake(&mut self) -> Option<Op> {
        if self.take_pending(Pending::REQUEST) {
            return Some(Op::Request);
        }
        self.take_pending(Pending::RESPONSE).then_some(Op::Response)
    }

    fn take_pending(&mut self, what: Pending) -> bool {
        let has = self.pending.contains(what);
        self.pending.remove(what);
        has
    }

    /// The program sends no more; if it has closed its end, it receives no more either.
    fn program_has_ended(&mut self) {
        self.is_readable = false;
        let ended = if self.has_hung_up { SHUTDOWN_BOTH } else { SHUTDOWN_SEND };
        if self.program_ended | ended != self.program_ended {
            self.program_ended |= ended;
            self.pending |= Pending::SHUTDOWN;
        }
    }

    fn header(&self, op: Op) -> Header {
        Header::new(self.guest_cid, self.ports, op)
    }

    /// Every packet says how much room there is.
    fn put(&mut self, room: &GuestBuffer, header: Header, data: &[u8]) -> Filled {
        let fwd_cnt = self.own_room.tell().into();
        self.pending.remove(Pending::CREDIT_UPDATE);
        match put(room, &Header { buf_alloc: OWN_ROOM.into(), fwd_cnt, ..header }, data) {
            Some(len) => Filled::Packet(len),
            None => Filled::Nothing,
        }
    }

    fn end(&self, room: &GuestBuffer) -> Filled {
        put(room, &self.header(Op::Rst), &[]).map_or(Filled::Nothing, Filled::End)
    }
}

/// Writes a packet into a buffer, and says how long it is; `None`: it does not fit.
pub fn put(room: &GuestBuffer, header: &Header, data: &[u8]) -> Option<u32> {
    room.write_at(HEADER_LEN, data)?;
    room.write_at(0, header.as_bytes())?;
    u32::try_from(HEADER_LEN + data.len()).ok()
}

/// Writes as much as the socket takes, and says how many bytes.
pub fn write_all(mut socket: &UnixStream, bytes: &mut VecDeque<u8>) -> io::Result<usize> {
    let mut written = 0;
    while !bytes.is_empty() {
        match socket.write(bytes.as_slices().0) {
            Ok(len) => {
                bytes.drain(..len);
                written += len;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(written),
            Err(error) => return Err(error),
        }
    }
    // What a burst has taken is not kept.
    bytes.shrink_to(0);
    Ok(written)
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
