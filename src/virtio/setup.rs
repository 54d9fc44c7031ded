//! A queue as its driver sets it up, and whether it can be had so.

use std::fmt;

use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestMemory, Permissions};

use super::chain::Descriptors;
use crate::{
    addr::{GuestPhysAddr, GuestPhysAddrRange},
    addrspace::DeviceMemory,
};

/// A queue, as far as it is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSetup {
    /// The largest size that the device offers.
    pub max: u16,
    /// How many descriptors.
    pub size: u16,
    /// Where the descriptor table begins.
    pub descriptors: u64,
    /// Where the available ring begins.
    pub available: u64,
    /// Where the used ring begins.
    pub used: u64,
    /// Whether the driver has enabled it.
    pub is_enabled: bool,
}

/// What of the features concerns all queues.
#[derive(Clone, Copy, Debug)]
pub struct Common {
    event_idx: bool,
    indirect: bool,
}

impl Common {
    pub const fn of(features: u64) -> Self {
        Self {
            event_idx: features & 1 << VIRTIO_RING_F_EVENT_IDX != 0,
            indirect: features & 1 << VIRTIO_RING_F_INDIRECT_DESC != 0,
        }
    }
}

/// Why a queue cannot be had as it is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadSetup {
    Size { size: u16, max: u16 },
    Unaligned { ring: &'static str, at: u64 },
    Outside { ring: &'static str, at: u64, len: u64 },
    Overlap,
}

impl fmt::Display for BadSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { size, max } => {
                write!(f, "its size of {size} is no power of two, or more than {max}")
            }
            Self::Unaligned { ring, at } => write!(f, "its {ring} at {at:#x} is not aligned"),
            Self::Outside { ring, at, len } => write!(
                f,
                "its {ring} of {len} bytes at {at:#x} does not lie in memory that the guest may read \
                 and write"
            ),
            Self::Overlap => f.write_str("its rings lie over each other"),
        }
    }
}

impl QueueSetup {
    /// A queue that nobody has set up.
    pub const fn new(max: u16) -> Self {
        Self { max, size: max, descriptors: 0, available: 0, used: 0, is_enabled: false }
    }

    /// The three parts: what they are called, where they begin, how many bytes they have, and how
    /// they are aligned (virtio 1.2, 2.7).
    fn parts(&self) -> [(&'static str, u64, u64, u64); 3] {
        let size = u64::from(self.size);
        [
            ("descriptor table", self.descriptors, 16 * size, 16),
            ("available ring", self.available, 6 + 2 * size, 2),
            ("used ring", self.used, 6 + 8 * size, 4),
        ]
    }

    /// Whether it can be had.
    pub fn check(&self, memory: &DeviceMemory) -> Result<(), BadSetup> {
        if !self.size.is_power_of_two() || self.size > self.max {
            return Err(BadSetup::Size { size: self.size, max: self.max });
        }
        let mut ranges = Vec::with_capacity(3);
        for (ring, at, len, align) in self.parts() {
            if at % align != 0 {
                return Err(BadSetup::Unaligned { ring, at });
            }
            let gpa = GuestPhysAddr(at);
            let range = GuestPhysAddrRange::new(gpa, len);
            let lies = memory.check_range(gpa.into(), len as usize, Permissions::ReadWrite);
            let range = range.filter(|_| lies).ok_or(BadSetup::Outside { ring, at, len })?;
            if ranges.iter().any(|other: &GuestPhysAddrRange| other.overlaps(&range)) {
                return Err(BadSetup::Overlap);
            }
            ranges.push(range);
        }
        Ok(())
    }

    /// The queue itself.
    pub fn queue(
        &self,
        memory: &DeviceMemory,
        common: Common,
    ) -> Result<(Queue, Descriptors), BadSetup> {
        self.check(memory)?;
        for (_, at, len, _) in self.parts() {
            memory.announce(GuestPhysAddr(at), len);
        }
        let refused = |_| BadSetup::Size { size: self.size, max: self.max };
        let mut queue = Queue::new(self.max).map_err(refused)?;
        let halves = |address: u64| (Some(address as u32), Some((address >> 32) as u32));
        queue.set_size(self.size);
        let (low, high) = halves(self.descriptors);
        queue.set_desc_table_address(low, high);
        let (low, high) = halves(self.available);
        queue.set_avail_ring_address(low, high);
        let (low, high) = halves(self.used);
        queue.set_used_ring_address(low, high);
        queue.set_event_idx(common.event_idx);
        queue.set_ready(true);
        let table = GuestPhysAddr(self.descriptors);
        Ok((queue, Descriptors { table, size: self.size, indirect: common.indirect }))
    }
}
