//! The aarch64 board: what QEMU's `virt` has, where it has it, so that kernels for that run here. The
//! interrupt controller and the timers are the host kernel's.
//!
//! ```text
//! 0x4000_0000 and up   RAM
//! 0x3f00_0000          PCI configuration, 1 MiB      \ where there are
//! 0x1000_0000          PCI devices' registers, 16 MiB / such devices
//! 0x0c00_0000          devices of a program's own kinds, 4 KiB or more each
//! 0x0a00_0000          virtio devices over MMIO, 512 bytes each
//! 0x090e_0000          doorbell for hypercalls, where it is asked for
//! 0x090d_0000          pvpanic
//! 0x0903_0000          PL061, whose line 3 is the power button
//! 0x0901_0000          PL031, the clock
//! 0x0900_0000          PL011, the serial port
//! 0x080a_0000          GICv3: redistributors, 128 KiB a vCPU  \
//! 0x0808_0000          GICv3: ITS                              |
//! 0x0801_0000          GICv2: CPU interface                     } in the host kernel
//! 0x0800_0000          distributor                            /
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
    addr::{GuestPhysAddr, GuestPhysAddrRange},
    hal::{Aarch64Platform, GicVersion, InterruptController},
    virtio::mmio,
    vm::config::{CpuConfig, DevicesConfig, EmulatedDeviceConfig, MemoryConfig},
};

const RAM: u64 = 0x4000_0000;

const GIC_DISTRIBUTOR: u64 = 0x0800_0000;
const GIC_DISTRIBUTOR_SIZE: u64 = 0x1_0000;
const GIC_CPU_INTERFACE: u64 = 0x0801_0000;
const GIC_CPU_INTERFACE_SIZE: u64 = 0x1_0000;
const GIC_ITS: u64 = 0x0808_0000;
const GIC_ITS_SIZE: u64 = 0x2_0000;
const GIC_REDISTRIBUTORS: u64 = 0x080a_0000;
const GIC_REDISTRIBUTOR_SIZE: u64 = 0x2_0000;
/// INTIDs 32 and up are shared by all vCPUs; a multiple of 32.
const GIC_LINES: u32 = 256;
const SPI: u32 = 32;

/// The most vCPUs that each can have: a GICv2's interface has 8 bits for them, and a GICv3's
/// redistributors end where the serial port begins.
const GICV2_CPUS: usize = 8;
const GICV3_CPUS: usize = ((UART - GIC_REDISTRIBUTORS) / GIC_REDISTRIBUTOR_SIZE) as usize;

/// 32 windows, with an interrupt each.
const VIRTIO: u64 = 0x0a00_0000;
const VIRTIO_LINES: Range<u32> = SPI + 16..SPI + 48;

const UART: u64 = 0x0900_0000;
const CUSTOM: GuestPhysAddr = GuestPhysAddr(0x0c00_0000);

const PCI_ECAM: u64 = 0x3f00_0000;
const PCI_MEMORY: u64 = 0x1000_0000;

const DOORBELL: u64 = 0x090e_0000;

/// The board's own devices: name, model, first address, size in bytes, interrupt.
const DEVICES: [(&str, Model, u64, u64, Option<u32>); 4] = [
    ("pl011", Model::Pl011, UART, 0x1000, Some(SPI + 1)),
    ("pl031", Model::Pl031, 0x0901_0000, 0x1000, Some(SPI + 2)),
    ("pl061", Model::Pl061, 0x0903_0000, 0x1000, Some(SPI + 7)),
    ("pvpanic", Model::Pvpanic, 0x090d_0000, 2, None),
];

/// The board on a host like this.
pub struct Virt<'a>(pub &'a Aarch64Platform);

