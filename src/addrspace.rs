//! Guest memory: areas of guest-physical address space backed by host mappings.
//!
//! - `area`: one area, and which pieces of it the guest's hardware has.
//! - `access`: reading and writing guest memory from outside.
//! - `device_memory`: the memory that devices reach by themselves.
//! - `buffer`: bytes in it, scattered, that a device works on.
//! - `shared`: memory that several address spaces, or several processes, may map.
//! - `file`: files as memory.
//! - `discard`: pages that the guest does without.
//! - `host_memory`: the host's side.

mod access;
mod area;
mod buffer;
mod device_memory;
mod discard;
mod file;
mod host_memory;
mod shared;
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::{fmt, io, sync::Arc};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use vm_memory::{GuestMemoryMmap, GuestRegionMmap, MmapRegion};

use self::area::{Area, Content, SlotNumbers};
pub use self::{
    buffer::{BufferBuilder, GuestBuffer},
    device_memory::DeviceMemory,
    file::FileMapping,
    shared::{SharedMemory, SharedRegion},
};
use crate::{
    addr::{DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange, MappingFlags},
    hal::{HalError, MemorySlots},
};

/// The granularity of memory areas, in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// Why memory cannot be had, or an access to it not be made. Sizes and lengths are in bytes.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what each is")]
pub enum Error {
    #[error("Memory area {range} overlaps the one at {other}")]
    Overlap { range: GuestPhysAddrRange, other: GuestPhysAddrRange },
    #[error(
        "Memory area at {gpa}: its size of {size:#x} bytes must be a multiple of 4096, more \
             than 0, and end below 2^64; so must its address be aligned"
    )]
    BadRange { gpa: GuestPhysAddr, size: u64 },
    #[error("There is no memory area of {size:#x} bytes at {gpa} to take away")]
    NoSuchArea { gpa: GuestPhysAddr, size: u64 },
    #[error("This host cannot give {size} bytes of memory for the guest at {gpa}: {source}")]
    NoMemory { gpa: GuestPhysAddr, size: u64, source: io::Error },
    #[error("This host cannot give {size} bytes of memory for guests to share: {source}")]
    NoSharedMemory { size: u64, source: io::Error },
    #[error("{len} bytes at {gpa} do not lie in guest memory")]
    OutsideMemory { gpa: GuestPhysAddr, len: u64 },
    #[error("{len} bytes at {gpa} lie in guest memory that may not be so accessed ({access})")]
    Forbidden { gpa: GuestPhysAddr, len: u64, access: MappingFlags },
    #[error("A value of {align}-byte alignment cannot be at {gpa}")]
    Unaligned { gpa: GuestPhysAddr, align: usize },
    #[error("This host cannot map a file of {size} bytes as memory of the guest's: {source}")]
    MapFile { size: u64, source: io::Error },
    #[error("Failed to read {len} bytes of a file into guest memory at {gpa}: {source}")]
    ReadFile { gpa: GuestPhysAddr, len: u64, source: io::Error },
    #[error(transparent)]
    Hal(#[from] HalError),
}

/// An area, as `memory_areas` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AreaInfo {
    /// Its first address.
    pub gpa: GuestPhysAddr,
    /// In bytes.
    pub size: u64,
    /// How many of these bytes the guest's hardware has; the rest comes when it is touched.
    pub given: u64,
}

/// All areas at one moment.
#[derive(Clone, Default)]
struct Map {
    /// Ascending by address.
    areas: Vec<Arc<Area>>,
    memory: GuestMemoryMmap,
    /// Those of the areas that the guest may read and write: what its devices reach by themselves.
    /// They must not change what the guest itself cannot.
    open: GuestMemoryMmap,
    /// Whether some of that the guest's hardware gets at the first touch only.
    is_lazy: bool,
}

impl Map {
    fn area_at(&self, gpa: GuestPhysAddr) -> Option<&Arc<Area>> {
        let at = self.areas.partition_point(|area| area.range.first() <= gpa);
        self.areas.get(at.checked_sub(1)?).filter(|area| area.range.contains(gpa))
    }
}

