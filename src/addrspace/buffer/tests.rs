use std::{fs::File, io::Read, os::fd::AsFd, sync::Arc};

use parking_lot::Mutex;
use vm_memory::GuestRegionMmap;

use super::*;
use crate::{
    addr::{DeviceAddrRange, GuestPhysAddrRange, MappingFlags},
    addrspace::AddrSpace,
    hal::{HalResult, MemorySlots},
};

/// Remembers which ranges the hardware has been given.
#[derive(Default)]
struct Slots(Mutex<Vec<GuestPhysAddrRange>>);

impl MemorySlots for Slots {
    fn map_memory(
        &self,
        _: u32,
        _: &Arc<GuestRegionMmap>,
        range: GuestPhysAddrRange,
        _: MappingFlags,
    ) -> HalResult {
        self.0.lock().push(range);
        Ok(())
    }

    fn unmap_memory(&self, _: u32) -> HalResult {
        Ok(())
    }
}

/// Two areas side by side at 0x10000 and 0x11000, one that the guest may only read at 0x20000.
fn space() -> Arc<AddrSpace> {
    let space = AddrSpace::new_empty(Arc::new(Slots::default()));
    for (gpa, flags) in [
        (0x1_0000, MappingFlags::all()),
        (0x1_1000, MappingFlags::READ | MappingFlags::WRITE),
        (0x2_0000, MappingFlags::READ),
        (0x3_0000, MappingFlags::WRITE),
    ] {
        space.map_alloc(GuestPhysAddr(gpa), 0x1000, flags, true).unwrap();
    }
    Arc::new(space)
}

/// A buffer of ranges: address and length.
fn buffer(space: &Arc<AddrSpace>, ranges: &[(u64, u32)]) -> Option<GuestBuffer> {
    let mut builder = space.device_memory().buffer();
    for (gpa, len) in ranges {
        builder.push(GuestPhysAddr(*gpa), *len)?;
    }
    Some(builder.build())
}

#[test]
fn only_what_the_guest_may_read_and_write() {
    let space = space();
    for (gpa, len) in
        [(0x1_0000, 1), (0x1_0000, 0x2000), (0x1_0fff, 2), (0x1_1fff, 1), (0x1_0000, 0)]
    {
        assert_eq!(buffer(&space, &[(gpa, len)]).unwrap().len(), len as usize);
    }
    for (gpa, len) in [
        (0xffff, 1),
        (0xffff, 2),
        (0x1_1fff, 2),
        (0x2_0000, 1),
        (0x3_0000, 1),
        (0x1_0000, u32::MAX),
        (u64::MAX, 1),
        (u64::MAX, u32::MAX),
    ] {
        assert!(buffer(&space, &[(gpa, len)]).is_none(), "{len} at {gpa:#x}");
    }
}

#[test]
fn what_does_not_fit_leaves_a_builder_as_it_was() {
    let space = space();
    let mut builder = space.device_memory().buffer();
    builder.push(GuestPhysAddr(0x1_0000), 8).unwrap();
    assert!(builder.push(GuestPhysAddr(0x1_1000), 0x1001).is_none());
    let buffer = builder.build();
    assert_eq!((buffer.len(), buffer.iovecs().len()), (8, 1));
}

#[test]
fn bytes_go_over_the_seams_of_pieces_and_areas() {
    let space = space();
    // Backwards, and over the border of two areas.
    let ranges = [(0x1_1ff8, 8), (0x1_0000, 3), (0x1_0ffe, 5), (0x1_0100, 0)];
    let buffer = buffer(&space, &ranges).unwrap();
    let bytes: Vec<u8> = (1..=16).collect();
    buffer.write_at(0, &bytes).unwrap();
    let mut read = [0; 16];
    buffer.read_at(0, &mut read).unwrap();
    assert_eq!(read.to_vec(), bytes);
    let mut two = [0; 2];
    space.read(GuestPhysAddr(0x1_0ffe), &mut two).unwrap();
    assert_eq!(two, [12, 13]);
    assert_eq!(buffer.read_obj_at::<u32>(6), Some(u32::from_le_bytes([7, 8, 9, 10])));
    buffer.zero_at(7, 3).unwrap();
    assert_eq!(buffer.read_obj_at::<[u8; 5]>(6), Some([7, 0, 0, 0, 11]));
    for (offset, len) in [(0, 17), (16, 1), (17, 0), (usize::MAX, 1), (usize::MAX, usize::MAX)] {
        assert!(buffer.zero_at(offset, len).is_none(), "{len} at {offset}");
    }
    assert!(buffer.write_at(10, &[1; 7]).is_none());
    assert_eq!(
        buffer.read_obj_at::<u16>(10),
        Some(u16::from_le_bytes([11, 12])),
        "nothing is written"
    );
    assert!(buffer.read_at(16, &mut []).is_some());
}

