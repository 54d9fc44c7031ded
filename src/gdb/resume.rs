//! How the guest goes on, and what of it the client is told when it stops.

use gdbstub::{
    common::{Signal, Tid},
    stub::MultiThreadStopReason,
    target::ext::base::multithread::{
        MultiThreadResume, MultiThreadSchedulerLocking, MultiThreadSchedulerLockingOps,
        MultiThreadSingleStep, MultiThreadSingleStepOps,
    },
};

use super::{
    debuggee::{Debuggee, Lost, thread_of, vcpu_of},
    watches::{Told, kind_for},
};
use crate::{
    addr::GuestPhysAddr,
    hal::{AxVMHal, DebugControl, DebugStop, DebugVCpu, HardwareStop, VCpuId},
    vm::{AxVM, Debugging, Error, GuestStop, StopReason, VMStatus},
};

/// A stop, and what is to be printed with it.
pub type Report = (String, MultiThreadStopReason<u64>);

/// What the client wants of each vCPU until the next stop.
#[derive(Debug, Default)]
pub struct Actions {
    stepping: Vec<VCpuId>,
    going: Vec<VCpuId>,
    /// Only these go on.
    others_wait: bool,
}

impl Actions {
    fn holds(&self, vcpu_id: VCpuId) -> bool {
        self.others_wait && !self.stepping.contains(&vcpu_id) && !self.going.contains(&vcpu_id)
    }
}

/// Why it cannot go on as the client wants.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Vm(#[from] Error),
    #[error("vCPU {0} cannot make a step: no memory where its next instruction is")]
    Nowhere(VCpuId),
    #[error("{0}")]
    Hal(crate::hal::HalError),
}

impl<H: AxVMHal> Debuggee<H> {
    /// Stops all vCPUs; whether they ran.
    pub fn stop_all(&mut self) -> bool {
        let Some(vm) = self.vm.upgrade() else { return false };
        let ran = vm.status() == VMStatus::Running;
        // Or they are on their way already.
        let _ = vm.suspend();
        vm.wait_until_at_rest();
        self.runs = false;
        self.end_step();
        ran
    }

    /// The client's Ctrl-C.
    pub fn interrupt(&mut self) {
        if self.runs && self.vm.upgrade().is_some_and(|vm| vm.suspend().is_ok()) {
            self.stop_all();
            self.report(String::new(), signal(0, Signal::SIGINT));
        }
    }

    /// A vCPU has stopped, and with it all.
    pub fn has_stopped(&mut self, vcpu_id: VCpuId, why: GuestStop) {
        let Some(vm) = self.vm.upgrade() else { return };
        if !vm.wait_until_at_rest() {
            // It ends, which is what will be told.
            return;
        }
        // An access is made once, and is told even if another stop was faster.
        let is_first = std::mem::take(&mut self.runs);
        let steps_to = self.end_step();
        self.stopped_vcpu = vcpu_id;
        let tid = thread_of(vcpu_id);
        match why {
            GuestStop::Access(exit, answer) => {
                let devices = vm.get_devices();
                let text = Told { vcpu: vcpu_id, exit: &exit, answer, devices }.to_string();
                let reason = match self.watches.asked(&exit) {
                    Some(asked) => MultiThreadStopReason::Watch {
                        tid,
                        kind: kind_for(asked.on),
                        addr: asked.addr,
                    },
                    None => signal(vcpu_id, Signal::SIGTRAP),
                };
                self.report(text, reason);
            }
            GuestStop::Hardware(_) if !is_first => {}
            GuestStop::Hardware(stop) => {
                let reason = match stop {
                    DebugStop::Step => signal(vcpu_id, Signal::SIGTRAP),
                    DebugStop::Breakpoint(pc) if steps_to.contains(&pc) => {
                        signal(vcpu_id, Signal::SIGTRAP)
                    }
                    DebugStop::Breakpoint(_) => MultiThreadStopReason::SwBreak(tid),
                    DebugStop::Instruction => MultiThreadStopReason::HwBreak(tid),
                    DebugStop::Data(addr) => self.data_watched(tid, addr),
                };
                self.report(String::new(), reason);
            }
        }
    }

    fn data_watched(&self, tid: Tid, addr: u64) -> MultiThreadStopReason<u64> {
        let kind = self.hardware.iter().find_map(|stop| match *stop {
            HardwareStop::Data { addr: from, len, on } if addr.wrapping_sub(from) < len => {
                Some((from, on))
            }
            _ => None,
        });
        match kind {
            Some((addr, on)) => MultiThreadStopReason::Watch { tid, kind: kind_for(on), addr },
            None => signal(vcpu_of(tid), Signal::SIGTRAP),
        }
    }

    /// It has a new machine, which does not run before the client says so.
    pub fn has_reset(&mut self) {
        let text = "the guest has reset itself, and is before its first instruction again";
        self.report(text.to_owned(), signal(0, Signal::SIGTRAP));
    }

    fn report(&mut self, text: String, reason: MultiThreadStopReason<u64>) {
        if !text.is_empty() {
            self.last.clone_from(&text);
        }
        let text = if text.is_empty() { text } else { format!("axvmm: {text}\n") };
        self.reports.push_back((text, reason));
    }

    /// What the client is to be told next.
    pub fn take_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// Nothing of the debugger's is left in a guest at rest.
    pub fn release(&mut self) {
        self.hardware.clear();
        self.watches.clear();
        self.reports.clear();
        self.inbox.forget_stops();
        let Some(vm) = self.vm.upgrade() else { return };
        let changed = self.planted.addresses();
        self.planted.unplant_all(vm.address_space());
        self.sync_code(&vm, &changed);
        vm.set_debugging(None);
        for vcpu_id in 0..vm.vcpu_num() {
            match vm.inspect(vcpu_id, |vcpu| vcpu.debug(None)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => log::warn!("{error}"),
                Err(error) => log::debug!("gdb: {error}"),
            }
        }
    }

