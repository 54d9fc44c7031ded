//! What the guest tells of its memory (virtio 1.2, 5.5.6.3).

use std::fmt;

use serde::Serialize;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U64},
};

use crate::addrspace::GuestBuffer;

/// A statistic, as it lies in the buffer.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    tag: U16,
    value: U64,
}

/// There are 16 tags so far; what is behind so many entries is not read.
const MOST_ENTRIES: usize = 64;

/// What the guest has told; `None`: it has not. Memory is in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Memory swapped in.
    pub swap_in: Option<u64>,
    /// Memory swapped out.
    pub swap_out: Option<u64>,
    /// How many page faults needed I/O.
    pub major_faults: Option<u64>,
    /// How many did not.
    pub minor_faults: Option<u64>,
    /// Memory that is used for nothing.
    pub free: Option<u64>,
    /// All memory that the guest has.
    pub total: Option<u64>,
    /// Memory that could be had without swapping.
    pub available: Option<u64>,
    /// Memory in caches that could be dropped.
    pub caches: Option<u64>,
    /// How many huge pages were allocated.
    pub huge_pages: Option<u64>,
    /// How many could not be.
    pub huge_page_failures: Option<u64>,
}

impl Statistics {
    /// What is in a buffer of the driver's; tags that are not known mean nothing here.
    pub(super) fn read(buffer: &GuestBuffer) -> Self {
        let mut all = Self::default();
        let size = size_of::<Entry>();
        for n in 0..(buffer.len() / size).min(MOST_ENTRIES) {
            let Some(entry) = buffer.read_obj_at::<Entry>(n * size) else { break };
            if let Some(field) = all.field(entry.tag.get()) {
                *field = Some(entry.value.get());
            }
        }
        all
    }

    fn field(&mut self, tag: u16) -> Option<&mut Option<u64>> {
        Some(match tag {
            0 => &mut self.swap_in,
            1 => &mut self.swap_out,
            2 => &mut self.major_faults,
            3 => &mut self.minor_faults,
            4 => &mut self.free,
            5 => &mut self.total,
            6 => &mut self.available,
            7 => &mut self.caches,
            8 => &mut self.huge_pages,
            9 => &mut self.huge_page_failures,
            _ => return None,
        })
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: Option<u64>| match bytes {
            Some(bytes) => format!("{} MiB", bytes >> 20),
            None => "?".to_owned(),
        };
        let [free, available, total] = [self.free, self.available, self.total].map(mib);
        write!(f, "{free} free and {available} available of {total}")
    }
}
