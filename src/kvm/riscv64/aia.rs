//! The Advanced Interrupt Architecture in the host kernel: an APLIC for lines, and an IMSIC a vCPU
//! (`Documentation/virt/kvm/devices/` has no page on it; the kernel's `uapi/asm/kvm.h` has).
//!
//! KVM of Linux 6.12, where the hardware has guest interrupt files, can let a halted vCPU sleep on
//! with an interrupt pending when its thread has moved to another host CPU meanwhile: it looks for
//! the interrupt on the wrong one. (Linux 6.18 has "RISC-V: KVM: Read HGEIP CSR on the correct cpu".)
//! vCPUs that `phys_cpu_sets` keeps on one host CPU each are safe.

use kvm_bindings::{
    KVM_DEV_RISCV_AIA_ADDR_APLIC, KVM_DEV_RISCV_AIA_CONFIG_HART_BITS, KVM_DEV_RISCV_AIA_CONFIG_IDS,
    KVM_DEV_RISCV_AIA_CONFIG_SRCS, KVM_DEV_RISCV_AIA_CTRL_INIT, KVM_DEV_RISCV_AIA_GRP_ADDR,
    KVM_DEV_RISCV_AIA_GRP_CONFIG, KVM_DEV_RISCV_AIA_GRP_CTRL, KVM_DEV_RISCV_IMSIC_SIZE,
    kvm_create_device, kvm_device_attr, kvm_device_type_KVM_DEV_TYPE_RISCV_AIA,
};
use kvm_ioctls::{DeviceFd, VmFd};

use super::super::host::KvmHost;
use crate::{
    addr::GuestPhysAddr,
    hal::{AiaPlatform, HalError, HalResult, VCpuId},
};

/// A VM's AIA: made before its vCPUs, and ready when they are all there.
pub struct Aia {
    device: DeviceFd,
    imsics: GuestPhysAddr,
}

impl Aia {
    /// Creates it, with as many `sources` and `ids` as the board says. How interrupts come to the
    /// harts (with the hardware's guest interrupt files, where there are some) is KVM's choice.
    pub fn new(
        vm: &VmFd,
        aplic: GuestPhysAddr,
        imsics: GuestPhysAddr,
        sources: u32,
        ids: u32,
    ) -> HalResult<Self> {
        let aia = Self { device: create(vm)?, imsics };
        aia.configure(KVM_DEV_RISCV_AIA_CONFIG_IDS, ids, "interrupt identities")?;
        aia.configure(KVM_DEV_RISCV_AIA_CONFIG_SRCS, sources, "interrupt sources")?;
        aia.place(KVM_DEV_RISCV_AIA_ADDR_APLIC.into(), aplic, "APLIC")?;
        Ok(aia)
    }

    /// Places the IMSICs of `vcpus` vCPUs and finishes the device: no vCPU comes after that.
    pub fn finish(&self, vcpus: usize) -> HalResult {
        self.configure(KVM_DEV_RISCV_AIA_CONFIG_HART_BITS, hart_bits(vcpus), "bits of hart ids")?;
        for vcpu_id in 0..vcpus {
            // The APLIC is number 0.
            self.place(vcpu_id as u64 + 1, self.imsic(vcpu_id), "IMSIC")?;
        }
        self.set(kvm_device_attr {
            group: KVM_DEV_RISCV_AIA_GRP_CTRL,
            attr: KVM_DEV_RISCV_AIA_CTRL_INIT.into(),
            ..Default::default()
        })
        .map_err(|errno| {
            HalError::failed("finish the interrupt controller (KVM_DEV_RISCV_AIA_CTRL_INIT)", errno)
        })
    }

    /// Where a hart's IMSIC stands: a write of an identity there makes it pending.
    pub fn imsic(&self, vcpu_id: VCpuId) -> GuestPhysAddr {
        GuestPhysAddr(self.imsics.0 + vcpu_id as u64 * u64::from(KVM_DEV_RISCV_IMSIC_SIZE))
    }

    fn configure(&self, attr: u32, value: u32, what: &str) -> HalResult {
        self.set(kvm_device_attr {
            group: KVM_DEV_RISCV_AIA_GRP_CONFIG,
            attr: attr.into(),
            addr: &raw const value as u64,
            ..Default::default()
        })
        .map_err(|errno| {
            let what = format!("give the interrupt controller {value} {what} (KVM AIA)");
            HalError::failed(what, errno)
        })
    }

    fn place(&self, attr: u64, addr: GuestPhysAddr, what: &str) -> HalResult {
        self.set(kvm_device_attr {
            group: KVM_DEV_RISCV_AIA_GRP_ADDR,
            attr,
            addr: &raw const addr.0 as u64,
            ..Default::default()
        })
        .map_err(|errno| HalError::failed(format!("place an {what} at {addr} (KVM AIA)"), errno))
    }

    fn set(&self, attr: kvm_device_attr) -> Result<(), kvm_ioctls::Error> {
        self.device.set_device_attr(&attr)
    }
}

/// What KVM's AIA is like on this host. Only a device can tell, and a VM that has one cannot do
/// without any more: hence a VM for the question.
pub fn platform(host: &KvmHost) -> HalResult<AiaPlatform> {
    let vm = host.kvm.create_vm().map_err(|errno| {
        HalError::failed("create a VM to look at its interrupt controller (KVM_CREATE_VM)", errno)
    })?;
    let device = create(&vm)?;
    let mut ids = 0_u32;
    let mut attr = kvm_device_attr {
        group: KVM_DEV_RISCV_AIA_GRP_CONFIG,
        attr: KVM_DEV_RISCV_AIA_CONFIG_IDS.into(),
        addr: &raw mut ids as u64,
        ..Default::default()
    };
    // SAFETY: KVM writes 32 bits for this attribute, which is what `ids` has room for.
    unsafe { device.get_device_attr(&mut attr) }.map_err(|errno| {
        HalError::failed("ask how many interrupt identities there are (KVM AIA)", errno)
    })?;
    Ok(AiaPlatform { ids })
}

fn create(vm: &VmFd) -> HalResult<DeviceFd> {
    let mut device =
        kvm_create_device { type_: kvm_device_type_KVM_DEV_TYPE_RISCV_AIA, fd: 0, flags: 0 };
    vm.create_device(&mut device).map_err(|errno| {
        HalError::failed("create the interrupt controller (KVM_CREATE_DEVICE, AIA)", errno)
    })
}

/// How many bits of the IMSICs' addresses tell the harts apart.
const fn hart_bits(vcpus: usize) -> u32 {
    vcpus.next_power_of_two().trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_bits_as_tell_the_harts_apart() {
        assert_eq!([1, 2, 3, 4, 5, 8, 9].map(hart_bits), [0, 1, 2, 2, 3, 3, 4]);
    }
}
