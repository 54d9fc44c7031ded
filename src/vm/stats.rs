//! What each vCPU has exited for.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::hal::{AxVCpuExitReason, EXIT_REASONS};

/// Exits by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitCounts(pub [u64; EXIT_REASONS]);

impl ExitCounts {
    /// All exits.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Reason and number, for the reasons that there were.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let named = self.0.iter().enumerate();
        named.filter(|(_, n)| **n > 0).map(|(i, n)| (AxVCpuExitReason::name_of(i), *n))
    }
}

/// A vCPU's exits: written by its own thread only, read by any.
#[derive(Debug, Default)]
pub struct VCpuStats {
    counts: [AtomicU64; EXIT_REASONS],
}

impl VCpuStats {
    /// Counts an exit. Only the thread that runs the vCPU calls this, so plain loads and stores do.
    pub(super) fn count(&self, reason: &AxVCpuExitReason) {
        let count = &self.counts[reason.index()];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// What has been counted so far.
    pub fn counts(&self) -> ExitCounts {
        ExitCounts(std::array::from_fn(|i| self.counts[i].load(Ordering::Relaxed)))
    }
}
