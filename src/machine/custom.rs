//! Devices of a program's own kinds on a board: where each stands, and how it comes to be.

use std::sync::Arc;

use super::{
    Error,
    board::{Board, Hardware},
    parts::{DevicePlan, Model, Window},
};
use crate::{
    addr::GuestPhysAddrRange,
    devices::{
        IrqLine,
        clock::Time,
        custom::{CustomDevice, MakeError, PartsBut},
    },
    virtio::Surroundings,
    vm::config::CustomConfig,
};

/// Windows that the board chooses begin at multiples of it: a page of the smallest size.
const PAGE: u64 = 0x1000;

/// Finds a place for each device.
///
/// # Errors
/// A place that cannot be, no room, no interrupt left, a name that a device of the board's has.
pub fn place(
    board: &dyn Board,
    hardware: &mut Hardware,
    asked: &[CustomConfig],
) -> Result<(), Error> {
    for config in asked {
        let plan = one(board, hardware, config).map_err(|problem| Error::Custom {
            name: config.name.clone(),
            at: config.at.clone(),
            problem,
        })?;
        hardware.devices.push(plan);
    }
    hardware.devices.sort_by_key(|device| device.window.key());
    Ok(())
}

fn one(
    board: &dyn Board,
    hardware: &Hardware,
    config: &CustomConfig,
) -> Result<DevicePlan, String> {
    if hardware.devices.iter().any(|device| device.name == config.name) {
        return Err("a device of the board's has this name; write another".to_owned());
    }
    let about = config.recipe.about;
    let window = match config.place {
        Some(first) => GuestPhysAddrRange::new(first, about.size)
            .ok_or_else(|| format!("its {:#x} bytes at {first} end above 2^64", about.size)),
        None => {
            let stride = about.size.max(PAGE).next_multiple_of(PAGE);
            hardware
                .free_window(board.custom().0, stride, about.size)
                .ok_or_else(|| "this board has no more room; say where with at = …".to_owned())
        }
    };
    let irq = match config.irq {
        _ if !about.has_interrupt => None,
        Some(irq) => Some(line(hardware, irq)?),
        None => {
            let free = hardware.free_line(&board.virtio_mmio());
            Some(free.ok_or("this board has no interrupt left; use fewer devices")?)
        }
    };
    Ok(DevicePlan {
        name: config.name.clone(),
        model: Model::Custom(about),
        window: Window::Mmio(window?),
        irq,
        compatible: about.compatible.map(str::to_owned),
    })
}

/// A line that is asked for.
///
/// # Errors
/// The board has none such, or another device has it.
pub(super) fn line(hardware: &Hardware, irq: u32) -> Result<u32, String> {
    let lines = hardware.lines();
    if !lines.contains(&irq) {
        return Err(format!("its irq is {} to {}", lines.start, lines.end - 1));
    }
    match hardware.devices.iter().find(|device| device.irq == Some(irq)) {
        Some(owner) => Err(format!("interrupt {irq} is that of {}", owner.name)),
        None => Ok(irq),
    }
}

/// Makes the device that is planned, which is one of those that are asked for, in its window.
///
/// # Errors
/// What the device says, and a host that has no timer left.
pub fn make(
    asked: &[CustomConfig],
    device: &DevicePlan,
    range: GuestPhysAddrRange,
    line: IrqLine,
    surroundings: &Surroundings,
    time: &Time,
) -> Result<Arc<dyn CustomDevice>, Error> {
    let config = asked.iter().find(|config| config.name == device.name);
    let DevicePlan { name, model, window, .. } = device.clone();
    let config = config.ok_or(Error::Misplaced { name, model, window })?;
    let (name, memory, time) = (config.name.clone(), surroundings.memory.clone(), time.clone());
    config.recipe.make(range, PartsBut { name, line, memory, time }).map_err(|error| match error {
        MakeError::Timer(error) => Error::EventFd(error),
        MakeError::Refused(problem) => {
            Error::Custom { name: config.name.clone(), at: config.at.clone(), problem }
        }
    })
}

#[cfg(test)]
mod tests;
