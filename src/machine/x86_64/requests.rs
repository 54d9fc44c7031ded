//! What a PC says to AxVisor's rows.

use super::IOAPIC;
use crate::{devices::EmuDeviceType, machine::board::OwnRow, vm::config::EmulatedDeviceConfig};

/// Where a PC has its timer.
const PIT: u64 = 0x40;

pub fn own(row: &EmulatedDeviceConfig) -> Option<OwnRow> {
    Some(match row.emu_type {
        EmuDeviceType::X86IoApic if row.base_gpa.0 != IOAPIC => {
            OwnRow::Refuse(format!("the IOAPIC of this board is at {IOAPIC:#x}; correct base_gpa"))
        }
        EmuDeviceType::X86IoApic => OwnRow::Has("in the host kernel".into()),
        EmuDeviceType::X86Pit if row.base_gpa.0 != PIT => {
            OwnRow::Refuse(format!("the PIT of this board is at port {PIT:#x}; correct base_gpa"))
        }
        EmuDeviceType::X86Pit => OwnRow::Has("in the host kernel, at ports 0x40-0x43".into()),
        EmuDeviceType::InterruptController => OwnRow::Controller { here: false },
        _ => return None,
    })
}
