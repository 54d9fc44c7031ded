//! The device tree of the aarch64 board, by the bindings in Linux' `Documentation/devicetree`.
//!
//! Nodes have the names that they have on QEMU's `virt`: there are kernels that look for them by
//! path. All addresses and interrupts are the plan's.

use super::SPI;
use crate::{
    addr::{DeviceAddrRange, GuestPhysAddrRange},
    devices::doorbell,
    hal::{Aarch64Platform, InterruptController},
    machine::{
        POWER_BUTTON_LINE,
        board::Told,
        channels, describe,
        fdt::{Node, Tree},
        parts::{DevicePlan, Model, Window},
        pci, virtio,
    },
};

/// Who is pointed to.
const GIC: u32 = 1;
const CLOCK: u32 = 2;
const GPIO: u32 = 3;
const ITS: u32 = 4;

/// The clock that the PrimeCells are told to run by; a PL011's baud rates are derived from it.
const CLOCK_HZ: u32 = 24_000_000;

/// An interrupt specifier (`arm,gic-v3.yaml`): shared or private, number, flags.
const SHARED: u32 = 0;
const PRIVATE: u32 = 1;
const LEVEL_HIGH: u32 = 4;
const EDGE_RISING: u32 = 1;
/// INTIDs 16 to 31 are private to each vCPU.
const PPI: u32 = 16;

/// The timers' interrupts: secure, non-secure, virtual, hypervisor.
const TIMER: [u32; 4] = [29, 30, 27, 26];
const PMU: u32 = 23;

/// The key that the power button is (`KEY_POWER`).
const KEY_POWER: u32 = 116;

pub fn tree(host: &Aarch64Platform, told: &Told<'_>) -> Tree {
    let gic = &told.hardware.interrupt_controller;
    let private = Private { cpus: cpus_mask(gic, told.cpus.num) };
    let pmu = host.pmu.then(|| {
        Node::new("pmu")
            .text("compatible", "arm,armv8-pmuv3")
            .cells("interrupts", &private.interrupt(PMU))
    });
    let devices = told.hardware.devices.iter().filter_map(device);
    let own = [
        Node::new("psci")
            .texts("compatible", &["arm,psci-1.0", "arm,psci-0.2"])
            .text("method", "hvc"),
        cpus(told),
        Node::new("timer")
            .texts("compatible", &["arm,armv8-timer"])
            .cells("interrupts", &TIMER.map(|irq| private.interrupt(irq)).concat())
            .flag("always-on"),
        Node::new("apb-pclk")
            .text("compatible", "fixed-clock")
            .cell("#clock-cells", 0)
            .cell("clock-frequency", CLOCK_HZ)
            .text("clock-output-names", "clk24mhz")
            .cell("phandle", CLOCK),
    ];
    let children = own.into_iter().chain(pmu).chain(interrupt_controller(gic)).chain(devices);
    let children = children.chain(buttons(told)).chain(pci(told)).collect();
    let serial = told.hardware.device(Model::Pl011).and_then(node_name).unwrap_or_default();
    let compatible = ["axvmm,virt", "linux,dummy-virt"];
    let mut tree = describe::tree("axvmm virt", &compatible, told, &format!("/{serial}"), children);
    tree.root = tree.root.cell("interrupt-parent", GIC);
    tree
}

/// `cpus` (`arm/cpus.yaml`).
fn cpus(told: &Told<'_>) -> Node {
    let cpu = |(_, _, affinity): (usize, Option<usize>, usize)| {
        Node::at("cpu", affinity as u64)
            .text("device_type", "cpu")
            .text("compatible", "arm,armv8")
            .cell("reg", affinity as u32)
            .text("enable-method", "psci")
    };
    Node::new("cpus")
        .cell("#address-cells", 1)
        .cell("#size-cells", 0)
        .children(told.cpus.affinities().map(cpu))
}

/// How private interrupts are told of.
struct Private {
    /// GICv2: which CPUs have them.
    cpus: u32,
}

impl Private {
    fn interrupt(&self, intid: u32) -> [u32; 3] {
        [PRIVATE, intid - PPI, self.cpus << 8 | LEVEL_HIGH]
    }
}

