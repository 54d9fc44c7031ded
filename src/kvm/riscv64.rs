//! What is riscv64's own in KVM.

mod aia;
pub mod debug;
mod exits;
mod extensions;
mod one_reg;
mod pins;
pub mod probe;
mod regs;

use std::{
    ops::RangeInclusive,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use aia::Aia;
pub use exits::{
    OwnExit, answer_hypercall, guests_fault, page_fault, raise_fault, refuse_sys_reg,
    set_second_return_value,
};
use kvm_bindings::{
    KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_STOPPED, KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_DBCN,
    kvm_irq_routing_entry, kvm_mp_state, kvm_msi,
};
use kvm_ioctls::{Cap, VcpuFd, VmFd};
use one_reg::OneReg;
use parking_lot::Mutex;
use pins::Pins;
pub use regs::{dump, set_gpr};

use super::{
    host::{Capability, KvmHost},
    messages,
};
use crate::{
    addr::{GuestPhysAddr, SysRegAddrRange},
    hal::{
        HalError, HalResult, InterruptController, Msi, Platform, Riscv64Platform, VCpuId, VCpuSetup,
    },
};

/// What axvmm needs of KVM beside what it needs everywhere.
pub const NEEDED_CAPABILITIES: &[Capability] =
    &[Capability::new("KVM_CAP_ONE_REG", Cap::OneReg, "5.16")];

/// What to do where there is no KVM.
pub const TO_GET_KVM: &str = "Load the module (modprobe kvm): the processor must have the \
                              hypervisor extension (H)";

/// What a VM gets whose board says nothing: every KVM can do that.
pub const USUAL_CONTROLLER: InterruptController = InterruptController::Board;

/// The register that an SBI call answers in, in `set_gpr`'s numbering: `a0`.
pub const RETURN_REGISTER: usize = 10;

/// Loads from a place that Svpbmt has as I/O may go past the caches.
pub const COHERENT: bool = false;

/// What an SBI call that nobody knows answers: `SBI_ERR_NOT_SUPPORTED` (SBI 2.0, chapter 3).
pub const UNKNOWN_HYPERCALL: u64 = -2_i64 as u64;

/// What all vCPUs of a VM share.
pub struct VmState {
    /// vCPU 0, if something had to be asked of a vCPU before it was wanted.
    first: Mutex<Option<VcpuFd>>,
    /// The interrupt controller, if it is in the kernel.
    aia: OnceLock<Aia>,
    /// The way to the vCPUs of one that is not.
    pins: Pins,
    vcpus: AtomicUsize,
}

/// What a vCPU is set up with, beside its registers.
pub struct VCpuConfig {
    hart: VCpuId,
}

/// Creates a VM; nothing is in it yet.
pub fn create_vm(host: &KvmHost) -> Result<VmFd, kvm_ioctls::Error> {
    host.kvm.create_vm()
}

impl VmState {
    /// What is known of a new VM: nothing.
    pub fn new(_: &KvmHost, _: &VmFd) -> HalResult<Self> {
        Ok(Self {
            first: Mutex::default(),
            aia: OnceLock::new(),
            pins: Pins::default(),
            vcpus: AtomicUsize::new(0),
        })
    }

    /// What a board must know. Only a vCPU can tell, so the first one is made for it.
    pub fn platform(&self, host: &KvmHost, vm: &VmFd) -> HalResult<Platform> {
        let mut first = self.first.lock();
        let fd = match &*first {
            Some(fd) => fd,
            None => first.insert(create_vcpu(vm, 0)?),
        };
        let asked = |what: &str, reg: OneReg| {
            reg.get(fd).map_err(|errno| {
                HalError::failed(format!("ask a vCPU for {what} (KVM_GET_ONE_REG)"), errno)
            })
        };
        // KVM tells the block size of an extension that the host has, and else that it does not
        // know the register.
        let block_size = |reg: OneReg| reg.get(fd).ok().and_then(|size| u32::try_from(size).ok());
        Ok(Platform::Riscv64(Riscv64Platform {
            extensions: extensions::of_vcpu(fd).map_err(|errno| {
                HalError::failed("ask a vCPU for its ISA extensions (KVM_GET_ONE_REG)", errno)
                    .hint("Linux 6.6 brought the way in which axvmm asks.")
            })?,
            cbom_block_size: block_size(OneReg::ZICBOM_BLOCK_SIZE),
            cbop_block_size: block_size(OneReg::ZICBOP_BLOCK_SIZE),
            cboz_block_size: block_size(OneReg::ZICBOZ_BLOCK_SIZE),
            mmu_type: mmu_type(asked("its page tables", OneReg::SATP_MODE)?),
            timebase_frequency: asked("its clock's frequency", OneReg::TIMER_FREQUENCY)?,
            aia: match vm.check_extension(Cap::Irqchip) {
                true => Some(aia::platform(host)?),
                false => None,
            },
        }))
    }

    /// Gives a VM its interrupt controller, or none: then the board has one, and drives the vCPUs'
    /// pins. The VM has no vCPU yet, or its first, which has not run.
    pub fn create_interrupt_controller(
        &self,
        vm: &VmFd,
        controller: &InterruptController,
    ) -> HalResult {
        match *controller {
            InterruptController::Board => Ok(()),
            InterruptController::Aia { aplic, imsics, sources, ids } => {
                let aia = Aia::new(vm, aplic, imsics, sources, ids)?;
                // Asked for once, by the one that makes the controller.
                let _ = self.aia.set(aia);
                Ok(())
            }
            _ => Err(HalError::host_cannot(format!(
                "give a riscv64 guest an interrupt controller of another architecture: \
                 {controller:?}"
            ))),
        }
    }

    /// Creates vCPU `vcpu_id` of `vcpu_num`. Its hart id is what KVM makes it: `vcpu_id`.
    pub fn create_vcpu(
        &self,
        vm: &VmFd,
        vcpu_id: VCpuId,
        phys_id: usize,
        vcpu_num: usize,
    ) -> HalResult<(VcpuFd, VCpuConfig)> {
        if phys_id != vcpu_id {
            return Err(HalError::host_cannot(format!(
                "give vCPU {vcpu_id} the hart id {phys_id}: KVM numbers harts as it numbers vCPUs"
            ))
            .hint("Leave phys_cpu_ids out, or write 0, 1, 2 and so on."));
        }
        let first = match vcpu_id {
            0 => self.first.lock().take(),
            _ => None,
        };
        let fd = first.map_or_else(|| create_vcpu(vm, vcpu_id), Ok)?;
        enable_debug_console(&fd);
        self.pins.add(vcpu_id, vcpu_num, &fd)?;
        self.vcpus.fetch_add(1, Ordering::Relaxed);
        Ok((fd, VCpuConfig { hart: vcpu_id }))
    }

    /// The IMSICs belong to the vCPUs, so the controller is finished when they are all there.
    pub fn vcpus_are_made(&self, _: &VmFd) -> HalResult {
        self.aia.get().map_or(Ok(()), |aia| aia.finish(self.vcpus.load(Ordering::Relaxed)))
    }

    /// KVM hands the CSRs that it does not know out by itself.
    #[allow(clippy::unused_self)] // as on the other architectures
    pub const fn trap_sys_regs(&self, _: &VmFd, _: &[SysRegAddrRange]) -> HalResult {
        Ok(())
    }

    /// KVM hands out the experimental extensions, and so AxVisor's, without being asked.
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)] // as on the other architectures
    pub fn forward_hypercalls(&self, _: &VmFd, _numbers: RangeInclusive<u64>) -> HalResult<bool> {
        Ok(true)
    }

    /// Drives the external interrupt pin of a vCPU.
    pub fn set_external_irq(&self, vcpu_id: VCpuId, high: bool) -> HalResult {
        match self.aia.get() {
            None => self.pins.set(vcpu_id, high),
            Some(_) => Err(HalError::host_cannot(format!(
                "drive the interrupt pin of vCPU {vcpu_id}: its IMSIC in the host kernel does"
            ))),
        }
    }

    /// Makes the interrupt `irq` pending in the IMSIC of a vCPU. Without one there is only the
    /// external interrupt, which stays until the board's interrupt controller takes it away.
    pub fn inject(&self, vm: &VmFd, vcpu_id: VCpuId, irq: usize) -> HalResult {
        let Some(aia) = self.aia.get() else {
            return self.pins.set(vcpu_id, true);
        };
        let addr = aia.imsic(vcpu_id);
        let identity = u32::try_from(irq).ok().filter(|irq| *irq != 0).ok_or_else(|| {
            HalError::host_cannot(format!("make interrupt {irq} pending in the IMSIC {vcpu_id}"))
        })?;
        vm.signal_msi(msi(Msi { addr, data: identity, requester: 0 })).map(drop).map_err(|errno| {
            HalError::failed(format!("send an MSI to {addr} (KVM_SIGNAL_MSI)"), errno)
        })
    }
}

