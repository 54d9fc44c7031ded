//! The dispatch loop: every exit of every vCPU goes through [`AxVM::run_vcpu`].

use std::{sync::atomic::Ordering, time::Instant};

use super::{AxVM, Error, HandledExit, StopReason, VMStatus, stuck::Repeats};
use crate::{
    addr::MappingFlags,
    devices::{Effect, Taker},
    hal::{AxVCpuExitReason, AxVMHal, StopCause, VCpuId},
    vcpu::BoundVCpu,
};

impl<H: AxVMHal> AxVM<H> {
    /// Runs a vCPU on the calling thread until there is a reason that devices and memory cannot
    /// settle, and returns it. The vCPU is unbound on every way out.
    pub fn run_vcpu(&self, vcpu_id: VCpuId) -> Result<AxVCpuExitReason, Error> {
        let mut vcpu = self.known(vcpu_id)?.bind()?;
        self.run_bound(vcpu_id, &mut vcpu, &mut Repeats::default())
    }

    /// [`Self::run_vcpu`] for a vCPU that the thread holds already, and whose exits it counts.
    pub(super) fn run_bound(
        &self,
        vcpu_id: VCpuId,
        vcpu: &mut BoundVCpu<'_, H::VCpu>,
        repeats: &mut Repeats,
    ) -> Result<AxVCpuExitReason, Error> {
        // Asked after binding: who changes the status kicks whoever is bound, so that no change
        // falls between this look and the first entry.
        match self.status() {
            VMStatus::Running => {}
            VMStatus::Suspended | VMStatus::Stopping => return Ok(AxVCpuExitReason::Nothing),
            found => {
                let (vm, operation) = (self.id, "run_vcpu");
                return Err(Error::BadState { vm, operation, wanted: "Running", found });
            }
        }
        let stats = &self.stats[vcpu_id];
        let recorder = self.recorder.get();
        let watcher = self.watcher();
        loop {
            let exit = vcpu.run()?;
            let is_timed = self.is_timed.load(Ordering::Relaxed);
            let begun = (is_timed || recorder.is_some()).then(Instant::now);
            let taker = self.devices.taker(&exit);
            let reason = match taker {
                None => self.in_memory(&exit).unwrap_or(exit),
                Some(_) => exit,
            };
            stats.count(&reason, taker);
            log::trace!("VM[{}]-VCpu[{vcpu_id}] {reason:x?}", self.id);
            let handled = self.handle(vcpu, &reason, &exit, taker);
            if let Some(begun) = begun {
                let took = begun.elapsed();
                if is_timed {
                    stats.time(&reason, taker, took);
                }
                if let Some(recorder) = recorder {
                    recorder.record(&HandledExit {
                        vcpu: vcpu_id,
                        took,
                        pc: vcpu.pc(),
                        reason: &reason,
                        answer: vcpu.answer(),
                        window: taker.map(Taker::window),
                        begun,
                    });
                }
            }
            if let Some(watcher) = &watcher {
                self.look(watcher, vcpu_id, &exit, vcpu.answer());
            }
            if let Some(repeated) = repeats.count(&reason, vcpu.answer(), Instant::now) {
                self.tell_repeated(vcpu_id, vcpu, &repeated);
            }
            if !handled {
                return Ok(reason);
            }
        }
    }

    /// What an access means that no device takes and that is one to memory: to a piece of it that the
    /// hardware does not have yet, or against its flags.
    fn in_memory(&self, exit: &AxVCpuExitReason) -> Option<AxVCpuExitReason> {
        let (addr, access_flags) = match *exit {
            AxVCpuExitReason::MmioRead { addr, .. } => (addr, MappingFlags::READ),
            AxVCpuExitReason::MmioWrite { addr, .. } => (addr, MappingFlags::WRITE),
            _ => return None,
        };
        self.address_space
            .contains(addr)
            .then_some(AxVCpuExitReason::NestedPageFault { addr, access_flags })
    }

