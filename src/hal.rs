//! All that a VM asks of what lies beneath it: the traits, and the words they are spoken in.
//!
//! [`crate::kvm`] is one implementation, [`crate::scripted`] another; [`crate::vm`] is generic over
//! them and statically dispatched. Nothing here names KVM.

mod arch_vcpu;
mod debug;
mod error;
mod exit;
mod platform;

use std::{ops::RangeInclusive, sync::Arc};

pub use arch_vcpu::{
    AxArchVCpu, DescriptorTable, EntryMode, HypercallResult, StopCause, VCpuDump, VCpuKick,
    VCpuSetup,
};
pub use debug::{
    AccessKind, DebugControl, DebugFeature, DebugModel, DebugRegister, DebugStop, DebugVCpu,
    HardwareStop, ReadPhysical,
};
pub use error::{HalError, HalErrorKind, HalResult};
pub use exit::{AxVCpuExitReason, EXIT_REASONS};
pub use platform::{
    Aarch64Platform, AiaPlatform, Arch, GicVersion, InterruptController, Platform, Riscv64Platform,
};
use vm_memory::GuestRegionMmap;
use vmm_sys_util::eventfd::EventFd;

use crate::addr::{
    GuestPhysAddr, GuestPhysAddrRange, MappingFlags, Port, PortRange, SysRegAddrRange,
};

/// Which VM of this process; AxVisor's ids start at 1.
pub type VMId = usize;
/// Which vCPU of a VM, from 0; 0 is the boot processor.
pub type VCpuId = usize;

/// Interrupt lines, as a device's [`crate::devices::IrqLine`] drives them: any thread may call.
pub trait IrqSink: Send + Sync {
    /// Drives a line of the interrupt controller. `irq` is a GSI on x86_64, an INTID on aarch64, an
    /// interrupt source on riscv64.
    fn set_irq(&self, irq: u32, high: bool);

    /// A rising and a falling edge: for edge-triggered lines.
    fn pulse_irq(&self, irq: u32) {
        self.set_irq(irq, true);
        self.set_irq(irq, false);
    }
}

/// The external interrupt pin of each vCPU, for an interrupt controller that is a device of the
/// board: any thread may call.
pub trait ExternalIrq: Send + Sync {
    /// Drives the pin of a vCPU.
    fn set_external_irq(&self, vcpu_id: VCpuId, high: bool);
}

/// Where guest-physical memory gets its backing from: slots that map a host mapping.
pub trait MemorySlots: Send + Sync {
    /// Backs the guest-physical addresses `range`, which lie in `region`, with its host mapping
    /// under the number `slot`. The implementation keeps `region` alive as long as the slot stands.
    /// Without [`MappingFlags::WRITE`] a guest's write becomes an exit.
    fn map_memory(
        &self,
        slot: u32,
        region: &Arc<GuestRegionMmap>,
        range: GuestPhysAddrRange,
        flags: MappingFlags,
    ) -> HalResult;

    /// Takes the slot away.
    fn unmap_memory(&self, slot: u32) -> HalResult;

    /// Whether a guest that takes a place for a device's, and so reads past its caches, sees at once
    /// what the host has written there.
    fn is_coherent(&self) -> bool {
        false
    }
}

/// The write that a doorbell waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoorbellAddr {
    /// To guest-physical memory.
    Mmio(GuestPhysAddr),
    /// To an I/O port.
    Port(Port),
}

/// Doorbells: writes of the guest's that somebody waits for, on another thread. Any thread may call.
pub trait Doorbells: Send + Sync {
    /// Signals `fd` when the guest writes to `at`, without an exit: any value of any width, or where
    /// there is a `value`, just this one, as 32 bits.
    fn register_doorbell(&self, at: DoorbellAddr, value: Option<u32>, fd: &EventFd) -> HalResult;

    /// Takes back what was registered with the same arguments.
    fn unregister_doorbell(&self, at: DoorbellAddr, value: Option<u32>, fd: &EventFd) -> HalResult;
}

/// A message-signalled interrupt: a write that an interrupt controller takes for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msi {
    /// Where to.
    pub addr: GuestPhysAddr,
    /// What.
    pub data: u32,
    /// The sender's PCI requester id, which only some interrupt controllers look at (Arm's ITS).
    pub requester: u32,
}

/// Message-signalled interrupts. Any thread may call.
pub trait MsiSink: Send + Sync {
    /// Sends one.
    fn signal_msi(&self, msi: Msi) -> HalResult;

    /// Makes a way on which eventfds become messages; there is one as long as the VM is.
    fn add_msi_route(&self) -> HalResult<u32>;

    /// From now on a signal on `fd` becomes `msi`, without anybody in this process: also one that is
    /// there already. One eventfd at a time has the `route`.
    fn connect_msi(&self, route: u32, fd: &EventFd, msi: Msi) -> HalResult;

