//! One thread per vCPU: it runs the loop, and decides on what the loop gives back.

use std::{sync::Arc, thread};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use super::{AxVM, AxVMRef, Error, FaultReport, StopReason, stuck::Repeats};
use crate::{
    hal::{AxVCpuExitReason, AxVMHal, StopCause, VCpuId},
    vcpu::{BoundVCpu, VCpuState},
};

/// The bytes at the program counter that a fault report shows.
const CODE_BYTES: usize = 16;

/// A vCPU's thread calls into devices and writes log lines, no deeper; and in a stack of the usual
/// 2 MiB the host may put one huge page.
const STACK_BYTES: usize = 256 * 1024;

/// The running threads of a VM's vCPUs.
pub struct VCpuThreads<H: AxVMHal> {
    vm: AxVMRef<H>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl<H: AxVMHal> VCpuThreads<H> {
    /// Starts a thread for each vCPU, bound to the host CPUs that it may use; they wait for
    /// [`AxVM::boot`]. `on_stopped` is called once, by the last thread to leave.
    pub fn spawn(
        vm: &AxVMRef<H>,
        on_stopped: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        for vcpu in vm.vcpu_list() {
            check_affinity(vcpu.id(), vcpu.phys_cpu_set())?;
        }
        // Counted before the first starts, so that none is the last before all have begun.
        for _ in vm.vcpu_list() {
            vm.lifecycle.thread_starts();
        }
        let on_stopped = Arc::new(on_stopped);
        let mut threads = Vec::with_capacity(vm.vcpu_num());
        for vcpu_id in 0..vm.vcpu_num() {
            let (shared, on_stopped) = (vm.clone(), on_stopped.clone());
            let spawned = thread::Builder::new()
                .name(format!("VM[{}]-VCpu[{vcpu_id}]", vm.id))
                .stack_size(STACK_BYTES)
                .spawn(move || {
                    let leaves = Leaves { vm: &shared, on_stopped: &*on_stopped };
                    shared.vcpu_thread(vcpu_id);
                    drop(leaves);
                });
            match spawned {
                Ok(thread) => threads.push(thread),
                Err(source) => {
                    vm.stop(StopReason::Failed(format!("no thread for vCPU {vcpu_id}: {source}")));
                    for _ in vcpu_id..vm.vcpu_num() {
                        vm.lifecycle.thread_leaves();
                    }
                    Self { vm: vm.clone(), threads }.join();
                    return Err(Error::Spawn { vcpu_id, source });
                }
            }
        }
        Ok(Self { vm: vm.clone(), threads })
    }

    /// Waits for all threads to leave, which they do once the VM stops, and says why it did.
    pub fn join(self) -> StopReason {
        for thread in self.threads {
            if thread.join().is_err() {
                self.vm.stop(StopReason::Failed("a vCPU's thread panicked".to_owned()));
            }
        }
        let unknown = || StopReason::Failed("all vCPUs left for no reason".to_owned());
        self.vm.stop_reason().unwrap_or_else(unknown)
    }
}

/// Tells that a thread has left, also when it panics: the others must not wait for it.
struct Leaves<'a, H: AxVMHal> {
    vm: &'a AxVM<H>,
    on_stopped: &'a (dyn Fn() + Send + Sync),
}

impl<H: AxVMHal> Drop for Leaves<'_, H> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.vm.stop(StopReason::Failed("a vCPU's thread panicked".to_owned()));
        }
        if self.vm.lifecycle.thread_leaves() {
            (self.on_stopped)();
        }
    }
}

/// What a vCPU's thread does next.
enum Next {
    /// Enters again, if the VM still runs.
    Again,
    /// Waits for an interrupt.
    WaitForInterrupt,
    /// Takes its CPU off line.
    GoOff,
    /// Waits to be started by another CPU.
    WaitForCpuUp,
}