    /// The guest runs without a client.
    pub fn go_on_alone(&mut self) {
        if let Some(vm) = self.vm.upgrade() {
            // Or it ends.
            let _ = vm.go_on(|_| false);
        }
    }

    /// Ends the guest.
    pub fn kill(&mut self) {
        if let Some(vm) = self.vm.upgrade() {
            vm.stop(StopReason::Signal(libc::SIGKILL));
        }
    }

    fn go_on(&mut self) -> Result<(), Refused> {
        let Some(vm) = self.vm.upgrade() else { return Ok(()) };
        for vcpu_id in self.actions.stepping.clone() {
            self.prepare_step(&vm, vcpu_id)?;
        }
        let breakpoints = self.planted.addresses();
        for vcpu_id in 0..vm.vcpu_num() {
            let control = DebugControl {
                step: self.actions.stepping.contains(&vcpu_id),
                breakpoints: !breakpoints.is_empty(),
                hardware: &self.hardware,
            };
            let is_quiet = !control.step && !control.breakpoints && control.hardware.is_empty();
            let control = (!is_quiet).then_some(&control);
            vm.inspect(vcpu_id, |vcpu| vcpu.debug(control))?.map_err(Refused::Hal)?;
        }
        self.sync_code(&vm, &breakpoints);
        let (watcher, watches) = (self.inbox.clone(), self.watches.list());
        vm.set_debugging(Some(Debugging { watcher, watches, breakpoints }));
        self.runs = true;
        vm.go_on(|vcpu_id| self.actions.holds(vcpu_id)).map_err(Refused::Vm)
    }

    /// Where the hardware makes no single steps: stops that vCPU wherever it may go, and all others
    /// meanwhile, which would run into these stops.
    fn prepare_step(&mut self, vm: &AxVM<H>, vcpu_id: VCpuId) -> Result<(), Refused> {
        let pc = vm.inspect(vcpu_id, DebugVCpu::registers)?.map_err(Refused::Hal)?;
        let pc = pc.get(Self::model().pc).copied().flatten().unwrap_or_default() as u64;
        let mut code = [0; 4];
        // Its second half may be where no memory is, and then it is not there.
        for half in 0..2 {
            let at = vm.translate(vcpu_id, pc.wrapping_add(2 * half))?;
            let bytes = &mut code[2 * half as usize..][..2];
            if at.is_some_and(|at| vm.address_space().read(at, bytes).is_ok()) {
                self.planted.hide(at.unwrap_or(GuestPhysAddr(0)), bytes);
            }
        }
        let successors = vm.inspect(vcpu_id, |vcpu| vcpu.successors(&code))?;
        let Some(successors) = successors.map_err(Refused::Hal)? else { return Ok(()) };
        let mut planted = 0;
        for addr in successors {
            let Some(at) = vm.translate(vcpu_id, addr)? else { continue };
            let code = Self::model().breakpoints[0];
            planted += usize::from(self.planted.plant_for_step(vm.address_space(), addr, at, code));
        }
        self.actions.others_wait = true;
        self.actions.going.clear();
        if planted == 0 { Err(Refused::Nowhere(vcpu_id)) } else { Ok(()) }
    }

    /// What was put there for a step is no longer needed.
    fn end_step(&mut self) -> Vec<u64> {
        let vm = self.vm.upgrade();
        let before = self.planted.addresses();
        let steps_to = self.planted.end_step(vm.as_ref().map(|vm| &**vm.address_space()));
        if let (Some(vm), false) = (vm, steps_to.is_empty()) {
            self.sync_code(&vm, &before);
        }
        steps_to
    }

    pub(super) fn sync_code(&self, vm: &AxVM<H>, at: &[GuestPhysAddr]) {
        let longest = Self::model().breakpoints.iter().map(|code| code.len()).max().unwrap_or(0);
        at.iter().for_each(|at| vm.hal().code_was_written(*at, longest as u64));
    }
}

const fn signal(vcpu_id: VCpuId, signal: Signal) -> MultiThreadStopReason<u64> {
    MultiThreadStopReason::SignalWithThread { tid: thread_of(vcpu_id), signal }
}

/// A guest takes no signals: those that a client passes on are left out.
impl<H: AxVMHal> MultiThreadResume for Debuggee<H> {
    fn resume(&mut self) -> Result<(), Lost> {
        // A client that sends this while it runs is told of the next stop all the same.
        if self.runs || !self.reports.is_empty() {
            return Ok(());
        }
        if let Err(refused) = self.go_on() {
            self.stop_all();
            self.report(refused.to_string(), signal(0, Signal::SIGTRAP));
        }
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<(), Lost> {
        self.actions = Actions::default();
        Ok(())
    }

    fn set_resume_action_continue(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), Lost> {
        if vcpu_of(tid) < self.vcpus {
            self.actions.going.push(vcpu_of(tid));
        }
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl<H: AxVMHal> MultiThreadSingleStep for Debuggee<H> {
    fn set_resume_action_step(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), Lost> {
        if vcpu_of(tid) < self.vcpus {
            self.actions.stepping.push(vcpu_of(tid));
        }
        Ok(())
    }
}

impl<H: AxVMHal> MultiThreadSchedulerLocking for Debuggee<H> {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), Lost> {
        self.actions.others_wait = true;
        Ok(())
    }
}
