//! Exits that only riscv64 has: SBI calls and CSR accesses that KVM leaves to user space (api.rst,
//! 5, `KVM_EXIT_RISCV_SBI` and `KVM_EXIT_RISCV_CSR`).

use kvm_bindings::{KVM_EXIT_RISCV_CSR, KVM_EXIT_RISCV_SBI, kvm_run};
use kvm_ioctls::VcpuFd;

use super::regs;
use crate::{
    addr::SysRegAddr,
    hal::{AxVCpuExitReason, HalResult},
};

/// The extension that AxVisor has its calls in, "HVC", and the one among the experimental extensions
/// that stands for it: only those does KVM hand out.
const AXVISOR: u64 = 0x48_5643;
const AXVISOR_EXPERIMENTAL: u64 = 0x0848_5643;

/// The number of a call by its extension and function ids, which are 32 bits wide (SBI 2.0, chapter
/// 3). Extension 0, which would look like AxVisor's, KVM keeps to itself: the legacy timer.
const fn number(extension: u64, function: u64) -> u64 {
    let function = function & 0xffff_ffff;
    match extension & 0xffff_ffff {
        AXVISOR | AXVISOR_EXPERIMENTAL => function,
        extension => function | extension << 32,
    }
}

/// An exit of this architecture's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnExit {
    Sbi {
        nr: u64,
        args: [u64; 6],
    },
    /// Each CSR instruction reads, and writes the bits in `mask`, if any.
    Csr {
        number: u64,
        new: u64,
        mask: u64,
    },
}

impl OwnExit {
    /// The exit that a vCPU has just come back with, and in how many pieces it is given out: a CSR
    /// that is read and written is first read and then written.
    pub fn decode(fd: &mut VcpuFd) -> Option<(Self, u32)> {
        let exit = Self::of_page(fd.get_kvm_run())?;
        let pieces = match exit {
            Self::Csr { mask, .. } if mask != 0 => 2,
            _ => 1,
        };
        Some((exit, pieces))
    }

    fn of_page(run: &kvm_run) -> Option<Self> {
        match run.exit_reason {
            KVM_EXIT_RISCV_SBI => {
                // SAFETY: plain numbers; the exit reason makes this the union's member.
                let call = unsafe { run.__bindgen_anon_1.riscv_sbi };
                let nr = number(call.extension_id, call.function_id);
                Some(Self::Sbi { nr, args: call.args })
            }
            KVM_EXIT_RISCV_CSR => {
                // SAFETY: plain numbers; the exit reason makes this the union's member.
                let csr = unsafe { run.__bindgen_anon_1.riscv_csr };
                Some(Self::Csr { number: csr.csr_num, new: csr.new_value, mask: csr.write_mask })
            }
            _ => None,
        }
    }

    pub fn piece(self, run: &kvm_run, index: u32) -> AxVCpuExitReason {
        match self {
            Self::Sbi { nr, args } => AxVCpuExitReason::Hypercall { nr, args },
            Self::Csr { number, .. } if index == 0 => {
                AxVCpuExitReason::SysRegRead { addr: SysRegAddr(number), reg: 0 }
            }
            Self::Csr { number, new, mask } => {
                // SAFETY: plain numbers; only KVM_EXIT_RISCV_CSR has made this a `Csr`, and the
                // page keeps it until the next entry.
                let old = unsafe { run.__bindgen_anon_1.riscv_csr.ret_value };
                let value = new & mask | old & !mask;
                AxVCpuExitReason::SysRegWrite { addr: SysRegAddr(number), value }
            }
        }
    }

    /// Answers a read; `false`: there is none.
    pub fn answer(self, run: &mut kvm_run, index: u32, value: u64) -> bool {
        let is_read = matches!(self, Self::Csr { .. }) && index == 0;
        if is_read {
            run.__bindgen_anon_1.riscv_csr.ret_value = value;
        }
        is_read
    }
}

/// Lets the pending CSR access raise an illegal instruction exception.
pub fn refuse_sys_reg(fd: &mut VcpuFd) -> HalResult {
    if fd.get_kvm_run().exit_reason != KVM_EXIT_RISCV_CSR {
        return Ok(());
    }
    // KVM has no way to say so. It completes the instruction when it is entered, so that is done
    // first, and undone.
    let before = regs::General::read(fd)?;
    fd.set_kvm_immediate_exit(1);
    // EINTR is what is meant to come; whatever else does is nothing that could be acted on.
    let _ = fd.run();
    fd.set_kvm_immediate_exit(0);
    before.write(fd)?;
    regs::raise_illegal_instruction(fd)
}

