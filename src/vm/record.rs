//! What each exit is told to, once it has been handled.

use std::time::{Duration, Instant};

use crate::hal::{AxVCpuExitReason, VCpuId};

/// An exit that has been handled.
#[derive(Debug)]
pub struct HandledExit<'a> {
    /// Whose.
    pub vcpu: VCpuId,
    /// Where the guest was.
    pub pc: u64,
    /// What it was.
    pub reason: &'a AxVCpuExitReason,
    /// What the guest was answered, if it asked.
    pub answer: Option<u64>,
    /// Which of [`crate::devices::AxVmDevices::windows`] took it.
    pub window: Option<usize>,
    /// When it came.
    pub begun: Instant,
    /// How long it took.
    pub took: Duration,
}

/// Takes note of exits, on the threads of the vCPUs.
pub trait ExitRecorder: Send + Sync {
    /// Takes note of one.
    fn record(&self, exit: &HandledExit<'_>);
}
