//! The guest's terminal on our own: input as it is typed.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::Console;
use crate::devices::console::ConsoleIn;

/// Bytes that wait at most; the rest waits outside.
const MOST: usize = 4096;

/// Input on its way to a port.
pub struct StdioIn {
    state: Mutex<State>,
    /// Wakes the device's thread.
    work: EventFd,
    /// Tells the host that it is time for the rest.
    room: OnceLock<EventFd>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<u8>,
    /// The guest listens.
    is_open: bool,
    host_waits: bool,
}

impl StdioIn {
    pub(super) fn new() -> io::Result<Self> {
        let work = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        Ok(Self { state: Mutex::default(), work, room: OnceLock::new() })
    }

    /// Takes bytes for the guest; `None`: the guest does not listen here.
    fn feed(&self, bytes: &[u8]) -> Option<usize> {
        let mut state = self.state.lock();
        if !state.is_open {
            // Once it does, this is the place.
            state.host_waits |= !bytes.is_empty();
            return None;
        }
        let taken = bytes.len().min(MOST - state.waiting.len());
        state.waiting.extend(&bytes[..taken]);
        state.host_waits = taken < bytes.len();
        drop(state);
        self.wake();
        Some(taken)
    }

    /// Lets the device's thread look.
    pub(super) fn wake(&self) {
        // A counter that is full is signalled already.
        let _ = self.work.write(1);
    }

    /// What wakes the device's thread.
    pub(super) fn work(&self) -> &EventFd {
        &self.work
    }

    /// The guest listens from now on.
    pub(super) fn open(&self) {
        self.state.lock().is_open = true;
        self.tell_host();
    }

    /// The guest does not listen any more; what it has not read is gone with it.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_open = false;
        state.waiting.clear();
    }

    /// Takes what there is, so many bytes at most.
    pub(super) fn take(&self, most: usize) -> Vec<u8> {
        let mut state = self.state.lock();
        let count = most.min(state.waiting.len());
        let bytes: Vec<u8> = state.waiting.drain(..count).collect();
        drop(state);
        if count > 0 {
            self.tell_host();
        }
        bytes
    }

    fn tell_host(&self) {
        if !std::mem::take(&mut self.state.lock().host_waits) {
            return;
        }
        if let Some(room) = self.room.get() {
            let _ = room.write(1);
        }
    }
}

/// A board's serial port with a virtio console beside it. A user has one keyboard: what is typed goes
/// to the console as soon as the guest listens there, and to the serial port before that.
pub struct BesideSerial {
    serial: Arc<dyn ConsoleIn>,
    console: Arc<Console>,
    input: Arc<StdioIn>,
}

impl BesideSerial {
    /// `console`, if it has a port on our own terminal, beside `serial`.
    ///
    /// # Errors
    /// The host has no file descriptors left.
    pub fn join(
        serial: Arc<dyn ConsoleIn>,
        console: &Arc<Console>,
    ) -> io::Result<Arc<dyn ConsoleIn>> {
        let Some(input) = console.input() else { return Ok(serial) };
        // Whoever waits for one of them waits for both.
        let _ = input.room.set(serial.notify().try_clone()?);
        Ok(Arc::new(Self { serial, console: console.clone(), input }))
    }
}

impl ConsoleIn for BesideSerial {
    fn feed(&self, bytes: &[u8]) -> usize {
        self.input.feed(bytes).unwrap_or_else(|| self.serial.feed(bytes))
    }

    fn notify(&self) -> &EventFd {
        self.serial.notify()
    }

    fn resize(&self, columns: u16, rows: u16) {
        self.console.resize(columns, rows);
        self.serial.resize(columns, rows);
    }
}

impl fmt::Debug for StdioIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StdioIn")
    }
}
