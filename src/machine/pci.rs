//! PCI on a board: where its windows are, and how kernels are told of them.

use super::{
    Error,
    board::{Hardware, PciRoom, Told},
    fdt::Node,
    memory,
    parts::{DevicePlan, Model, Window},
};
use crate::{
    addr::DeviceAddrRange,
    pci::{ECAM_SIZE, SLOTS},
};

/// How many bytes the aperture has: room to move in for guests that place BARs by themselves.
const MEMORY_SIZE: u64 = 16 << 20;

/// Slot 0 is where boards have their host bridge, which nobody misses.
pub const FIRST_SLOT: u8 = 1;
/// How many devices there is room for.
pub const DEVICES: usize = (SLOTS - FIRST_SLOT) as usize;

/// The two windows.
///
/// # Errors
/// The board has no such place.
pub fn windows(room: &PciRoom) -> Result<[DevicePlan; 2], Error> {
    let plan = |name: &str, model, first, size| -> Result<DevicePlan, Error> {
        let window = Window::Mmio(memory::window(first, size)?);
        Ok(DevicePlan { name: name.to_owned(), model, window, irq: None, compatible: None })
    };
    Ok([
        plan("pci-ecam", Model::PciEcam, room.ecam, ECAM_SIZE)?,
        plan("pci-memory", Model::PciMemory, room.memory, MEMORY_SIZE)?,
    ])
}

/// `pci-host-ecam-generic` (`host-generic-pci.yaml`), without how its messages are told of.
pub fn node(told: &Told<'_>) -> Option<Node> {
    /// `phys.hi` of an address: in 32-bit memory, not prefetchable (IEEE 1275 PCI binding, 2.2.1.1).
    const MEMORY: u32 = 0x0200_0000;
    let ecam = told.hardware.device(Model::PciEcam)?.window.mmio()?;
    let memory = told.hardware.device(Model::PciMemory)?.window.mmio()?;
    let (first, size) = (memory.first().0, memory.len());
    let halves = |number: u64| [(number >> 32) as u32, number as u32];
    let ranges = [&[MEMORY][..], &halves(first), &halves(first), &halves(size)].concat();
    let node = Node::at("pcie", ecam.first().0)
        .text("compatible", "pci-host-ecam-generic")
        .text("device_type", "pci")
        .reg(&[ecam])
        .cell("#address-cells", 3)
        .cell("#size-cells", 2)
        .cells("bus-range", &[0, 0])
        .cells("ranges", &ranges)
        .cell("linux,pci-domain", 0)
        .flag("dma-coherent");
    Some(node)
}

/// Whether a kernel finds BARs where they are to stay.
pub fn has_placed_bars(hardware: &Hardware) -> bool {
    hardware.device(Model::PciEcam).is_some()
}

#[cfg(test)]
mod tests;
