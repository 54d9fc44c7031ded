//! What the aarch64 board says to AxVisor's rows.

use crate::{
    addr::{DeviceAddrRange, GuestPhysAddrRange},
    devices::EmuDeviceType,
    hal::InterruptController,
    machine::board::OwnRow,
    vm::config::EmulatedDeviceConfig,
};

pub fn own(row: &EmulatedDeviceConfig, gic: &InterruptController) -> Option<OwnRow> {
    let (distributor, redistributors, its) = match gic {
        InterruptController::GicV3 { distributor, redistributors, its, .. } => {
            (distributor, Some(redistributors), its.as_ref())
        }
        InterruptController::GicV2 { distributor, .. } => (distributor, None, None),
        _ => return None,
    };
    let begins_here = |part: &GuestPhysAddrRange| row.base_gpa == part.first();
    let controller = |part: Option<_>| OwnRow::Controller { here: part.is_some_and(begins_here) };
    Some(match row.emu_type {
        EmuDeviceType::InterruptController if begins_here(distributor) => {
            OwnRow::Has(gic.to_string())
        }
        EmuDeviceType::InterruptController => OwnRow::Controller { here: false },
        EmuDeviceType::GPPTDistributor => controller(Some(distributor)),
        EmuDeviceType::GPPTRedistributor => controller(redistributors),
        EmuDeviceType::GPPTITS => controller(its),
        _ => return None,
    })
}
