//! The x86_64 board: a PC without its past. Serial port, keyboard controller and clock stand where
//! a PC has them; timers, interrupt controllers and APICs are the host kernel's.
//!
//! ```text
//! 0x1_0000_0000 and up   RAM, what does not fit below the hole
//! 0xfff0_0000            firmware's place: no firmware, kept free for the host kernel's helpers
//! 0xfef0_0000            doorbell for hypercalls, where it is asked for
//! 0xfee0_0000            local APICs      \
//! 0xfec0_0000            IOAPIC            } in the host kernel
//! 0xfeb0_0000            virtio devices over MMIO, 512 bytes each
//! 0xe100_0000            PCI devices' registers, 16 MiB \ where there are
//! 0xe000_0000            PCI configuration, 1 MiB      / such devices
//! 0xd000_0000            devices of a program's own kinds, 4 KiB or more each
//! 0xc000_0000            the hole: devices
//! 0x0010_0000            RAM
//! 0x000f_fff0            reset vector: resets the machine
//! 0x000e_0000            ACPI tables, told as reserved
//! 0x0009_fc00            where a PC has its display; not told as RAM
//! 0x0000_0000            RAM
//! ```

mod acpi;
mod requests;
mod reset_vector;

use std::ops::Range;

use reset_vector::RESET_VECTOR;

use super::{
    Error,
    board::{self, Board, Hardware, MmioRoom, OwnRow, PciRoom, Told},
    memory,
    parts::{DevicePlan, Firmware, Model, RamArea, Window},
};
use crate::{
    addr::{AddrRange, DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange, Port, PortRange},
    boot::{FirmwareInfo, MemKind, MemMapEntry},
    devices::debug_exit,
    hal::InterruptController,
    virtio::mmio,
    vm::config::{CpuConfig, DevicesConfig, EmulatedDeviceConfig, MemoryConfig},
};

/// Where RAM ends below 4 GiB, and where it goes on.
const HOLE: u64 = 0xc000_0000;
const HIGH_RAM: u64 = 0x1_0000_0000;

/// From here to 1 MiB is no RAM as far as a kernel is told: a PC's extended BIOS data area, display
/// and firmware.
const LEGACY_HOLE: u64 = 0x9_fc00;
/// The part of it that ACPI tables are in (ACPI 6.5, 5.2.5.1: where the RSDP is looked for).
const TABLES: u64 = 0xe_0000;
const ONE_MIB: u64 = 0x10_0000;

const COM1: Port = Port(0x3f8);
const COM1_IRQ: u32 = 4;
const KEYBOARD_IRQ: u32 = 1;
/// Where test kernels expect `isa-debug-exit`.
const DEBUG_EXIT: [Port; 2] = [Port(0xf4), Port(0x501)];

const CUSTOM: GuestPhysAddr = GuestPhysAddr(0xd000_0000);

const PCI_ECAM: u64 = 0xe000_0000;
const PCI_MEMORY: u64 = 0xe100_0000;

/// The IOAPIC's inputs that no ISA device has, and then those of ISA devices that this board lacks.
const VIRTIO: u64 = 0xfeb0_0000;
const VIRTIO_LINES: [Range<u32>; 4] = [16..24, 5..8, 9..16, 3..4];

const IOAPIC: u64 = 0xfec0_0000;
const LOCAL_APIC: u64 = 0xfee0_0000;
/// Behind what processors take for messages to APICs.
const DOORBELL: u64 = 0xfef0_0000;

/// What the host kernel answers itself; no window of ours may be there.
const HOST_KERNEL_PORTS: [(&str, u16, u16); 5] = [
    ("pic-1", 0x20, 2),
    ("pit", 0x40, 4),
    ("system-control", 0x61, 1),
    ("pic-2", 0xa0, 2),
    ("elcr", 0x4d0, 2),
];
const HOST_KERNEL_MMIO: [(&str, u64, u64); 3] = [
    ("ioapic", IOAPIC, 0x1000),
    ("local-apic", LOCAL_APIC, 0x1000),
    ("host-reserved", 0xfff0_0000, 0x10_0000),
];

