//! Devices that are another process on a board: where each stands, and how it comes to be.

use std::{fmt, sync::Arc};

use serde::Serialize;

use super::{
    Error,
    board::{Board, Hardware},
    custom,
    parts::{DevicePlan, Model, Window},
    pci::{self, FIRST_SLOT},
    virtio::VirtioPlan,
};
use crate::{
    addr::{DeviceAddrRange, GuestPhysAddrRange},
    addrspace::AddrSpace,
    devices::IrqLine,
    hal::MsiSink,
    pci::{SLOTS, Slotted, requester_id},
    vfio_user::{FixedDevice, Link, ServedFunction, link},
    vm::config::{VfioUserConfig, VfioUserPlace},
};

/// Where in the aperture their BARs begin, behind those of all virtio devices that there may be.
const FIRST_BAR: u64 = 1 << 20;

/// A device that is another process as it will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VfioUserPlan {
    /// What is asked for.
    #[serde(flatten)]
    pub config: VfioUserConfig,
    /// Which slot of the PCI bus it is in, if it is on that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u8>,
}

impl fmt::Display for VfioUserPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VfioUserConfig { name, server, .. } = &self.config;
        let carrier = if self.slot.is_some() { "by pci" } else { "at fixed addresses" };
        write!(f, "{name}: {server}, {carrier}")
    }
}

impl VfioUserPlan {
    fn problem(&self, problem: impl Into<String>) -> Error {
        self.config.problem(problem)
    }

    fn link(&self) -> Result<Arc<Link>, Error> {
        let VfioUserConfig { name, server, kept, .. } = &self.config;
        link(kept, name, server).map_err(|problem| self.problem(problem))
    }
}

impl VfioUserConfig {
    fn problem(&self, problem: impl Into<String>) -> Error {
        Error::VfioUser { name: self.name.clone(), at: self.at.clone(), problem: problem.into() }
    }
}

/// Finds a place for each device: that which it is asked for at, or a slot behind those of `virtio`.
///
/// # Errors
/// A place that cannot be, a board without PCI, a name that another device has.
pub fn place(
    board: &dyn Board,
    hardware: &mut Hardware,
    virtio: &[VirtioPlan],
    asked: &[VfioUserConfig],
) -> Result<Vec<VfioUserPlan>, Error> {
    let taken = virtio.iter().filter(|plan| plan.slot.is_some()).count() as u8;
    let mut slots = FIRST_SLOT + taken..SLOTS;
    let mut plans = Vec::new();
    for config in asked {
        let is_taken = hardware.devices.iter().any(|device| device.name == config.name)
            || virtio.iter().any(|plan| plan.name == config.name);
        if is_taken {
            return Err(config.problem("another device has this name; write another"));
        }
        let slot = match &config.place {
            Some(place) => {
                let plan = fixed(hardware, config, place)?;
                hardware.devices.push(plan);
                None
            }
            None if !hardware.takes_messages() => {
                return Err(config.problem(format!(
                    "PCI devices need interrupts that are messages, and {} takes none; write addr = …",
                    hardware.interrupt_controller
                )));
            }
            None => {
                let slot = slots.next().ok_or_else(|| {
                    let room = pci::DEVICES;
                    config.problem(format!("there is room for {room} PCI devices; use fewer"))
                });
                Some(slot?)
            }
        };
        plans.push(VfioUserPlan { config: config.clone(), slot });
    }
    if taken == 0 && plans.iter().any(|plan| plan.slot.is_some()) {
        hardware.devices.extend(pci::windows(&board.pci())?);
    }
    hardware.devices.sort_by_key(|device| device.window.key());
    Ok(plans)
}

fn fixed(
    hardware: &Hardware,
    config: &VfioUserConfig,
    place: &VfioUserPlace,
) -> Result<DevicePlan, Error> {
    let VfioUserPlace { addr, size, irq, compatible } = place;
    let window = GuestPhysAddrRange::new(*addr, *size)
        .ok_or_else(|| config.problem(format!("its {size:#x} bytes at {addr} end above 2^64")))?;
    let irq = irq.map(|irq| custom::line(hardware, irq)).transpose();
    Ok(DevicePlan {
        name: config.name.clone(),
        model: Model::VfioUser,
        window: Window::Mmio(window),
        irq: irq.map_err(|problem| config.problem(problem))?,
        compatible: compatible.clone(),
    })
}

/// The names of those on PCI.
pub fn on_pci(plans: &[VfioUserPlan]) -> impl Iterator<Item = &str> {
    plans.iter().filter(|plan| plan.slot.is_some()).map(|plan| plan.config.name.as_str())
}

/// Makes the device that is planned, which is one of `plans`, in its window.
///
/// # Errors
/// What its server says or does not.
pub fn make_fixed(
    plans: &[VfioUserPlan],
    device: &DevicePlan,
    range: GuestPhysAddrRange,
    line: Option<IrqLine>,
    memory: Arc<AddrSpace>,
) -> Result<Arc<FixedDevice>, Error> {
    let plan = plans.iter().find(|plan| plan.config.name == device.name);
    let DevicePlan { name, model, window, .. } = device.clone();
    let plan = plan.ok_or(Error::Misplaced { name, model, window })?;
    let made = FixedDevice::new(&plan.config.name, range, line, memory, plan.link()?);
    made.map(Arc::new).map_err(|problem| plan.problem(problem))
}

/// Makes those on PCI, by their slots, with BARs in `aperture`; `messages` is where those of a device
/// go, by its name.
///
/// # Errors
/// What their servers say or do not; no room for their BARs.
pub fn make_pci(
    plans: &[VfioUserPlan],
    aperture: GuestPhysAddrRange,
    memory: &Arc<AddrSpace>,
    messages: impl Fn(&str) -> Arc<dyn MsiSink>,
) -> Result<Vec<Slotted>, Error> {
    let mut functions: Vec<Slotted> = Vec::new();
    let mut next = aperture.first().0 + FIRST_BAR;
    let mut room = |size: u64| {
        let first = next.checked_next_multiple_of(size)?;
        let last = first.checked_add(size - 1)?;
        (last <= aperture.last().0).then(|| {
            next = last + 1;
            first
        })
    };
    for plan in plans {
        let Some(slot) = plan.slot else { continue };
        let name = &plan.config.name;
        let (link, sink) = (plan.link()?, messages(name));
        let made =
            ServedFunction::new(name, link, memory.clone(), sink, requester_id(slot), &mut room);
        functions.push((slot, Box::new(made.map_err(|problem| plan.problem(problem))?)));
    }
    Ok(functions)
}

#[cfg(test)]
mod tests;
