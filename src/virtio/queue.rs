//! A virtqueue, as a device holds it (virtio 1.2, 2.7: split).
//!
//! All that the guest has written there is hostile until it is checked. A queue with malformed
//! contents is given up: it answers as if it were empty, until the driver resets the device.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
};

use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use super::{
    Interrupt,
    chain::{Chain, Descriptors, Malformed},
};
use crate::addrspace::{AddrSpace, DeviceMemory};

/// What a queue is made of, which the transport has checked.
pub(super) struct QueueParts {
    pub device: Arc<str>,
    pub index: u16,
    pub queue: Queue,
    pub descriptors: Descriptors,
    pub memory: Arc<AddrSpace>,
    pub doorbell: Arc<EventFd>,
    pub interrupt: Arc<dyn Interrupt>,
}

/// A queue that the driver has set up.
pub struct Virtqueue {
    parts: QueueParts,
    /// The driver does not notify of new chains just now, without EVENT_IDX.
    is_quiet: bool,
    /// How far the driver has been told of the used ring.
    told: u16,
    is_faulted: bool,
}

impl Virtqueue {
    pub(super) fn new(parts: QueueParts) -> Self {
        let told = parts.queue.next_used();
        Self { parts, is_quiet: false, told, is_faulted: false }
    }

    /// Its number among the device's.
    pub fn index(&self) -> u16 {
        self.parts.index
    }

    /// How many descriptors it has.
    pub fn size(&self) -> u16 {
        self.parts.queue.size()
    }

    /// Where the descriptor table, the available ring and the used ring begin: for those who work on
    /// the queue themselves, such as another process.
    pub fn rings(&self) -> [u64; 3] {
        let queue = &self.parts.queue;
        [queue.desc_table(), queue.avail_ring(), queue.used_ring()]
    }

    /// What the driver signals when it has made chains available: to be read, and then the queue to
    /// be emptied by [`Self::pop`].
    pub fn doorbell(&self) -> &EventFd {
        &self.parts.doorbell
    }

    /// The next chain. `None`: there is none, and the doorbell will ring when there is.
    pub fn pop(&mut self) -> Option<Chain> {
        self.pop_now().or_else(|| if self.rest() { self.pop_now() } else { None })
    }

    /// The next chain. `None`: there is none just now. For who looks again when it has done its work,
    /// and needs no notification until it [rests](Self::rest).
    pub fn pop_now(&mut self) -> Option<Chain> {
        self.attempt(Self::try_pop).flatten()
    }

    /// Has the doorbell ring from now on. Whether there is a chain already, which it does not ring for.
    pub fn rest(&mut self) -> bool {
        self.attempt(Self::try_rest).unwrap_or(false)
    }

    fn attempt<T>(
        &mut self,
        action: impl FnOnce(&mut Self, &DeviceMemory) -> Result<T, Malformed>,
    ) -> Option<T> {
        if self.is_faulted {
            return None;
        }
        let memory = self.parts.memory.device_memory();
        action(self, &memory).map_err(|malformed| self.fault(malformed)).ok()
    }

    fn try_pop(&mut self, memory: &DeviceMemory) -> Result<Option<Chain>, Malformed> {
        let chain = self.next(memory)?;
        if chain.is_some() && !self.is_quiet && !self.parts.queue.event_idx_enabled() {
            self.parts.queue.disable_notification(&**memory).map_err(no_rings)?;
            self.is_quiet = true;
        }
        Ok(chain)
    }

    /// The driver may make a chain available just before it reads that it is to notify: hence a look
    /// afterwards.
    fn try_rest(&mut self, memory: &DeviceMemory) -> Result<bool, Malformed> {
        self.is_quiet = false;
        self.parts.queue.enable_notification(&**memory).map_err(no_rings)
    }

    fn next(&mut self, memory: &DeviceMemory) -> Result<Option<Chain>, Malformed> {
        let mut available = self.parts.queue.iter(&**memory).map_err(|error| match error {
            virtio_queue::Error::InvalidAvailRingIndex => Malformed::AvailableIndex,
            _ => Malformed::NoRings,
        })?;
        let Some(chain) = available.next() else { return Ok(None) };
        self.parts.descriptors.chain(memory, chain.head_index()).map(Some)
    }

    /// The chain that was popped last goes back, as if it had not been: for a buffer that is not
    /// needed yet.
    pub fn undo_pop(&mut self, _chain: Chain) {
        self.parts.queue.go_to_previous_position();
    }

    /// Gives a chain back to the driver, with so many bytes in what it may read of it.
    pub fn complete(&mut self, head: u16, written: u32) {
        self.complete_all(&[(head, written)]);
    }

