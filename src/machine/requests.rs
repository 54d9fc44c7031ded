//! Emulated devices that the configuration asks for by AxVisor's rows: those that the board has
//! are matched, others are said to be missing.

use super::{
    Error,
    plan::{DevicePlan, Window},
};
use crate::{
    addr::{DeviceAddrRange, GuestPhysAddr},
    devices::EmuDeviceType,
    hal::Arch,
    vm::config::EmulatedDeviceConfig,
};

/// What a board says to a row.
pub enum Answer {
    /// It has just that.
    Fine,
    /// It does it in another way.
    Note(String),
    /// It cannot.
    Refuse(String),
}

/// What a board has, as far as rows can ask for it.
pub struct Offer<'a> {
    pub arch: Arch,
    /// Its serial port.
    pub console: Option<&'a DevicePlan>,
    /// What it says to kinds of its own; `None`: they are not its own.
    pub own: &'a dyn Fn(&EmulatedDeviceConfig) -> Option<Answer>,
}

impl Offer<'_> {
    /// Whether the board has what each row asks for; what it does otherwise is noted.
    pub fn check(
        &self,
        rows: &[EmulatedDeviceConfig],
        notes: &mut Vec<String>,
    ) -> Result<(), Error> {
        for row in rows {
            match self.answer(row) {
                Answer::Fine => {}
                Answer::Note(note) => notes.push(format!("{}: {note}", row.name)),
                Answer::Refuse(problem) => {
                    return Err(Error::Device {
                        name: row.name.clone(),
                        at: row.base_gpa,
                        problem,
                    });
                }
            }
        }
        Ok(())
    }

    fn answer(&self, row: &EmulatedDeviceConfig) -> Answer {
        if let Some(answer) = (self.own)(row) {
            return answer;
        }
        match row.emu_type {
            EmuDeviceType::Console => self.console(row),
            // The channels are made by the guests; what the board has for that is the doorbell.
            EmuDeviceType::IVCChannel => Answer::Fine,
            EmuDeviceType::Dummy => {
                Answer::Note("a meta device; nothing is emulated for it".into())
            }
            EmuDeviceType::InterruptController
            | EmuDeviceType::GPPTRedistributor
            | EmuDeviceType::GPPTDistributor
            | EmuDeviceType::GPPTITS
            | EmuDeviceType::PPPTGlobal
            | EmuDeviceType::X86IoApic
            | EmuDeviceType::X86Pit => Answer::Refuse(format!(
                "a {} belongs to another architecture than {}; leave the row out",
                row.emu_type, self.arch
            )),
            EmuDeviceType::FwCfg
            | EmuDeviceType::VirtioBlk
            | EmuDeviceType::VirtioNet
            | EmuDeviceType::VirtioConsole => {
                Answer::Refuse(format!("this board has no {}; leave the row out", row.emu_type))
            }
        }
    }

    /// The serial port, if it is where the row has it.
    fn console(&self, row: &EmulatedDeviceConfig) -> Answer {
        let Some(device) = self.console else {
            return Answer::Refuse("this board has no serial port; leave the row out".into());
        };
        let (base, place) = match device.window {
            Window::Port(ports) => (u64::from(ports.first().0), ports.first().to_string()),
            Window::Mmio(range) => (range.first().0, range.first().to_string()),
            Window::SysReg(range) => (range.first().0, range.first().to_string()),
        };
        let irq = device.irq.unwrap_or(0);
        if row.base_gpa != GuestPhysAddr(base) {
            return Answer::Refuse(format!(
                "the console of this board is the serial port at {place} with interrupt {irq}; \
                 give it base_gpa {base:#x}, or leave the row out"
            ));
        }
        if row.irq_id != irq && row.irq_id != 0 {
            return Answer::Note(format!(
                "the serial port at {place} has interrupt {irq}, not {}",
                row.irq_id
            ));
        }
        Answer::Fine
    }
}
