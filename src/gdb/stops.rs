//! What the guest is to stop at: breakpoints, and watchpoints on memory and on devices.

use gdbstub::{
    common::Tid,
    target::{
        TargetError, TargetResult,
        ext::breakpoints::{
            Breakpoints, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps,
            SwBreakpoint, SwBreakpointOps, WatchKind,
        },
    },
};

use super::{
    debuggee::{Debuggee, thread_of},
    watches::{Asked, in_window, kind_of},
};
use crate::{
    addr::GuestPhysAddr,
    hal::{AxVMHal, DebugVCpu, HardwareStop},
    vm::{VMStatus, Watch, WatchedAddrs},
};

/// What no client may change while the guest runs.
const EBUSY: u8 = libc::EBUSY as u8;

impl<H: AxVMHal> Debuggee<H> {
    /// An address as any vCPU translates it, with that vCPU: they mostly share their tables, but one
    /// that has not started yet has none.
    fn translate_any(&self, addr: u64) -> Option<GuestPhysAddr> {
        let of = |vcpu_id| self.translate(self.favourite(vcpu_id), addr).ok();
        (0..self.vcpus).find_map(of)
    }

    /// The vCPU that has stopped comes first.
    fn favourite(&self, nth: usize) -> Tid {
        thread_of((self.stopped_vcpu + nth) % self.vcpus.max(1))
    }

    fn check_at_rest(&self) -> TargetResult<(), Self> {
        match self.machine()?.status() {
            VMStatus::Running => Err(TargetError::Errno(EBUSY)),
            _ => Ok(()),
        }
    }

    fn add_hardware(&mut self, stop: HardwareStop) -> TargetResult<bool, Self> {
        self.check_at_rest()?;
        if self.hardware.contains(&stop) {
            return Ok(true);
        }
        self.hardware.push(stop);
        let all = &self.hardware;
        let can = self.machine()?.inspect(0, |vcpu| vcpu.can_stop_at(all));
        if !matches!(can, Ok(true)) {
            self.hardware.pop();
            return Ok(false);
        }
        Ok(true)
    }

    /// One that is not there is as good as removed.
    fn remove_hardware(&mut self, stop: HardwareStop) -> TargetResult<bool, Self> {
        self.check_at_rest()?;
        self.hardware.retain(|other| *other != stop);
        Ok(true)
    }

    /// Where devices are, if `addr` is in a window of one: translated, or as it is.
    fn in_device(&self, addr: u64, len: u64) -> Option<WatchedAddrs> {
        let vm = self.vm.upgrade()?;
        let window = |at| in_window(vm.get_devices(), at, len);
        self.translate_any(addr).and_then(window).or_else(|| window(GuestPhysAddr(addr)))
    }
}

impl<H: AxVMHal> Breakpoints for Debuggee<H> {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl<H: AxVMHal> SwBreakpoint for Debuggee<H> {
    /// `kind` is the length of the instruction that is there.
    fn add_sw_breakpoint(&mut self, addr: u64, kind: usize) -> TargetResult<bool, Self> {
        self.check_at_rest()?;
        let vm = self.machine()?;
        let Some(at) = self.translate_any(addr) else { return Ok(false) };
        let all = Self::model().breakpoints;
        let fitting = all.iter().find(|code| code.len() == kind).unwrap_or(&all[0]);
        // One that is in two pages is in two places.
        let is_whole = |code: &[u8]| addr % 4096 + code.len() as u64 <= 4096;
        let code = if is_whole(fitting) { fitting } else { all[0] };
        Ok(is_whole(code) && self.planted.plant(vm.address_space(), addr, at, code))
    }

    fn remove_sw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        self.check_at_rest()?;
        let vm = self.machine()?;
        if let Some(at) = self.planted.unplant(vm.address_space(), addr) {
            self.sync_code(&vm, &[at]);
        }
        Ok(true)
    }
}

impl<H: AxVMHal> HwBreakpoint for Debuggee<H> {
    fn add_hw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        self.add_hardware(HardwareStop::Instruction(addr))
    }

    fn remove_hw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        self.remove_hardware(HardwareStop::Instruction(addr))
    }
}

impl<H: AxVMHal> HwWatchpoint for Debuggee<H> {
    fn add_hw_watchpoint(
        &mut self,
        addr: u64,
        len: u64,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        let on = kind_of(kind);
        self.check_at_rest()?;
        match self.in_device(addr, len) {
            Some(at) => Ok(self.watches.add(Some(Asked { addr, len, on }), Watch { at, on })),
            None => self.add_hardware(HardwareStop::Data { addr, len, on }),
        }
    }

    fn remove_hw_watchpoint(
        &mut self,
        addr: u64,
        len: u64,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        self.check_at_rest()?;
        let on = kind_of(kind);
        if self.watches.remove(Asked { addr, len, on }) {
            return Ok(true);
        }
        self.remove_hardware(HardwareStop::Data { addr, len, on })
    }
}
