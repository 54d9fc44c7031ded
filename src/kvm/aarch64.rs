//! What is aarch64's own in KVM.

pub mod debug;
mod exits;
mod gic;
mod one_reg;
pub mod probe;
mod regs;
mod smccc;

use std::{
    ops::RangeInclusive,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd},
    sync::OnceLock,
};

pub use exits::{
    OwnExit, answer_hypercall, guests_fault, page_fault, raise_fault, refuse_sys_reg,
    set_second_return_value,
};
use gic::Gic;
use kvm_bindings::{
    KVM_ARM_VCPU_PMU_V3, KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_INIT,
    KVM_ARM_VCPU_PMU_V3_IRQ, KVM_ARM_VCPU_POWER_OFF, KVM_ARM_VCPU_PSCI_0_2,
    KVM_ARM_VCPU_PTRAUTH_ADDRESS, KVM_ARM_VCPU_PTRAUTH_GENERIC, KVM_ARM_VCPU_SVE,
    KVM_CAP_ARM_NISV_TO_USER, KVM_MSI_VALID_DEVID, kvm_device_attr, kvm_enable_cap,
    kvm_irq_routing_entry, kvm_msi, kvm_vcpu_init,
};
use kvm_ioctls::{Cap, DeviceFd, VcpuFd, VmFd};
use parking_lot::Mutex;
pub use regs::{dump, set_gpr};

use super::{
    host::{Capability, KvmHost},
    messages,
};
use crate::{
    addr::{GuestPhysAddr, GuestPhysAddrRange, SysRegAddrRange},
    hal::{
        Aarch64Platform, GicVersion, HalError, HalResult, InterruptController, Msi, Platform,
        VCpuId, VCpuSetup,
    },
};

/// What axvmm needs of KVM beside what it needs everywhere.
pub const NEEDED_CAPABILITIES: &[Capability] = &[
    Capability::new("KVM_CAP_ONE_REG", Cap::OneReg, "3.9"),
    Capability::new("KVM_CAP_ARM_PSCI_0_2", Cap::ArmPsci02, "3.16"),
    Capability::new("KVM_CAP_IRQFD", Cap::Irqfd, "4.0"),
];

/// What to do where there is no KVM.
pub const TO_GET_KVM: &str = "Use a kernel with CONFIG_KVM that the firmware starts at EL2, or, \
                              inside a VM, one with nested virtualization";

/// What a VM gets whose board says nothing: every KVM can do without.
pub const USUAL_CONTROLLER: InterruptController = InterruptController::Board;

/// The register that a hypercall answers in, in `set_gpr`'s numbering: `x0`.
pub const RETURN_REGISTER: usize = 0;

/// Loads from Device memory go past the caches (Arm ARM, B2.10), unless the processor has FEAT_S2FWB,
/// which no program can see.
pub const COHERENT: bool = false;

/// What a hypercall that nobody knows answers: `NOT_SUPPORTED` (Arm DEN 0028, 5.2).
pub const UNKNOWN_HYPERCALL: u64 = -1_i64 as u64;

/// As many bits as stage 2 translates with the same three levels of tables (with 4 KiB pages and 16
/// tables side by side) that it needs for 40 bits anyway; 8 TiB.
const WANTED_IPA_BITS: i32 = 43;
/// What every KVM has, also one that cannot be asked.
const USUAL_IPA_BITS: i32 = 40;

/// The PMU's interrupt (Arm DEN 0094, "Base System Architecture").
static PMU_INTID: u32 = 23;

/// What all vCPUs of a VM share.
pub struct VmState {
    ipa_bits: u8,
    gic: OnceLock<Gic>,
    init: kvm_vcpu_init,
    /// vCPUs whose PMU is finished when the interrupt controller is: a second descriptor of each.
    pmus: Mutex<Vec<DeviceFd>>,
}

/// What a vCPU is set up with, beside its registers.
pub struct VCpuConfig {
    init: kvm_vcpu_init,
    is_boot_cpu: bool,
    /// How many instructions, and how much data, the hardware can stop at.
    breakpoints: usize,
    watchpoints: usize,
}

/// Creates a VM; nothing is in it yet.
pub fn create_vm(host: &KvmHost) -> Result<VmFd, kvm_ioctls::Error> {
    match ipa_bits(host) {
        // The type of a VM with the usual size; all that old kernels take.
        USUAL_IPA_BITS => host.kvm.create_vm_with_type(0),
        bits => host.kvm.create_vm_with_ipa_size(bits as u32),
    }
}