    /// Gives chains back to the driver, each as [`Self::complete`] does: it sees either all of them
    /// or none.
    pub fn complete_all(&mut self, chains: &[(u16, u32)]) {
        if self.is_faulted {
            return;
        }
        let memory = self.parts.memory.device_memory();
        if self.put_used(&memory, chains).is_none() {
            self.fault(Malformed::NoRings);
        }
    }

    /// Writes the used ring's elements, and then, with the last of them, its index.
    fn put_used(&mut self, memory: &DeviceMemory, chains: &[(u16, u32)]) -> Option<()> {
        let queue = &mut self.parts.queue;
        let Some(((last, written), before)) = chains.split_last() else { return Some(()) };
        for (head, written) in before {
            let slot = u64::from(queue.next_used() % queue.size());
            let element = queue.used_ring().checked_add(4 + 8 * slot)?;
            let bytes = u64::from(*head) | u64::from(*written) << 32;
            memory.write_obj(bytes.to_le(), GuestAddress(element)).ok()?;
            queue.set_next_used(queue.next_used().wrapping_add(1));
        }
        queue.add_used(&**memory, *last, *written).ok()
    }

    /// Interrupts the driver, if it has not been told yet of all that is complete and wants to be.
    pub fn signal(&mut self) {
        let now = self.parts.queue.next_used();
        let before = std::mem::replace(&mut self.told, now);
        if self.is_faulted || before == now {
            return;
        }
        let memory = self.parts.memory.device_memory();
        match self.wants_interrupt(&memory, before) {
            Some(true) => self.parts.interrupt.queue(self.parts.index),
            Some(false) => {}
            None => self.fault(Malformed::NoRings),
        }
    }

    /// With EVENT_IDX the driver says at which used chain; without, whether at all (2.7.7). `None`:
    /// there is no ring to see that in.
    fn wants_interrupt(&self, memory: &DeviceMemory, before: u16) -> Option<bool> {
        let queue = &self.parts.queue;
        let word = |offset: u64| -> Option<u16> {
            let at = GuestAddress(queue.avail_ring().checked_add(offset)?);
            memory.load(at, Ordering::Relaxed).ok().map(u16::from_le)
        };
        // The driver must see the used ring's index before this looks whether it sleeps.
        fence(Ordering::SeqCst);
        if !queue.event_idx_enabled() {
            return Some(u32::from(word(0)?) & VRING_AVAIL_F_NO_INTERRUPT == 0);
        }
        let (event, now) = (word(4 + 2 * u64::from(queue.size()))?, queue.next_used());
        Some(now.wrapping_sub(event).wrapping_sub(1) < now.wrapping_sub(before))
    }

    /// Answers the chains that there are, and tells the driver; `answer` says how many bytes it has
    /// written. A driver that has new ones without end cannot keep the device from its other work:
    /// after a queue's length the rest waits for the doorbell, which then rings.
    pub fn serve(&mut self, mut answer: impl FnMut(&Chain) -> u32) {
        let mut left = self.size();
        while let Some(chain) = self.pop_of(&mut left) {
            let written = answer(&chain);
            self.complete(chain.head, written);
        }
        self.signal();
    }

    /// As [`Self::serve`], for all chains at once: `answer` says of each how many bytes it has
    /// written.
    pub fn serve_together(&mut self, answer: impl FnOnce(&[Chain]) -> Vec<u32>) {
        let mut left = self.size();
        let chains: Vec<_> = std::iter::from_fn(|| self.pop_of(&mut left)).collect();
        for (chain, written) in chains.iter().zip(answer(&chains)) {
            self.complete(chain.head, written);
        }
        self.signal();
    }

    /// The next chain, if some are `left`; if none are, the doorbell rings.
    fn pop_of(&mut self, left: &mut u16) -> Option<Chain> {
        if *left == 0 {
            // A counter that is full is signalled already.
            let _ = self.parts.doorbell.write(1);
            return None;
        }
        *left -= 1;
        self.pop()
    }

    /// Whether it has been given up, because of what the driver has put into it.
    pub fn is_faulted(&self) -> bool {
        self.is_faulted
    }

    fn fault(&mut self, malformed: Malformed) {
        self.is_faulted = true;
        self.parts.interrupt.needs_reset(&format_args!("queue {}: {malformed}", self.parts.index));
    }
}

fn no_rings(_: virtio_queue::Error) -> Malformed {
    Malformed::NoRings
}

impl fmt::Debug for Virtqueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Virtqueue({} {})", self.parts.device, self.parts.index)
    }
}