    /// From now on signals stay in `fd`, which has the `route`.
    fn disconnect_msi(&self, route: u32, fd: &EventFd) -> HalResult;
}

/// What a vCPU asks of its host beside running.
pub trait AxVCpuHal {
    /// The vector of the host interrupt that ended guest execution. Under a host kernel that
    /// services its own interrupts there is none to fetch.
    fn irq_fetch() -> Option<u64> {
        None
    }

    /// Services a host interrupt that ended guest execution (`ExternalInterrupt`). A host kernel
    /// has done it before anybody here could.
    fn irq_handler(_vector: u64) {}
}

/// What a VM asks of its host: vCPUs, memory slots, interrupt lines, doorbells, time.
pub trait AxVMHal:
    AxVCpuHal + IrqSink + ExternalIrq + MemorySlots + Doorbells + MsiSink + Sized + 'static
{
    /// The architecture's vCPU.
    type VCpu: AxArchVCpu<SetupConfig = VCpuSetup> + DebugVCpu + Send;

    /// Whether the guest's requests to start and stop its CPUs are served beneath: then every
    /// vCPU's thread enters at once, and a secondary waits in there. Otherwise a secondary's thread
    /// waits for [`AxVCpuExitReason::CpuUp`].
    const STARTS_SECONDARIES: bool;

    /// What a hypercall that nobody knows answers. -1 is "not supported" in Arm's SMCCC (DEN 0028,
    /// 5.2) and failure in AxVisor's calls.
    const UNKNOWN_HYPERCALL: u64 = u64::MAX;

    /// What this host gives its guests.
    fn platform(&self) -> HalResult<Platform>;

    /// Gives the VM its interrupt controller: once, before its vCPUs are made.
    fn use_interrupt_controller(&self, controller: &InterruptController) -> HalResult;

    /// All vCPUs are made and set up, and none has run: what must wait for that is done now.
    fn vcpus_are_made(&self) -> HalResult {
        Ok(())
    }

    /// What [`AxArchVCpu::new`] needs for this vCPU. `phys_id` is the architectural id (APIC id,
    /// MPIDR affinity, hart id) and `vcpu_num` how many vCPUs the VM has.
    fn vcpu_create_config(
        &self,
        vcpu_id: VCpuId,
        phys_id: usize,
        vcpu_num: usize,
    ) -> HalResult<<Self::VCpu as AxArchVCpu>::CreateConfig>;

    /// What a CPU starts with that another one starts by `CpuUp` with `arg`.
    fn secondary_setup(_phys_id: usize, arg: u64) -> VCpuSetup {
        VCpuSetup { mode: EntryMode::Reset, gprs: vec![(0, arg)] }
    }

    /// A signal on `fd` becomes an edge on the line `irq`.
    fn register_irqfd(&self, irq: u32, fd: &EventFd) -> HalResult;

    /// Writes to these ports may reach the device late, together with the next exit. For write-only
    /// registers that nobody waits for. `Ok(false)`: this host has no such thing.
    fn coalesce_port_writes(&self, ports: PortRange) -> HalResult<bool>;

    /// Makes an interrupt pending on one vCPU, from any thread, waking it if it is halted. `irq` is
    /// a vector of the local APIC on x86_64; an SPI's INTID on aarch64, where the guest says which
    /// vCPU gets it; an IMSIC's identity on riscv64, or the external interrupt where there is none.
    fn inject_irq_to_vcpu(&self, vcpu_id: VCpuId, irq: usize) -> HalResult;

    /// Hypercalls with these numbers are to come as [`AxVCpuExitReason::Hypercall`], whatever the
    /// host would make of them; asked for before any vCPU runs. `Ok(false)`: this host hands none
    /// out.
    fn forward_hypercalls(&self, numbers: RangeInclusive<u64>) -> HalResult<bool>;

    /// The guest's accesses to these system registers are to come as
    /// [`AxVCpuExitReason::SysRegRead`] and [`AxVCpuExitReason::SysRegWrite`]; asked for before any
    /// vCPU runs.
    ///
    /// # Errors
    /// This host does not hand them out. KVM does so with most MSRs of x86_64, and on riscv64 with
    /// the CSRs that it does not know itself, asked for or not; on aarch64 it keeps all system
    /// registers to itself.
    fn trap_sys_regs(&self, ranges: &[SysRegAddrRange]) -> HalResult;

    /// Code has been written into `len` bytes of the guest's memory at `at`, from outside the guest:
    /// processors must not run what they fetched there before.
    fn code_was_written(&self, _at: GuestPhysAddr, _len: u64) {}

    /// Nanoseconds of a clock that never goes back.
    fn current_time_nanos(&self) -> u64;

    /// The VM and vCPU that the calling thread is bound to; `None` on any other thread.
    fn current_vcpu() -> Option<(VMId, VCpuId)>;

    /// The host CPU that the calling thread runs on.
    fn current_pcpu_id() -> usize;
}
