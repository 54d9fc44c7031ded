//! The riscv64 board: what QEMU's `virt` has, where it has it, so that kernels for that run here.
//! The interrupt controller is the host kernel's where that has one (AIA), else ours (PLIC).
//!
//! ```text
//! 0x8000_0000 and up   RAM
//! 0x4000_0000          PCI devices' registers, 16 MiB \ where there are
//! 0x3000_0000          PCI configuration, 1 MiB      / such devices
//! 0x2800_0000          IMSICs, 4 KiB a hart   \ in the host kernel,
//! 0x0d00_0000          APLIC                  / instead of the PLIC
//! 0x1000_1000          virtio devices over MMIO, 4 KiB each
//! 0x1000_0000          16550, the serial port
//! 0x0c00_0000          PLIC
//! 0x0400_0000          devices of a program's own kinds, 4 KiB or more each
//! 0x0010_3000          doorbell for hypercalls, where it is asked for
//! 0x0010_2000          pvpanic
//! 0x0010_1000          Goldfish RTC
//! 0x0010_0000          sifive_test: power off, reset, end with a status
//! ```

mod requests;
mod tree;

use std::ops::Range;

use super::{
    Error,
    board::{self, Board, Hardware, MmioRoom, OwnRow, PciRoom, Told},
    fdt::Tree,
    memory,
    parts::{DevicePlan, Model, RamArea, Window},
};
use crate::{
    addr::{GuestPhysAddr, SysRegAddrRange},
    devices::{plic, seed, sifive_test},
    hal::{InterruptController, Riscv64Platform},
    vm::config::{CpuConfig, DevicesConfig, EmulatedDeviceConfig, MemoryConfig},
};

const RAM: u64 = 0x8000_0000;

const CUSTOM: GuestPhysAddr = GuestPhysAddr(0x0400_0000);

const PCI_ECAM: u64 = 0x3000_0000;
const PCI_MEMORY: u64 = 0x4000_0000;

const DOORBELL: u64 = 0x10_3000;
const PLIC: u64 = 0x0c00_0000;
const APLIC: u64 = 0x0d00_0000;
/// The first 8 have the interrupts that they have on QEMU's board.
const VIRTIO: u64 = 0x1000_1000;
const VIRTIO_LINES: Range<u32> = 1..9;
const MORE_VIRTIO_LINES: Range<u32> = 64..plic::SOURCES + 1;
const APLIC_SIZE: u64 = 0x8000;
const IMSICS: u64 = 0x2800_0000;
const IMSIC_SIZE: u64 = 0x1000;
/// As many as our PLIC has.
const APLIC_SOURCES: u32 = plic::SOURCES;

/// The board's own devices: name, model, first address, size in bytes, interrupt.
const DEVICES: [(&str, Model, u64, u64, Option<u32>); 4] = [
    ("test", Model::SifiveTest, 0x10_0000, sifive_test::SIZE, None),
    ("rtc", Model::GoldfishRtc, 0x10_1000, 0x1000, Some(11)),
    ("pvpanic", Model::Pvpanic, 0x10_2000, 2, None),
    ("serial", Model::Uart16550, 0x1000_0000, 0x100, Some(10)),
];

/// The board on a host like this.
pub struct Virt<'a>(pub &'a Riscv64Platform);

impl Board for Virt<'_> {
    fn ram(&self, asked: &MemoryConfig) -> Result<Vec<RamArea>, Error> {
        memory::from(RAM, self.address_bits(), asked)
    }

    /// Hart ids are the vCPUs' numbers.
    fn cpus(&self, asked: &CpuConfig, notes: &mut Vec<String>) -> CpuConfig {
        let mut cpus = asked.clone();
        if cpus.affinities().any(|(id, _, phys_id)| id != phys_id) {
            notes.push(format!(
                "phys_cpu_ids {:x?}: on riscv64 the hart ids are the vCPUs' numbers, 0 to {}",
                cpus.phys_cpu_ids,
                cpus.num - 1
            ));
        }
        cpus.phys_cpu_ids.clear();
        cpus
    }

    fn hardware(
        &self,
        cpus: usize,
        asked: &DevicesConfig,
        notes: &mut Vec<String>,
    ) -> Result<Hardware, Error> {
        let mut devices = Vec::new();
        let mut add = |name: &str, model, window, irq| {
            devices.push(DevicePlan {
                name: name.to_owned(),
                model,
                window,
                irq,
                compatible: None,
            });
        };
        for (name, model, first, size, irq) in DEVICES {
            add(name, model, Window::Mmio(memory::window(first, size)?), irq);
        }
        let interrupt_controller = match self.0.aia {
            Some(aia) => {
                let imsics = memory::window(IMSICS, IMSIC_SIZE.saturating_mul(cpus as u64))?;
                let aplic = memory::window(APLIC, APLIC_SIZE)?;
                add("aplic", Model::HostKernel, Window::Mmio(aplic), None);
                add("imsics", Model::HostKernel, Window::Mmio(imsics), None);
                InterruptController::Aia {
                    aplic: GuestPhysAddr(APLIC),
                    imsics: GuestPhysAddr(IMSICS),
                    sources: APLIC_SOURCES,
                    ids: aia.ids,
                }
            }
            None if cpus > plic::MAX_CONTEXTS => {
                let (max, controller) = (plic::MAX_CONTEXTS, "a PLIC");
                return Err(Error::TooManyCpus { cpus, max, controller });
            }
            None => {
                let window = Window::Mmio(memory::window(PLIC, plic::size(cpus))?);
                add("plic", Model::Plic, window, None);
                InterruptController::Board
            }
        };
        if self.0.extensions.contains(&"zkr") {
            add("seed", Model::Seed, Window::SysReg(SysRegAddrRange::at(seed::SEED)), None);
        }
        devices.extend(board::doorbell(asked, DOORBELL)?);
        devices.sort_by_key(|device| device.window.key());
        if asked.debug_exit_ports.as_ref().is_some_and(|ports| !ports.is_empty()) {
            notes.push("debug_exit is a PC's: this board has no ports, but sifive_test".into());
        }
        Ok(Hardware { devices, interrupt_controller, late_writes: Vec::new() })
    }

    fn custom(&self) -> GuestPhysAddr {
        CUSTOM
    }

    fn pci(&self) -> PciRoom {
        PciRoom { ecam: PCI_ECAM, memory: PCI_MEMORY }
    }

    fn virtio_mmio(&self) -> MmioRoom {
        let lines = vec![VIRTIO_LINES, MORE_VIRTIO_LINES];
        MmioRoom { first: VIRTIO, stride: 0x1000, lines }
    }

    fn row(&self, row: &EmulatedDeviceConfig, hardware: &Hardware) -> Option<OwnRow> {
        requests::own(row, hardware)
    }

    /// How many bits guest-physical addresses have: two more than the virtual addresses of the
    /// same page table format (The RISC-V Instruction Set Manual, volume II, `hgatp`).
    fn address_bits(&self) -> u8 {
        match self.0.mmu_type {
            Some("riscv,sv48") => 50,
            Some("riscv,sv57") => 59,
            _ => 41,
        }
    }

    fn device_tree(&self, told: &Told<'_>) -> Option<Tree> {
        Some(tree::tree(self.0, told))
    }
}

#[cfg(test)]
mod tests;
