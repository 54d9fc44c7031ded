//! A virtual CPU: its states, and the rule that one thread at a time holds it.
//!
//! [`AxVCpu`] is what a VM and all its threads share; [`BoundVCpu`] is what the one thread that runs
//! it holds. Dropping the latter unbinds, so that no way out of the loop can forget it.

mod recent;
mod state;

use std::{fmt, sync::Arc, thread};

use parking_lot::{Mutex, MutexGuard};
use recent::RecentExits;
use state::AtomicState;
pub use state::VCpuState;

pub use crate::hal::{AxArchVCpu, AxVCpuExitReason, VCpuId, VCpuSetup, VMId};
use crate::{
    addr::GuestPhysAddr,
    hal::{DebugStop, DebugVCpu, HalError, ReadPhysical, StopCause, VCpuDump, VCpuKick},
};

/// The vCPU of the architecture that this program is built for.
pub use crate::kvm::KvmVCpu as AxArchVCpuImpl;

/// Why an operation on a vCPU was not done.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what each is")]
pub enum Error {
    /// The operation is not one for the state that the vCPU is in; the state stays as it was.
    #[error("vCPU {vcpu_id} is {found}, and {operation} needs it to be {wanted}")]
    BadState { vcpu_id: VCpuId, operation: &'static str, wanted: VCpuState, found: VCpuState },
    #[error("vCPU {vcpu_id}: {source}")]
    Hal { vcpu_id: VCpuId, source: HalError },
    /// The state stays as it was.
    #[error("vCPU {vcpu_id} cannot be made {to} from {from}: only Free and Blocked take turns so")]
    NoSuchTransition { vcpu_id: VCpuId, from: VCpuState, to: VCpuState },
}

/// A vCPU as its VM and all threads see it.
pub struct AxVCpu<A: AxArchVCpu> {
    vm_id: VMId,
    id: VCpuId,
    phys_id: usize,
    phys_cpu_set: Option<usize>,
    state: AtomicState,
    kick: Arc<dyn VCpuKick>,
    held: Mutex<Held<A>>,
}

/// What only the thread that holds the vCPU touches.
struct Held<A> {
    arch: A,
    recent: RecentExits,
    /// What the latest exit was answered.
    answer: Option<u64>,
}

impl<A: AxArchVCpu> AxVCpu<A> {
    /// Makes the vCPU: `Created`. `phys_id` is its architectural id, `phys_cpu_set` the mask of
    /// host CPUs that its thread may use.
    pub fn new(
        vm_id: VMId,
        id: VCpuId,
        phys_id: usize,
        phys_cpu_set: Option<usize>,
        config: A::CreateConfig,
    ) -> Result<Self, Error> {
        let arch =
            A::new(vm_id, id, config).map_err(|source| Error::Hal { vcpu_id: id, source })?;
        Ok(Self {
            vm_id,
            id,
            phys_id,
            phys_cpu_set,
            state: AtomicState::new(VCpuState::Created),
            kick: arch.kicker(),
            held: Mutex::new(Held { arch, recent: RecentExits::default(), answer: None }),
        })
    }

    /// Its number in the VM, from 0.
    pub const fn id(&self) -> VCpuId {
        self.id
    }

    /// Its VM's number.
    pub const fn vm_id(&self) -> VMId {
        self.vm_id
    }

    /// The APIC id, MPIDR affinity or hart id.
    pub const fn phys_id(&self) -> usize {
        self.phys_id
    }

    /// The host CPUs that its thread may use, as a bit mask; `None`: all.
    pub const fn phys_cpu_set(&self) -> Option<usize> {
        self.phys_cpu_set
    }

    /// Whether this is the boot processor.
    pub const fn is_bsp(&self) -> bool {
        self.id == 0
    }

    /// The state at this moment; any thread may ask, also while the vCPU runs.
    pub fn state(&self) -> VCpuState {
        self.state.get()
    }

    /// Gets the vCPU out of the guest; any thread may.
    pub fn kick(&self) {
        self.kick.kick();
    }

