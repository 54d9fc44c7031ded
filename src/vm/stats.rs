//! What each vCPU has exited for.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;

use super::{HandlingTimes, thread_clock::ThreadClock, times::VCpuTimes};
use crate::{
    devices::Taker,
    hal::{AxVCpuExitReason, EXIT_REASONS},
};

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

/// Accesses to a window of a device's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AccessCounts {
    /// Those that the guest waits for the value of.
    pub reads: u64,
    /// The others.
    pub writes: u64,
}

/// A vCPU's exits: written by its own thread only, read by any.
#[derive(Debug)]
pub struct VCpuStats {
    reasons: [AtomicU64; EXIT_REASONS],
    /// Reads and writes, by [`Taker::window`].
    windows: Box<[[AtomicU64; 2]]>,
    /// Made when somebody wants them.
    times: OnceLock<Box<VCpuTimes>>,
    pub(super) clock: ThreadClock,
}

impl VCpuStats {
    /// For a VM whose devices have so many windows.
    pub(super) fn new(windows: usize) -> Self {
        let windows = (0..windows).map(|_| Default::default()).collect();
        let (reasons, times, clock) = Default::default();
        Self { reasons, windows, times, clock }
    }

    /// Makes room for times.
    pub(super) fn make_times(&self) {
        self.times.get_or_init(|| Box::new(VCpuTimes::new(self.windows.len())));
    }

    /// Counts an exit, and the access that it is to whoever takes it. Only the thread that runs the
    /// vCPU calls this, so plain loads and stores do.
    pub(super) fn count(&self, reason: &AxVCpuExitReason, by: Option<Taker>) {
        let add = |count: &AtomicU64| {
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        };
        add(&self.reasons[reason.index()]);
        if let Some(window) = by.and_then(|by| self.windows.get(by.window())) {
            add(&window[usize::from(reason.is_write())]);
        }
    }

    /// Counts how long an exit took, if there is room for times. Only the thread that runs the vCPU
    /// calls this.
    pub(super) fn time(&self, reason: &AxVCpuExitReason, by: Option<Taker>, took: Duration) {
        if let Some(times) = self.times.get() {
            times.count(reason.index(), by.map(Taker::window), took);
        }
    }

    /// What has been counted so far.
    pub fn counts(&self) -> ExitCounts {
        ExitCounts(std::array::from_fn(|i| self.reasons[i].load(Ordering::Relaxed)))
    }

    /// What has been counted so far for each of [`crate::devices::AxVmDevices::windows`].
    pub fn accesses(&self) -> impl Iterator<Item = AccessCounts> {
        self.windows.iter().map(|window| {
            let [reads, writes] = [0, 1].map(|way| window[way].load(Ordering::Relaxed));
            AccessCounts { reads, writes }
        })
    }

    /// How long exits took to handle, for each reason that there was while that was counted
    /// ([`super::AxVM::time_exits`]).
    pub fn times_by_reason(&self) -> impl Iterator<Item = (&'static str, HandlingTimes)> {
        let times = self.times.get().into_iter();
        let all = times.flat_map(|times| (0..EXIT_REASONS).map(|i| (i, times.reason(i))));
        all.filter(|(_, it)| it.count() > 0).map(|(i, it)| (AxVCpuExitReason::name_of(i), it))
    }

    /// How long accesses to this one of [`crate::devices::AxVmDevices::windows`] took to handle.
    pub fn times_of_window(&self, window: usize) -> HandlingTimes {
        self.times.get().map(|times| times.window(window)).unwrap_or_default()
    }

    /// How long the vCPU's thread was on a processor of the host's, in the guest or for it.
    pub fn processor_time(&self) -> Duration {
        self.clock.spent()
    }
}