/// The board's own devices: name, model, first port, how many, interrupt.
const PORT_DEVICES: [(&str, Model, u16, u16, Option<u32>); 10] = [
    ("i8042-data", Model::I8042Data, 0x60, 1, Some(KEYBOARD_IRQ)),
    ("i8042-command", Model::I8042Command, 0x64, 1, None),
    ("cmos", Model::Cmos, 0x70, 2, None),
    ("post-code", Model::PostCode, 0x80, 1, None),
    ("debug-console", Model::DebugConsole, 0xe9, 1, None),
    ("com1", Model::Uart16550, COM1.0, 8, Some(COM1_IRQ)),
    ("pvpanic", Model::Pvpanic, 0x505, 1, None),
    ("acpi-sleep", Model::AcpiSleep, 0x600, 2, None),
    ("pm1-control", Model::Pm1Control, 0x604, 2, None),
    ("reset-control", Model::ResetControl, 0xcf9, 1, None),
];

/// The board itself; all hosts of the architecture have the same.
pub struct Pc;

impl Board for Pc {
    /// What fits below the hole, the rest above.
    fn ram(&self, asked: &MemoryConfig) -> Result<Vec<RamArea>, Error> {
        let (bytes, lazy) = match asked {
            MemoryConfig::Regions(regions) => return memory::areas(regions),
            MemoryConfig::Size(bytes) => (*bytes, false),
            MemoryConfig::LazySize(bytes) => (*bytes, true),
            MemoryConfig::OfDeviceTree { lazy } => (MemoryConfig::DEFAULT, *lazy),
        };
        // The whole amount, in one piece, says whether it can be had at all.
        memory::piece(HIGH_RAM, bytes, lazy)?;
        let low = memory::piece(0, bytes.min(HOLE), lazy)?;
        match bytes.saturating_sub(HOLE) {
            0 => Ok(vec![low]),
            high => Ok(vec![low, memory::piece(HIGH_RAM, high, lazy)?]),
        }
    }

    /// APIC ids are the vCPUs' numbers.
    fn cpus(&self, asked: &CpuConfig, notes: &mut Vec<String>) -> CpuConfig {
        let mut cpus = asked.clone();
        if cpus.affinities().any(|(id, _, phys_id)| id != phys_id) {
            notes.push(format!(
                "phys_cpu_ids {:x?}: on x86_64 the APIC ids are the vCPUs' numbers, 0 to {}",
                cpus.phys_cpu_ids,
                cpus.num - 1
            ));
        }
        cpus.phys_cpu_ids.clear();
        cpus
    }

    fn hardware(
        &self,
        _cpus: usize,
        asked: &DevicesConfig,
        _notes: &mut Vec<String>,
    ) -> Result<Hardware, Error> {
        let devices = devices(asked)?;
        // POST codes may be late: nobody waits for them. Text may not: a guest that prints and
        // then waits without an exit would leave its last words behind.
        let post_codes = devices.iter().filter(|device| device.model == Model::PostCode);
        let late_writes = post_codes.filter_map(|device| device.window.ports()).collect();
        Ok(Hardware { devices, interrupt_controller: InterruptController::Pc, late_writes })
    }

    fn custom(&self) -> GuestPhysAddr {
        CUSTOM
    }

    fn pci(&self) -> PciRoom {
        PciRoom { ecam: PCI_ECAM, memory: PCI_MEMORY }
    }

    fn virtio_mmio(&self) -> MmioRoom {
        MmioRoom { first: VIRTIO, stride: mmio::SIZE, lines: VIRTIO_LINES.to_vec() }
    }

    fn row(&self, row: &EmulatedDeviceConfig, _hardware: &Hardware) -> Option<OwnRow> {
        requests::own(row)
    }

    fn address_bits(&self) -> u8 {
        52
    }

    /// The memory map, and ACPI where there is RAM to put it.
    fn firmware(&self, told: &Told<'_>, notes: &mut Vec<String>) -> Result<Firmware, Error> {
        firmware(told.cpus.num, told.ram, &told.hardware.devices, notes)
    }
}

