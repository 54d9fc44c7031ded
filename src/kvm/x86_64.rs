//! What is x86_64's own in KVM.

mod cpuid;
pub mod debug;
mod exits;
mod machine_check;
mod msr_filter;
mod msrs;
pub mod probe;
mod regs;

use std::{collections::HashSet, ops::RangeInclusive};

pub use exits::{OwnExit, answer_hypercall, guests_fault, page_fault, raise_fault, refuse_sys_reg};
use kvm_bindings::{
    CpuId, KVM_IOAPIC_NUM_PINS, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
    KVM_MAX_CPUID_ENTRIES, KVM_PIT_SPEAKER_DUMMY, KVM_SYNC_X86_REGS, kvm_irq_routing_entry,
    kvm_msi, kvm_pit_config,
};
use kvm_ioctls::{Cap, VcpuFd, VmFd};
pub use regs::{dump, set_gpr};

use super::{
    host::{Capability, KvmHost},
    messages,
};
use crate::{
    addr::{GuestPhysAddr, SysRegAddrRange},
    hal::{HalError, HalResult, InterruptController, Msi, Platform, VCpuId, VCpuSetup},
};

/// What axvmm needs of KVM beside what it needs everywhere.
pub const NEEDED_CAPABILITIES: &[Capability] = &[
    Capability::new("KVM_CAP_IRQCHIP", Cap::Irqchip, "2.6.20"),
    Capability::new("KVM_CAP_SET_TSS_ADDR", Cap::SetTssAddr, "2.6.23"),
    Capability::new("KVM_CAP_EXT_CPUID", Cap::ExtCpuid, "2.6.24"),
    Capability::new("KVM_CAP_IRQFD", Cap::Irqfd, "2.6.32"),
    Capability::new("KVM_CAP_PIT2", Cap::Pit2, "2.6.32"),
    Capability::new("KVM_CAP_SIGNAL_MSI", Cap::SignalMsi, "3.5"),
];

/// What to do where there is no KVM.
pub const TO_GET_KVM: &str = "Load the module (modprobe kvm_intel or kvm_amd), or enable \
                              virtualization in the firmware or, inside a VM, nested \
                              virtualization";

/// What a VM gets whose board says nothing.
pub const USUAL_CONTROLLER: InterruptController = InterruptController::Pc;

/// The register that a hypercall answers in, in `set_gpr`'s numbering: RAX.
pub const RETURN_REGISTER: usize = 0;

/// Uncached loads look into the caches (SDM 3A, 13.3), and mostly KVM has guests use those anyway.
pub const COHERENT: bool = true;

/// What a hypercall that nobody knows answers: failure, as in AxVisor's calls.
pub const UNKNOWN_HYPERCALL: u64 = u64::MAX;

/// Three pages just below the firmware's 64 KiB at the top of the 32-bit space, for the task state
/// segment with which KVM runs real mode on older Intel processors, and one page before them for
/// its identity map (api.rst, 4.35 and 4.78).
const TSS_ADDRESS: usize = 0xfffb_d000;
const IDENTITY_MAP_ADDRESS: u64 = 0xfffb_c000;

/// What all vCPUs of a VM share.
pub struct VmState {
    supported: CpuId,
    settable_msrs: HashSet<u32>,
    tsc_deadline_timer: bool,
    leaves_registers: bool,
}

/// What a vCPU is set up with, beside its registers.
pub struct VCpuConfig {
    cpuid: CpuId,
    msrs: Vec<msrs::Msr>,
    is_bsp: bool,
    /// KVM can leave the registers in `kvm_run` at each exit.
    leaves_registers: bool,
}

/// Creates a VM; nothing is in it yet.
pub fn create_vm(host: &KvmHost) -> Result<VmFd, kvm_ioctls::Error> {
    host.kvm.create_vm()
}