impl<H: AxVMHal> AxVM<H> {
    fn vcpu_thread(&self, vcpu_id: VCpuId) {
        let vcpu = &self.vcpus[vcpu_id];
        let _clock = self.stats[vcpu_id].clock.enter();
        if let Some(mask) = vcpu.phys_cpu_set() {
            if let Err(errno) = sched_setaffinity(Pid::from_raw(0), &cpu_set(mask)) {
                let why = format!("vCPU {vcpu_id} cannot be bound to host CPUs {mask:#x}: {errno}");
                self.stop(StopReason::Failed(why));
            }
        }
        let mut repeats = Repeats::default();
        while self.lifecycle.wait_until_running(vcpu_id) {
            let next = if self.lifecycle.is_on(vcpu_id) {
                self.turn(vcpu_id, &mut repeats)
            } else {
                Ok(Next::WaitForCpuUp)
            };
            match next {
                Ok(Next::Again) => {}
                Ok(Next::WaitForInterrupt) => {
                    self.blocked(vcpu_id, || self.lifecycle.wait_for_wake(vcpu_id));
                }
                // Now that it is unbound: whoever sees the CPU off line may set it up at once.
                Ok(Next::GoOff) => self.lifecycle.set_on(vcpu_id, false),
                Ok(Next::WaitForCpuUp) => {
                    self.blocked(vcpu_id, || self.lifecycle.wait_until_on(vcpu_id));
                }
                Err(error) => {
                    self.stop(StopReason::Failed(error.to_string()));
                }
            }
        }
        self.tell_where_it_was(vcpu_id);
    }

    /// Waits, with the vCPU `Blocked` meanwhile.
    fn blocked(&self, vcpu_id: VCpuId, wait: impl FnOnce()) {
        let vcpu = &self.vcpus[vcpu_id];
        let entered = vcpu.transition_state(VCpuState::Free, VCpuState::Blocked);
        wait();
        if entered.is_ok() {
            // Another CPU's `CpuUp` has made it `Free` already, perhaps.
            let _ = vcpu.transition_state(VCpuState::Blocked, VCpuState::Free);
        }
    }

    /// One turn of the vCPU: bound, run, unbound.
    fn turn(&self, vcpu_id: VCpuId, repeats: &mut Repeats) -> Result<Next, Error> {
        let mut vcpu = self.known(vcpu_id)?.bind()?;
        match self.run_bound(vcpu_id, &mut vcpu, repeats) {
            Ok(reason) => Ok(self.decide(vcpu_id, &mut vcpu, reason)),
            Err(error) => {
                log::error!("{}", self.report(vcpu_id, &vcpu, error.to_string()));
                Err(error)
            }
        }
    }

    /// Decides on a reason that devices and memory did not settle.
    fn decide(
        &self,
        vcpu_id: VCpuId,
        vcpu: &mut BoundVCpu<'_, H::VCpu>,
        reason: AxVCpuExitReason,
    ) -> Next {
        match reason {
            AxVCpuExitReason::Halt => return Next::WaitForInterrupt,
            AxVCpuExitReason::CpuDown { .. } => return Next::GoOff,
            AxVCpuExitReason::CpuUp { target_cpu, entry_point, arg } => {
                let started = self.cpu_up(target_cpu, entry_point, arg);
                vcpu.set_return_value(if started { 0 } else { H::UNKNOWN_HYPERCALL });
            }
            AxVCpuExitReason::Hypercall { nr, .. } => {
                log::debug!("VM[{}]-VCpu[{vcpu_id}] unknown hypercall {nr:#x}", self.id);
                vcpu.set_return_value(H::UNKNOWN_HYPERCALL);
            }
            AxVCpuExitReason::ExternalInterrupt { vector } => H::irq_handler(vector),
            AxVCpuExitReason::SendIPI { .. } => self.send_ipi(vcpu_id, &reason),
            AxVCpuExitReason::SystemDown | AxVCpuExitReason::FailEntry { .. } => {
                let reason = match vcpu.stop_cause() {
                    StopCause::Shutdown => StopReason::Shutdown,
                    StopCause::Reset => StopReason::Reset,
                    StopCause::Crash => StopReason::Panicked,
                    StopCause::TripleFault => {
                        self.fault(vcpu_id, vcpu, "triple fault, which shuts a processor down")
                    }
                    StopCause::Failure(what) | StopCause::Unemulated(what) => {
                        self.fault(vcpu_id, vcpu, what)
                    }
                };
                self.stop(reason);
            }
            AxVCpuExitReason::NestedPageFault { addr, access_flags } => {
                let what = match vcpu.stop_cause() {
                    StopCause::Unemulated(what) => what,
                    _ => format!("access ({access_flags}) to {addr}, which no memory allows"),
                };
                self.stop(self.fault(vcpu_id, vcpu, what));
            }
            AxVCpuExitReason::Nothing => {
                if let Some(stop) = vcpu.take_stop() {
                    self.stopped_for_debugger(vcpu_id, vcpu, stop);
                }
            }
            // A write after which a device stopped the VM: the status tells.
            AxVCpuExitReason::MmioWrite { .. }
            | AxVCpuExitReason::IoWrite { .. }
            | AxVCpuExitReason::SysRegWrite { .. } => {}
            unhandled => {
                let what = format!("nobody handles its exit {unhandled:x?}");
                self.stop(self.fault(vcpu_id, vcpu, what));
            }
        }
        Next::Again
    }