fn ipa_bits(host: &KvmHost) -> i32 {
    match host.kvm.get_host_ipa_limit() {
        limit @ 1.. => limit.min(WANTED_IPA_BITS),
        _ => USUAL_IPA_BITS,
    }
}

impl VmState {
    /// Asks what vCPUs can have.
    pub fn new(host: &KvmHost, vm: &VmFd) -> HalResult<Self> {
        // Without it, such an access ends KVM_RUN with an error that says nothing.
        let nisv = kvm_enable_cap { cap: KVM_CAP_ARM_NISV_TO_USER, ..Default::default() };
        if let Err(errno) = vm.enable_cap(&nisv) {
            log::debug!("no details on accesses that cannot be decoded: {errno}");
        }
        let mut init = kvm_vcpu_init::default();
        vm.get_preferred_target(&mut init).map_err(|errno| {
            HalError::failed("ask what CPU guests have (KVM_ARM_PREFERRED_TARGET)", errno)
        })?;
        let has = |cap| vm.check_extension(cap);
        let authenticates = has(Cap::ArmPtrAuthAddress) && has(Cap::ArmPtrAuthGeneric);
        for (feature, wanted) in [
            (KVM_ARM_VCPU_PSCI_0_2, true),
            (KVM_ARM_VCPU_PMU_V3, has(Cap::ArmPmuV3)),
            (KVM_ARM_VCPU_SVE, has(Cap::ArmSve)),
            (KVM_ARM_VCPU_PTRAUTH_ADDRESS, authenticates),
            (KVM_ARM_VCPU_PTRAUTH_GENERIC, authenticates),
        ] {
            init.features[0] |= u32::from(wanted) << feature;
        }
        let ipa_bits = ipa_bits(host) as u8;
        Ok(Self { ipa_bits, gic: OnceLock::new(), init, pmus: Mutex::default() })
    }

    /// The interrupt controller, made without a place: only so KVM says which it can emulate.
    fn gic(&self, vm: &VmFd) -> HalResult<&Gic> {
        match self.gic.get() {
            Some(gic) => Ok(gic),
            None => {
                let made = Gic::create(vm)?;
                Ok(self.gic.get_or_init(|| made))
            }
        }
    }

    fn has_feature(&self, feature: u32) -> bool {
        self.init.features[0] >> feature & 1 == 1
    }

    /// What a board must know. From then on the VM cannot do without an interrupt controller.
    pub fn platform(&self, _: &KvmHost, vm: &VmFd) -> HalResult<Platform> {
        let gic = self.gic(vm)?.version();
        Ok(Platform::Aarch64(Aarch64Platform {
            ipa_bits: self.ipa_bits,
            gic,
            // KVM emulates one for every GICv3 (since Linux 4.8), whatever the host's has.
            its: gic == GicVersion::V3,
            pmu: self.has_feature(KVM_ARM_VCPU_PMU_V3),
        }))
    }

    /// Places the interrupt controller; the VM has no vCPUs yet.
    pub fn create_interrupt_controller(
        &self,
        vm: &VmFd,
        controller: &InterruptController,
    ) -> HalResult {
        match (controller, self.gic.get()) {
            // Nobody asked for one.
            (InterruptController::Board, None) => Ok(()),
            _ => self.gic(vm)?.place(vm, controller),
        }
    }

    /// Creates vCPU `vcpu_id`. Its MPIDR is what KVM makes it.
    pub fn create_vcpu(
        &self,
        vm: &VmFd,
        vcpu_id: VCpuId,
        phys_id: usize,
        _vcpu_num: usize,
    ) -> HalResult<(VcpuFd, VCpuConfig)> {
        let affinity = affinity(vcpu_id);
        if phys_id != affinity {
            return Err(HalError::host_cannot(format!(
                "give vCPU {vcpu_id} the affinity {phys_id:#x} (MPIDR_EL1): KVM gives it \
                 {affinity:#x}"
            ))
            .hint("Leave phys_cpu_ids out."));
        }
        let fd = vm.create_vcpu(vcpu_id as u64).map_err(|errno| {
            HalError::failed(format!("create vCPU {vcpu_id} (KVM_CREATE_VCPU)"), errno)
        })?;
        let mut init = self.init;
        if self.gic.get().is_none() {
            // It would have nobody to interrupt.
            init.features[0] &= !(1 << KVM_ARM_VCPU_PMU_V3);
        } else if self.has_feature(KVM_ARM_VCPU_PMU_V3) {
            let mut pmus = self.pmus.lock();
            pmus.push(second_descriptor(&fd, vcpu_id)?);
        }
        let is_boot_cpu = vcpu_id == 0;
        // The others are switched on by the guest, through PSCI, which KVM answers.
        init.features[0] |= u32::from(!is_boot_cpu) << KVM_ARM_VCPU_POWER_OFF;
        let count = |cap| usize::try_from(vm.check_extension_int(cap)).unwrap_or(0);
        let (breakpoints, watchpoints) = (count(Cap::DebugHwBps), count(Cap::DebugHwWps));
        Ok((fd, VCpuConfig { init, is_boot_cpu, breakpoints, watchpoints }))
    }

