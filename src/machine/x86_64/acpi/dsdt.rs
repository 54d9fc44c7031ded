//! The DSDT: the devices by name, each with its ports, its place in memory and its interrupt, and
//! how to power off.

use acpi_tables::{
    Aml,
    aml::{
        AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Memory32Fixed, Name,
        Package, ResourceTemplate, Scope, Uuid,
    },
    sdt::Sdt,
};

use super::{DESCRIBE_KEYBOARD, DESCRIBE_RTC, OEM_ID, OEM_REVISION, OEM_TABLE_ID, pci::Pci};
use crate::{
    addr::{DeviceAddrRange, GuestPhysAddrRange, PortRange},
    devices::{acpi_power::SLP_TYP_S5, doorbell},
    machine::{
        channels,
        parts::{DevicePlan, Model, Window},
        virtio,
    },
};

/// A device's identification.
enum Hid {
    Eisa(&'static str),
    Text(&'static str),
}

/// What a kernel is told of: path, identification, and which models' windows belong to it.
const DESCRIBED: [(&str, Hid, &[Model]); 6] = [
    ("COM1", Hid::Eisa("PNP0501"), &[Model::Uart16550]),
    ("KBD_", Hid::Eisa("PNP0303"), &[Model::I8042Data, Model::I8042Command]),
    ("RTC_", Hid::Eisa("PNP0B00"), &[Model::Cmos]),
    ("PEVT", Hid::Text("QEMU0001"), &[Model::Pvpanic]),
    ("HYPC", Hid::Text(doorbell::HID), &[Model::Doorbell]),
    ("IVCW", Hid::Text(channels::HID), &[Model::IvcChannels, Model::IvcChannelsToRead]),
];

/// The id of devices whose drivers are found by the property `compatible` (Linux,
/// `Documentation/firmware-guide/acpi/enumeration.rst`).
const BY_COMPATIBLE: &str = "PRP0001";
/// What says that a package in `_DSD` has properties (`_DSD` Device Properties UUID).
const PROPERTIES: &str = "daffd814-6eba-4d8c-8a91-bc9bbf4aa301";

/// `_STA`: present, enabled, shown, working.
const STA_WORKING: u8 = 0x0f;

/// The differentiated description (5.2.11.1).
pub fn dsdt(devices: &[DevicePlan]) -> Sdt {
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    let mut body = Vec::new();
    let s5 = Package::new(vec![&SLP_TYP_S5, &0_u8, &0_u8, &0_u8]);
    Name::new("_S5_".into(), &s5).to_aml_bytes(&mut body);
    let described: Vec<Described> = DESCRIBED
        .iter()
        .filter(|(path, ..)| match *path {
            "KBD_" => DESCRIBE_KEYBOARD,
            "RTC_" => DESCRIBE_RTC,
            _ => true,
        })
        .map(|(path, hid, models)| Described {
            path,
            hid,
            parts: devices.iter().filter(|device| models.contains(&device.model)).collect(),
        })
        .filter(|device| !device.parts.is_empty())
        .collect();
    let virtio = devices.iter().filter(|device| device.model == Model::VirtioMmio);
    let virtio: Vec<_> = (0..).zip(virtio).map(|(uid, device)| Virtio { uid, device }).collect();
    let children = described.iter().map(|device| device as &dyn Aml);
    let pci = Pci::of(devices);
    let custom = devices.iter().filter_map(|it| Some((it, it.compatible.as_deref()?)));
    let custom: Vec<_> =
        (0..).zip(custom).map(|(uid, (device, name))| Custom { uid, device, name }).collect();
    let children = children
        .chain(custom.iter().map(|device| device as &dyn Aml))
        .chain(virtio.iter().map(|device| device as &dyn Aml))
        .chain(pci.iter().map(|pci| pci as &dyn Aml))
        .collect();
    Scope::new("_SB_".into(), children).to_aml_bytes(&mut body);
    dsdt.append_slice(&body);
    dsdt
}

struct Described<'a> {
    path: &'static str,
    hid: &'a Hid,
    parts: Vec<&'a DevicePlan>,
}

impl Aml for Described<'_> {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        let hid: Box<dyn Aml> = match self.hid {
            Hid::Eisa(id) => Box::new(EISAName::new(id)),
            Hid::Text(id) => Box::new(*id),
        };
        let windows = self.parts.iter().filter_map(|part| window(part.window));
        let lines = self.parts.iter().filter_map(|part| part.irq).map(edge);
        let resources: Vec<Box<dyn Aml>> =
            windows.chain(lines.map(|line| Box::new(line) as Box<dyn Aml>)).collect();
        let crs = ResourceTemplate::new(resources.iter().map(AsRef::as_ref).collect());
        Device::new(
            self.path.into(),
            vec![
                &Name::new("_HID".into(), hid.as_ref()),
                &Name::new("_STA".into(), &STA_WORKING),
                &Name::new("_CRS".into(), &crs),
            ],
        )
        .to_aml_bytes(sink);
    }
}

