//! PCI for a kernel: where configuration space is (MCFG; PCI Firmware 3.3, 4.1.2), and the host bridge
//! with its bus and its window (4.1.3).

use acpi_tables::{
    Aml, AmlSink,
    aml::{
        AddressSpace, AddressSpaceCacheable, Device, EISAName, Memory32Fixed, Name,
        ResourceTemplate,
    },
    mcfg::MCFG,
};

use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID};
use crate::{
    addr::{DeviceAddrRange, GuestPhysAddrRange},
    machine::parts::{DevicePlan, Model},
};

/// Where the windows are.
pub struct Pci {
    ecam: GuestPhysAddrRange,
    memory: GuestPhysAddrRange,
}

impl Pci {
    /// Those among `devices`.
    pub fn of(devices: &[DevicePlan]) -> Option<Self> {
        let window = |model| devices.iter().find(|device| device.model == model)?.window.mmio();
        Some(Self { ecam: window(Model::PciEcam)?, memory: window(Model::PciMemory)? })
    }

    pub fn mcfg(&self) -> impl Aml + use<> {
        let mut mcfg = MCFG::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
        mcfg.add_ecam(self.ecam.first().0, 0, 0, 0);
        mcfg
    }
}

impl Aml for Pci {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        // Both are below 4 GiB.
        let (first, last) = (self.memory.first().0 as u32, self.memory.last().0 as u32);
        let cacheable = AddressSpaceCacheable::NotCacheable;
        let buses = AddressSpace::new_bus_number(0_u16, 0_u16);
        let memory = AddressSpace::new_memory(cacheable, true, first, last, None);
        let windows = ResourceTemplate::new(vec![&buses, &memory]);
        Device::new(
            "PCI0".into(),
            vec![
                &Name::new("_HID".into(), &EISAName::new("PNP0A08")),
                &Name::new("_CID".into(), &EISAName::new("PNP0A03")),
                &Name::new("_SEG".into(), &0_u8),
                &Name::new("_BBN".into(), &0_u8),
                &Name::new("_UID".into(), &0_u8),
                &Name::new("_CRS".into(), &windows),
            ],
        )
        .to_aml_bytes(sink);
        // What belongs to the board itself, and so is nobody's to use: Linux wants the window of
        // MCFG to be there.
        let (first, len) = (self.ecam.first().0 as u32, self.ecam.len() as u32);
        let ecam = Memory32Fixed::new(true, first, len);
        Device::new(
            "ECAM".into(),
            vec![
                &Name::new("_HID".into(), &EISAName::new("PNP0C02")),
                &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&ecam])),
            ],
        )
        .to_aml_bytes(sink);
    }
}
