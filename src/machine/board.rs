//! What the boards of the architectures have in common: the questions that a plan asks of one.

use std::ops::Range;

use super::{
    Error,
    fdt::Tree,
    memory,
    parts::{DevicePlan, Firmware, Model, RamArea, Window},
};
use crate::{
    addr::{GuestPhysAddr, GuestPhysAddrRange, PortRange},
    boot::Placed,
    devices::{doorbell, plic},
    hal::InterruptController,
    vm::config::{CpuConfig, DevicesConfig, EmulatedDeviceConfig, MemoryConfig},
};

/// An architecture's board: what stands where, and how a kernel is told.
///
/// Notes are what was asked for and is done in another way, each a sentence for the user.
pub trait Board {
    /// The guest's RAM: as much as is asked for, where the board has it, or just the areas that are;
    /// the usual amount where a device tree was to tell that does not.
    fn ram(&self, asked: &MemoryConfig) -> Result<Vec<RamArea>, Error>;

    /// The vCPUs with the architectural ids that they will have.
    fn cpus(&self, asked: &CpuConfig, notes: &mut Vec<String>) -> CpuConfig;

    /// What stands on the buses of a machine with so many vCPUs.
    fn hardware(
        &self,
        cpus: usize,
        asked: &DevicesConfig,
        notes: &mut Vec<String>,
    ) -> Result<Hardware, Error>;

    /// What it says to a row of a kind that only boards like it know; `None`: it is not its own.
    fn row(&self, row: &EmulatedDeviceConfig, hardware: &Hardware) -> Option<OwnRow>;

    /// Where it has room for virtio devices over MMIO.
    fn virtio_mmio(&self) -> MmioRoom;

    /// Where it has room for devices of a program's own kinds; their interrupt lines are those that
    /// [`Self::virtio_mmio`] has.
    fn custom(&self) -> GuestPhysAddr;

    /// Where it has room for PCI.
    fn pci(&self) -> PciRoom;

    /// How many bits a guest-physical address has.
    fn address_bits(&self) -> u8;

    /// The memory map that a kernel is told, and tables in memory, on boards that have such.
    fn firmware(&self, _told: &Told<'_>, _notes: &mut Vec<String>) -> Result<Firmware, Error> {
        Ok(Firmware::default())
    }

    /// What a kernel is told by, on boards that are described by a device tree.
    fn device_tree(&self, _told: &Told<'_>) -> Option<Tree> {
        None
    }
}

/// Where a board has room for PCI.
pub struct PciRoom {
    /// For configuration.
    pub ecam: u64,
    /// For BARs, below 4 GiB.
    pub memory: u64,
}

/// Where a board has room for devices over MMIO: windows one after the other, and interrupt lines
/// that are theirs.
pub struct MmioRoom {
    pub first: u64,
    /// From the beginning of one window to that of the next, in bytes.
    pub stride: u64,
    pub lines: Vec<Range<u32>>,
}

/// What a board says to a row of `emu_devices` of a kind of its own.
pub enum OwnRow {
    /// It has just that: what it is.
    Has(String),
    /// It has its interrupt controller, or no such part of it.
    Controller {
        /// Whether it begins where the row has it.
        here: bool,
    },
    /// It cannot be: why.
    Refuse(String),
}

/// So many places are looked at for a device.
const WINDOWS: u64 = 1 << 10;

/// What stands on a board beside vCPUs and RAM.
pub struct Hardware {
    /// Ascending by bus and address.
    pub devices: Vec<DevicePlan>,
    pub interrupt_controller: InterruptController,
    /// Writes to these may come late, as nobody waits for them.
    pub late_writes: Vec<PortRange>,
}

impl Hardware {
    /// The interrupt lines that devices may drive, as `irq_id` counts them.
    pub fn lines(&self) -> Range<u32> {
        match self.interrupt_controller {
            // Of an IOAPIC.
            InterruptController::Pc => 1..24,
            // The first 32 INTIDs are each vCPU's own; a GICv2 has 256 unless told otherwise.
            InterruptController::GicV2 { .. } => 32..256,
            InterruptController::GicV3 { lines, .. } => 32..lines,
            InterruptController::Aia { sources, .. } => 1..sources + 1,
            InterruptController::Board => 1..plic::SOURCES + 1,
        }
    }

    /// A line that no device drives yet.
    pub fn free_line(&self, room: &MmioRoom) -> Option<u32> {
        let is_taken = |irq: u32| self.devices.iter().any(|device| device.irq == Some(irq));
        room.lines.iter().cloned().flatten().find(|irq| !is_taken(*irq))
    }

    /// Room for `size` bytes at `first` or at a whole number of strides behind it.
    pub fn free_window(&self, first: u64, stride: u64, size: u64) -> Option<GuestPhysAddrRange> {
        let is_free = |window: &GuestPhysAddrRange| {
            let there = self.devices.iter().filter_map(|device| device.window.mmio());
            !there.into_iter().any(|other| other.overlaps(window))
        };
        let at = |n: u64| first.checked_add(n.checked_mul(stride)?).map(GuestPhysAddr);
        let windows = (0..WINDOWS).map_while(at).map_while(|at| GuestPhysAddrRange::new(at, size));
        windows.into_iter().find(is_free)
    }

    /// Whether interrupts can be messages.
    pub fn takes_messages(&self) -> bool {
        matches!(
            self.interrupt_controller,
            InterruptController::Pc
                | InterruptController::GicV3 { its: Some(_), .. }
                | InterruptController::Aia { .. }
        )
    }

    /// The device of this model, if the board has one: the first of several.
    pub fn device(&self, model: Model) -> Option<&DevicePlan> {
        self.devices.iter().find(|device| device.model == model)
    }

    /// Which of the devices is the guest's serial port.
    pub fn console_index(&self) -> Option<usize> {
        let is_serial =
            |device: &DevicePlan| matches!(device.model, Model::Pl011 | Model::Uart16550);
        self.devices.iter().position(is_serial)
    }
}

/// The doorbell for hypercalls at `first`, if the guest is to have one.
pub fn doorbell(asked: &DevicesConfig, first: u64) -> Result<Option<DevicePlan>, Error> {
    let doorbell = |window| DevicePlan {
        name: "hypercall-doorbell".to_owned(),
        model: Model::Doorbell,
        window: Window::Mmio(window),
        irq: None,
        compatible: None,
    };
    let wanted = asked.wants_hypercalls().then(|| memory::window(first, doorbell::SIZE));
    Ok(wanted.transpose()?.map(doorbell))
}

/// All that a kernel may be told of.
pub struct Told<'a> {
    pub cpus: &'a CpuConfig,
    pub ram: &'a [GuestPhysAddrRange],
    pub hardware: &'a Hardware,
    pub cmdline: Option<&'a str>,
    /// Where the initrd's bytes are.
    pub initrd: Option<Placed>,
}
