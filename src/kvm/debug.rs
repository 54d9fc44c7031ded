//! A vCPU of KVM's under a debugger (api.rst, 4.87, `KVM_SET_GUEST_DEBUG`, and 5, `KVM_EXIT_DEBUG`).

use kvm_bindings::kvm_debug_exit_arch;

use super::{arch::debug, vcpu::KvmVCpu};
use crate::{
    addr::GuestPhysAddr,
    hal::{
        DebugControl, DebugModel, DebugStop, DebugVCpu, HalError, HalResult, HardwareStop,
        ReadPhysical,
    },
};

/// What a vCPU knows of its debugger.
#[derive(Default)]
pub struct Debugged {
    /// What the hardware stops at, as it was told last.
    hardware: Vec<HardwareStop>,
    /// Whether it was told anything.
    is_on: bool,
    /// The latest exit for the debugger.
    exit: kvm_debug_exit_arch,
}

impl DebugVCpu for KvmVCpu {
    fn model() -> &'static DebugModel {
        &debug::MODEL
    }

    fn registers(&mut self) -> HalResult<Vec<Option<u128>>> {
        debug::registers(&self.fd)
    }

    fn set_register(&mut self, number: usize, value: u128) -> HalResult {
        debug::set_register(&self.fd, number, value)
    }

    fn translate(&mut self, addr: u64, read: ReadPhysical<'_>) -> HalResult<Option<GuestPhysAddr>> {
        debug::translate(&self.fd, addr, read)
    }

    fn can_stop_at(&self, stops: &[HardwareStop]) -> bool {
        debug::can_stop_at(&self.arch, stops)
    }

    fn debug(&mut self, how: Option<&DebugControl<'_>>) -> HalResult {
        if how.is_none() && !self.debugged.is_on {
            return Ok(());
        }
        debug::control(&self.fd, how).map_err(|errno| {
            HalError::failed("have a vCPU stop for the debugger (KVM_SET_GUEST_DEBUG)", errno)
        })?;
        self.debugged.is_on = how.is_some();
        self.debugged.hardware = how.map(|how| how.hardware.to_vec()).unwrap_or_default();
        Ok(())
    }

    fn successors(&mut self, code: &[u8]) -> HalResult<Option<Vec<u64>>> {
        debug::successors(&self.fd, code)
    }

    fn take_stop(&mut self) -> Option<DebugStop> {
        self.debugged.exit = self.pending.debug_exit.take()?;
        debug::stop(&self.fd, &self.debugged.exit, &self.debugged.hardware)
    }

    fn pass_breakpoint(&mut self) -> HalResult {
        debug::pass_breakpoint(&self.fd, &self.debugged.exit)
    }
}
