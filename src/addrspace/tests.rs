use std::{
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
};

use super::*;
use crate::hal::HalResult;

/// Slots that are only counted; whether they are refused.
#[derive(Default)]
pub struct Slots(Mutex<Vec<(u32, u64)>>, AtomicBool);

impl MemorySlots for Slots {
    fn map_memory(
        &self,
        slot: u32,
        _: &Arc<GuestRegionMmap>,
        range: GuestPhysAddrRange,
        _: MappingFlags,
    ) -> HalResult {
        if self.1.load(Ordering::Relaxed) {
            return Err(HalError::failed("map", io::Error::from(io::ErrorKind::OutOfMemory)));
        }
        self.0.lock().push((slot, range.len()));
        Ok(())
    }

    fn unmap_memory(&self, slot: u32) -> HalResult {
        self.0.lock().retain(|(mapped, _)| *mapped != slot);
        Ok(())
    }
}

pub const BASE: GuestPhysAddr = GuestPhysAddr(0x8000_0000);
pub const SIZE: u64 = 0x10_0000;
pub const RW: MappingFlags = MappingFlags::READ.union(MappingFlags::WRITE);

pub fn space() -> (AddrSpace, Arc<Slots>) {
    let slots = Arc::new(Slots::default());
    let space = AddrSpace::new_empty(slots.clone());
    space.map_alloc(BASE, SIZE, RW, true).unwrap();
    (space, slots)
}

#[test]
fn areas_are_aligned_do_not_wrap_and_do_not_overlap() {
    let (space, _slots) = space();
    for (gpa, size) in [
        (0x1000, 0),
        (0x1001, 0x1000),
        (0x1000, 0xfff),
        (u64::MAX - 0xfff, 0x2000),
        (0x2000, u64::MAX - 0xfff),
    ] {
        let error = space.map_alloc(GuestPhysAddr(gpa), size, RW, true).unwrap_err();
        assert!(matches!(error, Error::BadRange { .. }), "{gpa:#x} {size:#x}: {error}");
    }
    for (gpa, size) in [(BASE.0, SIZE), (BASE.0 - 0x1000, 0x2000), (BASE.0 + SIZE - 0x1000, SIZE)] {
        let error = space.map_alloc(GuestPhysAddr(gpa), size, RW, true).unwrap_err();
        assert!(matches!(error, Error::Overlap { .. }), "{gpa:#x} {size:#x}: {error}");
    }
    space.map_alloc(GuestPhysAddr(BASE.0 + SIZE), 0x1000, RW, true).unwrap();
}

#[test]
fn memory_that_the_host_has_not_is_an_error_that_names_the_size() {
    let (space, _slots) = space();
    let size = 1 << 46;
    let error = space.map_alloc(GuestPhysAddr(1 << 47), size, RW, true);
    // A host with so much address space to give is fine as well.
    if let Err(error) = error {
        assert!(error.to_string().contains(&size.to_string()), "{error}");
    }
}

#[test]
fn accesses_are_bounded_by_what_is_left_of_the_area() {
    let (space, _slots) = space();
    let end = BASE.0 + SIZE;
    let mut word = [0; 4];
    space.write(GuestPhysAddr(end - 4), &[1, 2, 3, 4]).unwrap();
    space.read(GuestPhysAddr(end - 4), &mut word).unwrap();
    assert_eq!(word, [1, 2, 3, 4]);
    for gpa in [end - 3, end, BASE.0 - 1, u64::MAX, u64::MAX - 3] {
        let gpa = GuestPhysAddr(gpa);
        assert!(matches!(space.read(gpa, &mut word), Err(Error::OutsideMemory { .. })), "{gpa}");
        assert!(matches!(space.write(gpa, &word), Err(Error::OutsideMemory { .. })), "{gpa}");
    }
}

#[test]
fn files_are_read_to_their_place_and_no_further() {
    let (space, _slots) = space();
    let mut file = tempfile::tempfile().unwrap();
    let contents: Vec<u8> = (0..10_000u32).map(|i| i as u8).collect();
    file.write_all(&contents).unwrap();
    let at = GuestPhysAddr(BASE.0 + 0x1234);
    space.load_file(at, &file, 100, 9000).unwrap();
    let mut read = vec![0; 9001];
    space.read(at, &mut read).unwrap();
    assert_eq!(read[..9000], contents[100..9100]);
    assert_eq!(read[9000], 0);
    space.load_file(at, &file, 0, 0).unwrap();
    let short = space.load_file(at, &file, 5000, 9000).unwrap_err();
    assert!(matches!(short, Error::ReadFile { .. }), "{short}");
    for (gpa, len) in
        [(BASE.0 + SIZE - 1, 2), (BASE.0 - 1, 2), (BASE.0, SIZE + 1), (BASE.0, u64::MAX)]
    {
        let error = space.load_file(GuestPhysAddr(gpa), &file, 0, len).unwrap_err();
        assert!(matches!(error, Error::OutsideMemory { .. }), "{gpa:#x} {len:#x}: {error}");
    }
}

