//! What memory is asked for, turned into areas.

use super::{Error, parts::RamArea};
use crate::{
    addr::{DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange, MappingFlags},
    addrspace::PAGE_SIZE,
    vm::config::{MemoryConfig, MemoryRegion},
};

/// What a board's own RAM may be used for.
pub const ALL: MappingFlags =
    MappingFlags::READ.union(MappingFlags::WRITE).union(MappingFlags::EXECUTE);

/// Just the areas that are asked for.
pub fn areas(regions: &[MemoryRegion]) -> Result<Vec<RamArea>, Error> {
    // A row with this flag is the window of a device of the host's.
    let memory = regions.iter().filter(|region| !region.flags.contains(MappingFlags::DEVICE));
    let areas = memory.map(area).collect::<Result<Vec<_>, _>>()?;
    if areas.is_empty() {
        return Err(Error::NoMemory);
    }
    Ok(areas)
}

fn area(region: &MemoryRegion) -> Result<RamArea, Error> {
    let MemoryRegion { gpa, size, flags, lazy, .. } = *region;
    let whole = gpa.0 % PAGE_SIZE == 0 && size % PAGE_SIZE == 0;
    if !whole || GuestPhysAddrRange::new(gpa, size).is_none() {
        return Err(Error::MemoryRegion { gpa, size });
    }
    Ok(RamArea { gpa, size, flags, lazy })
}

/// `bytes` from `base` on, in one piece.
pub fn piece(base: u64, bytes: u64, lazy: bool) -> Result<RamArea, Error> {
    let gpa = GuestPhysAddr(base);
    if bytes == 0 || bytes % PAGE_SIZE != 0 || GuestPhysAddrRange::new(gpa, bytes).is_none() {
        return Err(Error::MemorySize { bytes });
    }
    Ok(RamArea { gpa, size: bytes, flags: ALL, lazy })
}

/// The RAM of a board that has it in one piece from `base` on, or the areas that are asked for; all
/// of it where guest-physical addresses have `bits` bits.
pub fn from(base: u64, bits: u8, asked: &MemoryConfig) -> Result<Vec<RamArea>, Error> {
    let areas = match asked {
        MemoryConfig::Size(bytes) => vec![piece(base, *bytes, false)?],
        MemoryConfig::LazySize(bytes) => vec![piece(base, *bytes, true)?],
        MemoryConfig::OfDeviceTree { lazy } => vec![piece(base, MemoryConfig::DEFAULT, *lazy)?],
        MemoryConfig::Regions(regions) => areas(regions)?,
    };
    for area in &areas {
        if area.range()?.last().0.checked_shr(bits.into()).unwrap_or(0) > 0 {
            return Err(Error::MemoryTooHigh { gpa: area.gpa, size: area.size, bits });
        }
    }
    Ok(areas)
}

/// The window of a device, `size` bytes from `first` on.
pub fn window(first: u64, size: u64) -> Result<GuestPhysAddrRange, Error> {
    let gpa = GuestPhysAddr(first);
    GuestPhysAddrRange::new(gpa, size).ok_or(Error::MemoryRegion { gpa, size })
}
