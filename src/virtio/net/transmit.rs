//! The transmitting half of a queue pair (virtio 1.2, 5.1.6.2).

use std::io;

use super::{
    backend::{Port, Trouble},
    drops::Drops,
    half::{GO, Half},
    header::{ETHERNET, HEADER, MOST},
};
use crate::addrspace::GuestBuffer;

/// Frames on their way out of the guest.
pub struct Transmitter {
    pub half: Half,
    drops: Drops,
    /// The port has no room.
    is_blocked: bool,
}

impl Transmitter {
    pub fn new(half: Half, drops: Drops) -> Self {
        Self { half, drops, is_blocked: false }
    }

    /// Whether it waits for the port to become writable.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// The port has become writable.
    pub fn writable(&mut self) {
        self.is_blocked = false;
    }

    /// Sends what the driver has made available, as much as the port and the limits take.
    ///
    /// # Errors
    /// The port takes nothing any more.
    pub fn run(&mut self, port: &mut dyn Port) -> io::Result<()> {
        if self.is_blocked {
            return Ok(());
        }
        let done = self.send_all(|frame| send(port, frame));
        self.half.queue.signal();
        done?;
        match port.flush() {
            Ok(()) => Ok(()),
            Err(Trouble::Later) => {
                self.is_blocked = true;
                Ok(())
            }
            Err(Trouble::Refused(error) | Trouble::Gone(error)) => Err(error),
        }
    }

    /// The link is down: what the driver sends goes nowhere.
    pub fn run_dry(&mut self) {
        self.is_blocked = false;
        let _ = self.send_all(|_| Ok(()));
        self.half.queue.signal();
    }

    fn send_all(
        &mut self,
        mut send: impl FnMut(&GuestBuffer) -> Result<(), Trouble>,
    ) -> io::Result<()> {
        for _ in 0..GO {
            let Some(chain) = self.half.queue.pop() else { return Ok(()) };
            if !self.half.passes(chain.readable.len()) {
                self.half.not_yet(chain);
                return Ok(());
            }
            let sent = send(&chain.readable);
            if matches!(sent, Err(Trouble::Later)) {
                self.half.not_yet(chain);
                self.is_blocked = true;
                return Ok(());
            }
            self.half.complete(&[(chain.head, 0)]);
            match sent {
                Err(Trouble::Refused(error)) => self.drops.add(&error),
                Err(Trouble::Gone(error)) => return Err(error),
                Ok(()) | Err(Trouble::Later) => {}
            }
        }
        self.half.again();
        Ok(())
    }
}

/// Sends a frame if it is one by its length.
fn send(port: &mut dyn Port, frame: &GuestBuffer) -> Result<(), Trouble> {
    match frame.len() {
        ..HEADER => Err(Trouble::refused("the guest sends less than a header")),
        len if len < HEADER + ETHERNET => {
            Err(Trouble::refused("the guest sends less than a frame"))
        }
        len if len > MOST => Err(Trouble::refused("the guest sends a frame of more than 64 KiB")),
        _ => port.send(frame),
    }
}