const LAZY: GuestPhysAddr = GuestPhysAddr(0x1_0000_0000);
const MIB: u64 = 1 << 20;

fn given(slots: &Slots) -> Vec<(u32, u64)> {
    slots.0.lock().clone()
}

#[test]
fn lazy_memory_is_given_piece_by_piece_at_the_first_touch() {
    let (space, slots) = space();
    space.map_alloc(LAZY, 64 * MIB + PAGE_SIZE, MappingFlags::READ, false).unwrap();
    assert_eq!(given(&slots).len(), 1);
    assert!(!space.handle_page_fault(LAZY, MappingFlags::WRITE), "its flags forbid that");
    assert!(!space.handle_page_fault(BASE, MappingFlags::READ), "never lazy");
    assert!(!space.handle_page_fault(GuestPhysAddr(0), MappingFlags::READ), "no area");
    assert_eq!(given(&slots).len(), 1);
    let last = GuestPhysAddr(LAZY.0 + 64 * MIB + PAGE_SIZE - 1);
    assert!(space.handle_page_fault(last, MappingFlags::READ));
    assert!(space.handle_page_fault(LAZY, MappingFlags::READ));
    assert!(space.handle_page_fault(LAZY, MappingFlags::READ), "another vCPU was faster");
    assert_eq!(given(&slots), [(0, SIZE), (1, PAGE_SIZE), (2, 16 * MIB)]);
    let area = space.memory_areas()[1];
    assert_eq!((area.size, area.given), (64 * MIB + PAGE_SIZE, 16 * MIB + PAGE_SIZE));
    assert!(space.give_all());
    assert_eq!(space.memory_areas()[1].given, 64 * MIB + PAGE_SIZE);
    assert!(!space.give_all(), "nothing is left to give");
}

#[test]
fn pieces_begin_and_end_with_their_area() {
    let (space, slots) = space();
    let odd = GuestPhysAddr(LAZY.0 + 16 * MIB - PAGE_SIZE);
    space.map_alloc(odd, 2 * PAGE_SIZE, MappingFlags::READ, false).unwrap();
    assert!(space.handle_page_fault(odd, MappingFlags::READ));
    assert!(space.handle_page_fault(GuestPhysAddr(odd.0 + PAGE_SIZE), MappingFlags::READ));
    assert_eq!(given(&slots)[1..], [(1, PAGE_SIZE), (2, PAGE_SIZE)]);
    // A terabyte is still few pieces.
    let big = GuestPhysAddr(1 << 41);
    space.map_alloc(big, 1 << 40, MappingFlags::READ, false).unwrap();
    assert!(space.handle_page_fault(big, MappingFlags::READ));
    assert_eq!(given(&slots)[3..], [(3, 1 << 33)]);
}

#[test]
fn what_is_loaded_into_lazy_memory_is_given_with_it() {
    let (space, slots) = space();
    space.map_alloc(LAZY, 64 * MIB, MappingFlags::READ, false).unwrap();
    space.write(GuestPhysAddr(LAZY.0 + 16 * MIB - 1), &[1, 2]).unwrap();
    assert_eq!(given(&slots)[1..], [(1, 16 * MIB), (2, 16 * MIB)]);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[1; 3]).unwrap();
    space.load_file(GuestPhysAddr(LAZY.0 + 48 * MIB), &file, 0, 3).unwrap();
    assert_eq!(space.memory_areas()[1].given, 48 * MIB);
}

#[test]
fn many_cpus_may_touch_lazy_memory_at_once() {
    let (space, slots) = space();
    space.map_alloc(LAZY, 1 << 20, MappingFlags::READ, false).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(space.handle_page_fault(LAZY, MappingFlags::READ)));
        }
    });
    assert_eq!(given(&slots).len(), 2);
}