    /// The interrupt controller has a part for each vCPU, and the PMUs have an interrupt there.
    pub fn vcpus_are_made(&self, _: &VmFd) -> HalResult {
        self.gic.get().map_or(Ok(()), Gic::finish)?;
        let pmus = std::mem::take(&mut *self.pmus.lock());
        pmus.iter().try_for_each(finish_pmu)
    }

    /// KVM keeps all system registers to itself.
    #[allow(clippy::unused_self)] // as on the other architectures
    pub fn trap_sys_regs(&self, _: &VmFd, _: &[SysRegAddrRange]) -> HalResult {
        Err(HalError::host_cannot(
            "hand system registers to devices: KVM on aarch64 keeps them all",
        )
        .hint("Give the device a window in memory."))
    }

    /// Has KVM hand these hypercalls out.
    #[allow(clippy::unused_self)] // as on the other architectures
    pub fn forward_hypercalls(&self, vm: &VmFd, numbers: RangeInclusive<u64>) -> HalResult<bool> {
        smccc::forward(vm, numbers)
    }

    /// The pin belongs to the interrupt controller in the host kernel.
    #[allow(clippy::unused_self)] // as on the other architectures
    pub fn set_external_irq(&self, vcpu_id: VCpuId, _high: bool) -> HalResult {
        Err(HalError::host_cannot(format!(
            "drive the interrupt pin of vCPU {vcpu_id}: its GIC in the host kernel does"
        )))
    }

    /// Makes the SPI `intid` pending, at the vCPU that the guest has it sent to. It is an edge, so
    /// the guest must have configured it as edge-triggered; KVM's PPIs cannot be.
    #[allow(clippy::unused_self)] // as on the other architectures
    pub fn inject(&self, vm: &VmFd, vcpu_id: VCpuId, intid: usize) -> HalResult {
        let Some(line) = gic::line_of(intid) else {
            let what = format!("make interrupt {intid} pending at vCPU {vcpu_id}");
            return Err(HalError::host_cannot(what).hint(
                "INTIDs 32 to 1019 can be; 0 to 15 (SGIs) only guests send, and 16 to 31 (PPIs) \
                 belong to devices of the CPU.",
            ));
        };
        let failed =
            |errno| HalError::failed(format!("raise interrupt {intid} (KVM_IRQ_LINE)"), errno);
        vm.set_irq_line(line, true).map_err(failed)?;
        vm.set_irq_line(line, false).map_err(failed)
    }
}

/// The affinity fields of the MPIDR that KVM gives a vCPU: 16 in a cluster, since a GICv3 sends an
/// SGI to 16 at a time.
pub const fn affinity(vcpu_id: VCpuId) -> usize {
    (vcpu_id & 0xf) | (vcpu_id >> 4 & 0xff) << 8 | (vcpu_id >> 12 & 0xff) << 16
}

/// A descriptor that lives until the vCPUs are all made, for its attributes.
fn second_descriptor(fd: &VcpuFd, vcpu_id: VCpuId) -> HalResult<DeviceFd> {
    // SAFETY: the vCPU's descriptor is open as long as `fd` lives, which is longer than this
    // function runs.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) };
    let own = borrowed.try_clone_to_owned().map_err(|error| {
        HalError::failed(format!("duplicate the descriptor of vCPU {vcpu_id}"), error)
    })?;
    // SAFETY: the descriptor is this function's own, and goes to the new owner alone. That it is a
    // vCPU and no device is the same to the one call that is made on it, KVM_SET_DEVICE_ATTR.
    Ok(unsafe { DeviceFd::from_raw_fd(own.into_raw_fd()) })
}

