//! The device as its driver and the host's programs see it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use proptest::prelude::*;
use tempfile::TempDir;
use zerocopy::{FromBytes, IntoBytes};

use super::{
    packet::{BadPacket, HEADER_LEN, Header, Op, Packet, Ports, SHUTDOWN_BOTH, SHUTDOWN_SEND},
    *,
};
use crate::{
    addr::GuestPhysAddr,
    virtio::testing::{Desc, Driver, RAM},
};

const CID: u64 = 52;
/// What the guest says it has room for.
const ROOM: u32 = 64 << 10;
/// Each buffer for packets to the guest.
const BUFFER: u32 = 4096;

/// A device with a driver, and the guest's side of connections.
struct Guest {
    driver: Driver,
    dir: TempDir,
    /// Buffers for packets to the guest that have not come back.
    buffers: usize,
    fwd_cnt: u32,
}

impl Guest {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = VsockConfig { cid: CID as u32, path: dir.path().join("v.sock") };
        let device = Arc::new(Vsock::new("vsock0".into(), &config).unwrap());
        Self { driver: Driver::new(device, 0), dir, buffers: 0, fwd_cnt: 0 }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("v.sock")
    }

    fn listen(&self, port: u32) -> UnixListener {
        UnixListener::bind(self.dir.path().join(format!("v.sock_{port}"))).unwrap()
    }

    /// A packet as the guest sends it; its addresses are as a connection names them.
    fn header(&self, ports: Ports, op: Op, len: usize) -> Header {
        let toward_guest = Header::new(CID, ports, op);
        Header {
            src_cid: toward_guest.dst_cid,
            dst_cid: toward_guest.src_cid,
            src_port: toward_guest.dst_port,
            dst_port: toward_guest.src_port,
            len: (len as u32).into(),
            buf_alloc: ROOM.into(),
            fwd_cnt: self.fwd_cnt.into(),
            ..toward_guest
        }
    }

    #[track_caller]
    fn send_raw(&mut self, header: Header, data: &[u8]) {
        self.driver.request(1, &[header.as_bytes(), data], &[]);
    }

    #[track_caller]
    fn send(&mut self, ports: Ports, op: Op, data: &[u8]) {
        self.send_raw(self.header(ports, op, data.len()), data);
    }

    #[track_caller]
    fn shut_down(&mut self, ports: Ports, flags: u32) {
        let header = self.header(ports, Op::Shutdown, 0);
        self.send_raw(Header { flags: flags.into(), ..header }, &[]);
    }

    /// Makes room for a packet.
    fn make_room(&mut self) {
        self.driver.push(0, &[], &[BUFFER]);
        self.driver.kick(0);
        self.buffers += 1;
    }

    /// Waits for the next packet to the guest.
    #[track_caller]
    fn receive(&mut self) -> (Header, Vec<u8>) {
        if self.buffers == 0 {
            self.make_room();
        }
        let (head, len) = self.driver.wait_used(0);
        self.buffers -= 1;
        let bytes = self.driver.written(0, head);
        let (header, rest) = Header::read_from_prefix(&bytes).unwrap();
        let data = rest[..len as usize - HEADER_LEN].to_vec();
        assert_eq!(header.len.get() as usize, data.len());
        self.fwd_cnt += header.len.get();
        (header, data)
    }

    /// Waits for a packet with this operation, of this connection, without data.
    #[track_caller]
    fn expect(&mut self, ports: Ports, op: Op) -> Header {
        let (header, _) = self.receive();
        assert_eq!((header.op.get(), header.src_port.get()), (op as u16, ports.host), "{header:?}");
        assert_eq!((header.dst_port.get(), header.dst_cid.get()), (ports.guest, CID));
        header
    }

    /// Waits for so many bytes of data.
    #[track_caller]
    fn receive_data(&mut self, ports: Ports, len: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < len {
            let (header, data) = self.receive();
            if header.op.get() == Op::CreditRequest as u16 {
                self.send(ports, Op::CreditUpdate, &[]);
                continue;
            }
            assert_eq!(header.op.get(), Op::Rw as u16, "{header:?}");
            all.extend(data);
        }
        all
    }

    /// A connection from a program of the host's to the guest's port.
    #[track_caller]
    fn connected_by_program(&mut self, guest: u32) -> (Ports, BufReader<UnixStream>) {
        let mut program = UnixStream::connect(self.path()).unwrap();
        program.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        writeln!(program, "CONNECT {guest}").unwrap();
        let (header, _) = self.receive();
        assert_eq!((header.op.get(), header.dst_port.get()), (Op::Request as u16, guest));
        let ports = Ports { host: header.src_port.get(), guest };
        self.send(ports, Op::Response, &[]);
        let mut program = BufReader::new(program);
        let mut line = String::new();
        program.read_line(&mut line).unwrap();
        assert_eq!(line, format!("OK {}\n", ports.host));
        (ports, program)
    }

    /// A connection from the guest to a program that listens at the host's port.
    #[track_caller]
    fn connected_by_guest(&mut self, ports: Ports) -> UnixStream {
        let listener = self.listen(ports.host);
        self.send(ports, Op::Request, &[]);
        self.expect(ports, Op::Response);
        let (program, _) = listener.accept().unwrap();
        program.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        program
    }
}