#[test]
fn regions_are_shared_and_go_as_a_whole() {
    let (one, slots) = space();
    let (two, _slots) = space();
    let memory = SharedMemory::new(4 * PAGE_SIZE).unwrap();
    one.map_region(LAZY, &memory, RW).unwrap();
    two.map_region(GuestPhysAddr(0), &memory, MappingFlags::READ).unwrap();
    one.write_obj(GuestPhysAddr(LAZY.0 + 8), &0x1234_5678_9abc_def0u64).unwrap();
    assert_eq!(two.read_obj::<u64>(GuestPhysAddr(8)).unwrap(), 0x1234_5678_9abc_def0);
    let refused = two.write_obj(GuestPhysAddr(8), &0u64).unwrap_err();
    assert!(matches!(refused, Error::Forbidden { .. }), "{refused}");

    for (gpa, size) in [(LAZY.0, PAGE_SIZE), (LAZY.0 + PAGE_SIZE, PAGE_SIZE), (0, 4 * PAGE_SIZE)] {
        let error = one.unmap_region(GuestPhysAddr(gpa), size).unwrap_err();
        assert!(matches!(error, Error::NoSuchArea { .. }), "{gpa:#x} {size:#x}: {error}");
    }
    one.unmap_region(LAZY, 4 * PAGE_SIZE).unwrap();
    assert_eq!(given(&slots), [(0, SIZE)]);
    assert!(matches!(one.read_obj::<u8>(LAZY), Err(Error::OutsideMemory { .. })));
    // Its slot is free again, and the other still has the memory.
    one.map_alloc(LAZY, PAGE_SIZE, RW, true).unwrap();
    assert_eq!(given(&slots), [(0, SIZE), (1, PAGE_SIZE)]);
    assert_eq!(two.read_obj::<u64>(GuestPhysAddr(8)).unwrap(), 0x1234_5678_9abc_def0);
}

#[test]
fn shared_memory_is_whole_pages() {
    for size in [0, 1, PAGE_SIZE + 1, !(PAGE_SIZE - 1)] {
        let error = SharedMemory::new(size).unwrap_err();
        assert!(matches!(error, Error::NoSharedMemory { .. }), "{size:#x}: {error}");
    }
}

#[test]
fn objects_are_aligned_and_inside() {
    let (space, _slots) = space();
    let end = BASE.0 + SIZE;
    space.write_obj(GuestPhysAddr(end - 8), &7u64).unwrap();
    assert_eq!(space.read_obj::<u64>(GuestPhysAddr(end - 8)).unwrap(), 7);
    let unaligned = space.read_obj::<u64>(GuestPhysAddr(end - 12)).unwrap_err();
    assert!(matches!(unaligned, Error::Unaligned { .. }), "{unaligned}");
    for gpa in [end, BASE.0 - 8, u64::MAX - 7] {
        let error = space.write_obj(GuestPhysAddr(gpa), &0u64).unwrap_err();
        assert!(matches!(error, Error::OutsideMemory { .. }), "{gpa:#x}: {error}");
    }
    // What crosses its end leaves nothing behind.
    let error = space.write_obj(GuestPhysAddr(end - 8), &[1u64, 2]).unwrap_err();
    assert!(matches!(error, Error::OutsideMemory { .. }), "{error}");
    assert_eq!(space.read_obj::<u64>(GuestPhysAddr(end - 8)).unwrap(), 7);
    // Neighbours are as good as one area.
    space.map_alloc(GuestPhysAddr(end), PAGE_SIZE, RW, true).unwrap();
    space.write_obj(GuestPhysAddr(end - 8), &[1u64, 2]).unwrap();
    assert_eq!(space.read_obj::<[u64; 2]>(GuestPhysAddr(end - 8)).unwrap(), [1, 2]);
}

#[test]
fn a_device_may_ask_of_any_length() {
    let (space, _slots) = space();
    assert!(space.allows(BASE, SIZE, RW));
    assert!(space.allows(BASE, 0, RW) && space.allows(GuestPhysAddr(0), 0, RW));
    assert!(!space.allows(BASE, SIZE, MappingFlags::EXECUTE));
    for (gpa, len) in [(BASE.0, SIZE + 1), (BASE.0, u64::MAX), (u64::MAX, 1), (u64::MAX, u64::MAX)]
    {
        assert!(!space.allows(GuestPhysAddr(gpa), len, RW), "{gpa:#x} {len:#x}");
    }
}

#[test]
fn what_the_hardware_refuses_is_not_there() {
    let (space, slots) = space();
    space.map_alloc(LAZY, PAGE_SIZE, RW, false).unwrap();
    slots.1.store(true, Ordering::Relaxed);
    let refused = space.map_alloc(GuestPhysAddr(0), SIZE, RW, true).unwrap_err();
    assert!(matches!(refused, Error::Hal(_)), "{refused}");
    assert!(!space.contains(GuestPhysAddr(0)));
    assert!(!space.handle_page_fault(LAZY, RW));
    slots.1.store(false, Ordering::Relaxed);
    assert!(space.handle_page_fault(LAZY, RW), "a later try may succeed");
    space.map_alloc(GuestPhysAddr(0), SIZE, RW, true).unwrap();
}
