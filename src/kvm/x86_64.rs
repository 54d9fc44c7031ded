//! What is x86_64's own in KVM.

mod cpuid;
mod machine_check;
mod msrs;
pub mod probe;
mod regs;

use std::collections::HashSet;

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, KVM_PIT_SPEAKER_DUMMY, kvm_pit_config};
use kvm_ioctls::{Cap, VcpuFd, VmFd};
pub use regs::{dump, set_gpr};

use super::host::{Capability, KvmHost};
use crate::{
    addr::GuestPhysAddr,
    hal::{HalError, HalResult, VCpuId, VCpuSetup},
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

/// The register that a hypercall answers in, in `set_gpr`'s numbering: RAX.
pub const RETURN_REGISTER: usize = 0;

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
}

/// What a vCPU is set up with, beside its registers.
pub struct VCpuConfig {
    cpuid: CpuId,
    msrs: Vec<msrs::Msr>,
    is_bsp: bool,
}

/// Places the pages that a new VM lends to KVM, and asks what all its vCPUs need to know.
pub fn create_vm(host: &KvmHost, vm: &VmFd) -> HalResult<VmState> {
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
    Ok(VmState {
        supported,
        settable_msrs: msr_list.as_slice().iter().copied().collect(),
        tsc_deadline_timer: host.kvm.check_extension(Cap::TscDeadlineTimer),
    })
}

/// Gives a VM its interrupt controllers (local APICs, IOAPIC, 8259s) and its timer (8254), all in
/// the host kernel; it has no vCPUs yet. An error comes with what KVM refused to do.
pub fn create_interrupt_controllers(vm: &VmFd) -> Result<(), (&'static str, kvm_ioctls::Error)> {
    vm.create_irq_chip()
        .map_err(|errno| ("create the interrupt controllers (KVM_CREATE_IRQCHIP)", errno))?;
    // With a dummy speaker port 0x61 stays in the kernel: PIT channel 2 is polled through it.
    let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
    vm.create_pit2(pit).map_err(|errno| ("create the timer (KVM_CREATE_PIT2)", errno))
}

/// What vCPU `vcpu_id` of `vcpu_num` is set up with. Its APIC id is what KVM makes it: `vcpu_id`.
pub fn vcpu_config(
    vm: &VmState,
    vcpu_id: VCpuId,
    phys_id: usize,
    vcpu_num: usize,
) -> HalResult<VCpuConfig> {
    if phys_id != vcpu_id {
        return Err(HalError::host_cannot(format!(
            "give vCPU {vcpu_id} the APIC id {phys_id}: KVM numbers APICs as it numbers vCPUs"
        ))
        .hint("Leave phys_cpu_ids out, or write 0, 1, 2 and so on."));
    }
    let topology = cpuid::Topology { apic_id: vcpu_id as u32, cpus: vcpu_num as u32 };
    Ok(VCpuConfig {
        cpuid: cpuid::for_vcpu(&vm.supported, topology, vm.tsc_deadline_timer)?,
        msrs: msrs::at_boot(&vm.settable_msrs),
        is_bsp: vcpu_id == 0,
    })
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
pub fn targeted_msi(vcpu_id: VCpuId, vector: usize) -> HalResult<(GuestPhysAddr, u32)> {
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
