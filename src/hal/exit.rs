//! Why a vCPU came back.

use crate::addr::{AccessWidth, GuestPhysAddr, MappingFlags, Port, SysRegAddr};

/// Why guest execution ended, in the words of the `axvcpu` crate: all of its 16 variants.
///
/// A hypervisor on bare metal decodes the trapped instruction itself, hence `reg`, `reg_width` and
/// `signed_ext`; where the host kernel does so (KVM), they are neutral and the value given to
/// [`super::AxArchVCpu::set_gpr`] completes the access.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "axvcpu's names; the line above each says what its fields are")]
pub enum AxVCpuExitReason {
    /// The guest asked the hypervisor for something, by `hvc` on aarch64 (`nr` is the function id in
    /// `w0`) or `ecall` on riscv64. Of all calls a host kernel serves some itself and hands out some;
    /// KVM on x86_64 hands out no `vmcall`, so that guests there, and portable ones, ring the
    /// doorbell instead ([`crate::devices::doorbell`]).
    ///
    /// On riscv64 `nr` is the function's id, with the SBI extension's in the upper 32 bits (SBI 2.0,
    /// chapter 3). AxVisor's extension has its numbers plain, as they are elsewhere
    /// ([`crate::devices::HyperCallCode`]): 0x0848_5643, among the experimental ones; AxVisor's own
    /// 0x48_5643 is not handed out by KVM.
    Hypercall { nr: u64, args: [u64; 6] },
    /// A load from guest-physical memory that no memory slot backs.
    MmioRead {
        addr: GuestPhysAddr,
        width: AccessWidth,
        /// The register that receives the value, in [`super::AxArchVCpu::set_gpr`]'s numbering.
        reg: usize,
        /// How much of the register is written.
        reg_width: AccessWidth,
        /// Whether the value is sign-extended to `reg_width`.
        signed_ext: bool,
    },
    /// A store to guest-physical memory that no writable memory slot backs; `data` has no bits
    /// outside `width`.
    MmioWrite { addr: GuestPhysAddr, width: AccessWidth, data: u64 },
    /// A read of a system register (`rdmsr`, `mrs`, `csrr`); `reg` receives the value, in
    /// [`super::AxArchVCpu::set_gpr`]'s numbering.
    SysRegRead { addr: SysRegAddr, reg: usize },
    /// A write of a system register.
    SysRegWrite { addr: SysRegAddr, value: u64 },
    /// An x86 `in`.
    IoRead { port: Port, width: AccessWidth },
    /// An x86 `out`; `data` has no bits outside `width`.
    IoWrite { port: Port, width: AccessWidth, data: u64 },
    /// An interrupt of the host's ended guest execution and wants servicing, by the host's vector.
    ExternalInterrupt { vector: u64 },
    /// An access that the second-stage translation has no (sufficient) mapping for.
    NestedPageFault { addr: GuestPhysAddr, access_flags: MappingFlags },
    /// The vCPU waits for an interrupt.
    Halt,
    /// The guest starts another of its CPUs, by its architectural id; `arg` is for the CPU's first
    /// argument register.
    CpuUp { target_cpu: u64, entry_point: GuestPhysAddr, arg: u64 },
    /// The guest takes this CPU off line.
    CpuDown { _state: u64 },
    /// The guest ends; [`super::AxArchVCpu::stop_cause`] says how.
    SystemDown,
    /// Nothing for the VM to do: a kick, or all was handled below.
    Nothing,
    /// The hardware would not enter or go on with the guest; [`super::AxArchVCpu::stop_cause`] has
    /// the details.
    FailEntry { hardware_entry_failure_reason: u64 },
    /// The guest sends an interrupt to other CPUs through a trapped register: to the CPU with the
    /// architectural id `target_cpu`, or, on aarch64, to those in its cluster whose Aff0 is a bit of
    /// `target_cpu_aux`.
    SendIPI {
        target_cpu: u64,
        target_cpu_aux: u64,
        send_to_all: bool,
        send_to_self: bool,
        vector: u64,
    },
}

/// How many reasons there are, and so how long a table indexed by [`AxVCpuExitReason::index`] is.
pub const EXIT_REASONS: usize = 16;

/// The reasons' names, in the order of [`AxVCpuExitReason::index`].
const NAMES: [&str; EXIT_REASONS] = [
    "Hypercall",
    "MmioRead",
    "MmioWrite",
    "SysRegRead",
    "SysRegWrite",
    "IoRead",
    "IoWrite",
    "ExternalInterrupt",
    "NestedPageFault",
    "Halt",
    "CpuUp",
    "CpuDown",
    "SystemDown",
    "Nothing",
    "FailEntry",
    "SendIPI",
];

impl AxVCpuExitReason {
    /// The reason's place in tables by reason: 0 to [`EXIT_REASONS`] - 1.
    pub const fn index(&self) -> usize {
        match self {
            Self::Hypercall { .. } => 0,
            Self::MmioRead { .. } => 1,
            Self::MmioWrite { .. } => 2,
            Self::SysRegRead { .. } => 3,
            Self::SysRegWrite { .. } => 4,
            Self::IoRead { .. } => 5,
            Self::IoWrite { .. } => 6,
            Self::ExternalInterrupt { .. } => 7,
            Self::NestedPageFault { .. } => 8,
            Self::Halt => 9,
            Self::CpuUp { .. } => 10,
            Self::CpuDown { .. } => 11,
            Self::SystemDown => 12,
            Self::Nothing => 13,
            Self::FailEntry { .. } => 14,
            Self::SendIPI { .. } => 15,
        }
    }

    /// The name of the reason at `index`; panics for an index that [`Self::index`] never gives.
    pub const fn name_of(index: usize) -> &'static str {
        NAMES[index]
    }

    /// Whether it is an access that writes.
    pub const fn is_write(&self) -> bool {
        matches!(self, Self::MmioWrite { .. } | Self::IoWrite { .. } | Self::SysRegWrite { .. })
    }

    /// The reason's name, without its fields.
    pub const fn name(&self) -> &'static str {
        NAMES[self.index()]
    }
}