/// Answers an SBI call, if that is what the page holds: KVM writes `a0` and `a1` itself.
pub fn answer_hypercall(run: &mut kvm_run, value: u64) -> bool {
    answer_sbi(run, 0, value)
}

/// The second answer of an SBI call, its value.
pub fn set_second_return_value(fd: &mut VcpuFd, value: u64) {
    answer_sbi(fd.get_kvm_run(), 1, value);
}

fn answer_sbi(run: &mut kvm_run, index: usize, value: u64) -> bool {
    let is_call = run.exit_reason == KVM_EXIT_RISCV_SBI;
    if is_call {
        // SAFETY: plain numbers; the exit reason makes this the union's member.
        unsafe { run.__bindgen_anon_1.riscv_sbi.ret[index] = value };
    }
    is_call
}

/// The access that the vCPU has just come back for because the hardware does not describe it: none
/// is told so on this architecture.
pub const fn page_fault(_: &mut VcpuFd) -> Option<(AxVCpuExitReason, String)> {
    None
}

/// Raises the exception that the processor raises by itself where `KVM_RUN` fails instead; `false`:
/// it is none of those.
///
/// That is a fetch from where no memory can be, as Linux does it to leave virtual addresses when
/// it starts a crash kernel: it switches translation off, and the exception's handler is the way on.
pub fn raise_fault(fd: &VcpuFd, errno: i32) -> bool {
    errno == libc::EOPNOTSUPP && regs::raise_fetch_fault(fd).unwrap_or(false)
}

/// What it means that `KVM_RUN` failed with this error, if that is the guest's doing.
pub fn guests_fault(errno: i32) -> Option<&'static str> {
    match errno {
        libc::EOPNOTSUPP => {
            Some("it ran code where no memory is, or accessed a device by no plain load or store")
        }
        libc::EIO => Some("it accessed a device at an address that is not aligned"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csr_page(csr: u64, new: u64, mask: u64) -> kvm_run {
        let mut run = kvm_run { exit_reason: KVM_EXIT_RISCV_CSR, ..Default::default() };
        run.__bindgen_anon_1.riscv_csr.csr_num = csr;
        run.__bindgen_anon_1.riscv_csr.new_value = new;
        run.__bindgen_anon_1.riscv_csr.write_mask = mask;
        run
    }

    #[test]
    fn an_sbi_call_has_both_ids_and_two_answers() {
        let mut run = kvm_run { exit_reason: KVM_EXIT_RISCV_SBI, ..Default::default() };
        run.__bindgen_anon_1.riscv_sbi.extension_id = 0x4442_434e;
        run.__bindgen_anon_1.riscv_sbi.function_id = 2;
        run.__bindgen_anon_1.riscv_sbi.args = [1, 2, 3, 4, 5, 6];
        let exit = OwnExit::of_page(&run).unwrap();
        let call =
            AxVCpuExitReason::Hypercall { nr: 0x4442_434e_0000_0002, args: [1, 2, 3, 4, 5, 6] };
        assert_eq!(exit.piece(&run, 0), call);
        assert!(!exit.answer(&mut run, 0, 9), "it is no read");
        assert!(answer_hypercall(&mut run, 7));
        assert!(answer_sbi(&mut run, 1, 8));
        // SAFETY: plain numbers, written above.
        assert_eq!(unsafe { run.__bindgen_anon_1.riscv_sbi.ret }, [7, 8]);
    }

    #[test]
    fn axvisors_calls_are_plain_numbers_and_collide_with_no_others() {
        assert_eq!(number(AXVISOR_EXPERIMENTAL, 7), 7);
        assert_eq!(number(AXVISOR, 1 << 32 | 3), 3);
        assert_eq!(number(1, 0), 0x1_0000_0000); // the legacy putchar
        assert_eq!(number(u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn a_csr_is_read_and_then_written_under_its_mask() {
        let mut run = csr_page(0x15, 0x00ff, 0x0ff0);
        let exit = OwnExit::of_page(&run).unwrap();
        let addr = SysRegAddr(0x15);
        assert_eq!(exit.piece(&run, 0), AxVCpuExitReason::SysRegRead { addr, reg: 0 });
        assert!(exit.answer(&mut run, 0, 0xaaaa));
        assert_eq!(exit.piece(&run, 1), AxVCpuExitReason::SysRegWrite { addr, value: 0xa0fa });
        assert!(!exit.answer(&mut run, 1, 0), "a write has no answer");
    }

    #[test]
    fn other_exits_are_none_of_these() {
        let run = kvm_run { exit_reason: 6, ..Default::default() };
        assert_eq!(OwnExit::of_page(&run), None);
    }
}
