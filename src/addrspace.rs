//! Guest memory: areas of guest-physical address space backed by host mappings.

mod host_memory;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::Serialize;
use vm_memory::{Bytes, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

use crate::{
    addr::{DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange, MappingFlags},
    hal::{HalError, MemorySlots},
};

pub const PAGE_SIZE: u64 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Memory area {range} overlaps the one at {other}")]
    Overlap { range: GuestPhysAddrRange, other: GuestPhysAddrRange },
    #[error(
        "Memory area at {gpa}: its size of {size:#x} bytes must be a multiple of 4096, more \
             than 0, and end below 2^64; so must its address be aligned"
    )]
    BadRange { gpa: GuestPhysAddr, size: u64 },
    #[error("This host cannot give {size} bytes of memory for the guest at {gpa}: {source}")]
    NoMemory { gpa: GuestPhysAddr, size: u64, source: io::Error },
    #[error("{len} bytes at {gpa} do not lie in guest memory")]
    OutsideMemory { gpa: GuestPhysAddr, len: u64 },
    #[error("Failed to read {len} bytes of a file into guest memory at {gpa}: {source}")]
    ReadFile { gpa: GuestPhysAddr, len: u64, source: io::Error },
    #[error(transparent)]
    Hal(#[from] HalError),
}

/// An area of guest memory.
struct Area {
    range: GuestPhysAddrRange,
    flags: MappingFlags,
    slot: u32,
    region: Arc<GuestRegionMmap>,
    /// Given to the host at the first touch only.
    lazy: bool,
    /// Whether the host has it.
    mapped: AtomicBool,
}

/// An area, as `memory_areas` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AreaInfo {
    pub gpa: GuestPhysAddr,
    /// In bytes.
    pub size: u64,
    /// Whether the guest sees it already.
    pub mapped: bool,
}

/// A guest-physical address space. Built by one thread, then shared and never changed, so that
/// reading guest memory takes no lock; only the first touch of a lazy area does.
///
/// Its slots stand until the hardware goes, which keeps what is behind them: taking them away one by
/// one would have a VM's end wait for the hardware each time.
pub struct AddrSpace {
    slots: Arc<dyn MemorySlots>,
    areas: Vec<Area>,
    memory: GuestMemoryMmap,
    populating: Mutex<()>,
}

impl AddrSpace {
    /// An address space with nothing in it, whose areas will be given to `slots`.
    pub fn new_empty(slots: Arc<dyn MemorySlots>) -> Self {
        Self {
            slots,
            areas: Vec::new(),
            memory: GuestMemoryMmap::default(),
            populating: Mutex::new(()),
        }
    }

    /// Adds `size` bytes of zeroed memory at `gpa`. With `populate` the guest has it from the
    /// start; without, its first touch is a nested page fault that [`Self::handle_page_fault`]
    /// resolves. Host memory is taken page by page as it is used, in either case.
    pub fn map_alloc(
        &mut self,
        gpa: GuestPhysAddr,
        size: u64,
        flags: MappingFlags,
        populate: bool,
    ) -> Result<(), Error> {
        let bad = || Error::BadRange { gpa, size };
        if gpa.0 % PAGE_SIZE != 0 || size % PAGE_SIZE != 0 {
            return Err(bad());
        }
        let range = GuestPhysAddrRange::new(gpa, size).ok_or_else(bad)?;
        if let Some(other) = self.areas.iter().find(|area| area.range.overlaps(&range)) {
            return Err(Error::Overlap { range, other: other.range });
        }
        let bytes = usize::try_from(size).map_err(|_| bad())?;
        let mapping = MmapRegion::new(bytes).map_err(|error| Error::NoMemory {
            gpa,
            size,
            source: match error {
                vm_memory::mmap::MmapRegionError::Mmap(source) => source,
                other => io::Error::other(other.to_string()),
            },
        })?;
        let region = Arc::new(GuestRegionMmap::new(mapping, gpa.into()).ok_or_else(bad)?);
        self.memory = self.memory.insert_region(region.clone()).map_err(|_| bad())?;
        let slot = self.areas.len() as u32;
        if populate {
            self.slots.map_memory(slot, &region, flags)?;
        }
        let mapped = AtomicBool::new(populate);
        self.areas.push(Area { range, flags, slot, region, lazy: !populate, mapped });
        Ok(())
    }

