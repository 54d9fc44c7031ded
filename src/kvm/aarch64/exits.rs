//! Exits that only aarch64 has: accesses to devices that the hardware does not describe (api.rst, 5,
//! `KVM_EXIT_ARM_NISV`), and hypercalls that KVM was asked to pass on (`KVM_EXIT_HYPERCALL`).

use kvm_bindings::{KVM_EXIT_ARM_NISV, KVM_EXIT_HYPERCALL, kvm_run};
use kvm_ioctls::VcpuFd;

use super::{one_reg::OneReg, regs};
use crate::{
    addr::{GuestPhysAddr, MappingFlags},
    hal::{AxVCpuExitReason, HalResult},
};

/// Bit 6 of the syndrome of a data abort, and whether it was a write (Arm ARM, ISS encoding for
/// data aborts).
const ISS_WNR: u64 = 1 << 6;

/// An exit of this architecture's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnExit {
    Hypercall { nr: u64, args: [u64; 6] },
}

impl OwnExit {
    /// The exit that a vCPU has just come back with, and in how many pieces it is given out.
    pub fn decode(fd: &mut VcpuFd) -> Option<(Self, u32)> {
        let run = fd.get_kvm_run();
        if run.exit_reason != KVM_EXIT_HYPERCALL {
            return None;
        }
        // SAFETY: plain numbers; the exit reason makes this the union's member.
        let nr = unsafe { run.__bindgen_anon_1.hypercall.nr };
        // The arguments are where the SMC calling convention has them (Arm DEN 0028, 2.7).
        let mut args = [0; 6];
        for (number, arg) in args.iter_mut().enumerate() {
            *arg = OneReg::x(number + 1).and_then(|reg| reg.get(fd).ok()).unwrap_or_default();
        }
        Some((Self::Hypercall { nr, args }, 1))
    }

    pub fn piece(self, _: &kvm_run, _: u32) -> AxVCpuExitReason {
        let Self::Hypercall { nr, args } = self;
        AxVCpuExitReason::Hypercall { nr, args }
    }

    /// Answers a read; there is none here.
    pub fn answer(self, _: &mut kvm_run, _: u32, _: u64) -> bool {
        false
    }
}

/// The access that the vCPU has just come back for because the hardware does not describe it, and
/// what to tell of it if no memory is there. It has not been made yet: the guest tries again.
pub fn page_fault(fd: &mut VcpuFd) -> Option<(AxVCpuExitReason, String)> {
    let run = fd.get_kvm_run();
    if run.exit_reason != KVM_EXIT_ARM_NISV {
        return None;
    }
    // SAFETY: plain numbers; the exit reason makes this the union's member.
    let access = unsafe { run.__bindgen_anon_1.arm_nisv };
    let (access_flags, verb) = match access.esr_iss & ISS_WNR {
        0 => (MappingFlags::READ, "read"),
        _ => (MappingFlags::WRITE, "wrote"),
    };
    let addr = GuestPhysAddr(access.fault_ipa);
    let what = format!(
        "it {verb} {addr}, where no memory is, by an instruction that cannot be emulated: for \
         device registers use a load or store of one general register that does not write the \
         address back (no ldp/stp, no pre- or post-index, no SIMD)"
    );
    Some((AxVCpuExitReason::NestedPageFault { addr, access_flags }, what))
}

/// KVM keeps all system registers to itself.
pub fn refuse_sys_reg(_: &mut VcpuFd) -> HalResult {
    Ok(())
}

/// Answers a hypercall: not through the page, but in `x0`.
pub fn answer_hypercall(_: &mut kvm_run, _: u64) -> bool {
    false
}

/// The second answer of a hypercall: `x1`.
pub fn set_second_return_value(fd: &mut VcpuFd, value: u64) {
    if let Err(error) = regs::set_gpr(fd, 1, value) {
        log::error!("{error}");
    }
}

/// Whether an exception was raised where `KVM_RUN` failed: KVM does that itself.
pub const fn raise_fault(_: &VcpuFd, _: i32) -> bool {
    false
}

/// What it means that `KVM_RUN` failed with this error, if that is the guest's doing.
pub const fn guests_fault(errno: i32) -> Option<&'static str> {
    match errno {
        libc::ENOSYS => {
            Some("it accessed a device by an instruction that this host's KVM cannot emulate")
        }
        _ => None,
    }
}
