//! The interrupt controller in the host kernel: a GICv3 with an ITS, or a GICv2 where the host has
//! no other (`Documentation/virt/kvm/devices/arm-vgic{,-v3,-its}.rst`).

use std::sync::OnceLock;

use kvm_bindings::{
    KVM_ARM_IRQ_TYPE_SHIFT, KVM_ARM_IRQ_TYPE_SPI, KVM_DEV_ARM_VGIC_CTRL_INIT,
    KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_GRP_NR_IRQS,
    KVM_VGIC_ITS_ADDR_TYPE, KVM_VGIC_V2_ADDR_TYPE_CPU, KVM_VGIC_V2_ADDR_TYPE_DIST,
    KVM_VGIC_V3_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_REDIST, kvm_create_device, kvm_device_attr,
    kvm_device_type, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_ITS,
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
};
use kvm_ioctls::{DeviceFd, VmFd};

use super::start_of;
use crate::{
    addr::GuestPhysAddrRange,
    hal::{GicVersion, HalError, HalResult, InterruptController},
};

/// INTIDs: 0 to 15 are SGIs, from 16 on PPIs, from 32 on SPIs, from 1020 on special (IHI 0069, 2.2).
pub const FIRST_SPI: u32 = 32;
const SPECIAL: u32 = 1020;
/// How many a GICv2 of KVM's has, unless told otherwise.
pub const V2_LINES: u32 = 256;

/// A VM's GIC.
pub struct Gic {
    device: DeviceFd,
    version: GicVersion,
    /// The ITS, if the board has one.
    its: OnceLock<DeviceFd>,
}

impl Gic {
    /// Creates the newest that this host can emulate.
    pub fn create(vm: &VmFd) -> HalResult<Self> {
        let gic = |device, version| Self { device, version, its: OnceLock::new() };
        match create(vm, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3) {
            Ok(device) => Ok(gic(device, GicVersion::V3)),
            Err(errno) if errno.errno() == libc::ENODEV => {
                create(vm, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2)
                    .map(|device| gic(device, GicVersion::V2))
                    .map_err(|errno| {
                        HalError::host_cannot("give guests a GIC (KVM_CREATE_DEVICE)")
                            .because(errno)
                            .hint("Its own interrupt controller must be a GICv2 or a GICv3.")
                    })
            }
            Err(errno) => Err(HalError::failed(
                "create the interrupt controller (KVM_CREATE_DEVICE, VGIC_V3)",
                errno,
            )),
        }
    }

    pub const fn version(&self) -> GicVersion {
        self.version
    }

    /// Places it where the board has it.
    pub fn place(&self, vm: &VmFd, controller: &InterruptController) -> HalResult {
        match *controller {
            InterruptController::GicV2 { distributor, cpu_interface }
                if self.version == GicVersion::V2 =>
            {
                set_place(&self.device, KVM_VGIC_V2_ADDR_TYPE_DIST, distributor)?;
                set_place(&self.device, KVM_VGIC_V2_ADDR_TYPE_CPU, cpu_interface)
            }
            InterruptController::GicV3 { distributor, redistributors, its, lines }
                if self.version == GicVersion::V3 =>
            {
                set_place(&self.device, KVM_VGIC_V3_ADDR_TYPE_DIST, distributor)?;
                set_place(&self.device, KVM_VGIC_V3_ADDR_TYPE_REDIST, redistributors)?;
                set_number(&self.device, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, lines).map_err(
                    |errno| HalError::failed(format!("give the GIC {lines} interrupts"), errno),
                )?;
                let Some(window) = its else { return Ok(()) };
                // Asked for once, by the one that makes the controller.
                let _ = self.its.set(create_its(vm, window)?);
                Ok(())
            }
            _ => {
                let version = self.version;
                Err(HalError::host_cannot(format!(
                    "give the guest {controller:?}: its KVM emulates a GIC{version:?}"
                )))
            }
        }
    }

    /// Finishes it: no vCPU comes after that.
    pub fn finish(&self) -> HalResult {
        init(&self.device, "finish the interrupt controller (KVM_DEV_ARM_VGIC_CTRL_INIT)")?;
        self.its
            .get()
            .map_or(Ok(()), |its| init(its, "finish the ITS (KVM_DEV_ARM_VGIC_CTRL_INIT)"))
    }
}

fn create(vm: &VmFd, type_: kvm_device_type) -> Result<DeviceFd, kvm_ioctls::Error> {
    vm.create_device(&mut kvm_create_device { type_, fd: 0, flags: 0 })
}

fn create_its(vm: &VmFd, window: GuestPhysAddrRange) -> HalResult<DeviceFd> {
    let its = create(vm, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_ITS)
        .map_err(|errno| HalError::failed("create the ITS (KVM_CREATE_DEVICE)", errno))?;
    set_place(&its, KVM_VGIC_ITS_ADDR_TYPE, window)?;
    Ok(its)
}

fn set_place(device: &DeviceFd, part: u32, window: GuestPhysAddrRange) -> HalResult {
    let start = start_of(window);
    let attr = kvm_device_attr {
        group: KVM_DEV_ARM_VGIC_GRP_ADDR,
        attr: part.into(),
        addr: &raw const start as u64,
        ..Default::default()
    };
    device.set_device_attr(&attr).map_err(|errno| {
        HalError::failed(format!("place a part of the interrupt controller at {window}"), errno)
    })
}

fn set_number(
    device: &DeviceFd,
    group: u32,
    attr: u64,
    number: u32,
) -> Result<(), kvm_ioctls::Error> {
    let addr = &raw const number as u64;
    device.set_device_attr(&kvm_device_attr { group, attr, addr, ..Default::default() })
}

fn init(device: &DeviceFd, what: &str) -> HalResult {
    let attr = kvm_device_attr {
        group: KVM_DEV_ARM_VGIC_GRP_CTRL,
        attr: KVM_DEV_ARM_VGIC_CTRL_INIT.into(),
        ..Default::default()
    };
    device.set_device_attr(&attr).map_err(|errno| HalError::failed(what, errno))
}

/// The number of an SPI's line in KVM_IRQ_LINE (api.rst, 4.25).
pub const fn spi_line(intid: u32) -> u32 {
    KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | intid
}

/// The number of an interrupt's line in KVM_IRQ_LINE; `None`: it is no SPI.
pub fn line_of(intid: usize) -> Option<u32> {
    let intid = u32::try_from(intid).ok()?;
    (FIRST_SPI..SPECIAL).contains(&intid).then(|| spi_line(intid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shared_interrupts_have_a_line() {
        assert_eq!(line_of(33), Some(0x0100_0021));
        assert_eq!(line_of(1019), Some(0x0100_03fb));
        for none in [0, 15, 16, 31, 1020, 1 << 33] {
            assert_eq!(line_of(none), None);
        }
    }
}
