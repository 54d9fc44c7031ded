//! A client of GDB's remote protocol, as small as it can be: packets, acknowledged, and what of answers
//! tests look at.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// No answer takes so long, also in an emulated host where all of a kernel's boot lies in between.
const LIMIT: Duration = Duration::from_secs(180);

pub struct Client {
    stream: UnixStream,
    /// What the server had this side print.
    pub printed: String,
}

impl Client {
    /// Connects, as soon as there is somebody.
    #[track_caller]
    pub fn connect(path: &Path) -> Self {
        let begun = Instant::now();
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) => assert!(begun.elapsed() < LIMIT, "{}: {error}", path.display()),
            }
            thread::sleep(Duration::from_millis(5));
        };
        Self::over(stream)
    }

    /// The one who is behind this already.
    pub fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self { stream, printed: String::new() }
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        // A server that has hung up is what the next read finds.
        let _ = self.stream.write_all(bytes);
    }

    pub fn send(&mut self, packet: &str) {
        let sum = packet.bytes().fold(0, u8::wrapping_add);
        self.send_bytes(format!("${packet}#{sum:02x}").as_bytes());
    }

    fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(1) => Some(byte[0]),
            Ok(_) => None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no answer in the time for it: {error}"),
        }
    }

    /// The next packet's text; `None`: the server has hung up.
    #[track_caller]
    pub fn packet(&mut self) -> Option<String> {
        loop {
            while self.byte()? != b'$' {}
            let mut text = String::new();
            loop {
                match self.byte()? {
                    b'#' => break,
                    // The last character so often more.
                    b'*' => {
                        let times = self.byte()? - 29;
                        let last = text.chars().last().unwrap();
                        text.extend((0..times).map(|_| last));
                    }
                    byte => text.push(byte.into()),
                }
            }
            self.byte()?;
            self.byte()?;
            self.send_bytes(b"+");
            match text.strip_prefix('O').filter(|hex| *hex != "K") {
                Some(hex) => self.printed.push_str(&String::from_utf8_lossy(&bytes(hex))),
                None => return Some(text),
            }
        }
    }

    /// Asks, and has the answer.
    #[track_caller]
    pub fn ask(&mut self, packet: &str) -> String {
        self.send(packet);
        self.packet().unwrap_or_else(|| panic!("hung up on {packet:?}"))
    }

    /// Asks for what must be answered so.
    #[track_caller]
    pub fn expect(&mut self, packet: &str, answer: &str) {
        let got = self.ask(packet);
        assert!(got == answer, "{packet:?} gave {got:?}, not {answer:?}");
    }

    /// A register of up to 8 bytes.
    #[track_caller]
    pub fn register(&mut self, number: usize) -> u64 {
        value(&self.ask(&format!("p{number:x}")))
    }

    #[track_caller]
    pub fn set_register(&mut self, number: usize, value: u64) {
        let hex: String = value.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        self.expect(&format!("P{number:x}={hex}"), "OK");
    }

    #[track_caller]
    pub fn memory(&mut self, addr: u64, len: usize) -> Vec<u8> {
        let answer = self.ask(&format!("m{addr:x},{len:x}"));
        assert!(!answer.starts_with('E'), "{addr:#x}: {answer}");
        bytes(&answer)
    }

    #[track_caller]
    pub fn set_memory(&mut self, addr: u64, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.expect(&format!("M{addr:x},{:x}:{hex}", bytes.len()), "OK");
    }

    /// A `monitor` command and what it prints.
    #[track_caller]
    pub fn monitor(&mut self, command: &str) -> String {
        self.printed.clear();
        let hex: String = command.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.expect(&format!("qRcmd,{hex}"), "OK");
        std::mem::take(&mut self.printed)
    }

    /// Lets all go on, until the next stop.
    #[track_caller]
    pub fn go_on(&mut self) -> String {
        self.ask("vCont;c")
    }

    /// One instruction of the vCPU that is thread `thread`, and all others wait.
    #[track_caller]
    pub fn step(&mut self, thread: usize) {
        let stop = self.ask(&format!("vCont;s:{thread:x}"));
        assert_eq!(stop, format!("T05thread:{thread:02x};"));
    }
}

pub fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().map(|c| c.to_digit(16).unwrap_or(0) as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).copied().unwrap_or(0)).collect()
}

/// Little-endian.
#[track_caller]
fn value(hex: &str) -> u64 {
    assert!(!hex.starts_with('E') && !hex.is_empty(), "no register: {hex:?}");
    bytes(hex).iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
}
