//! The window that a guest's inter-VM channels come to be in, by AxVisor's row of type 0x0A:
//! addresses, the interrupt by which other VMs tell of news, and in `cfg_list` what the guest may do
//! with channels (1: read; 3, as without: read and write).

use super::{
    board::Hardware,
    parts::{DevicePlan, Model, Window},
};
use crate::{
    addr::{GuestPhysAddrRange, MappingFlags},
    devices::{EmuDeviceType, IvcWindow},
    vm::config::{DevicesConfig, EmulatedDeviceConfig},
};

/// What a device tree calls the window.
pub const COMPATIBLE: &str = "axvmm,ivc-channels";
/// What ACPI calls it.
pub const HID: &str = "AXVM0002";

const READ: u64 = MappingFlags::READ.bits();
const READ_WRITE: u64 = MappingFlags::READ.union(MappingFlags::WRITE).bits();

/// Adds the window that the first row asks for, if it can be.
pub fn place(hardware: &mut Hardware, asked: &DevicesConfig) {
    let mut rows = asked.emulated.iter();
    let row = rows.find(|row| row.emu_type == EmuDeviceType::IVCChannel);
    let Some(Ok(device)) = row.map(|row| window(row, hardware)) else { return };
    hardware.devices.push(device);
    hardware.devices.sort_by_key(|device| device.window.key());
}

/// What a row says that has not become this window.
pub fn problem(row: &EmulatedDeviceConfig, hardware: &Hardware) -> Option<String> {
    let placed = hardware.devices.iter().find(|device| device.model.is_channels());
    match placed.and_then(|device| device.window.mmio()) {
        Some(placed) if GuestPhysAddrRange::new(row.base_gpa, row.length) == Some(placed) => None,
        Some(placed) => Some(format!("a guest has one window for channels, of any size: {placed}")),
        None => window(row, hardware).err(),
    }
}

fn window(row: &EmulatedDeviceConfig, hardware: &Hardware) -> Result<DevicePlan, String> {
    let lines = hardware.lines();
    let irq = match row.irq_id {
        0 => None,
        irq if !lines.contains(&irq) => {
            return Err(format!("its irq_id is 0 (none) or {} to {}", lines.start, lines.end - 1));
        }
        irq => match hardware.devices.iter().find(|device| device.irq == Some(irq)) {
            Some(owner) => return Err(format!("interrupt {irq} is that of {}", owner.name)),
            None => Some(irq),
        },
    };
    let model = match row.cfg_list.as_slice() {
        [] | [READ_WRITE] => Model::IvcChannels,
        [READ] => Model::IvcChannelsToRead,
        _ => return Err("its cfg_list is [1] (read) or [3] (read and write)".to_owned()),
    };
    let range = GuestPhysAddrRange::new(row.base_gpa, row.length);
    let range = range.filter(|range| IvcWindow::new(*range).is_some());
    let range = range.ok_or("its window must be whole pages of 4096 bytes, and end below 2^64")?;
    let name = "ivc-channels".to_owned();
    Ok(DevicePlan { name, model, window: Window::Mmio(range), irq, compatible: None })
}

/// What a guest may do with its channels, by its window.
pub fn rights(model: Model) -> MappingFlags {
    match model {
        Model::IvcChannelsToRead => MappingFlags::READ,
        _ => MappingFlags::READ | MappingFlags::WRITE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{addr::GuestPhysAddr, hal::InterruptController, vm::config::WrittenAt};

    fn row() -> EmulatedDeviceConfig {
        EmulatedDeviceConfig {
            name: "ivc".to_owned(),
            base_gpa: GuestPhysAddr(0xd000_0000),
            length: 0x10_0000,
            irq_id: 5,
            emu_type: EmuDeviceType::IVCChannel,
            cfg_list: Vec::new(),
            at: WrittenAt::default(),
        }
    }

    /// The window that comes of the rows; or the problem of the last.
    fn plan(rows: Vec<EmulatedDeviceConfig>) -> Result<Option<DevicePlan>, String> {
        let devices = vec![DevicePlan {
            name: "com1".to_owned(),
            model: Model::Uart16550,
            window: Window::Mmio(GuestPhysAddrRange::new(GuestPhysAddr(0x1000), 8).unwrap()),
            irq: Some(4),
            compatible: None,
        }];
        let interrupt_controller = InterruptController::Pc;
        let mut hardware = Hardware { devices, interrupt_controller, late_writes: Vec::new() };
        let asked = DevicesConfig { emulated: rows, ..DevicesConfig::default() };
        place(&mut hardware, &asked);
        match asked.emulated.last().and_then(|row| problem(row, &hardware)) {
            Some(problem) => Err(problem),
            None => Ok(hardware.devices.into_iter().find(|device| device.model.is_channels())),
        }
    }

    #[test]
    fn a_row_is_a_window() {
        assert_eq!(plan(Vec::new()), Ok(None));
        let planned = plan(vec![row()]).unwrap().unwrap();
        assert_eq!((planned.model, planned.irq), (Model::IvcChannels, Some(5)));
        assert_eq!(planned.window.to_string(), "0xd0000000-0xd00fffff");
        let reads = EmulatedDeviceConfig { irq_id: 0, cfg_list: vec![1], ..row() };
        let planned = plan(vec![reads]).unwrap().unwrap();
        assert_eq!((planned.irq, rights(planned.model)), (None, MappingFlags::READ));
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (row, says) in [
            (EmulatedDeviceConfig { irq_id: 4, ..row() }, "com1"),
            (EmulatedDeviceConfig { irq_id: 24, ..row() }, "1 to 23"),
            (EmulatedDeviceConfig { cfg_list: vec![2], ..row() }, "[3]"),
            (EmulatedDeviceConfig { length: 0x1001, ..row() }, "whole pages"),
            (EmulatedDeviceConfig { length: 0, ..row() }, "whole pages"),
            (EmulatedDeviceConfig { length: u64::MAX, ..row() }, "2^64"),
        ] {
            let problem = plan(vec![row]).unwrap_err();
            assert!(problem.contains(says), "{problem}");
        }
        let second = EmulatedDeviceConfig { base_gpa: GuestPhysAddr(0xe000_0000), ..row() };
        assert!(plan(vec![row(), second]).unwrap_err().contains("one window"));
    }
}
