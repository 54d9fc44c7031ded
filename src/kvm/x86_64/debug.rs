//! What a debugger does with a vCPU of x86_64 (Intel SDM vol. 3, 18.2: "Debug Registers"); `registers`
//! has the registers.

mod registers;

use kvm_bindings::{
    KVM_GUESTDBG_BLOCKIRQ, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP,
    KVM_GUESTDBG_USE_SW_BP, kvm_debug_exit_arch, kvm_guest_debug,
};
use kvm_ioctls::VcpuFd;
pub use registers::{MODEL, registers, set_register};

use super::VCpuConfig;
use crate::{
    addr::GuestPhysAddr,
    hal::{AccessKind, DebugControl, DebugStop, HalError, HalResult, HardwareStop, ReadPhysical},
};

/// How many addresses there are, DR0 to DR3, for instructions and data alike.
const ADDRESSES: usize = 4;

const EXCEPTION_BP: u32 = 3;
/// DR6: a single step.
const DR6_BS: u64 = 1 << 14;
/// DR7: bit 10 is always set, and exact breakpoints are asked for.
const DR7_USUAL: u64 = 1 << 10 | 1 << 9;

/// Whether there are debug registers for these, and conditions.
pub fn can_stop_at(_: &VCpuConfig, stops: &[HardwareStop]) -> bool {
    let is_possible = |stop: &HardwareStop| match *stop {
        HardwareStop::Instruction(_) => true,
        HardwareStop::Data { addr, len, .. } => matches!(len, 1 | 2 | 4 | 8) && addr % len == 0,
    };
    stops.len() <= ADDRESSES && stops.iter().all(is_possible)
}

/// Where an address is; KVM walks the page tables.
pub fn translate(fd: &VcpuFd, addr: u64, _: ReadPhysical<'_>) -> HalResult<Option<GuestPhysAddr>> {
    let translated = fd
        .translate_gva(addr)
        .map_err(|errno| HalError::failed("translate an address (KVM_TRANSLATE)", errno))?;
    Ok((translated.valid != 0).then_some(GuestPhysAddr(translated.physical_address)))
}

/// Tells KVM what to stop for.
pub fn control(fd: &VcpuFd, how: Option<&DebugControl<'_>>) -> Result<(), kvm_ioctls::Error> {
    let mut debug = kvm_guest_debug::default();
    let Some(how) = how else { return fd.set_guest_debug(&debug) };
    debug.control = KVM_GUESTDBG_ENABLE;
    for (wanted, flag) in [
        (how.step, KVM_GUESTDBG_SINGLESTEP),
        (how.breakpoints, KVM_GUESTDBG_USE_SW_BP),
        (!how.hardware.is_empty(), KVM_GUESTDBG_USE_HW_BP),
    ] {
        debug.control |= if wanted { flag } else { 0 };
    }
    if !how.hardware.is_empty() {
        debug.arch.debugreg[7] = DR7_USUAL;
    }
    for (number, stop) in how.hardware.iter().take(ADDRESSES).enumerate() {
        let (addr, condition) = condition(stop);
        debug.arch.debugreg[number] = addr;
        // Global enable, then the condition and length in four bits each from bit 16 on.
        debug.arch.debugreg[7] |= 2 << (2 * number) | condition << (16 + 4 * number);
    }
    if how.step {
        // Or the step would lead into the handler of the next interrupt. Linux before 5.16 has no
        // such thing.
        let quiet = kvm_guest_debug { control: debug.control | KVM_GUESTDBG_BLOCKIRQ, ..debug };
        if fd.set_guest_debug(&quiet).is_ok() {
            return Ok(());
        }
    }
    fd.set_guest_debug(&debug)
}

/// The address, and R/W and LEN of DR7.
fn condition(stop: &HardwareStop) -> (u64, u64) {
    match *stop {
        HardwareStop::Instruction(addr) => (addr, 0),
        HardwareStop::Data { addr, len, on } => {
            // There is none for reads alone.
            let access = if on == AccessKind::Write { 1 } else { 3 };
            let len = match len {
                2 => 1,
                4 => 3,
                8 => 2,
                _ => 0,
            };
            (addr, access | len << 2)
        }
    }
}

/// What KVM came back for.
pub fn stop(
    _: &VcpuFd,
    exit: &kvm_debug_exit_arch,
    hardware: &[HardwareStop],
) -> Option<DebugStop> {
    if exit.exception == EXCEPTION_BP {
        return Some(DebugStop::Breakpoint(exit.pc));
    }
    let hit = (0..hardware.len().min(ADDRESSES)).find(|number| exit.dr6 >> number & 1 == 1);
    Some(match hit.map(|number| hardware[number]) {
        Some(HardwareStop::Instruction(_)) => DebugStop::Instruction,
        Some(HardwareStop::Data { addr, .. }) => DebugStop::Data(addr),
        None if exit.dr6 & DR6_BS != 0 => DebugStop::Step,
        // KVM's emulator reports an instruction's breakpoint with no bit of its own.
        None => DebugStop::Instruction,
    })
}

/// Raises the #BP that the guest's own `int3` raises.
pub fn pass_breakpoint(fd: &VcpuFd, _: &kvm_debug_exit_arch) -> HalResult {
    let failed = |errno| HalError::failed("raise a #BP (KVM_SET_VCPU_EVENTS)", errno);
    let mut events = fd.get_vcpu_events().map_err(failed)?;
    events.exception.injected = 1;
    events.exception.nr = EXCEPTION_BP as u8;
    events.exception.has_error_code = 0;
    fd.set_vcpu_events(&events).map_err(failed)
}

/// The hardware makes single steps.
pub fn successors(_: &VcpuFd, _: &[u8]) -> HalResult<Option<Vec<u64>>> {
    Ok(None)
}

/// Processors see code that has been written, wherever they are.
pub const fn sync_code(_: *const u8, _: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_those_of_dr7() {
        assert_eq!(condition(&HardwareStop::Instruction(0x1000)), (0x1000, 0));
        let data = |len, on| condition(&HardwareStop::Data { addr: 8, len, on }).1;
        assert_eq!(data(1, AccessKind::Write), 0b0001);
        assert_eq!(data(2, AccessKind::Any), 0b0111);
        assert_eq!(data(4, AccessKind::Read), 0b1111);
        assert_eq!(data(8, AccessKind::Write), 0b1001);
    }
}
