//! What a function says that it is, and where its registers are (virtio 1.2, 4.1.2 and 4.1.4).

use super::{BAR_SIZE, COMMON, DEVICE, DEVICE_SIZE, ISR, NOTIFY, NOTIFY_MULTIPLIER, common};
use crate::{
    pci::{BarWindow, Capability, Identity, VENDOR_SPECIFIC},
    virtio::DeviceType,
};

/// Red Hat's, whose number virtio devices have.
const VENDOR: u16 = 0x1af4;
/// The device id of a modern device is its type and this.
const MODERN: u16 = 0x1040;

/// `cfg_type` of a capability.
const COMMON_CFG: u8 = 1;
const NOTIFY_CFG: u8 = 2;
const ISR_CFG: u8 = 3;
const DEVICE_CFG: u8 = 4;
const PCI_CFG: u8 = 5;

/// How many bytes `struct virtio_pci_cap` has; the first two are those of any capability.
const CAPABILITY: u8 = 16;

pub fn of(device: DeviceType) -> Identity {
    let id = MODERN.saturating_add(u16::try_from(device.0).unwrap_or(u16::MAX));
    Identity {
        vendor: VENDOR,
        device: id,
        class: class(device),
        revision: 1,
        subsystem_vendor: VENDOR,
        subsystem: id,
    }
}

/// What guests take it for that do not know virtio (PCI Code and ID Assignment, 1).
const fn class(device: DeviceType) -> u32 {
    match device {
        DeviceType::NET => 0x02_0000,   // Ethernet
        DeviceType::BLOCK => 0x01_8000, // other mass storage
        DeviceType::FILE_SYSTEM => 0x01_8000,
        DeviceType::CONSOLE | DeviceType::VSOCK => 0x07_8000, // other communication
        _ => 0xff_0000,                                       // none of the classes
    }
}

/// The capabilities of a device with so many queues, and which of them is a window on the BAR.
pub fn capabilities(queues: u16, has_config: bool) -> (Vec<Capability>, (usize, BarWindow)) {
    let notify_size = u32::from(queues) * NOTIFY_MULTIPLIER;
    let mut capabilities = vec![
        part(COMMON_CFG, COMMON, common::SIZE, &[]),
        part(NOTIFY_CFG, NOTIFY, notify_size, &NOTIFY_MULTIPLIER.to_le_bytes()),
        part(ISR_CFG, ISR, 1, &[]),
    ];
    if has_config {
        capabilities.push(part(DEVICE_CFG, DEVICE, DEVICE_SIZE, &[]));
    }
    let mut window = part(PCI_CFG, 0, 0, &[0; 4]);
    // bar, offset, length and the data; not what is between.
    window.writable = [&[0, 0, 0xff, 0, 0, 0][..], &[0xff; 12]].concat();
    let fields = BarWindow { bar: 4, offset: 8, length: 12, data: 16 };
    capabilities.push(window);
    let index = capabilities.len() - 1;
    (capabilities, (index, fields))
}

/// A capability that says where a part of the registers is: `struct virtio_pci_cap`, and `more`.
fn part(cfg_type: u8, offset: u32, size: u32, more: &[u8]) -> Capability {
    let head = [CAPABILITY + more.len() as u8, cfg_type, 0, 0, 0, 0];
    let body = [&head[..], &offset.to_le_bytes(), &size.to_le_bytes(), more].concat();
    Capability { id: VENDOR_SPECIFIC, body, writable: Vec::new() }
}

const _: () = assert!(NOTIFY + 0x400 * NOTIFY_MULTIPLIER <= BAR_SIZE);
