//! What both halves of a queue pair have: a queue, and a limit of what goes through it.

use std::os::fd::AsRawFd;

use event_manager::{EventOps, EventSet, Events};

use crate::virtio::{Chain, Virtqueue, rate_limit::Gate};

/// So many frames go through a queue before others have their turn, and a reset.
pub const GO: usize = 256;

/// A queue with its limit.
pub struct Half {
    pub queue: Virtqueue,
    gate: Gate,
    /// The next frame counts already.
    is_paid: bool,
}

impl Half {
    pub fn new(queue: Virtqueue, gate: Gate) -> Self {
        Self { queue, gate, is_paid: false }
    }

    /// Watches the doorbell, with this for its data, and the gate, with the next number.
    pub fn watch(&self, ops: &mut EventOps<'_>, data: u32) -> Result<(), event_manager::Error> {
        ops.add(Events::with_data(self.queue.doorbell(), data, EventSet::IN))?;
        match self.gate.timer() {
            Some(timer) => {
                ops.add(Events::with_data_raw(timer.as_raw_fd(), data + 1, EventSet::IN))
            }
            None => Ok(()),
        }
    }

    /// The doorbell has rung.
    pub fn rung(&self) {
        let _ = self.queue.doorbell().read();
    }

    /// The gate is open again.
    pub fn opened(&self) {
        self.gate.opened();
    }

    /// Whether the next frame, of so many bytes, may go through now.
    pub fn passes(&mut self, bytes: usize) -> bool {
        self.is_paid = self.is_paid || self.gate.passes(bytes as u64);
        self.is_paid
    }

    /// The frame has gone through.
    pub fn complete(&mut self, chains: &[(u16, u32)]) {
        self.is_paid = false;
        self.queue.complete_all(chains);
    }

    /// The frame must wait; it is the one that was taken from the queue last.
    pub fn not_yet(&mut self, chain: Chain) {
        self.queue.undo_pop(chain);
    }

    /// There may be more to do than has been done in this turn.
    pub fn again(&self) {
        // The counter does not overflow: it is 1 at most when this is the only one to add to it, and
        // the driver's notifications are read at once.
        let _ = self.queue.doorbell().write(1);
    }
}