impl VmState {
    /// Places the pages that a new VM lends to KVM, and asks what all its vCPUs need to know.
    pub fn new(host: &KvmHost, vm: &VmFd) -> HalResult<Self> {
        vm.set_identity_map_address(IDENTITY_MAP_ADDRESS).map_err(|errno| {
            HalError::failed("place the identity map (KVM_SET_IDENTITY_MAP_ADDR)", errno)
        })?;
        vm.set_tss_address(TSS_ADDRESS)
            .map_err(|errno| HalError::failed("place the TSS (KVM_SET_TSS_ADDR)", errno))?;
        let supported = host.kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(|errno| {
            HalError::failed("ask for the processor's features (KVM_GET_SUPPORTED_CPUID)", errno)
        })?;
        let msr_list = host.kvm.get_msr_index_list().map_err(|errno| {
            HalError::failed("ask for the list of MSRs (KVM_GET_MSR_INDEX_LIST)", errno)
        })?;
        Ok(Self {
            supported,
            settable_msrs: msr_list.as_slice().iter().copied().collect(),
            tsc_deadline_timer: host.kvm.check_extension(Cap::TscDeadlineTimer),
            leaves_registers: host.kvm.check_extension_int(Cap::SyncRegs) as u32
                & KVM_SYNC_X86_REGS
                != 0,
        })
    }

    /// What a board must know: nothing here.
    #[allow(clippy::unused_self)] // as on the other architectures
    pub fn platform(&self, _: &KvmHost, _: &VmFd) -> HalResult<Platform> {
        Ok(Platform::X86_64)
    }

    /// Gives a VM its interrupt controllers (local APICs, IOAPIC, 8259s) and its timer (8254), all
    /// in the host kernel; it has no vCPUs yet.
    pub fn create_interrupt_controller(
        &self,
        vm: &VmFd,
        controller: &InterruptController,
    ) -> HalResult {
        if *controller != InterruptController::Pc {
            return Err(HalError::host_cannot(format!(
                "give an x86_64 guest another interrupt controller than a PC's: {controller:?}"
            )));
        }
        vm.create_irq_chip().map_err(|errno| {
            HalError::failed("create the interrupt controllers (KVM_CREATE_IRQCHIP)", errno)
        })?;
        // With a dummy speaker port 0x61 stays in the kernel: PIT channel 2 is polled through it.
        let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        vm.create_pit2(pit)
            .map_err(|errno| HalError::failed("create the timer (KVM_CREATE_PIT2)", errno))
    }

    /// Hands MSRs to devices.
    #[allow(clippy::unused_self)] // as on the other architectures
    pub fn trap_sys_regs(&self, vm: &VmFd, ranges: &[SysRegAddrRange]) -> HalResult {
        msr_filter::set(vm, ranges)
    }

    /// Creates vCPU `vcpu_id` of `vcpu_num`, and what it is set up with. Its APIC id is what KVM
    /// makes it: `vcpu_id`.
    pub fn create_vcpu(
        &self,
        vm: &VmFd,
        vcpu_id: VCpuId,
        phys_id: usize,
        vcpu_num: usize,
    ) -> HalResult<(VcpuFd, VCpuConfig)> {
        if phys_id != vcpu_id {
            return Err(HalError::host_cannot(format!(
                "give vCPU {vcpu_id} the APIC id {phys_id}: KVM numbers APICs as it numbers vCPUs"
            ))
            .hint("Leave phys_cpu_ids out, or write 0, 1, 2 and so on."));
        }
        let topology = cpuid::Topology { apic_id: vcpu_id as u32, cpus: vcpu_num as u32 };
        let config = VCpuConfig {
            cpuid: cpuid::for_vcpu(&self.supported, topology, self.tsc_deadline_timer)?,
            msrs: msrs::at_boot(&self.settable_msrs),
            is_bsp: vcpu_id == 0,
            leaves_registers: self.leaves_registers,
        };
        let fd = vm.create_vcpu(vcpu_id as u64).map_err(|errno| {
            HalError::failed(format!("create vCPU {vcpu_id} (KVM_CREATE_VCPU)"), errno)
        })?;
        Ok((fd, config))
    }

    /// Nothing waits for all vCPUs here.
    #[allow(clippy::unused_self)] // as on the other architectures
    pub fn vcpus_are_made(&self, _: &VmFd) -> HalResult {
        Ok(())
    }

    /// The pin belongs to the local APIC in the host kernel.
    #[allow(clippy::unused_self)] // as on the other architectures
    pub fn set_external_irq(&self, vcpu_id: VCpuId, _high: bool) -> HalResult {
        Err(HalError::host_cannot(format!(
            "drive the interrupt pin of vCPU {vcpu_id}: its local APIC in the host kernel does"
        )))
    }