/// All devices, in the order of their addresses.
fn devices(asked: &DevicesConfig) -> Result<Vec<DevicePlan>, Error> {
    let mut devices = Vec::new();
    let mut add = |name: &str, model, window, irq| {
        devices.push(DevicePlan { name: name.to_owned(), model, window, irq, compatible: None });
    };
    for (name, model, first, count, irq) in PORT_DEVICES {
        add(name, model, Window::Port(ports(name, first, count)?), irq);
    }
    for port in asked.debug_exit_ports.as_deref().unwrap_or(&DEBUG_EXIT) {
        let window = ports("debug-exit", port.0, debug_exit::PORTS)?;
        add("debug-exit", Model::DebugExit, Window::Port(window), None);
    }
    for (name, first, count) in HOST_KERNEL_PORTS {
        add(name, Model::HostKernel, Window::Port(ports(name, first, count)?), None);
    }
    for (name, first, size) in HOST_KERNEL_MMIO {
        add(name, Model::HostKernel, Window::Mmio(memory::window(first, size)?), None);
    }
    devices.extend(board::doorbell(asked, DOORBELL)?);
    devices.sort_by_key(|device| device.window.key());
    Ok(devices)
}

/// The first port of the device of this model.
fn port(devices: &[DevicePlan], model: Model) -> Option<u16> {
    devices.iter().find(|device| device.model == model).and_then(|device| {
        let ports = device.window.ports()?;
        Some(ports.first().0)
    })
}

fn ports(name: &str, first: u16, count: u16) -> Result<PortRange, Error> {
    PortRange::new(Port(first), count).ok_or_else(|| Error::Device {
        name: name.to_owned(),
        at: GuestPhysAddr(first.into()),
        problem: format!("its {count} ports must end at 0xffff or below"),
    })
}

fn firmware(
    cpus: usize,
    ram: &[GuestPhysAddrRange],
    devices: &[DevicePlan],
    notes: &mut Vec<String>,
) -> Result<Firmware, Error> {
    let up_to = |first, end| AddrRange::inclusive(GuestPhysAddr(first), GuestPhysAddr(end - 1));
    let is_ram = |range: &GuestPhysAddrRange| {
        ram.iter().any(|ram| ram.contains(range.first()) && ram.contains(range.last()))
    };
    let mut memory_map: Vec<_> = ram.iter().flat_map(told_as_ram).collect();
    let mut tables = Vec::new();
    match (up_to(TABLES, ONE_MIB).filter(is_ram), up_to(TABLES, RESET_VECTOR)) {
        (Some(whole), Some(place)) => {
            tables = acpi::tables(cpus, devices, place)?;
            tables.extend(reset_vector::code(devices));
            memory_map.push(MemMapEntry { range: whole, kind: MemKind::Reserved });
        }
        _ => notes.push(format!(
            "no ACPI tables: the guest has no memory at {TABLES:#x}-{:#x} to put them in",
            ONE_MIB - 1
        )),
    }
    // Else Linux does not trust the table that tells where it is.
    let ecam = devices.iter().find(|device| device.model == Model::PciEcam);
    let ecam = ecam.and_then(|device| device.window.mmio());
    memory_map.extend(ecam.map(|range| MemMapEntry { range, kind: MemKind::Reserved }));
    memory_map.sort_by_key(|entry| entry.range.first());
    let rsdp = tables.first().map(|table| table.gpa);
    Ok(Firmware { info: FirmwareInfo { rsdp, memory_map }, tables })
}

/// The parts of an area below and above the legacy hole.
fn told_as_ram(area: &GuestPhysAddrRange) -> Vec<MemMapEntry> {
    let (first, last) = (area.first().0, area.last().0);
    [(first, last.min(LEGACY_HOLE - 1)), (first.max(ONE_MIB), last)]
        .into_iter()
        .filter_map(|(first, last)| AddrRange::inclusive(GuestPhysAddr(first), GuestPhysAddr(last)))
        .map(|range| MemMapEntry { range, kind: MemKind::Ram })
        .collect()
}

#[cfg(test)]
mod tests;
