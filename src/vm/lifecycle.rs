//! The status of a VM, and how its threads learn of a change.

use std::{
    fmt,
    sync::atomic::{AtomicU8, Ordering},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use serde::Serialize;

use super::StopReason;
use crate::hal::VCpuId;

/// ```text
/// Loading → Loaded → Running ⇄ Suspended
///              └────────┴─────────┴──▶ Stopping → Stopped
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[repr(u8)]
pub enum VMStatus {
    /// Memory and devices are being put together; no `AxVM` yet.
    Loading = 0,
    /// Ready to boot.
    Loaded = 1,
    /// vCPUs are in the guest, or may be.
    Running = 2,
    /// vCPUs are out of the guest and stay there.
    Suspended = 3,
    /// Told to stop; vCPUs are on their way out.
    Stopping = 4,
    /// All vCPU threads have left.
    Stopped = 5,
}

impl VMStatus {
    const ALL: [Self; 6] = [
        Self::Loading,
        Self::Loaded,
        Self::Running,
        Self::Suspended,
        Self::Stopping,
        Self::Stopped,
    ];

    /// The status's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "Loading",
            Self::Loaded => "Loaded",
            Self::Running => "Running",
            Self::Suspended => "Suspended",
            Self::Stopping => "Stopping",
            Self::Stopped => "Stopped",
        }
    }
}

impl fmt::Display for VMStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The status, readable without a lock, changed under one.
pub(super) struct Lifecycle {
    status: AtomicU8,
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    stop_reason: Option<StopReason>,
    /// vCPU threads that have not left yet.
    threads: usize,
    /// For each vCPU: something has come that it may have been waiting for.
    woken: Box<[bool]>,
    /// For each vCPU: whether the guest has it on line.
    on: Box<[bool]>,
    /// For each vCPU: whether a debugger keeps it out of the guest while others run.
    held: Box<[bool]>,
    /// vCPU threads that are out of the guest and stay there.
    parked: usize,
}

impl Lifecycle {
    /// For `vcpus` vCPUs, of which only the first is on line unless `all_on`.
    pub fn new(vcpus: usize, all_on: bool) -> Self {
        let woken = vec![false; vcpus].into();
        let held = vec![false; vcpus].into();
        let on = (0..vcpus).map(|id| all_on || id == 0).collect();
        Self {
            status: AtomicU8::new(VMStatus::Loaded as u8),
            inner: Mutex::new(Inner { stop_reason: None, threads: 0, woken, on, held, parked: 0 }),
            changed: Condvar::new(),
        }
    }

    pub fn status(&self) -> VMStatus {
        // Sequentially consistent with the kick: see `AxVM::run_bound`.
        VMStatus::ALL[usize::from(self.status.load(Ordering::SeqCst))]
    }

    pub fn stop_reason(&self) -> Option<StopReason> {
        self.lock().stop_reason.clone()
    }

    /// From one status to another, or what it is instead.
    pub fn change(&self, from: VMStatus, to: VMStatus) -> Result<(), VMStatus> {
        let _inner = self.lock();
        let found = self.status();
        if found != from {
            return Err(found);
        }
        self.set(to);
        Ok(())
    }

    /// To `Stopping`, unless it stops already; whether `reason` is the one that stands.
    pub fn stop(&self, reason: StopReason) -> bool {
        let mut inner = self.lock();
        if inner.stop_reason.is_some() {
            return false;
        }
        inner.stop_reason = Some(reason);
        self.set(if inner.threads == 0 { VMStatus::Stopped } else { VMStatus::Stopping });
        true
    }

    pub fn thread_starts(&self) {
        self.lock().threads += 1;
    }

    /// Whether it was the last.
    pub fn thread_leaves(&self) -> bool {
        let mut inner = self.lock();
        inner.threads -= 1;
        if inner.threads == 0 && inner.stop_reason.is_some() {
            self.set(VMStatus::Stopped);
        }
        // Whoever waits for all to be parked waits for one fewer.
        self.changed.notify_all();
        inner.threads == 0
    }

    /// Waits until `vcpu_id` may run; `false`: it never will again.
    pub fn wait_until_running(&self, vcpu_id: VCpuId) -> bool {
        let waiting = |inner: &mut Inner| match self.status() {
            VMStatus::Loading | VMStatus::Loaded | VMStatus::Suspended => true,
            VMStatus::Running => inner.held[vcpu_id],
            VMStatus::Stopping | VMStatus::Stopped => false,
        };
        let mut inner = self.lock();
        if waiting(&mut inner) {
            inner.parked += 1;
            self.changed.notify_all();
            self.changed.wait_while(&mut inner, waiting);
            inner.parked -= 1;
        }
        // By the status that the wait has ended for: a suspension that comes now finds a thread that
        // enters and leaves again, and not one that has gone.
        self.status() == VMStatus::Running
    }

    /// Waits until all vCPUs are out of the guest, which they must have been told; `false`: they run,
    /// or never will again.
    pub fn wait_until_parked(&self) -> bool {
        let is_still =
            || matches!(self.status(), VMStatus::Loading | VMStatus::Loaded | VMStatus::Suspended);
        let waiting = |inner: &mut Inner| is_still() && inner.parked < inner.threads;
        self.changed.wait_while(&mut self.lock(), waiting);
        is_still()
    }

    /// Keeps these vCPUs out of the guest while others run, and no others.
    pub fn hold(&self, held: impl Fn(VCpuId) -> bool) {
        for (id, is_held) in self.lock().held.iter_mut().enumerate() {
            *is_held = held(id);
        }
        self.changed.notify_all();
    }

    /// Waits until `vcpu_id` is woken or vCPUs may no longer run.
    pub fn wait_for_wake(&self, vcpu_id: VCpuId) {
        let waiting =
            |inner: &mut Inner| !inner.woken[vcpu_id] && self.status() == VMStatus::Running;
        let mut inner = self.lock();
        self.changed.wait_while(&mut inner, waiting);
        inner.woken[vcpu_id] = false;
    }

    /// Waits until `vcpu_id` is on line or vCPUs may no longer run.
    pub fn wait_until_on(&self, vcpu_id: VCpuId) {
        let waiting = |inner: &mut Inner| !inner.on[vcpu_id] && self.status() == VMStatus::Running;
        self.changed.wait_while(&mut self.lock(), waiting);
    }

    pub fn is_on(&self, vcpu_id: VCpuId) -> bool {
        self.lock().on[vcpu_id]
    }

    /// Takes a vCPU on or off line.
    pub fn set_on(&self, vcpu_id: VCpuId, on: bool) {
        self.lock().on[vcpu_id] = on;
        self.changed.notify_all();
    }

    /// Something has come that `vcpu_id` may be waiting for.
    pub fn wake(&self, vcpu_id: VCpuId) {
        self.lock().woken[vcpu_id] = true;
        self.changed.notify_all();
    }

    fn set(&self, status: VMStatus) {
        self.status.store(status as u8, Ordering::SeqCst);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}
