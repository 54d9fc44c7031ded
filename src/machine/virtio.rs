//! virtio devices on a board: which transport carries each, and where that stands.

mod in_memory;

use std::{ops::Range, sync::Arc};

pub use in_memory::place as place_in_memory;
use serde::Serialize;

use super::{
    Error,
    board::{Board, Hardware},
    memory,
    parts::{DevicePlan, Model, Window},
    pci,
};
use crate::{
    addr::{DeviceAddrRange, GuestPhysAddrRange},
    addrspace::AddrSpace,
    devices::IrqLine,
    hal::{Doorbells, MsiSink},
    pci::{Function, SLOTS, Slotted},
    virtio::{
        DeviceConfig, Surroundings, TransportKind, VirtioDevice,
        mmio::{self, MmioTransport},
        pci::{BAR_SIZE, PciTransport},
    },
    vm::config::{DevicesConfig, VirtioConfig, WrittenAt},
};

/// What ACPI calls a device over MMIO, as QEMU does and Linux knows it.
pub const MMIO_HID: &str = "LNRO0005";
/// What a device tree calls it (`virtio,mmio.yaml`).
pub const MMIO_COMPATIBLE: &str = "virtio,mmio";

/// A virtio device as it will be. Over MMIO its window is that of the [`DevicePlan`] of its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VirtioPlan {
    /// What messages call it.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub device: DeviceConfig,
    /// What carries it.
    pub transport: TransportKind,
    /// Where it is asked for.
    #[serde(skip)]
    pub at: WrittenAt,
    /// Which slot of the PCI bus it is in, if it is on that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u8>,
}

impl VirtioPlan {
    /// Makes the device.
    ///
    /// # Errors
    /// What the device says, with the place where it is asked for.
    pub fn make(&self, surroundings: &Surroundings) -> Result<Arc<dyn VirtioDevice>, Error> {
        self.device.make(&self.name, surroundings).map_err(|error| match error.is_of_host {
            true => Error::MakeVirtio(error),
            false => Error::Virtio {
                name: self.name.clone(),
                at: self.at.clone(),
                problem: error.problem,
            },
        })
    }
}

/// Decides on all virtio devices; those over MMIO become devices of the board's. Where the user has a
/// device tree of his own there is only what that has, which axvmm cannot know: then MMIO is usual.
///
/// # Errors
/// More devices than the board has room for, or places that cannot be.
pub fn place(
    board: &dyn Board,
    hardware: &mut Hardware,
    asked: &DevicesConfig,
    has_own_tree: bool,
) -> Result<Vec<VirtioPlan>, Error> {
    let mut plans = Vec::new();
    let mut slots = pci::FIRST_SLOT..SLOTS;
    for config in &asked.virtio {
        let VirtioConfig { name, device, .. } = config;
        let usual = match hardware.takes_messages() && !has_own_tree && config.place.is_none() {
            true => TransportKind::Pci,
            false => TransportKind::Mmio,
        };
        let transport = config.transport.unwrap_or(usual);
        let slot = match transport {
            TransportKind::Mmio => {
                let plan = over_mmio(board, hardware, config)?;
                hardware.devices.push(plan);
                None
            }
            TransportKind::Pci => Some(over_pci(hardware, config, &mut slots)?),
        };
        let (name, device, at) = (name.clone(), device.clone(), config.at.clone());
        plans.push(VirtioPlan { name, device, transport, slot, at });
    }
    if plans.iter().any(|plan| plan.slot.is_some()) {
        hardware.devices.extend(pci::windows(&board.pci())?);
    }
    hardware.devices.sort_by_key(|device| device.window.key());
    Ok(plans)
}

/// The slot that a device gets.
fn over_pci(
    hardware: &Hardware,
    config: &VirtioConfig,
    slots: &mut Range<u8>,
) -> Result<u8, Error> {
    let instead = "use transport = \"mmio\"";
    if !hardware.takes_messages() {
        let what = format!(
            "PCI devices need interrupts that are messages, and {} takes none; {instead}",
            hardware.interrupt_controller
        );
        return Err(problem(config, what));
    }
    if config.place.is_some() {
        return Err(problem(
            config,
            format!("a device with a place of its own has no PCI; {instead}"),
        ));
    }
    slots.next().ok_or_else(|| {
        let what = format!(
            "there is room for {} PCI devices; use fewer, or for some {instead}",
            pci::DEVICES
        );
        problem(config, what)
    })
}

fn over_mmio(
    board: &dyn Board,
    hardware: &Hardware,
    config: &VirtioConfig,
) -> Result<DevicePlan, Error> {
    let room = board.virtio_mmio();
    let (first, irq) = match config.place {
        Some((gpa, 0)) => (gpa.0, None),
        Some((gpa, irq)) => (gpa.0, Some(irq)),
        None => {
            let Some(irq) = hardware.free_line(&room) else {
                let count: usize = room.lines.iter().cloned().map(Iterator::count).sum();
                let what = format!(
                    "this board has interrupts for {count} virtio devices over MMIO; use fewer, or \
                     transport = \"pci\""
                );
                return Err(problem(config, what));
            };
            let window = hardware.free_window(room.first, room.stride, mmio::SIZE);
            let first = window.map_or(room.first, |window| window.first().0);
            (first, Some(irq))
        }
    };
    let window = Window::Mmio(memory::window(first, mmio::SIZE)?);
    let (name, model) = (config.name.clone(), Model::VirtioMmio);
    Ok(DevicePlan { name, model, window, irq, compatible: None })
}

fn problem(config: &VirtioConfig, problem: impl Into<String>) -> Error {
    Error::Virtio { name: config.name.clone(), at: config.at.clone(), problem: problem.into() }
}

/// Makes the device of a plan in its window.
///
/// # Errors
/// What the device says, and a host that has no file descriptor left.
pub fn make_mmio(
    plan: &VirtioPlan,
    window: GuestPhysAddrRange,
    line: IrqLine,
    surroundings: &Surroundings,
    doorbells: &dyn Doorbells,
) -> Result<Arc<MmioTransport>, Error> {
    let device = plan.make(surroundings)?;
    let memory: Arc<AddrSpace> = surroundings.memory.clone();
    let transport = MmioTransport::new(device, window, line, memory).map_err(Error::EventFd)?;
    transport.register_doorbells(doorbells)?;
    Ok(Arc::new(transport))
}

/// Makes all devices of a plan that are on PCI, by their slots; `messages` is where those of a device
/// go, by its name.
///
/// # Errors
/// What the devices say, and a host that has no file descriptor left.
pub fn make_pci(
    plans: &[VirtioPlan],
    aperture: GuestPhysAddrRange,
    surroundings: &Surroundings,
    messages: impl Fn(&str) -> Arc<dyn MsiSink>,
    doorbells: &Arc<dyn Doorbells>,
) -> Result<Vec<Slotted>, Error> {
    let mut functions: Vec<Slotted> = Vec::new();
    for plan in plans {
        let Some(slot) = plan.slot else { continue };
        let device = plan.make(surroundings)?;
        let memory = surroundings.memory.clone();
        let parts =
            PciTransport::function(device, slot, memory, messages(&plan.name), doorbells.clone());
        let bar = aperture.first().0 + u64::from(slot) * u64::from(BAR_SIZE);
        let function = Function::new(parts.map_err(Error::EventFd)?, bar as u32);
        let function = function.ok_or(Error::NoDevice { model: Model::PciEcam })?;
        functions.push((slot, Box::new(function)));
    }
    Ok(functions)
}

#[cfg(test)]
mod tests;
