//! Whether a user's device tree fits the machine.

use super::{OwnTreeError, cells, ram};
use crate::{
    addr::{DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange},
    machine::{
        board::Told,
        fdt::{Node, Tree, big_endian},
    },
};

/// An error where the guest cannot work, notes where the tree merely differs.
pub fn check(tree: &Tree, told: &Told<'_>, notes: &mut Vec<String>) -> Result<(), OwnTreeError> {
    memory(&tree.root, told, notes)?;
    cpus(&tree.root, told, notes)?;
    chosen(&tree.root, told, notes)
}

fn memory(root: &Node, told: &Told<'_>, notes: &mut Vec<String>) -> Result<(), OwnTreeError> {
    let ranges = memory_of(root);
    for &(at, size) in &ranges {
        let is_ram = |range: GuestPhysAddrRange| inside(told, range.first().0, range.last().0);
        // Nothing is nowhere; boot loaders fill that in, here nobody does.
        if size > 0 && !GuestPhysAddrRange::new(GuestPhysAddr(at), size).is_some_and(is_ram) {
            return Err(OwnTreeError::Memory { at, size, ram: ram(told) });
        }
    }
    let sum = ranges.iter().fold(0_u64, |sum, (_, size)| sum.saturating_add(*size));
    let has = told.ram.iter().fold(0_u64, |sum, area| sum.saturating_add(area.len()));
    if sum != has {
        notes.push(format!(
            "the device tree tells of {} MiB of memory, and the guest has {}",
            sum >> 20,
            has >> 20
        ));
    }
    Ok(())
}

/// The memory that a tree tells of: addresses and sizes.
pub fn memory_of(root: &Node) -> Vec<(u64, u64)> {
    let nodes = root.children.iter().filter(|node| node.is_of_type("memory"));
    let (address, size) = cells(root);
    nodes.flat_map(|node| reg(node, address, size)).collect()
}

fn cpus(root: &Node, told: &Told<'_>, notes: &mut Vec<String>) -> Result<(), OwnTreeError> {
    let cpus = root.find("cpus");
    let (address, _) = cpus.map_or((1, 0), cells);
    let nodes = cpus.map_or(&[][..], |cpus| &cpus.children);
    let ids: Vec<u64> = nodes
        .iter()
        .filter(|node| node.is_of_type("cpu"))
        .filter_map(|node| Some(big_endian(node.get("reg")?.get(..address.checked_mul(4)?)?)))
        .collect();
    if ids.len() > told.cpus.num {
        return Err(OwnTreeError::Cpus { told: ids.len(), cpus: told.cpus.num });
    }
    let first = told.cpus.affinities().next();
    match first {
        Some((_, _, id)) if !ids.is_empty() && !ids.contains(&(id as u64)) => {
            return Err(OwnTreeError::NoBootCpu { id });
        }
        _ => {}
    }
    if ids.len() < told.cpus.num {
        notes.push(format!(
            "the device tree tells of {} CPUs, and the guest has {}",
            ids.len(),
            told.cpus.num
        ));
    }
    Ok(())
}

fn chosen(root: &Node, told: &Told<'_>, notes: &mut Vec<String>) -> Result<(), OwnTreeError> {
    let chosen = root.find("chosen");
    let number = |name| chosen.and_then(|chosen| chosen.get_number(name));
    let initrd = number("linux,initrd-start").zip(number("linux,initrd-end"));
    if let Some((start, end)) = initrd.filter(|(start, end)| start != end) {
        if end < start || !inside(told, start, end - 1) {
            return Err(OwnTreeError::Initrd { start, end, ram: ram(told) });
        }
    }
    let loaded = told.initrd.map(|it| (it.gpa.0, it.gpa.0.saturating_add(it.size)));
    if loaded.is_some() && loaded != initrd {
        notes.push(
            "the device tree does not tell where the initrd is; \"initrd\" in dtb_patch does"
                .into(),
        );
    }
    let bootargs = chosen.and_then(|chosen| chosen.get("bootargs"));
    let given = told.cmdline.map(str::as_bytes);
    if given.is_some() && bootargs.and_then(|args| args.strip_suffix(&[0])) != given {
        notes.push(
            "the device tree has another command line than cmdline; \"chosen\" in dtb_patch puts \
             that in"
                .into(),
        );
    }
    Ok(())
}

/// Whether all from the first to the last address is in one area of RAM.
fn inside(told: &Told<'_>, first: u64, last: u64) -> bool {
    let (first, last) = (GuestPhysAddr(first), GuestPhysAddr(last));
    told.ram.iter().any(|area| area.contains(first) && area.contains(last))
}

/// Addresses and sizes.
fn reg(node: &Node, address: usize, size: usize) -> Vec<(u64, u64)> {
    let entry = address.saturating_add(size).saturating_mul(4);
    let value = node.get("reg").unwrap_or_default();
    if entry == 0 {
        return Vec::new();
    }
    let entries = value.chunks_exact(entry).map(|entry| entry.split_at(address * 4));
    entries.map(|(address, size)| (big_endian(address), big_endian(size))).collect()
}