const PORTS: Ports = Ports { host: 1234, guest: 4321 };

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251 + i / 1000) as u8).collect()
}

#[test]
fn a_program_reaches_the_guest_and_both_end_in_their_turn() {
    let mut guest = Guest::new();
    let (ports, mut program) = guest.connected_by_program(1024);
    program.get_mut().write_all(b"ping").unwrap();
    assert_eq!(guest.receive_data(ports, 4), b"ping");
    guest.send(ports, Op::Rw, b"pong");
    let mut four = [0; 4];
    program.read_exact(&mut four).unwrap();
    assert_eq!(&four, b"pong");

    // Half closed, it still carries the other direction.
    program.get_mut().shutdown(Shutdown::Write).unwrap();
    let header = guest.expect(ports, Op::Shutdown);
    assert_eq!(header.flags.get(), SHUTDOWN_SEND);
    guest.send(ports, Op::Rw, b"more");
    program.read_exact(&mut four).unwrap();
    assert_eq!(&four, b"more");
    guest.shut_down(ports, SHUTDOWN_BOTH);
    guest.expect(ports, Op::Rst);
    assert_eq!(program.read(&mut four).unwrap(), 0);
}

#[test]
fn the_guest_reaches_a_program() {
    let mut guest = Guest::new();
    let mut program = guest.connected_by_guest(PORTS);
    guest.send(PORTS, Op::Rw, b"hello");
    let mut five = [0; 5];
    program.read_exact(&mut five).unwrap();
    assert_eq!(&five, b"hello");
    // The guest sends no more, and the program still answers.
    guest.shut_down(PORTS, SHUTDOWN_SEND);
    assert_eq!(program.read(&mut five).unwrap(), 0);
    program.write_all(b"bye").unwrap();
    assert_eq!(guest.receive_data(PORTS, 3), b"bye");
    drop(program);
    let header = guest.expect(PORTS, Op::Shutdown);
    assert_eq!(header.flags.get(), SHUTDOWN_BOTH);
    guest.send(PORTS, Op::Rst, &[]);
    // It is gone: what still comes for it is refused.
    guest.send(PORTS, Op::CreditUpdate, &[]);
    guest.expect(PORTS, Op::Rst);
}