/// `Documentation/virt/kvm/devices/vcpu.rst`, 1.
fn finish_pmu(vcpu: &DeviceFd) -> HalResult {
    let group = KVM_ARM_VCPU_PMU_V3_CTRL;
    let irq = kvm_device_attr {
        group,
        attr: KVM_ARM_VCPU_PMU_V3_IRQ.into(),
        addr: &raw const PMU_INTID as u64,
        ..Default::default()
    };
    let init =
        kvm_device_attr { group, attr: KVM_ARM_VCPU_PMU_V3_INIT.into(), ..Default::default() };
    [irq, init].iter().try_for_each(|attr| {
        vcpu.set_device_attr(attr)
            .map_err(|errno| HalError::failed("set up the PMU (KVM_ARM_VCPU_PMU_V3_CTRL)", errno))
    })
}

/// The number of an interrupt line in KVM_IRQ_LINE: an SPI's.
pub const fn irq_line(irq: u32) -> u32 {
    gic::spi_line(irq)
}

/// The number of an interrupt line in KVM_IRQFD: SPIs are counted from 0 there.
pub const fn gsi(irq: u32) -> u32 {
    irq.saturating_sub(gic::FIRST_SPI)
}

/// The routes that KVM gives interrupt lines by itself, by their numbers in KVM_IRQFD.
pub fn line_routes(controller: &InterruptController) -> Vec<Vec<kvm_irq_routing_entry>> {
    let lines = match controller {
        InterruptController::GicV2 { .. } => gic::V2_LINES,
        InterruptController::GicV3 { lines, .. } => *lines,
        _ => return Vec::new(),
    };
    (0..lines.saturating_sub(gic::FIRST_SPI)).map(|gsi| vec![messages::pin(gsi, 0, gsi)]).collect()
}

/// A message as KVM takes it: an ITS tells devices apart by their requester ids.
pub fn msi(Msi { addr, data, requester }: Msi) -> kvm_msi {
    kvm_msi {
        address_lo: addr.0 as u32,
        address_hi: (addr.0 >> 32) as u32,
        data,
        flags: KVM_MSI_VALID_DEVID,
        devid: requester,
        ..Default::default()
    }
}

/// Where the guest is; 0 if that cannot be had.
pub fn pc(fd: &mut VcpuFd, _: &VCpuConfig) -> u64 {
    regs::pc(fd)
}

/// Brings a vCPU to where it starts. The boot CPU gets its entry; the others are off.
pub fn setup_vcpu(
    fd: &VcpuFd,
    config: &VCpuConfig,
    entry: GuestPhysAddr,
    setup: &VCpuSetup,
) -> HalResult {
    fd.vcpu_init(&config.init)
        .map_err(|errno| HalError::failed("reset a vCPU (KVM_ARM_VCPU_INIT)", errno))?;
    if config.init.features[0] >> KVM_ARM_VCPU_SVE & 1 == 1 {
        let sve = KVM_ARM_VCPU_SVE as std::os::raw::c_int;
        match fd.vcpu_finalize(&sve) {
            // It was set up before: its vector length stands.
            Err(errno) if errno.errno() == libc::EPERM => {}
            done => done.map_err(|errno| {
                HalError::failed("settle a vCPU's vector length (KVM_ARM_VCPU_FINALIZE)", errno)
            })?,
        }
    }
    if config.is_boot_cpu {
        regs::enter_at(fd, entry, setup)?;
    }
    Ok(())
}

/// The start of a window, for KVM's attributes, which take a pointer to it.
fn start_of(window: GuestPhysAddrRange) -> u64 {
    use crate::addr::DeviceAddrRange;
    window.first().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinities_are_sixteen_in_a_cluster() {
        assert_eq!(
            [0, 15, 16, 17, 4095, 4096].map(affinity),
            [0, 15, 0x100, 0x101, 0xff0f, 0x1_0000]
        );
    }

    #[test]
    fn messages_keep_all_bits_and_their_requester() {
        let addr = GuestPhysAddr(0x1_0809_0040);
        let message = msi(Msi { addr, data: 7, requester: 0x18 });
        assert_eq!((message.address_hi, message.address_lo), (1, 0x0809_0040));
        assert_eq!((message.data, message.flags, message.devid), (7, 1, 0x18));
    }

    #[test]
    fn lines_are_counted_as_kvm_counts_them() {
        assert_eq!((irq_line(33), gsi(33)), (1 << 24 | 33, 1));
    }
}
