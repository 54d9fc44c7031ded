use std::io::Write;

use super::*;
use crate::hal::HalResult;

/// Slots that are only counted.
#[derive(Default)]
struct Slots(Mutex<Vec<(u32, u64)>>);

impl MemorySlots for Slots {
    fn map_memory(&self, slot: u32, region: &Arc<GuestRegionMmap>, _: MappingFlags) -> HalResult {
        use vm_memory::GuestMemoryRegion;
        self.0.lock().unwrap().push((slot, region.len()));
        Ok(())
    }

    fn unmap_memory(&self, slot: u32) -> HalResult {
        self.0.lock().unwrap().retain(|(mapped, _)| *mapped != slot);
        Ok(())
    }
}

const BASE: GuestPhysAddr = GuestPhysAddr(0x8000_0000);
const SIZE: u64 = 0x10_0000;
const RW: MappingFlags = MappingFlags::READ.union(MappingFlags::WRITE);

fn space() -> (AddrSpace, Arc<Slots>) {
    let slots = Arc::new(Slots::default());
    let mut space = AddrSpace::new_empty(slots.clone());
    space.map_alloc(BASE, SIZE, RW, true).unwrap();
    (space, slots)
}

#[test]
fn areas_are_aligned_do_not_wrap_and_do_not_overlap() {
    let (mut space, _slots) = space();
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
    let (mut space, _slots) = space();
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

#[test]
fn lazy_memory_is_given_at_the_first_touch() {
    let (mut space, slots) = space();
    let lazy = GuestPhysAddr(0x1_0000_0000);
    space.map_alloc(lazy, 1 << 30, MappingFlags::READ, false).unwrap();
    assert_eq!(slots.0.lock().unwrap().len(), 1);
    assert!(!space.handle_page_fault(lazy, MappingFlags::WRITE), "its flags forbid that");
    assert!(!space.handle_page_fault(BASE, MappingFlags::READ), "never lazy");
    assert!(!space.handle_page_fault(GuestPhysAddr(0), MappingFlags::READ), "no area");
    let last = GuestPhysAddr(lazy.0 + (1 << 30) - 1);
    assert!(space.handle_page_fault(last, MappingFlags::READ));
    assert!(space.handle_page_fault(lazy, MappingFlags::READ), "another vCPU was faster");
    assert_eq!(*slots.0.lock().unwrap(), [(0, SIZE), (1, 1 << 30)]);
}

#[test]
fn many_cpus_may_touch_lazy_memory_at_once() {
    let (mut space, slots) = space();
    let lazy = GuestPhysAddr(0x1_0000_0000);
    space.map_alloc(lazy, 1 << 20, MappingFlags::READ, false).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(space.handle_page_fault(lazy, MappingFlags::READ)));
        }
    });
    assert_eq!(slots.0.lock().unwrap().len(), 2);
}
