//! The latest exits of a vCPU, for reports on how it came to grief.

use crate::hal::AxVCpuExitReason;

const LENGTH: usize = 8;

/// A ring of the latest exits.
#[derive(Default)]
pub(super) struct RecentExits {
    ring: [Option<AxVCpuExitReason>; LENGTH],
    next: usize,
}

impl RecentExits {
    pub fn push(&mut self, reason: AxVCpuExitReason) {
        self.ring[self.next % LENGTH] = Some(reason);
        self.next = self.next.wrapping_add(1);
    }

    pub fn oldest_first(&self) -> Vec<AxVCpuExitReason> {
        (0..LENGTH).filter_map(|i| self.ring[self.next.wrapping_add(i) % LENGTH]).collect()
    }
}
