//! What a debugger does with a vCPU of aarch64 (Arm ARM, DDI 0487, D2: "AArch64 Self-hosted Debug");
//! `registers` has the registers.

mod registers;

use std::arch::asm;

use kvm_bindings::{
    KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW, KVM_GUESTDBG_USE_SW_BP,
    kvm_debug_exit_arch, kvm_guest_debug,
};
use kvm_ioctls::VcpuFd;
pub use registers::{MODEL, registers, set_register};

use super::{VCpuConfig, one_reg::OneReg};
use crate::{
    addr::GuestPhysAddr,
    hal::{AccessKind, DebugControl, DebugStop, HalError, HalResult, HardwareStop, ReadPhysical},
    isa::aarch64::Stage1,
};

/// Exception classes of a syndrome: bits 31:26.
const EC_BREAKPOINT: u32 = 0x30;
const EC_STEP: u32 = 0x32;
const EC_WATCHPOINT: u32 = 0x34;
const EC_BKPT: u32 = 0x38;
const EC_BRK: u32 = 0x3c;

/// `DBGBCR_EL1` and `DBGWCR_EL1`: enabled, at EL1 and EL0.
const ENABLED: u64 = 1 | 3 << 1;

/// Bits of PSTATE: D, A, I, F masked, PAN, the exception level and whose stack pointer it uses.
const DAIF: u64 = 0xf << 6;
const PAN: u64 = 1 << 22;
const EL1H: u64 = 5;
const FROM_AARCH32: u64 = 1 << 4;
/// `SCTLR_EL1.SPAN`: an exception leaves PAN as it is.
const SPAN: u64 = 1 << 23;

/// Whether there are debug registers for these, and conditions.
pub fn can_stop_at(config: &VCpuConfig, stops: &[HardwareStop]) -> bool {
    let data = stops.iter().filter(|stop| matches!(stop, HardwareStop::Data { .. })).count();
    let is_possible = |stop: &HardwareStop| match *stop {
        HardwareStop::Instruction(addr) => addr % 4 == 0,
        HardwareStop::Data { addr, len, .. } => (1..=8).contains(&len) && addr % 8 + len <= 8,
    };
    stops.len() - data <= config.breakpoints
        && data <= config.watchpoints
        && stops.iter().all(is_possible)
}

/// Where an address is.
pub fn translate(
    fd: &VcpuFd,
    addr: u64,
    read: ReadPhysical<'_>,
) -> HalResult<Option<GuestPhysAddr>> {
    let get = |reg: OneReg| reg.get(fd).map_err(registers::read_failed);
    let stage1 = Stage1 {
        sctlr: get(OneReg::SCTLR_EL1)?,
        tcr: get(OneReg::TCR_EL1)?,
        ttbr0: get(OneReg::TTBR0_EL1)?,
        ttbr1: get(OneReg::TTBR1_EL1)?,
    };
    Ok(stage1.translate(addr, read))
}

/// Tells KVM what to stop for.
pub fn control(fd: &VcpuFd, how: Option<&DebugControl<'_>>) -> Result<(), kvm_ioctls::Error> {
    let mut debug = kvm_guest_debug::default();
    let Some(how) = how else { return fd.set_guest_debug(&debug) };
    debug.control = KVM_GUESTDBG_ENABLE;
    for (wanted, flag) in [
        (how.step, KVM_GUESTDBG_SINGLESTEP),
        (how.breakpoints, KVM_GUESTDBG_USE_SW_BP),
        (!how.hardware.is_empty(), KVM_GUESTDBG_USE_HW),
    ] {
        debug.control |= if wanted { flag } else { 0 };
    }
    let (mut instructions, mut data) = (0, 0);
    for stop in how.hardware {
        match *stop {
            HardwareStop::Instruction(addr) if instructions < debug.arch.dbg_bcr.len() => {
                debug.arch.dbg_bvr[instructions] = addr;
                // BAS: all four bytes of the instruction.
                debug.arch.dbg_bcr[instructions] = ENABLED | 0xf << 5;
                instructions += 1;
            }
            HardwareStop::Data { addr, len, on } if data < debug.arch.dbg_wcr.len() => {
                debug.arch.dbg_wvr[data] = addr & !7;
                debug.arch.dbg_wcr[data] = watch_control(addr, len, on);
                data += 1;
            }
            _ => {}
        }
    }
    fd.set_guest_debug(&debug)
}

