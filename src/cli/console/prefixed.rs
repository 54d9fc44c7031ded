//! Several guests on one stdout, line by line: each line has the name of the guest that printed it
//! before it, and nothing of another guest in it.
//!
//! A guest's line is kept until it is complete, or long, or the guest has been quiet for a while in
//! the midst of it, as it is after a prompt. What follows then goes on with the line at once, for as
//! long as nobody else has printed a line meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use parking_lot::{Mutex, MutexGuard};

use crate::{cli::sink::Sink, devices::console::ConsoleOut};

/// Bytes of a line that are kept at most.
const LONG: usize = 1 << 10;
/// Characters of a name that stand before a line at most.
const LABEL: usize = 64;
/// How long a line may be incomplete with nothing added to it; up to twice that if the guest has
/// just gone quiet when it is looked at.
const QUIET: Duration = Duration::from_millis(100);

/// The lines that are incomplete, of all guests.
pub struct Prefixes {
    guests: Vec<Arc<Prefixed>>,
    quiet: Arc<Quiet>,
}

/// A timer that runs while a line is incomplete.
struct Quiet {
    timer: TimerFd,
    runs: AtomicBool,
}

/// One guest's console.
pub struct Prefixed {
    number: usize,
    prefix: Vec<u8>,
    out: Arc<Sink>,
    quiet: Arc<Quiet>,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    /// Something was added since the timer has looked.
    grew: bool,
    dropped: u64,
}

impl Prefixes {
    /// The consoles of guests with these labels, all on `out`.
    pub fn new(out: &Arc<Sink>, labels: impl Iterator<Item = String>) -> nix::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let quiet = Arc::new(Quiet { timer, runs: AtomicBool::new(false) });
        let guests = labels.enumerate().map(|(number, label)| {
            let prefix = label.chars().take(LABEL).collect::<String>().into_bytes();
            let (out, quiet) = (out.clone(), quiet.clone());
            Arc::new(Prefixed { number, prefix, out, quiet, line: Mutex::default() })
        });
        Ok(Self { guests: guests.collect(), quiet })
    }

    pub fn of(&self, number: usize) -> &Arc<Prefixed> {
        &self.guests[number]
    }

    /// Readable when it is time for [`Self::flush_quiet`].
    pub fn timer(&self) -> &TimerFd {
        &self.quiet.timer
    }

    /// Puts out the lines that nothing was added to for a while.
    pub fn flush_quiet(&self) {
        self.quiet.expired();
        // Each is looked at, and not only up to the first that is to be looked at again.
        let again = self.guests.iter().filter(|guest| !guest.flush_if_quiet()).count();
        if again > 0 {
            self.quiet.start();
        }
    }
}

impl Quiet {
    fn start(&self) {
        if !self.runs.swap(true, Ordering::SeqCst) {
            let after = Expiration::OneShot(QUIET.into());
            // A time that is neither negative nor too large is what it can be set to.
            let _ = self.timer.set(after, TimerSetTimeFlags::empty());
        }
    }

    fn expired(&self) {
        // It may have been read already.
        let _ = self.timer.wait();
        self.runs.store(false, Ordering::SeqCst);
    }
}

impl Prefixed {
    /// Puts out what there is of a line.
    pub fn flush(&self) {
        self.put_out(&mut self.lock());
    }

    /// Bytes that were dropped.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Puts out an incomplete line that has not grown since the last look; `false`: it has.
    fn flush_if_quiet(&self) -> bool {
        // Held: it is being printed to.
        let Some(mut line) = self.line.try_lock() else { return false };
        if std::mem::take(&mut line.grew) && !line.bytes.is_empty() {
            return false;
        }
        self.put_out(&mut line);
        true
    }

    fn put_out(&self, line: &mut Line) {
        if line.bytes.is_empty() {
            return;
        }
        if !self.out.put_piece(self.number, &self.prefix, &line.bytes) {
            line.dropped += line.bytes.len() as u64;
        }
        line.bytes.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock()
    }
}

