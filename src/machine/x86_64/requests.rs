//! Emulated devices that the configuration asks for by AxVisor's rows: those that the board has
//! are matched, others are said to be missing.

use super::{COM1, COM1_IRQ, IOAPIC};
use crate::{
    addr::DeviceAddrRange,
    devices::EmuDeviceType,
    machine::{
        Error,
        plan::{DevicePlan, Model, Window},
    },
    vm::config::EmulatedDeviceConfig,
};

/// Whether the board has what each row asks for; what it does otherwise is noted.
pub fn check(
    rows: &[EmulatedDeviceConfig],
    devices: &[DevicePlan],
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    rows.iter().try_for_each(|row| check_row(row, devices, notes))
}

fn check_row(
    row: &EmulatedDeviceConfig,
    devices: &[DevicePlan],
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let name = &row.name;
    let refuse =
        |problem: String| Err(Error::Device { name: name.clone(), at: row.base_gpa, problem });
    match row.emu_type {
        EmuDeviceType::Console => {
            let com1 = devices.iter().any(|device| {
                device.model == Model::Uart16550
                    && matches!(device.window, Window::Port(p) if u64::from(p.first().0) == row.base_gpa.0)
            });
            if !com1 {
                return refuse(format!(
                    "the console of this board is the serial port at {COM1} with interrupt \
                     {COM1_IRQ}; give it base_gpa {:#x}, or leave the row out",
                    COM1.0
                ));
            }
            if row.irq_id != COM1_IRQ && row.irq_id != 0 {
                notes.push(format!(
                    "{name}: the serial port at {COM1} has interrupt {COM1_IRQ}, not {}",
                    row.irq_id
                ));
            }
        }
        EmuDeviceType::X86IoApic if row.base_gpa.0 != IOAPIC => {
            return refuse(format!("the IOAPIC of this board is at {IOAPIC:#x}"));
        }
        EmuDeviceType::X86IoApic | EmuDeviceType::X86Pit => {}
        EmuDeviceType::InterruptController => notes.push(format!(
            "{name}: the interrupt controllers of this board are local APICs and an IOAPIC at \
             {IOAPIC:#x}; {} is left empty",
            row.base_gpa
        )),
        EmuDeviceType::Dummy => {
            notes.push(format!("{name}: a meta device; nothing is emulated for it"));
        }
        EmuDeviceType::GPPTRedistributor
        | EmuDeviceType::GPPTDistributor
        | EmuDeviceType::GPPTITS
        | EmuDeviceType::PPPTGlobal => {
            return refuse(format!(
                "a {} belongs to another architecture than x86_64; leave the row out",
                row.emu_type
            ));
        }
        EmuDeviceType::FwCfg
        | EmuDeviceType::IVCChannel
        | EmuDeviceType::VirtioBlk
        | EmuDeviceType::VirtioNet
        | EmuDeviceType::VirtioConsole => {
            return refuse(format!("this board has no {}; leave the row out", row.emu_type));
        }
    }
    Ok(())
}
