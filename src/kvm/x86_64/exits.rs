//! Exits that only x86_64 has: accesses to MSRs that KVM leaves to user space (api.rst, 5,
//! `KVM_EXIT_X86_RDMSR` and `KVM_EXIT_X86_WRMSR`), and hypercalls.

use kvm_bindings::{KVM_EXIT_HYPERCALL, KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR, kvm_run};
use kvm_ioctls::VcpuFd;

use crate::{
    addr::SysRegAddr,
    hal::{AxVCpuExitReason, HalResult},
};

/// An exit of this architecture's own.
#[derive(Clone, Copy)]
pub enum OwnExit {
    ReadMsr { index: u32 },
    WriteMsr { index: u32, value: u64 },
    Hypercall { nr: u64, args: [u64; 6] },
}

impl OwnExit {
    /// The exit that a vCPU has just come back with, and in how many pieces it is given out.
    pub fn decode(fd: &mut VcpuFd) -> Option<(Self, u32)> {
        let run = fd.get_kvm_run();
        let exit = match run.exit_reason {
            KVM_EXIT_X86_RDMSR => {
                // SAFETY: plain numbers; the exit reason makes this the union's member.
                let msr = unsafe { run.__bindgen_anon_1.msr };
                Self::ReadMsr { index: msr.index }
            }
            KVM_EXIT_X86_WRMSR => {
                // SAFETY: plain numbers; the exit reason makes this the union's member.
                let msr = unsafe { run.__bindgen_anon_1.msr };
                Self::WriteMsr { index: msr.index, value: msr.data }
            }
            KVM_EXIT_HYPERCALL => {
                // SAFETY: plain numbers; the exit reason makes this the union's member.
                let call = unsafe { run.__bindgen_anon_1.hypercall };
                Self::Hypercall { nr: call.nr, args: call.args }
            }
            _ => return None,
        };
        Some((exit, 1))
    }

    pub fn piece(self, _: &kvm_run, _: u32) -> AxVCpuExitReason {
        match self {
            Self::ReadMsr { index } => {
                AxVCpuExitReason::SysRegRead { addr: SysRegAddr(index.into()), reg: 0 }
            }
            Self::WriteMsr { index, value } => {
                AxVCpuExitReason::SysRegWrite { addr: SysRegAddr(index.into()), value }
            }
            Self::Hypercall { nr, args } => AxVCpuExitReason::Hypercall { nr, args },
        }
    }

    /// Answers a read; `false`: there is none.
    pub fn answer(self, run: &mut kvm_run, _: u32, value: u64) -> bool {
        let is_read = matches!(self, Self::ReadMsr { .. });
        if is_read {
            run.__bindgen_anon_1.msr.data = value;
        }
        is_read
    }
}

/// Lets the pending MSR access fail with #GP.
pub fn refuse_sys_reg(fd: &mut VcpuFd) -> HalResult {
    let run = fd.get_kvm_run();
    if matches!(run.exit_reason, KVM_EXIT_X86_RDMSR | KVM_EXIT_X86_WRMSR) {
        run.__bindgen_anon_1.msr.error = 1;
    }
    Ok(())
}

/// Answers a hypercall, if that is what the page holds: KVM writes the guest's register itself.
pub fn answer_hypercall(run: &mut kvm_run, value: u64) -> bool {
    let is_hypercall = run.exit_reason == KVM_EXIT_HYPERCALL;
    if is_hypercall {
        run.__bindgen_anon_1.hypercall.ret = value;
    }
    is_hypercall
}

/// The access that the vCPU has just come back for because the hardware does not describe it: none
/// is told so on this architecture.
pub const fn page_fault(_: &mut VcpuFd) -> Option<(AxVCpuExitReason, String)> {
    None
}

/// Whether an exception was raised where `KVM_RUN` failed: KVM does that itself.
pub const fn raise_fault(_: &VcpuFd, _: i32) -> bool {
    false
}

/// What it means that `KVM_RUN` failed with this error, if that is the guest's doing: here it never
/// is.
pub const fn guests_fault(_: i32) -> Option<&'static str> {
    None
}
