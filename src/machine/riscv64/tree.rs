//! The device tree of the riscv64 board, by the bindings in Linux' `Documentation/devicetree`.
//!
//! Nodes have the names that they have on QEMU's `virt`: there are kernels that look for them by
//! path. All addresses and interrupts are the plan's.

use crate::{
    addr::{DeviceAddrRange, GuestPhysAddr},
    devices::{
        doorbell, plic,
        sifive_test::{PASS, RESET},
    },
    hal::{InterruptController, Riscv64Platform},
    machine::{
        board::Told,
        channels, describe,
        fdt::{Node, Tree},
        parts::{DevicePlan, Model},
        pci, virtio,
    },
};

/// Who is pointed to.
const CONTROLLER: u32 = 1;
const MESSAGES: u32 = 2;
const TEST: u32 = 3;
/// And each hart's own interrupt controller, from here on.
const FIRST_HART: u32 = 0x10;

/// The supervisor's external interrupt (The RISC-V Instruction Set Manual, volume II, `scause`).
const SUPERVISOR_EXTERNAL: u32 = 9;
/// An APLIC is also told how a source is triggered (`riscv,aplic.yaml`).
const LEVEL_HIGH: u32 = 4;
const EDGE_RISING: u32 = 1;

/// The clock that a 16550's baud rates are derived from.
const UART_HZ: u32 = 3_686_400;

pub fn tree(host: &Riscv64Platform, told: &Told<'_>) -> Tree {
    let controller = &told.hardware.interrupt_controller;
    let devices = told.hardware.devices.iter().filter_map(|it| device(it, controller, told));
    let soc = Node::new("soc")
        .text("compatible", "simple-bus")
        .cell("#address-cells", 2)
        .cell("#size-cells", 2)
        .flag("ranges")
        .children(devices)
        .children(advanced(controller, told))
        .children(pci(told));
    let serial = told.hardware.device(Model::Uart16550).and_then(node);
    let serial = serial.map(|node| node.name).unwrap_or_default();
    let children = [cpus(host, told), soc].into_iter().chain(switches(told)).collect();
    let compatible = ["axvmm,virt", "riscv-virtio"];
    describe::tree("axvmm virt", &compatible, told, &format!("/soc/{serial}"), children)
}

/// `cpus` (`riscv/cpus.yaml`, `riscv/extensions.yaml`).
fn cpus(host: &Riscv64Platform, told: &Told<'_>) -> Node {
    // The property has one cell or two; older kernels read one.
    let cpus = Node::new("cpus").cell("#address-cells", 1).cell("#size-cells", 0);
    let cpus = match u32::try_from(host.timebase_frequency) {
        Ok(hz) => cpus.cell("timebase-frequency", hz),
        Err(_) => cpus.u64("timebase-frequency", host.timebase_frequency),
    };
    cpus.children((0..told.cpus.num as u32).map(|hart| cpu(host, hart)))
}

fn cpu(host: &Riscv64Platform, hart: u32) -> Node {
    let mut cpu = Node::at("cpu", hart.into())
        .text("device_type", "cpu")
        .text("compatible", "riscv")
        .cell("reg", hart)
        .text("status", "okay")
        .text("riscv,isa", &isa(&host.extensions))
        .text("riscv,isa-base", "rv64i")
        .texts("riscv,isa-extensions", &host.extensions);
    if let Some(mmu_type) = host.mmu_type {
        cpu = cpu.text("mmu-type", mmu_type);
    }
    for (name, size) in [
        ("riscv,cbom-block-size", host.cbom_block_size),
        ("riscv,cbop-block-size", host.cbop_block_size),
        ("riscv,cboz-block-size", host.cboz_block_size),
    ] {
        if let Some(size) = size {
            cpu = cpu.cell(name, size);
        }
    }
    cpu.child(
        Node::new("interrupt-controller")
            .text("compatible", "riscv,cpu-intc")
            .flag("interrupt-controller")
            .cell("#interrupt-cells", 1)
            .cell("#address-cells", 0)
            .cell("phandle", FIRST_HART + hart),
    )
}

/// The old way to tell of extensions: single letters in one word, the others each behind a `_`.
fn isa(extensions: &[&str]) -> String {
    let letters = extensions.iter().filter(|name| name.len() == 1);
    let words = extensions.iter().filter(|name| name.len() > 1).flat_map(|name| ["_", name]);
    ["rv64"].into_iter().chain(letters.copied()).chain(words).collect()
}

/// Each hart's supervisor external interrupt.
fn harts(told: &Told<'_>) -> Vec<u32> {
    let of_hart = |hart| [FIRST_HART + hart, SUPERVISOR_EXTERNAL];
    (0..told.cpus.num as u32).flat_map(of_hart).collect()
}

