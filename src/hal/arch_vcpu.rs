//! One virtual CPU, as an architecture and its host provide it.

use std::{fmt, sync::Arc};

use serde::Serialize;

use super::{AxVCpuExitReason, HalResult, VCpuId, VMId};
use crate::addr::GuestPhysAddr;

/// A descriptor table register of x86 (Intel SDM vol. 3, 2.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DescriptorTable {
    /// Where it begins.
    pub base: GuestPhysAddr,
    /// The last valid byte's offset.
    pub limit: u16,
}

/// The mode that the boot processor starts in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum EntryMode {
    /// As the architecture leaves reset, but at the entry point: real mode with all segment bases 0
    /// on x86_64, EL1h with the MMU off on aarch64, VS-mode with `satp` 0 on riscv64.
    #[default]
    Reset,
    /// x86: 32-bit protected mode, flat segments, paging off.
    Protected32 {
        /// Of which the entries are the flat segments.
        gdt: DescriptorTable,
    },
    /// x86: 64-bit mode, flat segments, paging on with CR3 = `page_table`.
    Long64 {
        /// Of which the entries are the flat segments.
        gdt: DescriptorTable,
        /// The root of the guest's own page tables.
        page_table: GuestPhysAddr,
    },
}

/// What a vCPU starts with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VCpuSetup {
    /// The processor's mode.
    pub mode: EntryMode,
    /// General registers that differ from 0: number as [`AxArchVCpu::set_gpr`] counts, value.
    pub gprs: Vec<(usize, u64)>,
}

/// What stands behind a [`AxVCpuExitReason::SystemDown`] or [`AxVCpuExitReason::FailEntry`]: the 16
/// reasons do not tell these apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// The guest asked for power off.
    Shutdown,
    /// The guest asked for a reset.
    Reset,
    /// The guest reported a crash.
    Crash,
    /// The processor shut down: on x86_64 a triple fault.
    TripleFault,
    /// The host kernel could not make an access of the guest's to where no memory is; the text says
    /// what it reported. The guest may try again.
    Unemulated(String),
    /// The hardware or the host kernel gave up; the text says what it reported.
    Failure(String),
}

/// What a hypercall answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HypercallResult {
    /// The first, in [`AxArchVCpu::set_return_value`]'s register.
    pub value: u64,
    /// For conventions with two return registers (the SBI: `a0` is the error, `a1` the value).
    /// `None`: the call has none, and the register is left alone, but for riscv64 under KVM, which
    /// then writes 0.
    pub second: Option<u64>,
}

impl HypercallResult {
    /// What AxVisor's calls answer when done.
    pub const SUCCESS: Self = Self { value: 0, second: None };
    /// And when not: -1.
    pub const FAILURE: Self = Self { value: u64::MAX, second: None };
}

/// A vCPU's state for a person to read.
#[derive(Clone, Debug, Default)]
pub struct VCpuDump {
    /// The program counter (RIP, PC, pc), linear where the architecture has segments.
    pub pc: u64,
    /// Registers under the architecture's names, in reading order.
    pub registers: Vec<(&'static str, u64)>,
    /// Where the program counter is in guest-physical memory, if the translation is known.
    pub pc_gpa: Option<GuestPhysAddr>,
}

impl fmt::Display for VCpuDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, row) in self.registers.chunks(4).enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, " ")?;
            for (name, value) in row {
                write!(f, " {name:>6} {value:016x}")?;
            }
        }
        Ok(())
    }
}

/// Gets a vCPU out of the guest, from any thread.
pub trait VCpuKick: Send + Sync {
    /// Makes the vCPU's current or next `run` come back soon with
    /// [`AxVCpuExitReason::Nothing`]; no effect on a vCPU that no thread is bound to.
    fn kick(&self);
}

/// A virtual CPU of one architecture on one kind of host: `axvcpu`'s trait, with a few methods more
/// that a hosted VMM needs. All calls come from one thread at a time.
pub trait AxArchVCpu: Sized {
    /// What a vCPU is made with.
    type CreateConfig;
    /// What a vCPU starts with.
    type SetupConfig;

    /// Makes the vCPU; nothing runs yet.
    fn new(vm_id: VMId, vcpu_id: VCpuId, config: Self::CreateConfig) -> HalResult<Self>;

    /// Where [`Self::setup`] lets execution begin.
    fn set_entry(&mut self, entry: GuestPhysAddr) -> HalResult;

    /// The root of the second-stage page table. A host kernel that keeps it to itself (KVM) has no
    /// use for it: the value is then opaque.
    fn set_ept_root(&mut self, _ept_root: u64) -> HalResult {
        Ok(())
    }

    /// Brings all registers to their starting values.
    fn setup(&mut self, config: Self::SetupConfig) -> HalResult;

    /// Runs the guest until there is something to do.
    fn run(&mut self) -> HalResult<AxVCpuExitReason>;

    /// The calling thread adopts the vCPU.
    fn bind(&mut self) -> HalResult;

    /// The calling thread lets go of the vCPU; an access that is still pending is completed first,
    /// so that the registers are consistent.
    fn unbind(&mut self) -> HalResult;

    /// Writes a general register. After a read exit it completes that read, in the access's own
    /// width, and leaves every other bit alone; the register number does not matter then. Numbers:
    /// x86_64 `rax rcx rdx rbx rsp rbp rsi rdi r8`-`r15`; aarch64 `x0`-`x30` (31 is ignored);
    /// riscv64 `x1`-`x31` (0 is ignored).
    fn set_gpr(&mut self, reg: usize, val: u64);

    /// Makes an interrupt pending on this vCPU.
    fn inject_interrupt(&mut self, vector: usize) -> HalResult;

    /// Writes the register that a hypercall answers in: `rax`, `x0`, `a0`.
    fn set_return_value(&mut self, val: u64);

    /// Writes the register of a hypercall's second answer: `x1`, `a1`; nothing on x86_64.
    fn set_second_return_value(&mut self, val: u64);

    /// Nobody answers the system register of the pending exit: the guest gets the architecture's
    /// fault (#GP, undefined or illegal instruction) instead of a value.
    fn refuse_sys_reg(&mut self);

    /// Tells what stands behind the last `SystemDown` or `FailEntry`.
    fn stop_cause(&self) -> StopCause;

    /// Where the guest is: after an exit for an access, at the instruction that makes it. 0 if that
    /// cannot be had.
    fn pc(&mut self) -> u64;

    /// The registers, for a person. Registers that cannot be read are left out.
    fn dump(&self) -> VCpuDump;

    /// A handle that gets this vCPU out of the guest.
    fn kicker(&self) -> Arc<dyn VCpuKick>;
}
