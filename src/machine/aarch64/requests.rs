//! What the aarch64 board says to AxVisor's rows.

use crate::{
    addr::{DeviceAddrRange, GuestPhysAddrRange},
    devices::EmuDeviceType,
    hal::{Arch, InterruptController},
    machine::{
        Error,
        board::Hardware,
        plan::Model,
        requests::{Answer, Offer},
    },
    vm::config::EmulatedDeviceConfig,
};

/// Whether the board has what each row asks for; what it does otherwise is noted.
pub fn check(
    rows: &[EmulatedDeviceConfig],
    hardware: &Hardware,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let console = hardware.device(Model::Pl011);
    let gic = &hardware.interrupt_controller;
    Offer { arch: Arch::Aarch64, console, own: &|row| own(row, gic) }.check(rows, notes)
}

fn own(row: &EmulatedDeviceConfig, gic: &InterruptController) -> Option<Answer> {
    let (distributor, redistributors, its) = match gic {
        InterruptController::GicV3 { distributor, redistributors, its, .. } => {
            (distributor, Some(redistributors), its.as_ref())
        }
        InterruptController::GicV2 { distributor, .. } => (distributor, None, None),
        _ => return None,
    };
    let answer = match row.emu_type {
        EmuDeviceType::InterruptController if row.base_gpa == distributor.first() => Answer::Fine,
        EmuDeviceType::InterruptController => elsewhere(row, gic, "distributor", distributor),
        EmuDeviceType::GPPTDistributor => instead(row, gic, "distributor", Some(distributor)),
        EmuDeviceType::GPPTRedistributor => instead(row, gic, "redistributors", redistributors),
        EmuDeviceType::GPPTITS => instead(row, gic, "ITS", its),
        _ => return None,
    };
    Some(answer)
}

/// The guest has it at another address.
fn elsewhere(
    row: &EmulatedDeviceConfig,
    gic: &InterruptController,
    part: &str,
    at: &GuestPhysAddrRange,
) -> Answer {
    Answer::Note(format!(
        "the interrupt controller of this board is {gic}, its {part} at {at}; {} is left empty",
        row.base_gpa
    ))
}

/// The guest has the host kernel's instead of a part of the host's own.
fn instead(
    row: &EmulatedDeviceConfig,
    gic: &InterruptController,
    part: &str,
    at: Option<&GuestPhysAddrRange>,
) -> Answer {
    match at {
        Some(at) if row.base_gpa == at.first() => Answer::Note(format!(
            "nothing of the host's interrupt controller is passed through; the guest has {gic}"
        )),
        Some(at) => elsewhere(row, gic, part, at),
        None => Answer::Note(format!("the guest has {gic}, without {part}")),
    }
}