/// The host kernel's APLIC and IMSICs (`riscv,aplic.yaml`, `riscv,imsics.yaml`).
fn advanced(controller: &InterruptController, told: &Told<'_>) -> Vec<Node> {
    let InterruptController::Aia { aplic, imsics, sources, ids } = controller else {
        return Vec::new();
    };
    let window = |at: &GuestPhysAddr| {
        let has = |device: &&DevicePlan| device.window.mmio().is_some_and(|w| w.first() == *at);
        told.hardware.devices.iter().find(has)?.window.mmio()
    };
    let part = |at: &GuestPhysAddr, compatible, interrupt_cells, phandle| {
        Some(
            Node::at("interrupt-controller", at.0)
                .text("compatible", compatible)
                .reg(&[window(at)?])
                .flag("interrupt-controller")
                .cell("#interrupt-cells", interrupt_cells)
                .cell("#address-cells", 0)
                .cell("phandle", phandle),
        )
    };
    let imsics = part(imsics, "riscv,imsics", 0, MESSAGES).map(|node| {
        node.cells("interrupts-extended", &harts(told))
            .flag("msi-controller")
            .cell("#msi-cells", 0)
            .cell("riscv,num-ids", *ids)
    });
    let aplic = part(aplic, "riscv,aplic", 2, CONTROLLER)
        .map(|node| node.cell("msi-parent", MESSAGES).cell("riscv,num-sources", *sources));
    aplic.into_iter().chain(imsics).collect()
}

/// A device that is ours.
fn device(device: &DevicePlan, controller: &InterruptController, told: &Told<'_>) -> Option<Node> {
    let node = node(device)?.reg(&[device.window.mmio()?]);
    let node = match device.irq {
        // Not at the root: Linux would take it for the parent of the harts' own controllers, and
        // so find none to begin with.
        Some(irq) => {
            let node = node.cell("interrupt-parent", CONTROLLER);
            match controller {
                InterruptController::Aia { .. } => {
                    let edge = device.model.is_edge_triggered();
                    let trigger = if edge { EDGE_RISING } else { LEVEL_HIGH };
                    node.cells("interrupts", &[irq, trigger])
                }
                _ => node.cell("interrupts", irq),
            }
        }
        None => node,
    };
    Some(match device.model {
        Model::Uart16550 => node.text("compatible", "ns16550a").cell("clock-frequency", UART_HZ),
        Model::GoldfishRtc => node.text("compatible", "google,goldfish-rtc"),
        Model::SifiveTest => node
            .texts("compatible", &["sifive,test1", "sifive,test0", "syscon"])
            .cell("phandle", TEST),
        Model::Pvpanic => node.text("compatible", "qemu,pvpanic-mmio"),
        Model::VirtioMmio => node.text("compatible", virtio::MMIO_COMPATIBLE).flag("dma-coherent"),
        Model::Doorbell => node.text("compatible", doorbell::COMPATIBLE),
        Model::IvcChannels | Model::IvcChannelsToRead => {
            node.text("compatible", channels::COMPATIBLE)
        }
        Model::Custom(_) | Model::VfioUser => {
            node.text("compatible", device.compatible.as_deref()?)
        }
        Model::Plic => node
            .texts("compatible", &["sifive,plic-1.0.0", "riscv,plic0"])
            .flag("interrupt-controller")
            .cell("#interrupt-cells", 1)
            .cell("#address-cells", 0)
            .cells("interrupts-extended", &harts(told))
            .cell("riscv,ndev", plic::SOURCES)
            .cell("phandle", CONTROLLER),
        _ => return None,
    })
}

/// PCI, whose messages go to the IMSICs.
fn pci(told: &Told<'_>) -> Option<Node> {
    Some(pci::node(told)?.cell("msi-parent", MESSAGES))
}

/// How to power off and to reset (`syscon-poweroff.yaml`, `syscon-reboot.yaml`).
fn switches(told: &Told<'_>) -> Vec<Node> {
    let switch = |name: &str, compatible, value| {
        Node::new(name)
            .text("compatible", compatible)
            .cell("regmap", TEST)
            .cell("offset", 0)
            .cell("value", value)
    };
    match told.hardware.device(Model::SifiveTest) {
        Some(_) => vec![
            switch("poweroff", "syscon-poweroff", PASS),
            switch("reboot", "syscon-reboot", RESET),
        ],
        None => Vec::new(),
    }
}

fn node(device: &DevicePlan) -> Option<Node> {
    Some(Node::at(describe::node_name(device), device.window.mmio()?.first().0))
}
