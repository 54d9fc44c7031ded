//! A guest's console, from the devices' side: where output goes, and how input comes.

use std::io::{self, Write};

use log::warn;
use parking_lot::Mutex;
use vmm_sys_util::eventfd::EventFd;

/// Takes what the guest prints. Called from vCPU threads in the middle of an exit, with the
/// device's lock held: it must neither block for long nor call back into the device.
pub trait ConsoleOut: Send + Sync {
    /// Takes the bytes as they are, in order; whoever cannot keep them drops and counts them.
    fn put(&self, bytes: &[u8]);
}

/// Straight to the terminal or pipe: a reader that pauses pauses the guest. What cannot be written
/// is dropped.
impl ConsoleOut for io::Stdout {
    fn put(&self, bytes: &[u8]) {
        let mut out = self.lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }
}

/// A device that takes input for the guest. It keeps no more than the device's own FIFO; the rest
/// waits with the caller.
pub trait ConsoleIn: Send + Sync {
    /// Gives the guest bytes; how many of them were taken. 0: the FIFO is full, or the guest does
    /// not listen yet.
    fn feed(&self, bytes: &[u8]) -> usize;

    /// If [`Self::feed`] took less than it was given, signalled when it is time to try again with
    /// the rest: the guest listens, and has read all that was fed.
    fn notify(&self) -> &EventFd;

    /// The host's terminal has so many columns and rows; for consoles that can tell their guest.
    fn resize(&self, _columns: u16, _rows: u16) {}
}

/// So many looks for input with nothing else done between them: the guest waits for input. Output
/// looks once or twice a byte.
pub(super) const POLLS_THAT_LISTEN: u8 = 16;

/// What a [`ConsoleIn`] remembers: whether the guest polls for input, and whether the host has some.
#[derive(Debug, Default)]
pub(super) struct InputGate {
    polls: u8,
    host_waits: bool,
}

impl InputGate {
    /// The guest has looked whether there is input.
    pub fn polled(&mut self) {
        self.polls = self.polls.saturating_add(1);
    }

    /// The guest does something else.
    pub fn busy(&mut self) {
        self.polls = 0;
    }

    /// Whether the guest does nothing but look for input.
    pub fn polls(&self) -> bool {
        self.polls >= POLLS_THAT_LISTEN
    }

    /// The host gave `of` bytes, and `taken` of them went in.
    pub fn fed(&mut self, taken: usize, of: usize) {
        self.host_waits = taken < of;
    }

    /// Whether to tell the host that it is time for the rest; true once, when `ready`.
    pub fn must_tell(&mut self, ready: bool) -> bool {
        let tell = self.host_waits && ready;
        self.host_waits &= !tell;
        tell
    }
}

/// Signals `notify`, which belongs to the device `name`.
pub(super) fn tell_host(name: &str, notify: &EventFd) {
    if let Err(error) = notify.write(1) {
        warn!("{name}: cannot wake the console's input: {error}");
    }
}

/// A console that keeps what was printed, for whoever wants to look at it afterwards: tests.
#[derive(Debug, Default)]
pub struct RecordingConsole(Mutex<Vec<u8>>);

impl RecordingConsole {
    /// All bytes so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().clone()
    }
}

impl ConsoleOut for RecordingConsole {
    fn put(&self, bytes: &[u8]) {
        self.0.lock().extend_from_slice(bytes);
    }
}
