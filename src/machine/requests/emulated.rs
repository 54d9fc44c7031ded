//! Emulated devices: those that the board has are matched, others are said to be missing.

use super::{Answer, Offer, passthrough::told};
use crate::{
    addr::{DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange},
    devices::EmuDeviceType,
    machine::{
        board::OwnRow,
        channels,
        parts::{DevicePlan, Model, Window},
    },
    vm::config::EmulatedDeviceConfig,
};

impl Offer<'_> {
    /// What stands in the place of an emulated device.
    pub fn emulated(&self, row: &EmulatedDeviceConfig) -> Answer {
        match self.board.row(row, self.hardware) {
            Some(OwnRow::Has(what)) => return Answer::as_asked(what),
            Some(OwnRow::Controller { here }) => return self.other_controller(row, here),
            Some(OwnRow::Refuse(why)) => return Answer::refuse(why),
            None => {}
        }
        match row.emu_type {
            EmuDeviceType::Console => self.console(row),
            EmuDeviceType::Dummy => Answer::left_out("a meta device; nothing is emulated for it"),
            EmuDeviceType::IVCChannel => match channels::problem(row, self.hardware) {
                Some(problem) => Answer::refuse(problem),
                None => Answer::as_asked("room for channels, which the guest makes by hypercalls"),
            },
            EmuDeviceType::InterruptController
            | EmuDeviceType::GPPTRedistributor
            | EmuDeviceType::GPPTDistributor
            | EmuDeviceType::GPPTITS
            | EmuDeviceType::PPPTGlobal
            | EmuDeviceType::X86IoApic
            | EmuDeviceType::X86Pit => Answer::refuse(format!(
                "a {} belongs to another architecture than {}; leave the row out",
                row.emu_type, self.arch
            )),
            EmuDeviceType::VirtioBlk => self.virtio(
                row,
                "there is no image for it; write kernel.disk_path, which is for the first of such \
                 rows, or a [[devices.virtio]] with kind = \"block\" and the row's name",
            ),
            EmuDeviceType::VirtioNet => self.virtio(
                row,
                "there is no card for it; write a [[devices.virtio]] with kind = \"net\" and the \
                 row's name",
            ),
            EmuDeviceType::VirtioConsole => self.virtio(
                row,
                "there is no console for it; write a [[devices.virtio]] with kind = \"console\" and \
                 the row's name",
            ),
            EmuDeviceType::FwCfg => {
                Answer::refuse(format!("this board has no {}; leave the row out", row.emu_type))
            }
        }
    }

    /// The board's interrupt controller in the place of one, or of a part of one, that begins
    /// elsewhere or is the host's.
    fn other_controller(&self, row: &EmulatedDeviceConfig, here: bool) -> Answer {
        let window = memory_of(row);
        if let Some(problem) = window.and_then(|window| self.over_memory(window)) {
            return Answer::refuse(problem);
        }
        let by = self.interrupts_by();
        Answer::instead(match here {
            true => format!("nothing of the host's interrupt controller is passed through; {by}"),
            false if window.is_some_and(|window| self.boards_own(window).is_some()) => by,
            false => format!("{by}; {} is left empty", row.base_gpa),
        })
    }

    /// The virtio device that there is a window for; `missing` says what to write if none is.
    fn virtio(&self, row: &EmulatedDeviceConfig, missing: &str) -> Answer {
        let is_there = |device: &&DevicePlan| {
            let window = device.window.mmio();
            device.model == Model::VirtioMmio
                && window.is_some_and(|window| window.first() == row.base_gpa)
        };
        match self.hardware.devices.iter().find(is_there) {
            Some(device) => Answer::as_asked(told(device)),
            None => Answer::refuse(missing),
        }
    }

    /// The serial port, if it is where the row has it.
    fn console(&self, row: &EmulatedDeviceConfig) -> Answer {
        let Some(index) = self.hardware.console_index() else {
            return Answer::refuse("this board has no serial port; leave the row out");
        };
        let device = &self.hardware.devices[index];
        let (base, kind) = match device.window {
            Window::Port(ports) => (u64::from(ports.first().0), "port"),
            Window::Mmio(range) => (range.first().0, "address"),
            Window::SysReg(range) => (range.first().0, "register"),
        };
        let irq = device.irq.unwrap_or(0);
        if row.base_gpa != GuestPhysAddr(base) {
            let memory = memory_of(row).and_then(|window| self.over_memory(window));
            let why = memory.map_or(String::new(), |why| format!("; {why}"));
            return Answer::refuse(format!(
                "the console of this board is {}, and cannot be at {kind} {:#x}{why}; give the row \
                 base_gpa {base:#x}, or leave it out",
                told(device),
                row.base_gpa.0
            ));
        }
        if row.irq_id != irq && row.irq_id != 0 {
            let other = row.irq_id;
            return Answer::instead(format!("{}, as {other} cannot be had", told(device)));
        }
        Answer::as_asked(told(device))
    }
}

/// The addresses that a row is about.
fn memory_of(row: &EmulatedDeviceConfig) -> Option<GuestPhysAddrRange> {
    GuestPhysAddrRange::new(row.base_gpa, row.length)
}
