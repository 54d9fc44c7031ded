//! Devices beside the board's own.

use crate::{
    addr::{GuestPhysAddr, GuestPhysAddrRange, Port, PortRange},
    config::{
        keys::{
            DebugExitPorts, EmulatedDeviceConfig as Row, PassThroughAddressConfig,
            PassThroughDeviceConfig, VMDevicesConfig, VMInterruptMode,
        },
        report::Report,
        source::At,
        values::Integer,
    },
    devices::debug_exit,
    vm::config::{DevicesConfig, EmulatedDeviceConfig},
};

pub(super) fn resolve(devices: VMDevicesConfig, report: &mut Report) -> DevicesConfig {
    for row in rows(&devices.passthrough_devices) {
        note_device(row, report);
    }
    for row in rows(&devices.passthrough_addresses) {
        note_addresses(row, report);
    }
    let mode = devices.interrupt_mode.as_ref();
    if let Some(mode) = mode.filter(|mode| mode.value == VMInterruptMode::Passthrough) {
        let text = "KVM passes no physical interrupts through; the guest's are emulated";
        report.note(mode.place, text);
    }
    let written = devices.hypercalls;
    let devices = DevicesConfig {
        emulated: emulated(rows(&devices.emu_devices), report),
        debug_exit_ports: debug_exit_ports(devices.debug_exit, report),
        hypercalls: written.as_ref().is_some_and(|written| written.value),
    };
    if let Some(off) = written.filter(|written| !written.value && devices.wants_hypercalls()) {
        report
            .problem_of("devices.hypercalls", off.place, "inter-VM channels need hypercalls")
            .help("leave the key out, or the rows of emu_type 0x0a");
    }
    devices
}

fn rows<T>(list: &Option<At<Vec<At<T>>>>) -> &[At<T>] {
    list.as_ref().map_or(&[], |list| &list.value)
}

fn number<const MIN: u64, const MAX: u64>(value: &Option<At<Integer<MIN, MAX>>>) -> u64 {
    value.as_ref().map_or(0, |at| at.value.0)
}

fn note_device(row: &At<PassThroughDeviceConfig>, report: &mut Report) {
    let name = row.value.name.as_ref().map_or("", |name| &name.value);
    let window = GuestPhysAddrRange::new(
        GuestPhysAddr(number(&row.value.base_gpa)),
        number(&row.value.length),
    );
    let text = match window {
        Some(window) => format!(
            "device {name:?} of the host cannot be passed through; at {window} the guest finds \
             the board's own emulated device, if it has one there, or nothing"
        ),
        None if name == "/" => "the host's devices cannot be passed through; the guest finds the \
                                board's own emulated devices instead"
            .into(),
        None => format!(
            "device {name:?} of the host cannot be passed through; the guest finds the board's \
             own emulated devices only"
        ),
    };
    report.note(row.place, text);
}

fn note_addresses(row: &At<PassThroughAddressConfig>, report: &mut Report) {
    let base = GuestPhysAddr(number(&row.value.base_gpa));
    let length = number(&row.value.length);
    let text = format!(
        "the host's {length:#x} bytes at {base} cannot be passed through; the guest finds the \
         board's own emulated devices there, if it has any, or nothing"
    );
    report.note(row.place, text);
}

fn emulated(rows: &[At<Row>], report: &mut Report) -> Vec<EmulatedDeviceConfig> {
    let mut devices: Vec<EmulatedDeviceConfig> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let Some(device) = device(&row.value) else { continue };
        if let Some(problem) = conflict(&device, &devices) {
            report.problem_of(&format!("devices.emu_devices[{index}]"), row.place, problem);
        }
        devices.push(device);
    }
    devices
}

fn device(row: &Row) -> Option<EmulatedDeviceConfig> {
    let list = row.cfg_list.as_ref().map_or(&[][..], |list| &list.value);
    Some(EmulatedDeviceConfig {
        name: row.name.as_ref()?.value.clone(),
        base_gpa: GuestPhysAddr(row.base_gpa.as_ref()?.value.0),
        length: row.length.as_ref()?.value.0,
        irq_id: row.irq_id.as_ref()?.value.0 as u32,
        emu_type: row.emu_type.as_ref()?.value.0,
        cfg_list: list.iter().map(|number| number.value.0).collect(),
    })
}

/// What keeps a device from standing beside `others`.
fn conflict(device: &EmulatedDeviceConfig, others: &[EmulatedDeviceConfig]) -> Option<String> {
    let window =
        |device: &EmulatedDeviceConfig| GuestPhysAddrRange::new(device.base_gpa, device.length);
    // A device without a window is a matter of the kind; one with a window that wraps is not.
    let Some(range) = window(device) else {
        return (device.length > 0)
            .then(|| format!("{:#x} bytes at {} end above 2^64", device.length, device.base_gpa));
    };
    let overlaps =
        |other: &&EmulatedDeviceConfig| window(other).is_some_and(|other| other.overlaps(&range));
    if let Some(other) = others.iter().find(overlaps) {
        return Some(format!("{range} overlaps the window of {:?}", other.name));
    }
    let other = others.iter().find(|other| other.irq_id != 0 && other.irq_id == device.irq_id)?;
    Some(format!("interrupt {} is that of {:?} already", device.irq_id, other.name))
}

fn debug_exit_ports(ports: Option<At<DebugExitPorts>>, report: &mut Report) -> Option<Vec<Port>> {
    let DebugExitPorts::At(ports) = ports?.value else { return None };
    let mut ranges: Vec<PortRange> = Vec::new();
    for port in &ports {
        let range = PortRange::new(Port(port.value.0 as u16), debug_exit::PORTS)?;
        if let Some(other) = ranges.iter().find(|other| other.overlaps(&range)) {
            let message = format!("ports {range} overlap {other}");
            let problem = report.problem_of("devices.debug_exit", port.place, message);
            problem.help("each device has four ports");
        }
        ranges.push(range);
    }
    Some(ports.iter().map(|port| Port(port.value.0 as u16)).collect())
}
