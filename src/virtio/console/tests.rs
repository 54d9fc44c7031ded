//! The console, as its driver and the host see it.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use super::*;
use crate::{
    devices::console::{ConsoleIn, RecordingConsole},
    virtio::testing::Driver,
};

const RECEIVE: u16 = 0;
const SEND: u16 = 1;
const TO_DRIVER: u16 = 2;
const FROM_DRIVER: u16 = 3;
/// Of the second port.
const RECEIVE_1: u16 = 4;
const SEND_1: u16 = 5;

const MULTIPORT: u64 = 1 << 1;

struct Guest {
    console: Arc<Console>,
    driver: Driver,
    out: Arc<RecordingConsole>,
}

fn port(label: Option<&str>, target: Target) -> PortConfig {
    PortConfig { label: label.map(str::to_owned), target }
}

fn guest(ports: Vec<PortConfig>) -> Guest {
    let out = Arc::new(RecordingConsole::default());
    let console = Console::new("console0".to_owned(), &ConsoleConfig { ports }, out.clone());
    let console = console.unwrap();
    Guest { driver: Driver::new(console.clone(), 0), console, out }
}

fn message(id: u32, event: u16, value: u16) -> Vec<u8> {
    [&id.to_le_bytes()[..], &event.to_le_bytes(), &value.to_le_bytes()].concat()
}

impl Guest {
    /// Says something to the device.
    fn say(&mut self, id: u32, event: u16, value: u16) {
        self.driver.request(FROM_DRIVER, &[&message(id, event, value)], &[]);
    }

    /// What the device says, into a buffer that has been there before or comes now.
    #[track_caller]
    fn hears(&mut self, expect: &[u8]) {
        let (head, len) = self.driver.wait_used(TO_DRIVER);
        let heard = &self.driver.written(TO_DRIVER, head)[..len as usize];
        assert_eq!(heard, expect);
    }

    fn room_for_messages(&mut self, count: usize) {
        for _ in 0..count {
            self.driver.push(TO_DRIVER, &[], &[100]);
        }
        self.driver.kick(TO_DRIVER);
    }