    /// KVM answers every `vmcall` itself.
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)] // as on the other architectures
    pub fn forward_hypercalls(&self, _: &VmFd, _numbers: RangeInclusive<u64>) -> HalResult<bool> {
        Ok(false)
    }

    /// Makes `vector` pending in one local APIC.
    #[allow(clippy::unused_self)] // as on the other architectures
    pub fn inject(&self, vm: &VmFd, vcpu_id: VCpuId, vector: usize) -> HalResult {
        let (addr, data) = targeted_msi(vcpu_id, vector)?;
        // 0 means that the guest blocks the interrupt just now, which is its business.
        vm.signal_msi(msi(Msi { addr, data, requester: 0 })).map(|_| ()).map_err(|errno| {
            HalError::failed(format!("send an MSI to {addr} (KVM_SIGNAL_MSI)"), errno)
        })
    }
}

/// The second answer of a hypercall: there is none on x86_64.
pub fn set_second_return_value(_: &mut VcpuFd, _: u64) {}

/// The number of an interrupt line in KVM_IRQ_LINE.
pub const fn irq_line(irq: u32) -> u32 {
    irq
}

/// The number of an interrupt line in KVM_IRQFD.
pub const fn gsi(irq: u32) -> u32 {
    irq
}

/// The routes that KVM gives interrupt lines by itself, by their numbers in KVM_IRQFD.
pub fn line_routes(controller: &InterruptController) -> Vec<Vec<kvm_irq_routing_entry>> {
    if *controller != InterruptController::Pc {
        return Vec::new();
    }
    let ioapic = |gsi| messages::pin(gsi, KVM_IRQCHIP_IOAPIC, gsi);
    let pics = |gsi| match gsi {
        0..8 => vec![messages::pin(gsi, KVM_IRQCHIP_PIC_MASTER, gsi)],
        8..16 => vec![messages::pin(gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8)],
        _ => Vec::new(),
    };
    (0..KVM_IOAPIC_NUM_PINS).map(|gsi| [pics(gsi), vec![ioapic(gsi)]].concat()).collect()
}

/// A message as KVM takes it.
pub fn msi(Msi { addr, data, .. }: Msi) -> kvm_msi {
    kvm_msi {
        address_lo: addr.0 as u32,
        address_hi: (addr.0 >> 32) as u32,
        data,
        ..Default::default()
    }
}

/// Where the guest is; 0 if that cannot be had.
pub fn pc(fd: &mut VcpuFd, config: &VCpuConfig) -> u64 {
    regs::pc(fd, config.leaves_registers)
}

/// Brings a vCPU to where it starts. The boot processor gets its entry; the others wait in the
/// local APIC for INIT and SIPI, as KVM made them.
pub fn setup_vcpu(
    fd: &VcpuFd,
    config: &VCpuConfig,
    entry: GuestPhysAddr,
    setup: &VCpuSetup,
) -> HalResult {
    fd.set_cpuid2(&config.cpuid).map_err(|errno| {
        HalError::failed("set the processor's features (KVM_SET_CPUID2)", errno)
    })?;
    machine_check::set_up(fd);
    msrs::set(fd, &config.msrs);
    regs::virtual_wire(fd, config.is_bsp)?;
    if config.is_bsp {
        regs::enter_at(fd, entry, setup)?;
    }
    Ok(())
}

/// An MSI that reaches one local APIC: fixed delivery, edge (Intel SDM vol. 3, 11.11).
fn targeted_msi(vcpu_id: VCpuId, vector: usize) -> HalResult<(GuestPhysAddr, u32)> {
    match (u8::try_from(vcpu_id), u8::try_from(vector)) {
        // Vectors 0 to 15 are reserved, and APIC id 255 is everybody.
        (Ok(id @ 0..=254), Ok(vector @ 16..)) => {
            Ok((GuestPhysAddr(0xfee0_0000 | u64::from(id) << 12), vector.into()))
        }
        _ => Err(HalError::host_cannot(format!(
            "send vector {vector:#x} to the local APIC {vcpu_id}"
        ))
        .hint("Vectors are 16 to 255, and local APICs 0 to 254.")),
    }
}