/// A virtio device over MMIO, one of many.
struct Virtio<'a> {
    uid: u32,
    device: &'a DevicePlan,
}

impl Aml for Virtio<'_> {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        let window = window(self.device.window);
        let line = self.device.irq.map(|irq| Box::new(edge(irq)) as Box<dyn Aml>);
        let resources: Vec<Box<dyn Aml>> = window.into_iter().chain(line).collect();
        let crs = ResourceTemplate::new(resources.iter().map(AsRef::as_ref).collect());
        let path = format!("V{:03X}", self.uid);
        Device::new(
            path.as_str().into(),
            vec![
                &Name::new("_HID".into(), &virtio::MMIO_HID),
                &Name::new("_UID".into(), &self.uid),
                &Name::new("_STA".into(), &STA_WORKING),
                &Name::new("_CRS".into(), &crs),
            ],
        )
        .to_aml_bytes(sink);
    }
}

/// A device of a user's own making, which drivers know by what a device tree would call it.
struct Custom<'a> {
    uid: u32,
    device: &'a DevicePlan,
    name: &'a str,
}

impl Aml for Custom<'_> {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        let window = window(self.device.window);
        let line = self.device.irq.map(|irq| match self.device.model.is_edge_triggered() {
            true => Box::new(edge(irq)) as Box<dyn Aml>,
            false => Box::new(level(irq)),
        });
        let resources: Vec<Box<dyn Aml>> = window.into_iter().chain(line).collect();
        let crs = ResourceTemplate::new(resources.iter().map(AsRef::as_ref).collect());
        let name = self.name.to_owned();
        let compatible = Package::new(vec![&"compatible", &name]);
        let properties = Package::new(vec![&compatible]);
        let path = format!("C{:03X}", self.uid);
        Device::new(
            path.as_str().into(),
            vec![
                &Name::new("_HID".into(), &BY_COMPATIBLE),
                &Name::new("_UID".into(), &self.uid),
                &Name::new("_STA".into(), &STA_WORKING),
                &Name::new("_CRS".into(), &crs),
                &Name::new("_DSD".into(), &Package::new(vec![&Uuid::new(PROPERTIES), &properties])),
            ],
        )
        .to_aml_bytes(sink);
    }
}

fn window(window: Window) -> Option<Box<dyn Aml>> {
    match window {
        Window::Port(ports) => Some(Box::new(io(ports))),
        Window::Mmio(range) => Some(memory(range)),
        Window::SysReg(_) => None,
    }
}

/// Windows of the board's own are below 4 GiB; others are where the user wants them.
fn memory(range: GuestPhysAddrRange) -> Box<dyn Aml> {
    let (first, last) = (range.first().0, range.last().0);
    match (u32::try_from(first), u32::try_from(range.len())) {
        (Ok(first), Ok(len)) => Box::new(Memory32Fixed::new(true, first, len)),
        _ => {
            let cacheable = AddressSpaceCacheable::Cacheable;
            Box::new(AddressSpace::new_memory(cacheable, true, first, last, None))
        }
    }
}

fn io(ports: PortRange) -> IO {
    let first = ports.first().0;
    // A window of this board is a few ports.
    IO::new(first, first, 1, u8::try_from(ports.len()).unwrap_or(u8::MAX))
}

/// An ISA interrupt: edge-triggered, active high, not shared.
fn edge(irq: u32) -> Interrupt {
    Interrupt::new(true, true, false, false, irq)
}

/// A level-triggered interrupt, active high, not shared.
fn level(irq: u32) -> Interrupt {
    Interrupt::new(true, false, false, false, irq)
}