    /// Starts the CPU with the architectural id `target_cpu`; `false`: none such, or on already.
    fn cpu_up(&self, target_cpu: u64, entry: crate::addr::GuestPhysAddr, arg: u64) -> bool {
        let target = self.vcpus.iter().find(|vcpu| vcpu.phys_id() as u64 == target_cpu);
        let Some(target) = target.filter(|vcpu| !self.lifecycle.is_on(vcpu.id())) else {
            return false;
        };
        let setup = H::secondary_setup(target.phys_id(), arg);
        if let Err(error) = target.setup(entry, 0, setup) {
            log::error!("{error}");
            return false;
        }
        self.lifecycle.set_on(target.id(), true);
        true
    }

    fn send_ipi(&self, vcpu_id: VCpuId, reason: &AxVCpuExitReason) {
        let AxVCpuExitReason::SendIPI {
            target_cpu,
            target_cpu_aux,
            send_to_all,
            send_to_self,
            vector,
        } = *reason
        else {
            return;
        };
        for target in &self.vcpus {
            let own = target.id() == vcpu_id;
            // On aarch64 the aux is a bitmap of Aff0 below the affinity in `target_cpu`.
            let phys_id = target.phys_id() as u64;
            let named = if target_cpu_aux == 0 {
                phys_id == target_cpu
            } else {
                phys_id >> 8 == target_cpu >> 8 && target_cpu_aux >> (phys_id & 0xf) & 1 == 1
            };
            let wanted = if own { send_to_self } else { send_to_all };
            if wanted || (named && !send_to_all && !send_to_self) {
                if let Err(error) = self.hal.inject_irq_to_vcpu(target.id(), vector as usize) {
                    log::debug!("{error}");
                }
                self.lifecycle.wake(target.id());
            }
        }
    }

    fn fault(
        &self,
        vcpu_id: VCpuId,
        vcpu: &BoundVCpu<'_, H::VCpu>,
        what: impl Into<String>,
    ) -> StopReason {
        StopReason::Fault(Box::new(self.report(vcpu_id, vcpu, what)))
    }

    fn report(
        &self,
        vcpu_id: VCpuId,
        vcpu: &BoundVCpu<'_, H::VCpu>,
        what: impl Into<String>,
    ) -> FaultReport {
        let registers = vcpu.dump();
        let mut code = vec![0; CODE_BYTES];
        let read =
            registers.pc_gpa.is_some_and(|pc| self.address_space.read(pc, &mut code).is_ok());
        if !read {
            code.clear();
        }
        FaultReport { vcpu_id, what: what.into(), registers, code, recent: vcpu.recent_exits() }
    }
}

/// Refuses a mask in which there is no CPU that this process may use.
fn check_affinity(vcpu_id: VCpuId, mask: Option<usize>) -> Result<(), Error> {
    let Some(mask) = mask else { return Ok(()) };
    let allowed = sched_getaffinity(Pid::from_raw(0)).map_or(usize::MAX, |set| {
        (0..usize::BITS as usize)
            .filter(|cpu| set.is_set(*cpu).unwrap_or(false))
            .fold(0, |mask, cpu| mask | 1 << cpu)
    });
    if mask & allowed == 0 {
        return Err(Error::Affinity { vcpu_id, mask, allowed });
    }
    Ok(())
}

fn cpu_set(mask: usize) -> CpuSet {
    let mut set = CpuSet::new();
    for cpu in (0..usize::BITS as usize).filter(|cpu| mask >> cpu & 1 == 1) {
        // A set always has room for as many CPUs as a word has bits.
        let _ = set.set(cpu);
    }
    set
}