    /// Waits until what was printed is this.
    #[track_caller]
    fn prints(&self, expect: &[u8]) {
        let since = std::time::Instant::now();
        while self.out.bytes() != expect {
            assert!(since.elapsed() < Duration::from_secs(20), "{:?}", self.out.bytes());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[track_caller]
    fn reads(&mut self, queue: u16, expect: &[u8]) {
        let (head, len) = self.driver.wait_used(queue);
        assert_eq!(&self.driver.written(queue, head)[..len as usize], expect);
    }
}

#[test]
fn a_terminal_on_stdio_prints_and_takes_what_is_typed() {
    let mut guest = guest(vec![port(None, Target::Stdio)]);
    assert_eq!(guest.console.queue_sizes().len(), 2);
    guest.driver.request(SEND, &[b"hel", b"lo"], &[]);
    guest.driver.request(SEND, &[], &[]);
    // More than is moved at a time, and more than a turn.
    let much = vec![b'x'; 200_000];
    guest.driver.request(SEND, &[&much], &[]);
    guest.prints(&[&b"hello"[..], &much].concat());

    let serial = Arc::new(NoSerial::new());
    let input = BesideSerial::join(serial.clone(), &guest.console).unwrap();
    guest.driver.push(RECEIVE, &[], &[0]);
    guest.driver.push(RECEIVE, &[], &[4]);
    guest.driver.kick(RECEIVE);
    assert_eq!(input.feed(b"typed"), 5);
    guest.reads(RECEIVE, b"");
    guest.reads(RECEIVE, b"type");
    guest.driver.push(RECEIVE, &[], &[100]);
    guest.driver.kick(RECEIVE);
    guest.reads(RECEIVE, b"d");
    // What is not read is not taken without end; and when it is read, the host hears of it.
    let flood = [b'y'; 10_000];
    assert_eq!(input.feed(&flood), 4096);
    assert_eq!(input.feed(&flood), 0);
    guest.driver.push(RECEIVE, &[], &[5000]);
    guest.driver.kick(RECEIVE);
    guest.reads(RECEIVE, &flood[..4096]);
    assert!(input.notify().read().unwrap() > 0);
    // A driver that is gone leaves the input to the serial port.
    guest.driver.control.set_status(0);
    assert_eq!(input.feed(b"z"), 1);
    assert_eq!(*serial.0.lock(), b"z");
}

/// A serial port that takes all.
struct NoSerial(Mutex<Vec<u8>>, vmm_sys_util::eventfd::EventFd);

impl NoSerial {
    fn new() -> Self {
        Self(Mutex::default(), vmm_sys_util::eventfd::EventFd::new(0).unwrap())
    }
}

impl ConsoleIn for NoSerial {
    fn feed(&self, bytes: &[u8]) -> usize {
        self.0.lock().extend(bytes);
        bytes.len()
    }

    fn notify(&self) -> &vmm_sys_util::eventfd::EventFd {
        &self.1
    }
}

#[test]
fn its_size_is_told_in_the_configuration_or_by_a_message() {
    let one = guest(vec![port(None, Target::Stdio)]);
    let field = |offset| one.driver.control.read_config(offset, AccessWidth::Word);
    assert_eq!([field(0), field(2), field(4)], [0, 0, 1]);
    one.console.resize(132, 43);
    assert_eq!([field(0), field(2)], [132, 43]);
    let told = || one.driver.interrupts.config.load(Ordering::SeqCst);
    one.console.resize(132, 43);
    assert_eq!(told(), 1);

    let mut two = guest(vec![port(None, Target::Stdio), port(Some("log"), Target::Null)]);
    two.room_for_messages(20);
    two.say(0, 3, 1);
    two.hears(&message(0, 4, 1));
    two.hears(&[message(0, 5, 0), vec![0, 0, 0, 0]].concat());
    two.hears(&message(0, 6, 1));
    two.console.resize(80, 25);
    two.hears(&[message(0, 5, 0), vec![80, 0, 25, 0]].concat());
}

#[test]
fn ports_are_told_once_the_driver_has_room_and_only_to_those_who_know_them() {
    let ports = || vec![port(None, Target::Null), port(Some("agent"), Target::Null)];
    let mut guest = guest(ports());
    assert_eq!(guest.console.queue_sizes().len(), 6);
    // However often it asks, there is no more to tell.
    for _ in 0..300 {
        guest.say(0, 0, 1);
    }
    guest.room_for_messages(10);
    guest.say(0, 0, 0);
    guest.hears(&message(0, 1, 1));
    guest.hears(&message(1, 1, 1));
    guest.say(1, 3, 1);
    guest.hears(&[message(1, 7, 1), b"agent".to_vec()].concat());
    guest.hears(&message(1, 6, 1));
    assert_eq!(guest.driver.used(TO_DRIVER), None);
    // Ports and events that there are none of, messages that are too short, and no room to answer.
    for (id, event) in [(2, 3), (u32::MAX, 3), (u32::MAX, 6), (9, 0), (0, 99)] {
        guest.say(id, event, 1);
    }
    guest.driver.request(FROM_DRIVER, &[b"short"], &[]);
    guest.driver.request(FROM_DRIVER, &[], &[8]);
    assert_eq!(guest.driver.control.status() & 0x40, 0);

    let console = Console::new("c".to_owned(), &ConsoleConfig { ports: ports() }, guest.out);
    let mut old = Driver::new(console.unwrap(), MULTIPORT);
    old.request(SEND, &[b"to the first port"], &[]);
}

#[test]
fn a_byte_in_an_emergency() {
    let out = Arc::new(RecordingConsole::default());
    let config = ConsoleConfig { ports: vec![port(None, Target::Stdio)] };
    let console = Console::new("console0".to_owned(), &config, out.clone()).unwrap();
    let driver = Driver::before_setup(console);
    driver.control.write_config(8, AccessWidth::Dword, u64::from(b'!'));
    driver.control.write_config(8, AccessWidth::Byte, u64::from(b'?'));
    for (offset, width) in
        [(0, AccessWidth::Qword), (9, AccessWidth::Byte), (4, AccessWidth::Dword)]
    {
        driver.control.write_config(offset, width, u64::MAX);
    }
    assert_eq!(out.bytes(), b"!?");
}

#[test]
fn programs_talk_through_a_socket_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let ports = vec![port(None, Target::Null), port(Some("agent"), Target::Unix(path.clone()))];
    let mut guest = guest(ports);
    guest.room_for_messages(20);
    guest.say(1, 3, 1);
    guest.hears(&[message(1, 7, 1), b"agent".to_vec()].concat());
    guest.hears(&message(1, 6, 0));
    // What nobody is there to take is gone.
    guest.driver.request(SEND_1, &[b"nobody"], &[]);

    let mut first = UnixStream::connect(&path).unwrap();
    guest.hears(&message(1, 6, 1));
    first.write_all(b"before the guest has opened it").unwrap();
    guest.say(1, 6, 1);
    guest.driver.push(RECEIVE_1, &[], &[100]);
    guest.driver.kick(RECEIVE_1);
    guest.reads(RECEIVE_1, b"before the guest has opened it");
    guest.driver.request(SEND_1, &[b"answer"], &[]);
    let mut bytes = [0; 6];
    first.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"answer");

