//! The states of a vCPU.

use std::{
    fmt,
    sync::atomic::{AtomicU8, Ordering},
};

/// The states of `axvcpu`, under its numbers.
///
/// ```text
/// Created ──setup──▶ Free ──bind──▶ Ready ──run──▶ Running
///                    ▲  ▲            │  ▲             │
///                    │  └──unbind────┘  └─────────────┘
///                    └──▶ Blocked (halted, or a CPU that is off)
/// ```
///
/// A wrong call is refused and changes nothing. `Invalid` is a vCPU whose `run` or `unbind` failed;
/// `setup` makes it `Free` again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum VCpuState {
    /// Its `run` or `unbind` failed; only `setup` is possible.
    Invalid = 0,
    /// Made, with no registers set.
    Created = 1,
    /// Ready to be bound.
    Free = 2,
    /// Bound to a thread, outside of the guest.
    Ready = 3,
    /// In the guest.
    Running = 4,
    /// Waits for an interrupt, or to be started.
    Blocked = 5,
}

impl VCpuState {
    const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Created,
            2 => Self::Free,
            3 => Self::Ready,
            4 => Self::Running,
            5 => Self::Blocked,
            _ => Self::Invalid,
        }
    }
}

impl fmt::Display for VCpuState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A state that any thread can read while the one that holds the vCPU changes it.
pub(super) struct AtomicState(AtomicU8);

impl AtomicState {
    pub fn new(state: VCpuState) -> Self {
        Self(AtomicU8::new(state as u8))
    }

    pub fn get(&self) -> VCpuState {
        VCpuState::from_number(self.0.load(Ordering::Acquire))
    }

    /// For the thread that holds the vCPU, which alone moves it on.
    pub fn set(&self, state: VCpuState) {
        self.0.store(state as u8, Ordering::Release);
    }
}