    /// `Created` (or any other state that no thread is bound in: a fresh start) to `Free`: registers
    /// as `setup` says, execution to begin at `entry`. On an error the state is as it was before.
    pub fn setup(
        &self,
        entry: GuestPhysAddr,
        ept_root: u64,
        setup: A::SetupConfig,
    ) -> Result<(), Error> {
        let mut held = self.hold("setup")?;
        let arch = &mut held.arch;
        let result = arch
            .set_entry(entry)
            .and_then(|()| arch.set_ept_root(ept_root))
            .and_then(|()| arch.setup(setup));
        result.map_err(|source| self.hal_error(source))?;
        self.state.set(VCpuState::Free);
        Ok(())
    }

    /// Changes where the next run begins: for a CPU that another one starts.
    pub fn set_entry(&self, entry: GuestPhysAddr) -> Result<(), Error> {
        self.hold("set_entry")?.arch.set_entry(entry).map_err(|source| self.hal_error(source))
    }

    /// `Free` to `Ready`: the calling thread adopts the vCPU and lets go when the value is dropped.
    pub fn bind(&self) -> Result<BoundVCpu<'_, A>, Error> {
        let mut held = self.hold("bind")?;
        self.expect("bind", VCpuState::Free)?;
        self.state.set(VCpuState::Ready);
        if let Err(source) = held.arch.bind() {
            self.state.set(VCpuState::Free);
            return Err(self.hal_error(source));
        }
        Ok(BoundVCpu { vcpu: self, held })
    }

    /// Changes the state of a vCPU that no thread is bound to: `Free` to `Blocked` when it waits
    /// for something and back.
    pub fn transition_state(&self, from: VCpuState, to: VCpuState) -> Result<(), Error> {
        use VCpuState::{Blocked, Free};
        if !matches!((from, to), (Free, Blocked) | (Blocked, Free)) {
            return Err(Error::NoSuchTransition { vcpu_id: self.id, from, to });
        }
        // Held, so that it comes before or after what another thread does, and not in between.
        let _held = self.hold("transition_state")?;
        self.expect("transition_state", from)?;
        self.state.set(to);
        Ok(())
    }

    /// What a debugger does with a vCPU that no thread is bound to.
    pub fn inspect<R>(&self, act: impl FnOnce(&mut A) -> R) -> Result<R, Error> {
        Ok(act(&mut self.hold("inspect")?.arch))
    }

    /// For whoever holds the vCPU, so that the state does not change behind its back.
    fn expect(&self, operation: &'static str, wanted: VCpuState) -> Result<(), Error> {
        match self.state.get() {
            found if found == wanted => Ok(()),
            found => Err(Error::BadState { vcpu_id: self.id, operation, wanted, found }),
        }
    }

    /// The architecture's part, unless another thread is bound to it.
    fn hold(&self, operation: &'static str) -> Result<MutexGuard<'_, Held<A>>, Error> {
        loop {
            // Also after a thread has panicked while bound: the panic was ours, not the vCPU's, which
            // it has left consistent.
            if let Some(held) = self.held.try_lock() {
                return Ok(held);
            }
            match self.state.get() {
                found @ (VCpuState::Ready | VCpuState::Running) => {
                    let (vcpu_id, wanted) = (self.id, VCpuState::Free);
                    return Err(Error::BadState { vcpu_id, operation, wanted, found });
                }
                // Whoever held it is letting go: the state tells so just before the lock does.
                _ => thread::yield_now(),
            }
        }
    }

    fn hal_error(&self, source: HalError) -> Error {
        Error::Hal { vcpu_id: self.id, source }
    }
}

impl<A: AxArchVCpu> fmt::Debug for AxVCpu<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VM[{}]-VCpu[{}] {}", self.vm_id, self.id, self.state())
    }
}

/// A vCPU in the hands of the thread that runs it.
pub struct BoundVCpu<'a, A: AxArchVCpu> {
    vcpu: &'a AxVCpu<A>,
    held: MutexGuard<'a, Held<A>>,
}

