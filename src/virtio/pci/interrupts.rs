//! The interrupts: a vector for each queue and one for the configuration, as the driver says; or just
//! a status for one that does without (virtio 1.2, 4.1.4.5 and 4.1.5.1.2).

use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicU16, Ordering},
};

use vmm_sys_util::eventfd::EventFd;

use crate::{pci::Msix, virtio::Notify};

/// No interrupt at all.
pub const NO_VECTOR: u16 = 0xffff;

/// The status register.
const USED_BUFFERS: u8 = 1;
const CONFIG_CHANGED: u8 = 2;

pub struct Interrupts {
    msix: Arc<Msix>,
    config: AtomicU16,
    queues: Vec<AtomicU16>,
    status: AtomicU8,
}

impl Interrupts {
    pub fn new(msix: Arc<Msix>, queues: u16) -> Self {
        Self {
            msix,
            config: AtomicU16::new(NO_VECTOR),
            queues: (0..queues).map(|_| AtomicU16::new(NO_VECTOR)).collect(),
            status: AtomicU8::new(0),
        }
    }

    pub fn config_vector(&self) -> u16 {
        self.config.load(Ordering::Acquire)
    }

    pub fn set_config_vector(&self, vector: u16) {
        self.config.store(self.known(vector), Ordering::Release);
    }

    /// The vector of a queue; none of one that is not there.
    pub fn queue_vector(&self, queue: u16) -> u16 {
        let vector = self.queues.get(usize::from(queue));
        vector.map_or(NO_VECTOR, |vector| vector.load(Ordering::Acquire))
    }

    pub fn set_queue_vector(&self, queue: u16, vector: u16) {
        if let Some(place) = self.queues.get(usize::from(queue)) {
            place.store(self.known(vector), Ordering::Release);
        }
    }

    /// Reading the status clears it.
    pub fn take_status(&self) -> u8 {
        self.status.swap(0, Ordering::AcqRel)
    }

    /// As after a reset of the device.
    pub fn reset(&self) {
        for vector in self.queues.iter().chain([&self.config]) {
            vector.store(NO_VECTOR, Ordering::Release);
        }
        self.take_status();
    }

    /// A vector that is not there cannot be had, and the driver reads that it has none.
    fn known(&self, vector: u16) -> u16 {
        if vector < self.msix.vectors() { vector } else { NO_VECTOR }
    }

    fn interrupt(&self, vector: u16, status: u8) {
        if self.msix.is_enabled() {
            // `NO_VECTOR` is none of its vectors.
            self.msix.signal(vector);
        } else {
            self.status.fetch_or(status, Ordering::AcqRel);
        }
    }
}

impl Notify for Interrupts {
    fn queue(&self, index: u16) {
        self.interrupt(self.queue_vector(index), USED_BUFFERS);
    }

    fn config(&self) {
        self.interrupt(self.config_vector(), CONFIG_CHANGED);
    }

    fn queue_eventfd(&self, index: u16) -> Option<EventFd> {
        self.msix.eventfd(self.queue_vector(index))
    }
}