    /// Reads `len` bytes of `file` from `offset` on into guest memory at `gpa`.
    ///
    /// A private mapping of the file would save the copy, and costs more than it saves: its pages
    /// are small, so that a kernel's first steps through itself become thousands of nested page
    /// faults, and whoever edits the file edits the running guest.
    pub fn load_file(
        &self,
        gpa: GuestPhysAddr,
        file: &std::fs::File,
        offset: u64,
        len: u64,
    ) -> Result<(), Error> {
        if len == 0 {
            return Ok(());
        }
        let region = self.region_of(gpa, len).ok_or(Error::OutsideMemory { gpa, len })?;
        host_memory::read_file(&region, gpa, file, offset, len).map_err(|source| Error::ReadFile {
            gpa,
            len,
            source,
        })
    }

    /// Asks the host to back the guest's memory by huge pages: for guests that will use it in bulk.
    /// Fewer, larger pages are fewer nested page faults; a guest of a few pages would only have more
    /// memory zeroed for it.
    pub fn prefer_huge_pages(&self) {
        for area in &self.areas {
            if let Err(error) = host_memory::advise_huge_pages(&area.region) {
                // A host kernel without them; all works the same, slower.
                log::debug!("no huge pages for the guest: {error}");
            }
        }
    }

    /// Guest memory as devices and loaders read and write it. Cheap to clone.
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// The areas, in the order they were added.
    pub fn memory_areas(&self) -> impl Iterator<Item = AreaInfo> {
        self.areas.iter().map(|area| AreaInfo {
            gpa: area.range.first(),
            size: area.range.len(),
            mapped: area.mapped.load(Ordering::Acquire),
        })
    }

    /// Copies bytes into guest memory.
    pub fn write(&self, gpa: GuestPhysAddr, bytes: &[u8]) -> Result<(), Error> {
        let outside = |_| Error::OutsideMemory { gpa, len: bytes.len() as u64 };
        self.memory.write_slice(bytes, gpa.into()).map_err(outside)
    }

    /// Copies bytes out of guest memory.
    pub fn read(&self, gpa: GuestPhysAddr, bytes: &mut [u8]) -> Result<(), Error> {
        let len = bytes.len() as u64;
        self.memory.read_slice(bytes, gpa.into()).map_err(|_| Error::OutsideMemory { gpa, len })
    }

    /// Resolves an access that the host had no mapping for. `true`: done, the guest may try again.
    /// `false`: no area there, or one whose flags forbid the access, or one that was never lazy.
    pub fn handle_page_fault(&self, gpa: GuestPhysAddr, access: MappingFlags) -> bool {
        let Some(area) = self.areas.iter().find(|area| area.range.contains(gpa)) else {
            return false;
        };
        if !area.lazy || !area.flags.contains(access) {
            return false;
        }
        let _one_at_a_time = self.populating.lock().unwrap_or_else(|held| held.into_inner());
        if area.mapped.load(Ordering::Acquire) {
            return true; // another vCPU was faster
        }
        if let Err(error) = self.slots.map_memory(area.slot, &area.region, area.flags) {
            log::error!("{error}");
            return false;
        }
        area.mapped.store(true, Ordering::Release);
        true
    }

    fn region_of(&self, gpa: GuestPhysAddr, len: u64) -> Option<Arc<GuestRegionMmap>> {
        let range = GuestPhysAddrRange::new(gpa, len)?;
        let inside =
            |area: &&Area| area.range.contains(range.first()) && area.range.contains(range.last());
        self.areas.iter().find(inside).map(|area| area.region.clone())
    }
}

impl fmt::Debug for AddrSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.memory_areas()).finish()
    }
}
