//! The guest's memory: an amount, or areas.

use crate::{
    addr::{DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange, MappingFlags},
    addrspace::PAGE_SIZE,
    config::{
        keys::{DtbPatchWord, VMBaseConfig, VMKernelConfig, VmMemConfig},
        report::Report,
        source::{At, Place},
        values::Size,
    },
    vm::config::{MemoryConfig, MemoryRegion, VmMemMappingType},
};

/// Physical addresses have at most 52 bits on all three architectures.
const TOP: u64 = 1 << 52;

pub(super) fn resolve(
    base: &VMBaseConfig,
    kernel: &VMKernelConfig,
    report: &mut Report,
) -> MemoryConfig {
    // AxVisor's files have the key even where it says nothing.
    let regions = kernel.memory_regions.as_ref().filter(|regions| !regions.value.is_empty());
    let given = [
        base.memory.as_ref().map(|size| ("memory in [base]", size.place)),
        kernel.memory.as_ref().map(|size| ("memory in [kernel]", size.place)),
        regions.map(|regions| ("memory_regions", regions.place)),
    ];
    let lazy = base.lazy_memory.as_ref().is_some_and(|lazy| lazy.value);
    let amount = if lazy { MemoryConfig::LazySize } else { MemoryConfig::Size };
    let last = last_given(given.into_iter().flatten().collect(), report);
    let is_last = |size: &&At<Size>| Some(size.place) == last;
    if let Some(size) = [&base.memory, &kernel.memory].into_iter().flatten().find(is_last) {
        return amount(size.value.0);
    }
    match regions {
        Some(regions) => MemoryConfig::Regions(areas(&regions.value, lazy, report)),
        // AxVisor's files leave it to the device tree.
        None if is_told_by_tree(kernel) => MemoryConfig::OfDeviceTree { lazy },
        None => amount(MemoryConfig::DEFAULT),
    }
}

/// Whether the guest gets a device tree with memory of its own.
fn is_told_by_tree(kernel: &VMKernelConfig) -> bool {
    let patches = kernel.dtb_patch.as_ref().map_or(&[][..], |patches| &patches.value);
    kernel.dtb_path.is_some() && patches.iter().all(|patch| patch.value != DtbPatchWord::Memory)
}

/// What the command line gives wins over what the file gives; two in the same place are an error.
fn last_given(mut given: Vec<(&str, Place)>, report: &mut Report) -> Option<Place> {
    given.sort_by_key(|(_, place)| *place);
    let (_, last) = *given.last()?;
    let rivals: Vec<_> = given.iter().filter(|(_, place)| place.source == last.source).collect();
    if let [(first, _), (second, place), ..] = rivals[..] {
        let message = format!("{second} and {first} both say what memory the guest has");
        report.problem(*place, message).help("give one of them");
    }
    Some(last)
}

fn areas(rows: &[At<VmMemConfig>], lazy: bool, report: &mut Report) -> Vec<MemoryRegion> {
    let mut areas: Vec<(GuestPhysAddrRange, MemoryRegion)> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let Some((range, region)) = area(index, row, lazy, report) else { continue };
        let other = areas.iter().position(|(other, _)| other.overlaps(&range));
        if let Some(other) = other {
            let message = format!("{range} overlaps row [{other}], {}", areas[other].0);
            let key = format!("kernel.memory_regions[{index}]");
            report.problem_of(&key, row.place, message).help("move or shrink one of them");
        }
        areas.push((range, region));
    }
    areas.into_iter().map(|(_, region)| region).collect()
}

fn area(
    index: usize,
    row: &At<VmMemConfig>,
    lazy: bool,
    report: &mut Report,
) -> Option<(GuestPhysAddrRange, MemoryRegion)> {
    let name = format!("kernel.memory_regions[{index}]");
    let (gpa, size) = (row.value.gpa.as_ref()?, row.value.size.as_ref()?);
    let flags = row.value.flags.as_ref().map_or(0x7, |flags| flags.value.0);
    let map_type = match row.value.map_type.as_ref().map_or(0, |map_type| map_type.value.0) {
        1 => VmMemMappingType::MapIdentical,
        2 => VmMemMappingType::MapReserved,
        _ => VmMemMappingType::MapAlloc,
    };
    let region = MemoryRegion {
        gpa: GuestPhysAddr(gpa.value.0),
        size: size.value.0,
        flags: MappingFlags::from_bits_truncate(flags),
        lazy: lazy && map_type == VmMemMappingType::MapAlloc,
        map_type,
        at: report.written_at(row.place),
    };
    if region.gpa.0 % PAGE_SIZE != 0 {
        let message = format!("{} is no multiple of 4096", region.gpa);
        report
            .problem_of(&format!("{name}.gpa"), gpa.place, message)
            .help("memory begins at a page");
        return None;
    }
    let range = GuestPhysAddrRange::new(region.gpa, region.size);
    let Some(range) = range.filter(|range| range.last().0 < TOP) else {
        let message = format!("{:#x} bytes at {} end above {TOP:#x}", region.size, region.gpa);
        report.problem_of(&name, row.place, message).help("guest-physical addresses have 52 bits");
        return None;
    };
    Some((range, region))
}
