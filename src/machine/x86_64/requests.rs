//! What a PC says to AxVisor's rows.

use super::IOAPIC;
use crate::{
    devices::EmuDeviceType,
    hal::Arch,
    machine::{
        Error,
        plan::{DevicePlan, Model},
        requests::{Answer, Offer},
    },
    vm::config::EmulatedDeviceConfig,
};

/// Whether the board has what each row asks for; what it does otherwise is noted.
pub fn check(
    rows: &[EmulatedDeviceConfig],
    devices: &[DevicePlan],
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let console = devices.iter().find(|device| device.model == Model::Uart16550);
    Offer { arch: Arch::X86_64, console, own: &own }.check(rows, notes)
}

fn own(row: &EmulatedDeviceConfig) -> Option<Answer> {
    match row.emu_type {
        EmuDeviceType::X86IoApic if row.base_gpa.0 != IOAPIC => {
            Some(Answer::Refuse(format!("the IOAPIC of this board is at {IOAPIC:#x}")))
        }
        EmuDeviceType::X86IoApic | EmuDeviceType::X86Pit => Some(Answer::Fine),
        EmuDeviceType::InterruptController => Some(Answer::Note(format!(
            "the interrupt controllers of this board are local APICs and an IOAPIC at \
             {IOAPIC:#x}; {} is left empty",
            row.base_gpa
        ))),
        _ => None,
    }
}