    let mut second = UnixStream::connect(&path).unwrap();
    second.write_all(b"second").unwrap();
    guest.driver.push(RECEIVE_1, &[], &[100]);
    guest.driver.kick(RECEIVE_1);
    drop(first);
    guest.reads(RECEIVE_1, b"second");
    guest.hears(&message(1, 6, 1));

    // A program that does not read holds the guest up, until it reads.
    let much = vec![b'x'; 1 << 20];
    let head = guest.driver.push(SEND_1, &[&much], &[]);
    guest.driver.kick(SEND_1);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(guest.driver.used(SEND_1), None);
    let mut taken = vec![0; much.len()];
    second.read_exact(&mut taken).unwrap();
    assert!(taken == much);
    assert_eq!(guest.driver.wait_used(SEND_1), (head, 0));
    // The next machine's is in the same place.
    drop(guest);
    assert!(!path.exists());
}

#[test]
fn a_file_keeps_what_is_printed_and_what_was_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, "before\n").unwrap();
    let mut guest = guest(vec![port(None, Target::File(path.clone()))]);
    guest.driver.request(SEND, &[b"printed\n"], &[]);
    assert_eq!(std::fs::read(&path).unwrap(), b"before\nprinted\n");
}

#[test]
fn a_terminal_of_its_own_is_raw_and_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("tty");
    let mut guest = guest(vec![port(None, Target::Pty(Some(link.clone())))]);
    let mut user = std::fs::File::options().read(true).write(true).open(&link).unwrap();
    guest.driver.request(SEND, &[b"login: "], &[]);
    let mut bytes = [0; 7];
    user.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"login: ");
    user.write_all(b"ro\x03").unwrap();
    guest.driver.push(RECEIVE, &[], &[100]);
    guest.driver.kick(RECEIVE);
    guest.reads(RECEIVE, b"ro\x03");
    // Nobody reads what is printed now.
    for _ in 0..100 {
        guest.driver.request(SEND, &[&[b'x'; 4096]], &[]);
    }
    drop(guest);
    assert!(!link.is_symlink());
}

#[test]
fn what_cannot_be_opened_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("there");
    std::fs::write(&path, "").unwrap();
    for target in [
        Target::Unix(path.clone()),
        Target::Pty(Some(path.clone())),
        Target::File(dir.path().to_owned()),
    ] {
        let config = ConsoleConfig { ports: vec![port(None, target)] };
        let out = Arc::new(RecordingConsole::default());
        let error = Console::new("c".to_owned(), &config, out).unwrap_err().to_string();
        assert!(error.starts_with(dir.path().to_str().unwrap()), "{error}");
    }
}