fn cpus_mask(gic: &InterruptController, cpus: usize) -> u32 {
    match gic {
        InterruptController::GicV2 { .. } => (1 << cpus.min(8)) - 1,
        _ => 0,
    }
}

/// The GIC (`arm,gic-v3.yaml`, `arm,gic.yaml`).
fn interrupt_controller(gic: &InterruptController) -> Option<Node> {
    let node = |ranges: &[GuestPhysAddrRange], compatible| {
        let window = Window::Mmio(*ranges.first()?);
        let node = at("intc", &window)?
            .text("compatible", compatible)
            .reg(ranges)
            .flag("interrupt-controller")
            .cell("#interrupt-cells", 3)
            .cell("#address-cells", 2)
            .cell("#size-cells", 2)
            .flag("ranges")
            .cell("phandle", GIC);
        Some(node)
    };
    match gic {
        InterruptController::GicV2 { distributor, cpu_interface } => {
            node(&[*distributor, *cpu_interface], "arm,cortex-a15-gic")
        }
        InterruptController::GicV3 { distributor, redistributors, its, .. } => {
            let its = its.and_then(|its| {
                let node = at("its", &Window::Mmio(its))?
                    .text("compatible", "arm,gic-v3-its")
                    .reg(&[its])
                    .flag("msi-controller")
                    .cell("#msi-cells", 1)
                    .cell("phandle", ITS);
                Some(node)
            });
            Some(node(&[*distributor, *redistributors], "arm,gic-v3")?.children(its))
        }
        _ => None,
    }
}

/// A device that is ours.
fn device(device: &DevicePlan) -> Option<Node> {
    let Window::Mmio(range) = device.window else { return None };
    let node = Node::new(node_name(device)?).reg(&[range]);
    let node = match device.irq {
        Some(intid) => {
            let trigger = if device.model.is_edge_triggered() { EDGE_RISING } else { LEVEL_HIGH };
            node.cells("interrupts", &[SHARED, intid - SPI, trigger])
        }
        None => node,
    };
    let primecell = |node: Node, name| node.texts("compatible", &[name, "arm,primecell"]);
    Some(match device.model {
        Model::Pl011 => primecell(node, "arm,pl011")
            .cells("clocks", &[CLOCK, CLOCK])
            .texts("clock-names", &["uartclk", "apb_pclk"]),
        Model::Pl031 => {
            primecell(node, "arm,pl031").cell("clocks", CLOCK).text("clock-names", "apb_pclk")
        }
        Model::Pl061 => primecell(node, "arm,pl061")
            .cell("clocks", CLOCK)
            .text("clock-names", "apb_pclk")
            .flag("gpio-controller")
            .cell("#gpio-cells", 2)
            .cell("phandle", GPIO),
        Model::Pvpanic => node.text("compatible", "qemu,pvpanic-mmio"),
        Model::VirtioMmio => node.text("compatible", virtio::MMIO_COMPATIBLE).flag("dma-coherent"),
        Model::Doorbell => node.text("compatible", doorbell::COMPATIBLE),
        Model::IvcChannels | Model::IvcChannelsToRead => {
            node.text("compatible", channels::COMPATIBLE)
        }
        Model::Custom(_) | Model::VfioUser => {
            node.text("compatible", device.compatible.as_deref()?)
        }
        _ => return None,
    })
}

/// PCI, whose messages go to the ITS, each device by its requester id.
fn pci(told: &Told<'_>) -> Option<Node> {
    Some(pci::node(told)?.cells("msi-map", &[0, ITS, 0, 0x1_0000]))
}

/// The power button (`gpio-keys.yaml`).
fn buttons(told: &Told<'_>) -> Option<Node> {
    told.hardware.device(Model::Pl061)?;
    let button = Node::new("power-button")
        .text("label", "Power button")
        .cell("linux,code", KEY_POWER)
        .cells("gpios", &[GPIO, POWER_BUTTON_LINE.into(), 0]);
    Some(Node::new("gpio-keys").text("compatible", "gpio-keys").child(button))
}

fn node_name(device: &DevicePlan) -> Option<String> {
    Some(at(describe::node_name(device), &device.window)?.name)
}

fn at(name: &str, window: &Window) -> Option<Node> {
    Some(Node::at(name, window.mmio()?.first().0))
}