impl Board for Virt<'_> {
    fn ram(&self, asked: &MemoryConfig) -> Result<Vec<RamArea>, Error> {
        memory::from(RAM, self.0.ipa_bits, asked)
    }

    /// Affinities are those that KVM gives the vCPUs.
    fn cpus(&self, asked: &CpuConfig, notes: &mut Vec<String>) -> CpuConfig {
        let mut cpus = asked.clone();
        cpus.phys_cpu_ids = (0..cpus.num).map(affinity).collect();
        if !asked.phys_cpu_ids.is_empty() && asked.phys_cpu_ids != cpus.phys_cpu_ids {
            notes.push(format!(
                "phys_cpu_ids {:x?}: on aarch64 the affinities (MPIDR_EL1) are {:x?}",
                asked.phys_cpu_ids, cpus.phys_cpu_ids
            ));
        }
        cpus
    }

    fn hardware(
        &self,
        cpus: usize,
        asked: &DevicesConfig,
        notes: &mut Vec<String>,
    ) -> Result<Hardware, Error> {
        let interrupt_controller = self.gic(cpus)?;
        let mut devices = DEVICES
            .iter()
            .map(|(name, model, first, size, irq)| {
                let window = Window::Mmio(memory::window(*first, *size)?);
                let name = (*name).to_owned();
                Ok(DevicePlan { name, model: *model, window, irq: *irq, compatible: None })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        devices.extend(board::doorbell(asked, DOORBELL)?);
        devices.extend(in_the_host_kernel(&interrupt_controller));
        devices.sort_by_key(|device| device.window.key());
        if asked.debug_exit_ports.as_ref().is_some_and(|ports| !ports.is_empty()) {
            notes.push("debug_exit is a PC's: this board has no ports".into());
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
        MmioRoom { first: VIRTIO, stride: mmio::SIZE, lines: vec![VIRTIO_LINES] }
    }

    fn row(&self, row: &EmulatedDeviceConfig, hardware: &Hardware) -> Option<OwnRow> {
        requests::own(row, &hardware.interrupt_controller)
    }

    fn address_bits(&self) -> u8 {
        self.0.ipa_bits
    }

    fn device_tree(&self, told: &Told<'_>) -> Option<Tree> {
        Some(tree::tree(self.0, told))
    }
}

impl Virt<'_> {
    fn gic(&self, cpus: usize) -> Result<InterruptController, Error> {
        let too_many = |max, controller| Error::TooManyCpus { cpus, max, controller };
        let distributor = memory::window(GIC_DISTRIBUTOR, GIC_DISTRIBUTOR_SIZE)?;
        match self.0.gic {
            GicVersion::V2 if cpus > GICV2_CPUS => Err(too_many(GICV2_CPUS, "a GICv2")),
            GicVersion::V2 => Ok(InterruptController::GicV2 {
                distributor,
                cpu_interface: memory::window(GIC_CPU_INTERFACE, GIC_CPU_INTERFACE_SIZE)?,
            }),
            GicVersion::V3 if cpus > GICV3_CPUS => Err(too_many(GICV3_CPUS, "this board's GICv3")),
            GicVersion::V3 => Ok(InterruptController::GicV3 {
                distributor,
                redistributors: memory::window(
                    GIC_REDISTRIBUTORS,
                    GIC_REDISTRIBUTOR_SIZE * cpus as u64,
                )?,
                its: match self.0.its {
                    true => Some(memory::window(GIC_ITS, GIC_ITS_SIZE)?),
                    false => None,
                },
                lines: GIC_LINES,
            }),
        }
    }
}

/// Where the host kernel answers; no window of ours may be there.
fn in_the_host_kernel(controller: &InterruptController) -> Vec<DevicePlan> {
    let windows: Vec<(&str, Option<GuestPhysAddrRange>)> = match controller {
        InterruptController::GicV2 { distributor, cpu_interface } => {
            vec![
                ("gic-distributor", Some(*distributor)),
                ("gic-cpu-interface", Some(*cpu_interface)),
            ]
        }
        InterruptController::GicV3 { distributor, redistributors, its, .. } => vec![
            ("gic-distributor", Some(*distributor)),
            ("gic-redistributors", Some(*redistributors)),
            ("gic-its", *its),
        ],
        _ => Vec::new(),
    };
    windows
        .into_iter()
        .filter_map(|(name, window)| {
            let window = Window::Mmio(window?);
            let (name, model) = (name.to_owned(), Model::HostKernel);
            Some(DevicePlan { name, model, window, irq: None, compatible: None })
        })
        .collect()
}

/// The affinity fields of the MPIDR_EL1 that KVM gives a vCPU: 16 of them share each Aff1, as many
/// as a GICv3 can reach with one write to ICC_SGI1R_EL1.
fn affinity(vcpu: usize) -> usize {
    vcpu & 0xf | (vcpu >> 4 & 0xff) << 8 | (vcpu >> 12 & 0xff) << 16
}

#[cfg(test)]
mod tests;
