//! A guest's console, from the devices' side: where output goes, and how input comes.

use std::sync::{Mutex, PoisonError};

use vmm_sys_util::eventfd::EventFd;

/// Takes what the guest prints. Called from vCPU threads in the middle of an exit, with the
/// device's lock held: it must neither block for long nor call back into the device.
pub trait ConsoleOut: Send + Sync {
    /// Takes the bytes as they are, in order; whoever cannot keep them drops and counts them.
    fn put(&self, bytes: &[u8]);
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
}

/// A console that keeps what was printed, for whoever wants to look at it afterwards: tests.
#[derive(Debug, Default)]
pub struct RecordingConsole(Mutex<Vec<u8>>);

impl RecordingConsole {
    /// All bytes so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ConsoleOut for RecordingConsole {
    fn put(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
    }
}