    /// Settles a reason with the devices and the memory. `true`: settled, the guest goes on. `exit`
    /// is the reason as the hardware has it, and `by` the device that takes it.
    fn handle(
        &self,
        vcpu: &mut BoundVCpu<'_, H::VCpu>,
        reason: &AxVCpuExitReason,
        exit: &AxVCpuExitReason,
        by: Option<Taker>,
    ) -> bool {
        match *reason {
            AxVCpuExitReason::MmioRead { addr, width, reg, reg_width, signed_ext } => {
                let value = self.devices.mmio_read(by, addr, width);
                vcpu.set_gpr(reg, extend(value, width.size(), reg_width.mask(), signed_ext));
                true
            }
            AxVCpuExitReason::MmioWrite { addr, width, data } => {
                self.apply(self.devices.mmio_write(by, addr, width, data))
            }
            AxVCpuExitReason::IoRead { port, width } => {
                vcpu.set_gpr(0, self.devices.port_read(by, port, width));
                true
            }
            AxVCpuExitReason::IoWrite { port, width, data } => {
                self.apply(self.devices.port_write(by, port, width, data))
            }
            AxVCpuExitReason::SysRegRead { addr, reg } => {
                match by.and_then(|by| self.devices.sys_reg_read(by, addr)) {
                    Some(value) => vcpu.set_gpr(reg, value),
                    None => vcpu.refuse_sys_reg(),
                }
                true
            }
            AxVCpuExitReason::SysRegWrite { addr, value } => {
                match by.and_then(|by| self.devices.sys_reg_write(by, addr, value)) {
                    Some(effect) => self.apply(effect),
                    None => {
                        vcpu.refuse_sys_reg();
                        true
                    }
                }
            }
            AxVCpuExitReason::Hypercall { nr, args } => {
                let Some(result) = self.devices.handle_hypercall(&self.address_space, nr, args)
                else {
                    return false;
                };
                vcpu.set_return_value(result.value);
                if let Some(second) = result.second {
                    vcpu.set_second_return_value(second);
                }
                true
            }
            AxVCpuExitReason::NestedPageFault { addr, access_flags } => {
                self.address_space.handle_page_fault(addr, access_flags)
                    && self.complete(vcpu, exit)
            }
            // It may be memory that the hardware does not have yet, and it cannot say which.
            AxVCpuExitReason::FailEntry { .. } => {
                matches!(vcpu.stop_cause(), StopCause::Unemulated(_))
                    && self.address_space.give_all()
            }
            _ => false,
        }
    }

    /// Does the access that a page fault was about, where the hardware took it for one to a device
    /// and waits for the answer. Any other is tried again.
    fn complete(&self, vcpu: &mut BoundVCpu<'_, H::VCpu>, exit: &AxVCpuExitReason) -> bool {
        match *exit {
            AxVCpuExitReason::MmioRead { addr, width, reg, reg_width, signed_ext } => {
                let mut bytes = [0; 8];
                if self.address_space.read(addr, &mut bytes[..width.size()]).is_err() {
                    return false;
                }
                let value = u64::from_le_bytes(bytes);
                vcpu.set_gpr(reg, extend(value, width.size(), reg_width.mask(), signed_ext));
                true
            }
            AxVCpuExitReason::MmioWrite { addr, width, data } => {
                self.address_space.write(addr, &data.to_le_bytes()[..width.size()]).is_ok()
            }
            _ => true,
        }
    }

    /// Does what a device answered. `true`: the guest goes on.
    fn apply(&self, effect: Effect) -> bool {
        let reason = match effect {
            Effect::None => return true,
            Effect::PowerOff => StopReason::Shutdown,
            Effect::Reset => StopReason::Reset,
            Effect::Panicked => StopReason::Panicked,
            Effect::Exit(status) => StopReason::TestExit(status),
            Effect::Hypercall(block) => {
                self.call_by_block(block);
                return true;
            }
        };
        self.stop(reason);
        false
    }
}

/// What a load leaves in its register: the value of `bytes` bytes, sign-extended if the load says
/// so, in as much of the register as `reg_mask` covers.
fn extend(value: u64, bytes: usize, reg_mask: u64, signed: bool) -> u64 {
    let shift = 64 - 8 * bytes as u32;
    let value = value << shift;
    let value = if signed { (value as i64 >> shift) as u64 } else { value >> shift };
    value & reg_mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_extend_as_they_say() {
        assert_eq!(extend(0xfff0, 1, u64::MAX, false), 0xf0);
        assert_eq!(extend(0x80, 1, u64::MAX, true), 0xffff_ffff_ffff_ff80);
        assert_eq!(extend(0x80, 1, 0xffff_ffff, true), 0xffff_ff80);
        assert_eq!(extend(0x7fff, 2, u64::MAX, true), 0x7fff);
        assert_eq!(extend(u64::MAX, 8, u64::MAX, true), u64::MAX);
    }
}
