//! Pages that the guest does without: the host has them back until the guest touches them again.

use std::{io, sync::Arc};

use vm_memory::{GuestMemoryRegion, MemoryRegionAddress};

use super::{AddrSpace, Area, Content, GuestBuffer, Map, host_memory};
use crate::addr::{DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange, MappingFlags};

impl AddrSpace {
    /// Gives the pages of `len` bytes at `gpa` back to the host; they read as zeros from then on. Only
    /// whole pages, and only RAM that the guest may write: what else lies in the range stays as it
    /// is.
    ///
    /// # Errors
    /// The host does not take them.
    pub fn discard(&self, gpa: GuestPhysAddr, len: u64) -> io::Result<()> {
        let Some(range) = GuestPhysAddrRange::new(gpa, len) else { return Ok(()) };
        let map = self.map.load();
        for area in map.ram().filter(|area| area.range.overlaps(&range)) {
            let first = range.first().max(area.range.first());
            let last = range.last().min(area.range.last());
            let start = first.0 - area.range.first().0;
            host_memory::discard(&area.region, start, last.0 - first.0 + 1)?;
        }
        Ok(())
    }
}

impl GuestBuffer {
    /// Gives the pages of its bytes back to the host, as [`AddrSpace::discard`] does.
    ///
    /// # Errors
    /// The host does not take them.
    pub fn discard(&self) -> io::Result<()> {
        let map = self.map();
        for piece in self.iovecs() {
            let place = piece.iov_base as usize;
            // A piece lies in one area.
            let offset = |area: &&Arc<Area>| {
                let base = area.region.get_host_address(MemoryRegionAddress(0)).ok()? as usize;
                let offset = place.checked_sub(base)? as u64;
                (offset < area.region.len()).then_some(offset)
            };
            let found = map.ram().find_map(|area| Some((area, offset(&area)?)));
            if let Some((area, start)) = found {
                host_memory::discard(&area.region, start, piece.iov_len as u64)?;
            }
        }
        Ok(())
    }
}

impl Map {
    /// The areas that are the guest's own to write.
    fn ram(&self) -> impl Iterator<Item = &Arc<Area>> {
        let open = MappingFlags::READ | MappingFlags::WRITE;
        let is_ram =
            move |area: &&Arc<Area>| area.content != Content::Kept && area.flags.contains(open);
        self.areas.iter().filter(is_ram)
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, FileOffset, GuestAddress, GuestRegionMmap, MmapRegion};

    use super::*;
    use crate::addrspace::{
        FileMapping, SharedMemory,
        tests::{BASE, RW, SIZE, space},
    };

    const PAGE: u64 = 4096;

    /// Which pages of so many from `gpa` on still hold what was put there.
    fn kept(space: &AddrSpace, gpa: u64, pages: u64) -> Vec<bool> {
        let is_kept = |page| {
            let mut bytes = [0; PAGE as usize];
            space.read(GuestPhysAddr(gpa + page * PAGE), &mut bytes).unwrap();
            assert!(bytes.iter().all(|byte| *byte == bytes[0]));
            bytes[0] == 7
        };
        (0..pages).map(is_kept).collect()
    }

    fn fill(space: &AddrSpace, gpa: u64, pages: u64) {
        space.write(GuestPhysAddr(gpa), &vec![7; (pages * PAGE) as usize]).unwrap();
    }

    #[test]
    fn whole_pages_go_and_no_byte_beside_them() {
        let (space, _slots) = space();
        let page = host_memory::host_page_size();
        // Pages of the host's are those that can go.
        let small = page / PAGE;
        fill(&space, BASE.0, 8 * small);
        let kept = || kept(&space, BASE.0, 8 * small);
        for (from, len) in [(0, 0), (0, page - 1), (1, page), (page - 1, 2), (2 * page + 1, page)] {
            space.discard(GuestPhysAddr(BASE.0 + from), len).unwrap();
            assert!(!kept().contains(&false), "{len:#x} bytes at {from:#x}");
        }
        space.discard(GuestPhysAddr(BASE.0 + page - 1), 2 * page + 1).unwrap();
        let gone: Vec<bool> = kept().chunks(small as usize).map(|page| !page[0]).collect();
        assert_eq!(gone, [false, true, true, false, false, false, false, false]);
    }

    #[test]
    fn what_is_no_ram_of_the_guests_stays() {
        let (space, _slots) = space();
        let at = |n: u64| BASE.0 + SIZE + n * SIZE;
        space.map_alloc(GuestPhysAddr(at(0)), SIZE, MappingFlags::READ, true).unwrap();
        let shared = SharedMemory::new(SIZE).unwrap();
        space.map_region(GuestPhysAddr(at(1)), &shared, RW).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(SIZE).unwrap();
        let mapping = FileMapping::Shared;
        space.map_file(GuestPhysAddr(at(2)), SIZE, Arc::new(file), mapping).unwrap();
        let pages = SIZE / PAGE;
        for area in 0..4 {
            fill(&space, BASE.0 + area * SIZE, pages);
        }
        space.discard(GuestPhysAddr(0), u64::MAX).unwrap();
        space.discard(GuestPhysAddr(u64::MAX - 5), 100).unwrap();
        space.discard(GuestPhysAddr(at(7)), 0x1000).unwrap();
        assert!(!kept(&space, BASE.0, pages).contains(&true));
        for area in 0..3 {
            assert!(!kept(&space, at(area), pages).contains(&false), "area {area}");
        }
    }

    #[test]
    fn buffers_in_ram_are_discarded_in_pieces() {
        let (space, _slots) = space();
        let space = Arc::new(space);
        let page = host_memory::host_page_size();
        let small = page / PAGE;
        fill(&space, BASE.0, 8 * small);
        let mut buffer = space.device_memory().buffer();
        for (n, len) in [(1, page), (3, page - 1), (5, 2 * page)] {
            buffer.push(GuestPhysAddr(BASE.0 + n * page), len as u32).unwrap();
        }
        buffer.build().discard().unwrap();
        let kept = kept(&space, BASE.0, 8 * small);
        let gone: Vec<bool> = kept.chunks(small as usize).map(|page| !page[0]).collect();
        assert_eq!(gone, [false, true, false, false, false, true, true, false]);
    }

    #[test]
    fn shared_pages_go_for_all_who_map_them() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        file.set_len(SIZE).unwrap();
        let map = || {
            let file = FileOffset::from_arc(file.clone(), 0);
            let mapping = MmapRegion::from_file(file, SIZE as usize).unwrap();
            GuestRegionMmap::new(mapping, GuestAddress(0)).unwrap()
        };
        let (one, other) = (map(), map());
        one.write_slice(&[7; SIZE as usize], MemoryRegionAddress(0)).unwrap();
        let page = host_memory::host_page_size();
        host_memory::discard(&one, page, 2 * page).unwrap();
        let byte = |at| other.read_obj::<u8>(MemoryRegionAddress(at)).unwrap();
        assert_eq!([page - 1, page, 3 * page - 1, 3 * page].map(byte), [7, 0, 0, 7]);
        assert_eq!(file.metadata().unwrap().len(), SIZE);
    }
}
