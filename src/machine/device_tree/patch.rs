//! What a user wants put into an own device tree.

use std::collections::BTreeMap;

use super::{OwnTreeError, cells};
use crate::{
    addr::DeviceAddrRange,
    machine::{
        board::Told,
        describe,
        fdt::{Node, Tree},
    },
    vm::config::DtbPatch,
};

/// Puts what the board's tree tells, or would tell, into `tree`.
pub fn apply(
    patch: DtbPatch,
    tree: &mut Tree,
    board: &Tree,
    told: &Told<'_>,
) -> Result<(), OwnTreeError> {
    let root = &mut tree.root;
    match patch {
        DtbPatch::Memory => memory(root, told),
        DtbPatch::Cpus => cpus(root, board),
        DtbPatch::Chosen => {
            let chosen = root.find_or_add("chosen");
            describe::choose_cmdline(chosen, told);
            describe::choose_seeds(chosen);
            Ok(())
        }
        DtbPatch::Initrd => {
            describe::choose_initrd(root.find_or_add("chosen"), told);
            Ok(())
        }
    }
}

/// The guest's memory in place of what the tree has, in as many cells as it uses.
fn memory(root: &mut Node, told: &Told<'_>) -> Result<(), OwnTreeError> {
    let (address, size) = cells(root);
    let mut nodes = Vec::new();
    for area in told.ram {
        let mut reg = number(area.first().0, address)?;
        reg.extend(number(area.len(), size)?);
        let node = Node::at("memory", area.first().0).text("device_type", "memory");
        nodes.push(node.bytes("reg", reg));
    }
    root.children.retain(|node| !node.is_of_type("memory"));
    root.children.extend(nodes);
    Ok(())
}

/// A number in so many cells.
fn number(number: u64, cells: usize) -> Result<Vec<u8>, OwnTreeError> {
    match (cells, u32::try_from(number)) {
        (1, Ok(number)) => Ok(number.to_be_bytes().into()),
        (2, _) => Ok(number.to_be_bytes().into()),
        _ => Err(OwnTreeError::Patch(
            "its #address-cells or #size-cells are too few for the guest's memory (2 would do)",
        )),
    }
}

/// The board's CPUs in place of those that the tree has. Interrupt controllers of CPUs that are
/// pointed to stay who they are, and what serves all harts is connected to all.
fn cpus(root: &mut Node, board: &Tree) -> Result<(), OwnTreeError> {
    let Some(ours) = board.root.find("cpus") else { return Ok(()) };
    let mut known = BTreeMap::new();
    for cpu in root.find("cpus").map_or(&[][..], |cpus| &cpus.children) {
        let id = cpu.get_number("reg");
        let handle = cpu.find(INTERRUPT_CONTROLLER).and_then(|it| it.get_cell("phandle"));
        known.extend(id.zip(handle));
    }
    let mut next = highest_handle(root);
    let mut cpus = ours.clone();
    let mut harts = Vec::new();
    for cpu in &mut cpus.children {
        let id = cpu.get_number("reg");
        let Some(controller) = cpu.find_mut(INTERRUPT_CONTROLLER) else { continue };
        let handle = match id.and_then(|id| known.get(&id)) {
            Some(handle) => *handle,
            None => {
                next = next.checked_add(1).filter(|next| *next < u32::MAX).ok_or(
                    OwnTreeError::Patch("it has a phandle that leaves none for other nodes"),
                )?;
                next
            }
        };
        controller.set("phandle", handle.to_be_bytes().into());
        harts.extend([handle, SUPERVISOR_EXTERNAL].map(u32::to_be_bytes).concat());
    }
    root.children.retain(|node| !node.is_called("cpus"));
    root.children.push(cpus);
    if !harts.is_empty() {
        connect(root, &harts);
    }
    Ok(())
}

/// A riscv64 CPU's own.
const INTERRUPT_CONTROLLER: &str = "interrupt-controller";
const SUPERVISOR_EXTERNAL: u32 = 9;
/// What has an input to each hart.
const SERVE_ALL_HARTS: [&str; 3] = ["sifive,plic-1.0.0", "riscv,plic0", "riscv,imsics"];

fn connect(node: &mut Node, harts: &[u8]) {
    let compatible = node.get("compatible").unwrap_or_default();
    let serves = |name: &[u8]| SERVE_ALL_HARTS.iter().any(|known| known.as_bytes() == name);
    if compatible.split(|byte| *byte == 0).any(serves) {
        node.set("interrupts-extended", harts.to_vec());
    }
    node.children.iter_mut().for_each(|child| connect(child, harts));
}

fn highest_handle(node: &Node) -> u32 {
    let below = node.children.iter().map(highest_handle).max().unwrap_or(0);
    node.get_cell("phandle").unwrap_or(0).max(below)
}