fn create_vcpu(vm: &VmFd, vcpu_id: VCpuId) -> HalResult<VcpuFd> {
    vm.create_vcpu(vcpu_id as u64).map_err(|errno| {
        HalError::failed(format!("create vCPU {vcpu_id} (KVM_CREATE_VCPU)"), errno)
    })
}

/// The SBI's debug console is answered in user space, and off unless someone says that he will. A
/// kernel before 6.7 does not know it, and its guests see that there is none.
fn enable_debug_console(fd: &VcpuFd) {
    let dbcn = OneReg::sbi_extension(KVM_RISCV_SBI_EXT_ID_KVM_RISCV_SBI_EXT_DBCN);
    if let Err(errno) = dbcn.set(fd, 1) {
        log::debug!("no SBI debug console: {errno}");
    }
}

/// A device tree's name for the page tables with this mode in `satp`.
const fn mmu_type(satp_mode: u64) -> Option<&'static str> {
    match satp_mode {
        8 => Some("riscv,sv39"),
        9 => Some("riscv,sv48"),
        10 => Some("riscv,sv57"),
        _ => None,
    }
}

/// The number of an interrupt line in KVM_IRQ_LINE: the APLIC's source.
pub const fn irq_line(irq: u32) -> u32 {
    irq
}

/// The number of an interrupt line in KVM_IRQFD: KVM routes each number to the source with it.
pub const fn gsi(irq: u32) -> u32 {
    irq
}