#[test]
fn a_buffer_is_split_anywhere() {
    let space = space();
    let ranges = [(0x1_0000, 4), (0x1_0100, 4)];
    for at in 0..=8 {
        let whole = buffer(&space, &ranges).unwrap();
        whole.write_at(0, b"abcdefgh").unwrap();
        let (first, rest) = whole.split_at(at).unwrap();
        assert_eq!((first.len(), rest.len()), (at, 8 - at));
        let (mut a, mut b) = (vec![0; at], vec![0; 8 - at]);
        first.read_at(0, &mut a).unwrap();
        rest.read_at(0, &mut b).unwrap();
        assert_eq!([a, b].concat(), b"abcdefgh");
        assert!(first.iovecs().iter().chain(rest.iovecs()).all(|piece| piece.iov_len > 0));
    }
    assert!(buffer(&space, &ranges).unwrap().split_at(9).is_none());
}

#[test]
fn files_are_read_into_it_and_written_out_of_it() {
    let space = space();
    let buffer = buffer(&space, &[(0x1_0000, 5), (0x1_1000, 5)]).unwrap();
    let file = tempfile::tempfile().unwrap();
    buffer.write_at(0, b"0123456789").unwrap();
    assert_eq!(buffer.write_to(file.as_fd(), Some(3)).unwrap(), 10);
    buffer.zero_at(0, 10).unwrap();
    assert_eq!(buffer.read_from(file.as_fd(), Some(5)).unwrap(), 8);
    assert_eq!(buffer.read_obj_at::<[u8; 10]>(0), Some(*b"23456789\0\0"));
    let too_far = buffer.read_from(file.as_fd(), Some(u64::MAX)).unwrap_err();
    assert_eq!(too_far.kind(), io::ErrorKind::InvalidInput);
    let null = File::open("/dev/null").unwrap();
    assert!(buffer.write_to(null.as_fd(), None).is_err(), "it is open for reading only");
    assert_eq!(buffer.read_from(null.as_fd(), None).unwrap(), 0);
    let mut written = String::new();
    let mut file = file;
    std::io::Seek::rewind(&mut file).unwrap();
    file.read_to_string(&mut written).unwrap();
    assert_eq!(written, "\0\0\x000123456789");
}

#[test]
fn it_outlives_the_area_that_it_lies_in() {
    let space = space();
    let buffer = buffer(&space, &[(0x1_0000, 16)]).unwrap();
    buffer.write_at(0, b"still here").unwrap();
    space.unmap_region(GuestPhysAddr(0x1_0000), 0x1000).unwrap();
    assert!(self::buffer(&space, &[(0x1_0000, 1)]).is_none());
    assert_eq!(buffer.read_obj_at::<[u8; 10]>(0), Some(*b"still here"));
    drop(space);
    assert_eq!(buffer.read_obj_at::<[u8; 10]>(0), Some(*b"still here"));
}

#[test]
fn lazy_memory_that_will_be_written_is_given_first() {
    let slots = Arc::new(Slots::default());
    let space = Arc::new(AddrSpace::new_empty(slots.clone()));
    let flags = MappingFlags::all();
    space.map_alloc(GuestPhysAddr(0x4000_0000), 1 << 30, flags, false).unwrap();
    let memory = space.device_memory();
    assert!(slots.0.lock().is_empty());
    memory.announce(GuestPhysAddr(0x5000_0000), 1);
    assert!(slots.0.lock().iter().any(|range| range.contains(GuestPhysAddr(0x5000_0000))));
    let given = slots.0.lock().len();
    memory.announce(GuestPhysAddr(0x5000_0000), 100);
    memory.announce(GuestPhysAddr(0), 100);
    assert_eq!(slots.0.lock().len(), given);
}