#[test]
fn what_is_not_there_is_refused() {
    let mut guest = Guest::new();
    for op in [Op::Request, Op::Response, Op::Shutdown, Op::Rw, Op::CreditUpdate, Op::CreditRequest]
    {
        guest.send(PORTS, op, &[]);
        guest.expect(PORTS, Op::Rst);
    }
    let known = guest.header(PORTS, Op::Request, 0);
    for unknown in [
        Header { kind: 2.into(), ..known },
        Header { op: 99.into(), ..known },
        Header { dst_cid: 7.into(), ..known },
    ] {
        guest.send_raw(unknown, &[]);
        let (answer, _) = guest.receive();
        assert_eq!(answer.op.get(), Op::Rst as u16);
        assert_eq!((answer.kind, answer.src_cid), (unknown.kind, unknown.dst_cid));
        // Nobody answers an RST.
        guest.send_raw(Header { op: (Op::Rst as u16).into(), ..unknown }, &[]);
    }
    // The guest has no port of this number: the program sees the end.
    let mut program = UnixStream::connect(guest.path()).unwrap();
    program.write_all(b"CONNECT 5\n").unwrap();
    let (request, _) = guest.receive();
    let ports = Ports { host: request.src_port.get(), guest: 5 };
    guest.send(ports, Op::Rst, &[]);
    assert_eq!(program.read(&mut [0]).unwrap(), 0);
    // Nor is there anybody for what is no greeting.
    let mut program = UnixStream::connect(guest.path()).unwrap();
    program.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(!matches!(program.read(&mut [0]), Ok(1..)));
}