impl<A: AxArchVCpu> BoundVCpu<'_, A> {
    /// `Ready` to `Running` and back: runs the guest until there is something to do. An error makes
    /// the vCPU `Invalid` until the next `setup`: its registers can no longer be trusted.
    pub fn run(&mut self) -> Result<AxVCpuExitReason, Error> {
        self.vcpu.expect("run", VCpuState::Ready)?;
        self.held.answer = None;
        self.vcpu.state.set(VCpuState::Running);
        match self.held.arch.run() {
            Ok(reason) => {
                self.vcpu.state.set(VCpuState::Ready);
                self.held.recent.push(reason);
                Ok(reason)
            }
            Err(source) => {
                self.vcpu.state.set(VCpuState::Invalid);
                Err(self.vcpu.hal_error(source))
            }
        }
    }

    /// See [`AxArchVCpu::set_gpr`].
    pub fn set_gpr(&mut self, reg: usize, val: u64) {
        self.held.answer = Some(val);
        self.held.arch.set_gpr(reg, val);
    }

    /// See [`AxArchVCpu::set_return_value`].
    pub fn set_return_value(&mut self, val: u64) {
        self.held.answer = Some(val);
        self.held.arch.set_return_value(val);
    }

    /// See [`AxArchVCpu::set_second_return_value`].
    pub fn set_second_return_value(&mut self, val: u64) {
        self.held.arch.set_second_return_value(val);
    }

    /// See [`AxArchVCpu::refuse_sys_reg`].
    pub fn refuse_sys_reg(&mut self) {
        self.held.arch.refuse_sys_reg();
    }

    /// See [`AxArchVCpu::inject_interrupt`].
    pub fn inject_interrupt(&mut self, vector: usize) -> Result<(), Error> {
        self.held.arch.inject_interrupt(vector).map_err(|source| self.vcpu.hal_error(source))
    }

    /// See [`AxArchVCpu::stop_cause`].
    pub fn stop_cause(&self) -> StopCause {
        self.held.arch.stop_cause()
    }

    /// What the latest exit was answered so far: a read's or a hypercall's value, zero-extended.
    pub fn answer(&self) -> Option<u64> {
        self.held.answer
    }

    /// The latest exits, oldest first.
    pub fn recent_exits(&self) -> Vec<AxVCpuExitReason> {
        self.held.recent.oldest_first()
    }

    /// See [`AxArchVCpu::pc`].
    pub fn pc(&mut self) -> u64 {
        self.held.arch.pc()
    }

    /// See [`AxArchVCpu::dump`].
    pub fn dump(&self) -> VCpuDump {
        self.held.arch.dump()
    }
}

impl<A: AxArchVCpu + DebugVCpu> BoundVCpu<'_, A> {
    /// See [`DebugVCpu::take_stop`].
    pub fn take_stop(&mut self) -> Option<DebugStop> {
        self.held.arch.take_stop()
    }

    /// See [`DebugVCpu::pass_breakpoint`].
    pub fn pass_breakpoint(&mut self) -> Result<(), Error> {
        self.held.arch.pass_breakpoint().map_err(|source| self.vcpu.hal_error(source))
    }

    /// See [`DebugVCpu::translate`].
    pub fn translate(
        &mut self,
        addr: u64,
        read: ReadPhysical<'_>,
    ) -> Result<Option<GuestPhysAddr>, Error> {
        self.held.arch.translate(addr, read).map_err(|source| self.vcpu.hal_error(source))
    }
}

impl<A: AxArchVCpu> Drop for BoundVCpu<'_, A> {
    fn drop(&mut self) {
        let unbound = self.held.arch.unbind();
        if let Err(error) = &unbound {
            log::error!("vCPU {}: {error}", self.vcpu.id);
        }
        let to = if unbound.is_ok() && self.vcpu.state.get() != VCpuState::Invalid {
            VCpuState::Free
        } else {
            VCpuState::Invalid
        };
        self.vcpu.state.set(to);
    }
}
