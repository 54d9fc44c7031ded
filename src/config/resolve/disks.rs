//! Disks, as far as they are a matter of several tables: AxVisor's own, and what a kernel is told of
//! its root file system.

use std::path::PathBuf;

use super::rows;
use crate::{
    config::{report::Report, source::At, virtio::block},
    devices::EmuDeviceType,
    virtio::{
        DeviceConfig, TransportKind,
        block::{BlockConfig, ImageFormat},
    },
    vm::config::{DevicesConfig, KernelConfig, VirtioConfig},
};

/// The disk of `disk_path`, before all others: where the first row of `emu_devices` for one without a
/// table of its own has it, or else wherever the board has room. AxVisor's disks are raw.
pub(super) fn axvisors(
    disk_path: Option<At<PathBuf>>,
    devices: &mut DevicesConfig,
    report: &mut Report,
) {
    let Some(path) = disk_path else { return };
    if block::check("kernel.disk_path", &path.value, path.place, report).is_none() {
        return;
    }
    let row = devices.emulated.iter().find(|row| {
        row.emu_type == EmuDeviceType::VirtioBlk && !rows::has_device(row, &devices.virtio)
    });
    let disk = VirtioConfig {
        name: rows::free_name(row.map_or("disk0", |row| &row.name), &devices.virtio),
        device: DeviceConfig::Block(BlockConfig::new(path.value, ImageFormat::Raw)),
        transport: row.map(|_| TransportKind::Mmio),
        place: row.map(|row| (row.base_gpa, row.irq_id)),
        at: row.map_or_else(|| report.written_at(path.place), |row| row.at.clone()),
    };
    devices.virtio.insert(0, disk);
}

/// Tells the kernel of its root file system, if one of the disks has it and the command line does
/// not say otherwise.
pub(super) fn tell_root(kernel: &mut KernelConfig, devices: &DevicesConfig) {
    let disks = devices.virtio.iter().filter_map(|device| match &device.device {
        DeviceConfig::Block(disk) => Some(disk),
        _ => None,
    });
    let Some((number, disk)) = disks.enumerate().find(|(_, disk)| disk.root) else { return };
    let cmdline = kernel.cmdline.take().unwrap_or_default();
    let mut words: Vec<_> = vec![cmdline.clone()];
    let has = |is_it: fn(&str) -> bool| cmdline.split_whitespace().any(is_it);
    if !has(|word| word.starts_with("root=")) {
        words.push(format!("root=/dev/vd{}", letters(number)));
        if !has(|word| word == "ro" || word == "rw") {
            words.push(if disk.readonly { "ro" } else { "rw" }.to_owned());
        }
    }
    words.retain(|word| !word.is_empty());
    kernel.cmdline = Some(words.join(" "));
}

/// How Linux counts disks: a to z, then aa.
fn letters(number: usize) -> String {
    let last = char::from(b'a' + (number % 26) as u8);
    match number / 26 {
        0 => last.to_string(),
        rest => format!("{}{last}", letters(rest - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_counted_as_linux_does() {
        let names = [(0, "a"), (25, "z"), (26, "aa"), (51, "az"), (52, "ba"), (701, "zz")];
        for (number, name) in names {
            assert_eq!(letters(number), name);
        }
    }
}
