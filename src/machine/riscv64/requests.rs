//! What the riscv64 board says to AxVisor's rows.

use crate::{
    addr::{DeviceAddrRange, GuestPhysAddr},
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
    let console = hardware.device(Model::Uart16550);
    let (name, at) = match &hardware.interrupt_controller {
        InterruptController::Aia { aplic, .. } => ("an APLIC in the host kernel", *aplic),
        _ => ("an emulated PLIC", plic(hardware)),
    };
    let own = |row: &EmulatedDeviceConfig| {
        let passed_through = match row.emu_type {
            EmuDeviceType::InterruptController => false,
            EmuDeviceType::PPPTGlobal => true,
            _ => return None,
        };
        Some(match (row.base_gpa == at, passed_through) {
            (true, false) => Answer::Fine,
            (true, true) => Answer::Note(format!(
                "nothing of the host's interrupt controller is passed through; the guest has {name}"
            )),
            (false, _) => Answer::Note(format!(
                "the interrupt controller of this board is {name}, at {at}; {} is left empty",
                row.base_gpa
            )),
        })
    };
    Offer { arch: Arch::Riscv64, console, own: &own }.check(rows, notes)
}

fn plic(hardware: &Hardware) -> GuestPhysAddr {
    let window = hardware.device(Model::Plic).and_then(|plic| plic.window.mmio());
    window.map_or(GuestPhysAddr(super::PLIC), |range| range.first())
}
