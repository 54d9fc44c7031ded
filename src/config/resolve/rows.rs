//! AxVisor's rows for virtio devices: what stands at their places.

use crate::{
    devices::EmuDeviceType,
    virtio::{
        DeviceConfig, TransportKind,
        console::{ConsoleConfig, PortConfig, Target},
        net::NetConfig,
    },
    vm::config::{DevicesConfig, EmulatedDeviceConfig, VirtioConfig},
};

/// Gives each row of `emu_devices` for a virtio device what is to stand there: the device of
/// `[[devices.virtio]]` that has its name and kind, which says more than a row can; else a network
/// card in the user's own network, or a console.
pub(super) fn place(devices: &mut DevicesConfig) {
    for row in &devices.emulated {
        if let Some(device) = devices.virtio.iter_mut().find(|device| is_meant(device, row)) {
            device.place = Some((row.base_gpa, row.irq_id));
        } else if let Some(device) = usual(row.emu_type, &devices.virtio) {
            devices.virtio.push(VirtioConfig {
                name: free_name(&row.name, &devices.virtio),
                device,
                transport: Some(TransportKind::Mmio),
                place: Some((row.base_gpa, row.irq_id)),
                at: row.at.clone(),
            });
        }
    }
}

/// Whether a device is what stands at a row's place.
fn is_meant(device: &VirtioConfig, row: &EmulatedDeviceConfig) -> bool {
    let kind = match device.device {
        DeviceConfig::Block(_) => EmuDeviceType::VirtioBlk,
        DeviceConfig::Net(_) => EmuDeviceType::VirtioNet,
        DeviceConfig::Console(_) => EmuDeviceType::VirtioConsole,
        _ => return false,
    };
    kind == row.emu_type && device.name == row.name && device.place.is_none()
}

/// Whether the row's place is that of a device already.
pub(super) fn has_device(row: &EmulatedDeviceConfig, devices: &[VirtioConfig]) -> bool {
    devices.iter().any(|device| device.place.is_some_and(|(gpa, _)| gpa == row.base_gpa))
}

/// What a row means that says no more than its kind. A terminal is on our own, if no other is.
fn usual(kind: EmuDeviceType, others: &[VirtioConfig]) -> Option<DeviceConfig> {
    match kind {
        EmuDeviceType::VirtioNet => Some(DeviceConfig::Net(NetConfig::user())),
        EmuDeviceType::VirtioConsole => {
            let is_taken = others.iter().any(|other| match &other.device {
                DeviceConfig::Console(console) => console.is_on_stdio(),
                _ => false,
            });
            let target = if is_taken { Target::Pty(None) } else { Target::Stdio };
            let ports = vec![PortConfig { label: None, target }];
            Some(DeviceConfig::Console(ConsoleConfig { ports }))
        }
        _ => None,
    }
}

/// A row's name, with a number if another device has it.
pub(super) fn free_name(wanted: &str, others: &[VirtioConfig]) -> String {
    let is_free = |name: &String| others.iter().all(|other| other.name != *name);
    let numbered = (1..).map(|number| format!("{wanted}-{number}"));
    let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
    names.find(is_free).unwrap_or_default()
}
