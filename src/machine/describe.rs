//! What device trees of all boards have in common (Devicetree Specification 0.4, chapter 3).

use super::{
    board::Told,
    fdt::{Node, Tree},
    parts::{DevicePlan, Model},
    pci,
};
use crate::addr::DeviceAddrRange;

/// How many random bytes a kernel is given to begin with.
const RNG_SEED: usize = 32;
/// And for where to put itself.
const KASLR_SEED: usize = 8;
/// The properties of `/chosen` whose values are random, fresh each time a machine is made. In a
/// plan they are zero.
pub const SEEDS: [(&str, usize); 2] = [("rng-seed", RNG_SEED), ("kaslr-seed", KASLR_SEED)];

/// The tree of a board: what all have, and `children`, which are the board's own.
pub fn tree(
    model: &str,
    compatible: &[&str],
    told: &Told<'_>,
    serial: &str,
    children: Vec<Node>,
) -> Tree {
    let root = Node::new("")
        .texts("compatible", compatible)
        .text("model", model)
        .cell("#address-cells", 2)
        .cell("#size-cells", 2)
        .child(chosen(told, serial))
        .child(Node::new("aliases").text("serial0", serial))
        .children(memory(told))
        .children(children);
    Tree { reserved: Vec::new(), boot_cpu: 0, root }
}

/// `/memory` (3.4), a node an area.
pub fn memory(told: &Told<'_>) -> impl Iterator<Item = Node> {
    told.ram
        .iter()
        .map(|area| Node::at("memory", area.first().0).text("device_type", "memory").reg(&[*area]))
}

/// `/chosen` (3.6).
fn chosen(told: &Told<'_>, serial: &str) -> Node {
    let mut chosen = Node::new("chosen").text("stdout-path", serial);
    if pci::has_placed_bars(told.hardware) {
        chosen = chosen.cell("linux,pci-probe-only", 1);
    }
    choose_seeds(&mut chosen);
    choose_cmdline(&mut chosen, told);
    choose_initrd(&mut chosen, told);
    chosen
}

pub fn choose_seeds(chosen: &mut Node) {
    for (name, size) in SEEDS {
        chosen.set(name, vec![0; size]);
    }
}

/// The command line; none at all if the guest gets none.
pub fn choose_cmdline(chosen: &mut Node, told: &Told<'_>) {
    match told.cmdline {
        Some(cmdline) => chosen.set("bootargs", [cmdline.as_bytes(), &[0]].concat()),
        None => chosen.remove("bootargs"),
    }
}

/// Where the initrd is, as Linux' `of/fdt.c` reads it.
pub fn choose_initrd(chosen: &mut Node, told: &Told<'_>) {
    match told.initrd {
        Some(initrd) => {
            let end = initrd.gpa.0.saturating_add(initrd.size);
            chosen.set("linux,initrd-start", initrd.gpa.0.to_be_bytes().into());
            chosen.set("linux,initrd-end", end.to_be_bytes().into());
        }
        None => {
            chosen.remove("linux,initrd-start");
            chosen.remove("linux,initrd-end");
        }
    }
}

/// What a device's node is called, but for its address. Users may name virtio devices, and names of
/// nodes have rules.
pub fn node_name(device: &DevicePlan) -> &str {
    match device.model {
        Model::VirtioMmio => "virtio_mmio",
        Model::Custom(about) => about.kind,
        Model::VfioUser => "vfio_user",
        _ => &device.name,
    }
}