/// A guest-physical address space. Any thread may use it; reading guest memory takes no lock.
///
/// Slots stand until the hardware goes or their area is taken away: taking all of them away one by
/// one at a VM's end would have it wait for the hardware each time.
pub struct AddrSpace {
    slots: Arc<dyn MemorySlots>,
    map: ArcSwap<Map>,
    /// Held while areas come and go, and while pieces are given to the hardware.
    changing: Mutex<SlotNumbers>,
}

impl AddrSpace {
    /// An address space with nothing in it, whose areas will be given to `slots`.
    pub fn new_empty(slots: Arc<dyn MemorySlots>) -> Self {
        Self { slots, map: ArcSwap::default(), changing: Mutex::default() }
    }

    /// Adds `size` bytes of zeroed memory at `gpa`. With `populate` the guest's hardware has it from
    /// the start; without, it gets each piece at its first touch, which is a nested page fault that
    /// [`Self::handle_page_fault`] resolves. Host memory is taken page by page as it is used, in
    /// either case.
    ///
    /// # Errors
    /// A range that is not whole pages, an overlap, a host without memory.
    pub fn map_alloc(
        &self,
        gpa: GuestPhysAddr,
        size: u64,
        flags: MappingFlags,
        populate: bool,
    ) -> Result<(), Error> {
        let range = page_range(gpa, size)?;
        let bytes = usize::try_from(size).map_err(|_| Error::BadRange { gpa, size })?;
        let mapping = MmapRegion::new(bytes).map_err(|error| Error::NoMemory {
            gpa,
            size,
            source: host_memory::io_error(error),
        })?;
        let area = |region| match populate {
            true => Area::whole(range, flags, region, Content::Ram),
            false => Area::lazy(range, flags, region),
        };
        self.map_area(range, mapping, area)
    }

    /// Makes `memory`, all of it, part of the guest's memory at `gpa`, also while the guest runs.
    /// Without [`MappingFlags::WRITE`] this guest cannot change it.
    ///
    /// # Errors
    /// As [`Self::map_alloc`].
    pub fn map_region(
        &self,
        gpa: GuestPhysAddr,
        memory: &SharedMemory,
        flags: MappingFlags,
    ) -> Result<(), Error> {
        let range = page_range(gpa, memory.size())?;
        let area = |region| Area::whole(range, flags, region, Content::Kept);
        self.map_area(range, memory.map()?, area)
    }

    /// Takes the area of `size` bytes at `gpa` away, all of it, also while the guest runs: what
    /// accesses it afterwards finds nothing there.
    ///
    /// # Errors
    /// No area has just this range.
    pub fn unmap_region(&self, gpa: GuestPhysAddr, size: u64) -> Result<(), Error> {
        let mut numbers = self.lock();
        let mut map = Map::clone(&self.map.load());
        let range = GuestPhysAddrRange::new(gpa, size);
        let at = map.areas.iter().position(|area| Some(area.range) == range);
        let area = map.areas.remove(at.ok_or(Error::NoSuchArea { gpa, size })?);
        let removed = map.memory.remove_region(gpa.into(), size);
        (map.memory, _) = removed.map_err(|_| Error::NoSuchArea { gpa, size })?;
        if let Ok((open, _)) = map.open.remove_region(gpa.into(), size) {
            map.open = open;
        }
        self.map.store(Arc::new(map));
        Ok(area.take_back(&*self.slots, &mut numbers)?)
    }

