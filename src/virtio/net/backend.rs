//! What a card is plugged into.

use std::{fmt, io, os::fd::BorrowedFd};

use super::room::Room;
use crate::addrspace::GuestBuffer;

/// The host's side of a card: what all of its queue pairs have in common.
pub trait Backend: Send + Sync {
    /// The offloads that it can do, as feature bits of the device (virtio 1.2, 5.1.3).
    fn features(&self) -> u64 {
        0
    }

    /// These of its features are in use from now on.
    ///
    /// # Errors
    /// The host does not do it.
    fn set_offloads(&self, _features: u64) -> io::Result<()> {
        Ok(())
    }

    /// So many of its ports are in use from now on, the first ones.
    ///
    /// # Errors
    /// The host does not do it.
    fn set_pairs(&self, _pairs: u16) -> io::Result<()> {
        Ok(())
    }

    /// The largest packet that it likes, in bytes, if it says so.
    fn mtu(&self) -> Option<u16> {
        None
    }
}

/// Where the frames of one queue pair come from and go to, each with its header.
pub trait Port: Send {
    /// Becomes readable when there are frames, and writable when there is room for more.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Puts the next frame into `room`, and what does not fit there into `spill`, which has
    /// [`super::header::MOST`] bytes; says how long it is. `num_buffers` is the caller's to write.
    fn receive(&mut self, room: &Room, spill: &mut [u8]) -> Result<usize, Trouble>;

    /// Sends a frame, all of it, or takes it to be sent by [`Self::flush`].
    fn send(&mut self, frame: &GuestBuffer) -> Result<(), Trouble>;

    /// Sends what it has taken. `Later`: not all of that.
    fn flush(&mut self) -> Result<(), Trouble> {
        Ok(())
    }
}

/// Why no frame has come or gone.
#[derive(Debug)]
pub enum Trouble {
    /// Nothing is there, or there is no room: the file will tell when there is.
    Later,
    /// It will not have this frame. Others it may.
    Refused(io::Error),
    /// Nothing will come or go any more.
    Gone(io::Error),
}

impl Trouble {
    /// One that is about the frame alone.
    pub fn refused(why: &str) -> Self {
        Self::Refused(io::Error::new(io::ErrorKind::InvalidInput, why))
    }
}

/// A system call that a signal interrupts is made again.
pub fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// A backend that is ready, and its ports: one for each queue pair.
pub struct Opened {
    pub backend: Box<dyn Backend>,
    pub ports: Vec<Box<dyn Port>>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened({} ports)", self.ports.len())
    }
}