/// A guest that keeps to the rules of another protocol version, or to none.
#[test]
fn what_makes_no_sense_ends_the_connection() {
    let mut guest = Guest::new();
    let bad: [(Op, u32); 3] = [(Op::Request, 0), (Op::Response, 0), (Op::Rw, SHUTDOWN_SEND)];
    for (port, (op, ended)) in (100..).zip(bad) {
        let ports = Ports { host: port, guest: 1 };
        let mut program = guest.connected_by_guest(ports);
        if ended != 0 {
            guest.shut_down(ports, ended);
        }
        guest.send(ports, op, b"x");
        guest.expect(ports, Op::Rst);
        assert_eq!(program.read(&mut [0]).unwrap(), 0, "{op:?}");
    }
    // Data before the guest has accepted.
    let mut program = UnixStream::connect(guest.path()).unwrap();
    program.write_all(b"CONNECT 5\n").unwrap();
    let (request, _) = guest.receive();
    let ports = Ports { host: request.src_port.get(), guest: 5 };
    guest.send(ports, Op::Rw, b"early");
    guest.expect(ports, Op::Rst);
    assert_eq!(program.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_megabyte_each_way_arrives_as_it_was_sent() {
    let mut guest = Guest::new();
    let mut program = guest.connected_by_guest(PORTS);
    let sent = pattern(1 << 20);

    let (mut writer, copy) = (program.try_clone().unwrap(), sent.clone());
    let writing = thread::spawn(move || writer.write_all(&copy).unwrap());
    assert!(guest.receive_data(PORTS, sent.len()) == sent);
    writing.join().unwrap();

    let reading = thread::spawn(move || {
        let mut got = vec![0; 1 << 20];
        program.read_exact(&mut got).unwrap();
        (program, got)
    });
    let mut room = credit::PeerRoom::default();
    room.update(credit::OWN_ROOM, 0);
    for piece in sent.chunks(64 << 10) {
        while (room.free() as usize) < piece.len() {
            let update = guest.expect(PORTS, Op::CreditUpdate);
            room.update(update.buf_alloc.get(), update.fwd_cnt.get());
        }
        room.sent(piece.len() as u32);
        guest.send(PORTS, Op::Rw, piece);
    }
    let (_program, got) = reading.join().unwrap();
    assert!(got == sent);
}

/// Neither side's program reads: all that is held is what has been advertised.
#[test]
fn nobody_sends_more_than_there_is_room_for() {
    let mut guest = Guest::new();
    let mut program = guest.connected_by_guest(PORTS);
    // The guest does not say that it has passed anything on.
    program.set_nonblocking(true).unwrap();
    while program.write(&[7; 4096]).is_ok() {}
    let mut got = 0;
    loop {
        let (header, data) = guest.receive();
        got += data.len();
        if header.op.get() == Op::CreditRequest as u16 {
            break;
        }
    }
    assert_eq!(got, ROOM as usize);
    // Now the other way: beyond what the program's socket takes and what has been advertised.
    let piece = vec![1; 64 << 10];
    let mut header = guest.header(PORTS, Op::Rw, piece.len());
    header.fwd_cnt = 0.into();
    for _ in 0..32 {
        guest.send_raw(header, &piece);
    }
    while guest.receive().0.op.get() != Op::Rst as u16 {}
}

/// What the guest has sent before it closed arrives, however slow the program is.
#[test]
fn the_rest_arrives_after_the_guest_has_closed() {
    let mut guest = Guest::new();
    let mut program = guest.connected_by_guest(PORTS);
    let sent = pattern(256 << 10);
    for piece in sent.chunks(64 << 10) {
        guest.send(PORTS, Op::Rw, piece);
    }
    guest.shut_down(PORTS, SHUTDOWN_BOTH);
    loop {
        let (header, _) = guest.receive();
        if header.op.get() == Op::Rst as u16 {
            break;
        }
    }
    let mut got = Vec::new();
    program.read_to_end(&mut got).unwrap();
    assert!(got == sent, "{} bytes", got.len());
}

#[test]
fn there_is_an_end_to_connections_and_to_refusals() {
    let mut guest = Guest::new();
    let programs: Vec<_> =
        (0..300).filter_map(|_| UnixStream::connect(guest.path()).ok()).collect();
    // Who is one too many sees the end; the others wait.
    let mut last = programs.last().unwrap();
    last.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(last.read(&mut [0]).unwrap(), 0);
    drop(programs);
    // Without room for answers, asking on and on is answered as far as there is a place for that.
    for guest_port in 0..1000 {
        guest.send(Ports { host: 1, guest: guest_port }, Op::Request, &[]);
    }
    let program = guest.connected_by_guest_among_refusals();
    drop(program);
}

impl Guest {
    fn connected_by_guest_among_refusals(&mut self) -> UnixStream {
        let listener = self.listen(PORTS.host);
        self.send(PORTS, Op::Request, &[]);
        let mut refused = 0;
        while self.receive().0.op.get() == Op::Rst as u16 {
            refused += 1;
        }
        assert_eq!(refused, 256);
        listener.accept().unwrap().0
    }
}

#[test]
fn a_reset_ends_connections_and_programs_wait_for_the_next_driver() {
    let mut guest = Guest::new();
    let mut program = guest.connected_by_guest(PORTS);
    guest.driver.control.set_status(0);
    assert_eq!(program.read(&mut [0]).unwrap(), 0);
    // While there is no driver.
    let mut waiting = UnixStream::connect(guest.path()).unwrap();
    waiting.write_all(b"CONNECT 77\n").unwrap();
    guest.driver.begin(0);
    (guest.buffers, guest.fwd_cnt) = (0, 0);
    let (request, _) = guest.receive();
    assert_eq!((request.op.get(), request.dst_port.get()), (Op::Request as u16, 77));
    let path = guest.path();
    drop(guest);
    assert!(!path.exists());
}

#[test]
fn packets_that_are_none_are_dropped_and_the_queues_go_on() {
    let mut guest = Guest::new();
    let header = guest.header(PORTS, Op::Rw, 0);
    let lying = |len: u32| Header { len: len.into(), ..header };
    guest.driver.request(1, &[&header.as_bytes()[..HEADER_LEN - 1]], &[]);
    guest.driver.request(1, &[], &[64]);
    guest.driver.request(1, &[lying(5).as_bytes(), b"four"], &[]);
    guest.driver.request(1, &[lying(u32::MAX).as_bytes(), b"four"], &[]);
    guest.driver.request(1, &[lying(65537).as_bytes(), &[0; 65537]], &[]);
    let stranger = Header { src_cid: 99.into(), ..header };
    guest.driver.request(1, &[stranger.as_bytes()], &[]);
    // Buffers without room for data come back empty.
    for room in [0, 1, HEADER_LEN as u32] {
        if room > 0 {
            guest.driver.push(0, &[], &[room]);
        } else {
            guest.driver.push(0, &[b"readable"], &[]);
        }
    }
    guest.send(PORTS, Op::Request, &[]);
    guest.driver.kick(0);
    for _ in 0..3 {
        assert_eq!(guest.driver.wait_used(0).1, 0);
    }
    guest.expect(PORTS, Op::Rst);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the guest puts before the device, in however many pieces: it is taken only if it is
    /// all there, from this guest and for the host; and never more data than it says.
    #[test]
    fn a_packet_is_what_its_header_says_or_none(
        mut bytes in prop::collection::vec(any::<u8>(), HEADER_LEN + 20),
        cut in 0..HEADER_LEN + 20,
        split in 0..HEADER_LEN + 20,
        sane in any::<bool>(),
        len in prop_oneof![0_u32..30, any::<u32>()],
    ) {
        if sane {
            let header = Header {
                src_cid: CID.into(),
                dst_cid: 2.into(),
                len: len.into(),
                ..Header::new(CID, PORTS, Op::Rw)
            };
            header.write_to_prefix(&mut bytes).unwrap();
        }
        bytes.truncate(cut);
        let split = split.min(bytes.len());
        let memory = crate::virtio::testing::memory();
        memory.write(GuestPhysAddr(RAM), &bytes).unwrap();
        let mut buffer = memory.device_memory().buffer();
        for (at, len) in [(0, split), (split, bytes.len() - split)] {
            buffer.push(GuestPhysAddr(RAM + at as u64), len as u32).unwrap();
        }
        let read = Packet::read(buffer.build(), CID);
        let Ok((header, data)) = Header::read_from_prefix(&bytes) else {
            prop_assert_eq!(read.unwrap_err(), BadPacket::NoHeader(bytes.len()));
            return Ok(());
        };
        match read {
            Ok(packet) => {
                prop_assert_eq!(packet.data.len(), header.len.get() as usize);
                let mut got = vec![0; packet.data.len()];
                packet.data.read_at(0, &mut got).unwrap();
                prop_assert_eq!(&got[..], &data[..got.len()]);
                prop_assert_eq!((header.src_cid.get(), header.dst_cid.get()), (CID, 2));
            }
            Err(BadPacket::Length { has, .. }) => prop_assert!(has < header.len.get() as usize),
            Err(BadPacket::Source(cid)) => prop_assert!(cid != CID),
            Err(other) => prop_assert!(!sane, "{other}"),
        }
    }
}

/// Not only whole: a header that lies in pieces, one byte each, is one.
#[test]
fn a_packet_may_lie_in_pieces() {
    let mut guest = Guest::new();
    let mut program = guest.connected_by_guest(PORTS);
    let mut bytes = guest.header(PORTS, Op::Rw, 6).as_bytes().to_vec();
    bytes.extend(b"pieces");
    let at = guest.driver.room(bytes.len() as u64);
    guest.driver.memory.write(GuestPhysAddr(at), &bytes).unwrap();
    let pieces: Vec<_> =
        (0..bytes.len() as u64).map(|i| Desc { addr: at + i, len: 1, flags: 0, next: 0 }).collect();
    guest.driver.push_raw(1, &pieces);
    guest.driver.kick(1);
    guest.driver.wait_used(1);
    let mut six = [0; 6];
    program.read_exact(&mut six).unwrap();
    assert_eq!(&six, b"pieces");
}
