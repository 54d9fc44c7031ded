//! Devices beside the board's own.

use crate::{
    addr::{GuestPhysAddr, GuestPhysAddrRange, Port, PortRange},
    config::{
        custom, fault,
        keys::{
            DebugExitPorts, EmulatedDeviceConfig as Row,
            PassThroughAddressConfig as PassThroughAddressRow,
            PassThroughDeviceConfig as PassThroughDeviceRow, VMDevicesConfig,
        },
        report::Report,
        source::At,
        values::Integer,
        vfio_user, virtio,
    },
    devices::{custom::Kinds, debug_exit},
    vm::config::{
        DevicesConfig, EmulatedDeviceConfig, ExcludedDevicesConfig, InterruptModeConfig,
        PassThroughAddressConfig, PassThroughDeviceConfig,
    },
};

pub(super) fn resolve(
    devices: VMDevicesConfig,
    kinds: &Kinds,
    report: &mut Report,
) -> DevicesConfig {
    let written = devices.hypercalls;
    let devices = DevicesConfig {
        emulated: emulated(rows(&devices.emu_devices), report),
        passthrough: passthrough(rows(&devices.passthrough_devices), report),
        passthrough_addresses: passthrough_addresses(rows(&devices.passthrough_addresses), report),
        excluded: excluded(rows(&devices.excluded_devices), report),
        interrupt_mode: devices.interrupt_mode.map(|mode| InterruptModeConfig {
            mode: mode.value.into(),
            at: report.written_at(mode.place),
        }),
        debug_exit_ports: debug_exit_ports(devices.debug_exit, report),
        virtio: virtio::resolve(rows(&devices.virtio), report),
        custom: custom::resolve(rows(&devices.custom), kinds, report),
        vfio_user: vfio_user::resolve(rows(&devices.vfio_user), report),
        faults: fault::resolve(rows(&devices.fault), report),
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

/// Devices of the host's. A row that says nothing of a place would be all that the host has.
fn passthrough(
    rows: &[At<PassThroughDeviceRow>],
    report: &mut Report,
) -> Vec<PassThroughDeviceConfig> {
    let mut devices = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let Some(name) = &row.value.name else { continue };
        let device = PassThroughDeviceConfig {
            name: name.value.clone(),
            base_gpa: GuestPhysAddr(number(&row.value.base_gpa)),
            length: number(&row.value.length),
            irq_id: number(&row.value.irq_id) as u32,
            at: report.written_at(row.place),
        };
        let key = format!("devices.passthrough_devices[{index}]");
        let is_path = device.name.starts_with('/');
        match device.length {
            0 if is_path => devices.push(device),
            0 if report.is_bad(&format!("{key}.length")) => {}
            0 => {
                let message = format!("{:?} has no length, and is no path", device.name);
                report.problem_of(&key, row.place, message).help(
                    "a row is [name, base_gpa, base_hpa, length, irq_id], or [path] with a path \
                     of the host's device tree, such as \"/soc/uart@…\" or \"/\"",
                );
            }
            length => match wraps(device.base_gpa, length) {
                Some(problem) => _ = report.problem_of(&key, row.place, problem),
                None => devices.push(device),
            },
        }
    }
    devices
}

fn passthrough_addresses(
    rows: &[At<PassThroughAddressRow>],
    report: &mut Report,
) -> Vec<PassThroughAddressConfig> {
    let mut ranges = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let (Some(base), Some(length)) = (&row.value.base_gpa, &row.value.length) else { continue };
        let (base, length) = (GuestPhysAddr(base.value.0), length.value.0);
        let key = format!("devices.passthrough_addresses[{index}]");
        match GuestPhysAddrRange::new(base, length) {
            Some(window) => {
                ranges.push(PassThroughAddressConfig { window, at: report.written_at(row.place) });
            }
            None => {
                let nothing = || format!("the length is 0: there is nothing at {base}");
                let problem = wraps(base, length).unwrap_or_else(nothing);
                report.problem_of(&key, row.place, problem);
            }
        }
    }
    ranges
}

fn excluded(rows: &[At<Vec<At<String>>>], report: &Report) -> Vec<ExcludedDevicesConfig> {
    let excluded = |row: &At<Vec<At<String>>>| ExcludedDevicesConfig {
        paths: row.value.iter().map(|path| path.value.clone()).collect(),
        at: report.written_at(row.place),
    };
    rows.iter().map(excluded).collect()
}

/// What is wrong with a window that does not fit below 2^64.
fn wraps(base: GuestPhysAddr, length: u64) -> Option<String> {
    let fits = length == 0 || GuestPhysAddrRange::new(base, length).is_some();
    (!fits).then(|| format!("{length:#x} bytes at {base} end above 2^64"))
}

fn emulated(rows: &[At<Row>], report: &mut Report) -> Vec<EmulatedDeviceConfig> {
    let mut devices: Vec<EmulatedDeviceConfig> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let Some(device) = device(row, report) else { continue };
        if let Some(problem) = conflict(&device, &devices) {
            report.problem_of(&format!("devices.emu_devices[{index}]"), row.place, problem);
        }
        devices.push(device);
    }
    devices
}

fn device(row: &At<Row>, report: &Report) -> Option<EmulatedDeviceConfig> {
    let at = report.written_at(row.place);
    let row = &row.value;
    let list = row.cfg_list.as_ref().map_or(&[][..], |list| &list.value);
    Some(EmulatedDeviceConfig {
        name: row.name.as_ref()?.value.clone(),
        base_gpa: GuestPhysAddr(row.base_gpa.as_ref()?.value.0),
        length: row.length.as_ref()?.value.0,
        irq_id: row.irq_id.as_ref()?.value.0 as u32,
        emu_type: row.emu_type.as_ref()?.value.0,
        cfg_list: list.iter().map(|number| number.value.0).collect(),
        at,
    })
}

/// What keeps a device from standing beside `others`.
fn conflict(device: &EmulatedDeviceConfig, others: &[EmulatedDeviceConfig]) -> Option<String> {
    let window =
        |device: &EmulatedDeviceConfig| GuestPhysAddrRange::new(device.base_gpa, device.length);
    // A device without a window is a matter of the kind; one with a window that wraps is not.
    let Some(range) = window(device) else {
        return wraps(device.base_gpa, device.length);
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