/// The routes that KVM gives interrupt lines by itself, by their numbers in KVM_IRQFD.
pub fn line_routes(controller: &InterruptController) -> Vec<Vec<kvm_irq_routing_entry>> {
    let InterruptController::Aia { sources, .. } = controller else {
        return Vec::new();
    };
    (0..=*sources).map(|gsi| vec![messages::pin(gsi, 0, gsi)]).collect()
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
pub fn pc(fd: &mut VcpuFd, _: &VCpuConfig) -> u64 {
    regs::pc(fd)
}

/// Brings a vCPU to where it starts. Hart 0 gets its entry; the others are stopped until the guest
/// starts them through the SBI (HSM), which sets their registers.
pub fn setup_vcpu(
    fd: &VcpuFd,
    config: &VCpuConfig,
    entry: GuestPhysAddr,
    setup: &VCpuSetup,
) -> HalResult {
    let is_boot_hart = config.hart == 0;
    let mp_state = if is_boot_hart { KVM_MP_STATE_RUNNABLE } else { KVM_MP_STATE_STOPPED };
    fd.set_mp_state(kvm_mp_state { mp_state })
        .map_err(|errno| HalError::failed("start or stop a hart (KVM_SET_MP_STATE)", errno))?;
    if is_boot_hart {
        regs::enter_at(fd, config.hart as u64, entry, setup)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hal::AxVMHal, kvm::KvmHal};

    #[test]
    fn a_vm_tells_its_platform_and_still_gets_its_vcpus() {
        let hal = KvmHal::new().unwrap();
        let Platform::Riscv64(platform) = hal.platform().unwrap() else { unreachable!() };
        for extension in ["i", "m", "a", "f", "d", "c"] {
            assert!(platform.extensions.contains(&extension), "{platform:?}");
        }
        let has_blocks = |size: Option<u32>, extension| {
            assert_eq!(size.is_some(), platform.extensions.contains(&extension), "{platform:?}");
            assert!(size.is_none_or(u32::is_power_of_two), "{platform:?}");
        };
        has_blocks(platform.cbom_block_size, "zicbom");
        has_blocks(platform.cboz_block_size, "zicboz");
        assert!(platform.mmu_type.unwrap().starts_with("riscv,sv"));
        assert!(platform.timebase_frequency > 0);
        assert_eq!(platform.aia.is_some(), platform.extensions.contains(&"ssaia"));
        assert!(platform.aia.is_none_or(|aia| aia.ids >= 63));
        assert_eq!(hal.platform().unwrap(), Platform::Riscv64(platform));
        hal.vcpu_create_config(0, 0, 2).unwrap();
        hal.vcpu_create_config(1, 1, 2).unwrap();
        let error = hal.vcpu_create_config(1, 7, 2).map(drop).unwrap_err();
        assert!(error.to_string().contains("hart id 7"), "{error}");
    }

    #[test]
    fn pins_are_there_for_vcpus_only() {
        let hal = KvmHal::new().unwrap();
        assert!(hal.inject_irq_to_vcpu(0, 9).is_err());
        let vcpu = hal.vcpu_create_config(0, 0, 1).unwrap();
        hal.inject_irq_to_vcpu(0, 9).unwrap();
        hal.arch.set_external_irq(0, false).unwrap();
        assert!(hal.inject_irq_to_vcpu(1, 9).is_err());
        drop(vcpu);
    }

    #[test]
    fn the_aia_is_finished_when_the_vcpus_are_there() {
        let hal = KvmHal::new().unwrap();
        let Platform::Riscv64(platform) = hal.platform().unwrap() else { unreachable!() };
        let Some(aia) = platform.aia else { return };
        let (aplic, imsics) = (GuestPhysAddr(0x0d00_0000), GuestPhysAddr(0x2800_0000));
        let ids = aia.ids;
        hal.use_interrupt_controller(&InterruptController::Aia { aplic, imsics, sources: 96, ids })
            .unwrap();
        let _vcpus = [0, 1, 2].map(|id| hal.vcpu_create_config(id, id, 3).unwrap());
        hal.vcpus_are_made().unwrap();
        hal.inject_irq_to_vcpu(2, 5).unwrap();
        assert!(hal.inject_irq_to_vcpu(2, 0).is_err());
        assert!(hal.arch.set_external_irq(0, true).is_err());
    }

    #[test]
    fn messages_keep_all_bits_of_their_address() {
        let addr = GuestPhysAddr(0x12_2800_3000);
        let message = msi(Msi { addr, data: 25, requester: 7 });
        assert_eq!((message.address_hi, message.address_lo), (0x12, 0x2800_3000));
        assert_eq!((message.data, message.flags, message.devid), (25, 0, 0));
    }

    #[test]
    fn page_tables_have_the_names_of_the_device_tree() {
        assert_eq!([8, 9, 10].map(mmu_type), ["riscv,sv39", "riscv,sv48", "riscv,sv57"].map(Some));
        assert_eq!(mmu_type(0), None);
    }
}