    fn map_area(
        &self,
        range: GuestPhysAddrRange,
        mapping: MmapRegion,
        area: impl FnOnce(Arc<GuestRegionMmap>) -> Area,
    ) -> Result<(), Error> {
        let bad = || Error::BadRange { gpa: range.first(), size: range.len() };
        let region = GuestRegionMmap::new(mapping, range.first().into()).ok_or_else(bad)?;
        let region = Arc::new(region);
        let area = Arc::new(area(region.clone()));
        let mut numbers = self.lock();
        let mut map = Map::clone(&self.map.load());
        if let Some(other) = map.areas.iter().find(|area| area.range.overlaps(&range)) {
            return Err(Error::Overlap { range, other: other.range });
        }
        map.memory = map.memory.insert_region(region.clone()).map_err(|_| bad())?;
        if area.flags.contains(MappingFlags::READ | MappingFlags::WRITE) {
            map.open = map.open.insert_region(region).map_err(|_| bad())?;
            map.is_lazy |= area.is_lazy();
        }
        if !area.is_lazy() {
            area.give_all(&*self.slots, &mut numbers)?;
        }
        let at = map.areas.partition_point(|other| other.range.first() < range.first());
        map.areas.insert(at, area);
        self.map.store(Arc::new(map));
        Ok(())
    }

    /// Asks the host to back the guest's memory by huge pages: for guests that will use it in bulk.
    /// Fewer, larger pages are fewer nested page faults; a guest of a few pages would only have more
    /// memory zeroed for it.
    pub fn prefer_huge_pages(&self) {
        for area in &self.map.load().areas {
            if let Err(error) = host_memory::advise_huge_pages(&area.region) {
                // A host kernel without them; all works the same, slower.
                log::debug!("no huge pages for the guest: {error}");
            }
        }
    }

    /// The areas, ascending by address.
    pub fn memory_areas(&self) -> Vec<AreaInfo> {
        let info = |area: &Arc<Area>| AreaInfo {
            gpa: area.range.first(),
            size: area.range.len(),
            given: area.given(),
        };
        self.map.load().areas.iter().map(info).collect()
    }

    /// Whether `gpa` lies in an area, whatever may be done there.
    pub fn contains(&self, gpa: GuestPhysAddr) -> bool {
        self.map.load().area_at(gpa).is_some()
    }

    /// Whether guests see at once what is written from outside, also where they take a place for a
    /// device's ([`MemorySlots::is_coherent`]).
    pub fn is_coherent(&self) -> bool {
        self.slots.is_coherent()
    }

    /// The memory that devices may reach by themselves, as it is now.
    pub fn device_memory(self: &Arc<Self>) -> DeviceMemory {
        DeviceMemory::new(self.clone(), self.map.load_full())
    }

    /// Resolves an access that the hardware had no mapping for. `true`: done, the guest may try
    /// again. `false`: no area there, or one whose flags forbid the access, or one that the hardware
    /// has had from the start.
    pub fn handle_page_fault(&self, gpa: GuestPhysAddr, access: MappingFlags) -> bool {
        let mut numbers = self.lock();
        let map = self.map.load();
        let Some(area) = map.area_at(gpa) else {
            return false;
        };
        if !area.is_lazy() || !area.flags.contains(access) {
            return false;
        }
        // If another vCPU was faster, there is nothing left to do.
        match area.give(area.piece_of(gpa), &*self.slots, &mut numbers) {
            Ok(()) => true,
            Err(error) => {
                log::error!("{error}");
                false
            }
        }
    }

    /// Gives the hardware all that it does not have yet, for when it went wrong and cannot say
    /// where. Whether there was something to give.
    pub fn give_all(&self) -> bool {
        let mut numbers = self.lock();
        let mut given = false;
        for area in &self.map.load().areas {
            if area.given() == area.range.len() {
                continue;
            }
            match area.give_all(&*self.slots, &mut numbers) {
                Ok(()) => given = true,
                Err(error) => log::error!("{error}"),
            }
        }
        given
    }

    fn lock(&self) -> MutexGuard<'_, SlotNumbers> {
        self.changing.lock()
    }
}

/// The range of whole pages from `gpa` on.
fn page_range(gpa: GuestPhysAddr, size: u64) -> Result<GuestPhysAddrRange, Error> {
    let whole = gpa.0 % PAGE_SIZE == 0 && size % PAGE_SIZE == 0;
    let range = GuestPhysAddrRange::new(gpa, size).filter(|_| whole);
    range.ok_or(Error::BadRange { gpa, size })
}

impl fmt::Debug for AddrSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.memory_areas()).finish()
    }
}