/// `DBGWCR_EL1` for a watchpoint on bytes of one double word.
fn watch_control(addr: u64, len: u64, on: AccessKind) -> u64 {
    let access = match on {
        AccessKind::Read => 1,
        AccessKind::Write => 2,
        AccessKind::Any => 3,
    };
    let bytes = (0xff >> (8 - len.clamp(1, 8))) << (addr % 8) & 0xff;
    ENABLED | access << 3 | bytes << 5
}

/// What KVM came back for.
pub fn stop(fd: &VcpuFd, exit: &kvm_debug_exit_arch, _: &[HardwareStop]) -> Option<DebugStop> {
    Some(match exit.hsr >> 26 {
        EC_STEP => DebugStop::Step,
        EC_BREAKPOINT => DebugStop::Instruction,
        EC_WATCHPOINT => DebugStop::Data(exit.far),
        EC_BKPT | EC_BRK => DebugStop::Breakpoint(OneReg::PC.get(fd).unwrap_or_default()),
        _ => return None,
    })
}

/// Takes the exception to EL1 that the guest's own `brk` takes (Arm ARM, D1.3: "Exceptions").
pub fn pass_breakpoint(fd: &VcpuFd, exit: &kvm_debug_exit_arch) -> HalResult {
    let get = |reg: OneReg| reg.get(fd).map_err(registers::read_failed);
    let set = |reg: OneReg, value| {
        reg.set(fd, value).map_err(|errno| HalError::failed("take an exception to EL1", errno))
    };
    let (pc, pstate) = (get(OneReg::PC)?, get(OneReg::PSTATE)?);
    set(OneReg::ELR_EL1, pc)?;
    set(OneReg::SPSR_EL1, pstate)?;
    set(OneReg::ESR_EL1, exit.hsr.into())?;
    let pan = if get(OneReg::SCTLR_EL1)? & SPAN == 0 { PAN } else { pstate & PAN };
    set(OneReg::PSTATE, EL1H | DAIF | pan)?;
    set(OneReg::PC, get(OneReg::VBAR_EL1)?.wrapping_add(vector(pstate)))
}

/// Where in the table of vectors a synchronous exception goes to.
const fn vector(pstate: u64) -> u64 {
    match pstate & 0xf {
        _ if pstate & FROM_AARCH32 != 0 => 0x600,
        0 => 0x400,
        4 => 0,
        _ => 0x200,
    }
}

/// The hardware makes single steps.
pub fn successors(_: &VcpuFd, _: &[u8]) -> HalResult<Option<Vec<u64>>> {
    Ok(None)
}

/// Has processors see code that has just been written (Arm ARM, B2.7.4.2: "Instruction cache
/// maintenance").
pub fn sync_code(start: *const u8, len: usize) {
    let ctr: u64;
    // SAFETY: the register only says how the caches are, and Linux lets every program read it.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) };
    let lines = |shift: u32| {
        let line = 4_usize << (ctr >> shift & 0xf);
        let first = start.addr() & !(line - 1);
        (first..start.addr() + len).step_by(line)
    };
    for line in lines(16) {
        // SAFETY: cleaning a cache changes nothing that a program sees, and the address is of bytes
        // that the caller has just written.
        unsafe { asm!("dc cvau, {}", in(reg) line, options(nostack, preserves_flags)) };
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
    for line in lines(0) {
        // SAFETY: as above.
        unsafe { asm!("ic ivau, {}", in(reg) line, options(nostack, preserves_flags)) };
    }
    // SAFETY: barriers.
    unsafe { asm!("dsb ish", "isb", options(nostack, preserves_flags)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchpoints_select_bytes_and_accesses() {
        assert_eq!(watch_control(0x1000, 8, AccessKind::Any), 0xff << 5 | 3 << 3 | 7);
        assert_eq!(watch_control(0x1004, 4, AccessKind::Write), 0xf0 << 5 | 2 << 3 | 7);
        assert_eq!(watch_control(0x1007, 1, AccessKind::Read), 0x80 << 5 | 1 << 3 | 7);
    }

    #[test]
    fn exceptions_go_to_the_vector_of_where_they_come_from() {
        assert_eq!([EL1H, 4, 0, FROM_AARCH32].map(vector), [0x200, 0, 0x400, 0x600]);
    }
}
