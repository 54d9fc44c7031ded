//! Where a guest's console output goes.

use std::sync::{Mutex, PoisonError};

/// Takes what the guest prints. Called from vCPU threads in the middle of an exit, with the
/// device's lock held: it must neither block for long nor call back into the device.
pub trait ConsoleOut: Send + Sync {
    /// Takes the bytes as they are, in order; whoever cannot keep them drops and counts them.
    fn put(&self, bytes: &[u8]);
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
