//! What the riscv64 board says to AxVisor's rows.

use crate::{
    addr::{DeviceAddrRange, GuestPhysAddr},
    devices::EmuDeviceType,
    hal::InterruptController,
    machine::{
        board::{Hardware, OwnRow},
        parts::Model,
    },
    vm::config::EmulatedDeviceConfig,
};

pub fn own(row: &EmulatedDeviceConfig, hardware: &Hardware) -> Option<OwnRow> {
    let (name, at) = match &hardware.interrupt_controller {
        InterruptController::Aia { aplic, .. } => ("an APLIC in the host kernel", *aplic),
        _ => ("an emulated PLIC", plic(hardware)),
    };
    let here = row.base_gpa == at;
    match row.emu_type {
        EmuDeviceType::InterruptController if here => Some(OwnRow::Has(name.into())),
        EmuDeviceType::InterruptController | EmuDeviceType::PPPTGlobal => {
            Some(OwnRow::Controller { here })
        }
        _ => None,
    }
}

fn plic(hardware: &Hardware) -> GuestPhysAddr {
    let window = hardware.device(Model::Plic).and_then(|plic| plic.window.mmio());
    window.map_or(GuestPhysAddr(super::PLIC), |range| range.first())
}