impl ConsoleOut for Prefixed {
    fn put(&self, bytes: &[u8]) {
        let mut line = self.lock();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for part in piece.chunks(LONG) {
                if line.bytes.len() + part.len() > LONG {
                    self.put_out(&mut line);
                }
                line.bytes.extend(part);
            }
            if piece.ends_with(b"\n") {
                self.put_out(&mut line);
            }
        }
        if line.bytes.is_empty() {
            return;
        }
        if self.out.is_amid_line_of(self.number) {
            self.put_out(&mut line);
        } else {
            line.grew = true;
            self.quiet.start();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::net::UnixStream};

    use nix::sys::eventfd::EventFd;

    use super::*;
    use crate::cli::sink::Settings;

    struct Two {
        out: Arc<Sink>,
        prefixes: Prefixes,
        reader: UnixStream,
    }

    fn two() -> Two {
        let (ours, reader) = UnixStream::pair().unwrap();
        let settings =
            Settings { name: "test-prefix", patience: Duration::from_secs(60), report: |_| {} };
        let out = Arc::new(Sink::new(ours, settings));
        let labels = ["[a] ", "[b] "].map(String::from);
        let prefixes = Prefixes::new(&out, labels.into_iter()).unwrap();
        Two { out, prefixes, reader }
    }

    impl Two {
        fn put(&self, number: usize, text: &str) {
            self.prefixes.of(number).put(text.as_bytes());
        }

        #[track_caller]
        fn came_out(&mut self, expect: &str) {
            let drained = Arc::new(EventFd::new().unwrap());
            self.out.drain(drained.clone());
            drained.read().unwrap();
            self.reader.set_nonblocking(true).unwrap();
            let mut got = vec![0; 1 << 16];
            let n = self.reader.read(&mut got).unwrap_or(0);
            assert_eq!(String::from_utf8_lossy(&got[..n]), expect);
        }
    }

    #[test]
    fn lines_come_out_when_they_are_complete() {
        let mut two = two();
        for (a, b) in "one\r\ntwo\n".chars().zip("ONE\r\nTWO\n".chars()) {
            two.put(0, &a.to_string());
            two.put(1, &b.to_string());
        }
        two.came_out("[a] one\r\n[b] ONE\r\n[a] two\n[b] TWO\n");
        two.put(0, "x\n\ny\nz");
        two.came_out("[a] x\n[a] \n[a] y\n");
        two.prefixes.of(0).flush();
        two.came_out("[a] z");
    }

    #[test]
    fn a_long_line_comes_out_in_parts_that_are_bounded_and_unaltered() {
        let mut two = two();
        let long = "0123456789".repeat(500);
        two.put(0, &long);
        two.put(0, "\n");
        two.came_out(&format!("[a] {long}\n"));
        assert!(two.prefixes.of(0).lock().bytes.capacity() <= 4 * LONG);
    }

    #[test]
    fn a_prompt_comes_out_after_a_while_and_what_follows_at_once() {
        let mut two = two();
        two.put(0, "login: ");
        two.came_out("");
        two.prefixes.flush_quiet();
        two.came_out(""); // it has just been printed
        two.prefixes.flush_quiet();
        two.came_out("[a] login: ");
        two.put(0, "r");
        two.came_out("r");
        two.put(1, "news\n");
        two.put(0, "oot\n");
        two.came_out("\n[b] news\n[a] oot\n");
    }

    #[test]
    fn the_timer_runs_only_while_a_line_is_incomplete() {
        let two = two();
        let runs = || two.prefixes.quiet.runs.load(Ordering::SeqCst);
        two.put(0, "a line\n");
        assert!(!runs());
        two.put(1, "x");
        assert!(runs());
        two.prefixes.flush_quiet();
        assert!(runs());
        two.prefixes.flush_quiet();
        assert!(!runs());
    }
}
