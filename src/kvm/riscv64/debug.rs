//! What a debugger does with a vCPU of riscv64. KVM hands out the guest's `ebreak`, and no more: there
//! are no single steps and no stops by hardware.

mod registers;

use kvm_bindings::{KVM_GUESTDBG_ENABLE, KVMIO, kvm_debug_exit_arch, kvm_guest_debug};
use kvm_ioctls::VcpuFd;
pub use registers::{MODEL, registers, set_register};
use vmm_sys_util::{errno, ioctl::ioctl_with_ref, ioctl_iow_nr};

use super::{VCpuConfig, one_reg::OneReg, regs};
use crate::{
    addr::GuestPhysAddr,
    hal::{DebugControl, DebugStop, HalResult, HardwareStop, ReadPhysical},
    isa::riscv64,
};

ioctl_iow_nr!(KVM_SET_GUEST_DEBUG, KVMIO, 0x9b, kvm_guest_debug);

/// `riscv_flush_icache` (Documentation/arch/riscv/cmodx.rst of Linux), which the C library has no name
/// for.
const SYS_RISCV_FLUSH_ICACHE: libc::c_long = 259;

/// There are no triggers that KVM gives to guests.
pub const fn can_stop_at(_: &VCpuConfig, stops: &[HardwareStop]) -> bool {
    stops.is_empty()
}

/// Where an address is.
pub fn translate(
    fd: &VcpuFd,
    addr: u64,
    read: ReadPhysical<'_>,
) -> HalResult<Option<GuestPhysAddr>> {
    let satp = OneReg::SATP.get(fd).map_err(regs::read_failed)?;
    Ok(riscv64::translate(satp, addr, read))
}

/// Tells KVM whether to stop at an `ebreak`.
pub fn control(fd: &VcpuFd, how: Option<&DebugControl<'_>>) -> Result<(), kvm_ioctls::Error> {
    let control = if how.is_some() { KVM_GUESTDBG_ENABLE } else { 0 };
    let debug = kvm_guest_debug { control, ..Default::default() };
    // SAFETY: the kernel reads the structure, which is what this call takes, and keeps nothing of it.
    match unsafe { ioctl_with_ref(fd, KVM_SET_GUEST_DEBUG(), &debug) } {
        0 => Ok(()),
        _ => Err(errno::Error::last()),
    }
}

/// What KVM came back for: always an `ebreak`.
pub fn stop(fd: &VcpuFd, _: &kvm_debug_exit_arch, _: &[HardwareStop]) -> Option<DebugStop> {
    Some(DebugStop::Breakpoint(regs::pc(fd)))
}

/// Raises the exception that the guest's own `ebreak` raises.
pub fn pass_breakpoint(fd: &VcpuFd, _: &kvm_debug_exit_arch) -> HalResult {
    regs::raise_breakpoint(fd)
}

/// Where the instruction `code` at `pc` may lead.
pub fn successors(fd: &VcpuFd, code: &[u8]) -> HalResult<Option<Vec<u64>>> {
    let registers = regs::General::read(fd)?;
    let sepc = OneReg::SEPC.get(fd).map_err(regs::read_failed)?;
    let code = code.iter().rev().fold(0, |all, byte| all << 8 | u32::from(*byte));
    Ok(Some(riscv64::successors(code, regs::pc(fd), &|number| registers.x(number), sepc)))
}

/// Has processors see code that has just been written.
pub fn sync_code(start: *const u8, len: usize) {
    let end = start.wrapping_add(len);
    // SAFETY: the call takes two addresses, which it does not look at, and flags; it changes nothing
    // that a program sees. An old kernel does not know it, which cannot be helped.
    unsafe { libc::syscall(SYS_RISCV_FLUSH_ICACHE, start, end, 0) };
}
