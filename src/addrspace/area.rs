//! One area of guest memory, and which pieces of it the guest's hardware has.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use vm_memory::GuestRegionMmap;

use crate::{
    addr::{AddrRange, DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange, MappingFlags},
    hal::{HalResult, MemorySlots},
};

/// A lazy area is given in at most about so many pieces: hosts have some hundred slots at least
/// (512 on older arm64 kernels), and each new one makes all vCPUs wait for a moment.
const PIECES: u64 = 128;
/// And no piece is smaller than this, in bytes.
const SMALLEST_PIECE: u64 = 16 << 20;

/// No slot stands for this piece.
const NOT_GIVEN: u64 = u64::MAX;

/// The numbers of slots, each used once at a time.
#[derive(Default)]
pub struct SlotNumbers {
    free: Vec<u32>,
    next: u32,
}

impl SlotNumbers {
    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    fn put_back(&mut self, slot: u32) {
        self.free.push(slot);
    }
}

/// What becomes of an area's bytes when the host takes their pages back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Zeros: it is the guest's own, and nobody else's.
    Ram,
    /// It is of value, or somebody else's too.
    Kept,
    /// The guest's own, in a file that other processes may map.
    Shared,
}

/// An area of guest memory.
pub struct Area {
    pub range: GuestPhysAddrRange,
    pub flags: MappingFlags,
    pub region: Arc<GuestRegionMmap>,
    pub content: Content,
    lazy: bool,
    /// In bytes, a power of two; pieces begin at its multiples, so that the hardware's large pages
    /// fit into them.
    piece_size: u64,
    /// For each piece its slot, or `NOT_GIVEN`. Written under the address space's lock.
    pieces: Box<[AtomicU64]>,
}

impl Area {
    /// An area that the hardware gets as a whole.
    pub fn whole(
        range: GuestPhysAddrRange,
        flags: MappingFlags,
        region: Arc<GuestRegionMmap>,
        content: Content,
    ) -> Self {
        let pieces = [AtomicU64::new(NOT_GIVEN)].into();
        Self { range, flags, region, content, lazy: false, piece_size: 0, pieces }
    }

    /// RAM that the hardware gets piece by piece, as they are touched.
    pub fn lazy(
        range: GuestPhysAddrRange,
        flags: MappingFlags,
        region: Arc<GuestRegionMmap>,
    ) -> Self {
        let piece_size = (range.len() / PIECES).max(SMALLEST_PIECE).next_power_of_two();
        let count = range.last().0 / piece_size - range.first().0 / piece_size + 1;
        let pieces = (0..count).map(|_| AtomicU64::new(NOT_GIVEN)).collect();
        Self { range, flags, region, content: Content::Ram, lazy: true, piece_size, pieces }
    }

    pub fn is_lazy(&self) -> bool {
        self.lazy
    }

    /// How many bytes of it the hardware has.
    pub fn given(&self) -> u64 {
        let given = |piece: &usize| self.pieces[*piece].load(Ordering::Acquire) != NOT_GIVEN;
        (0..self.pieces.len()).filter(given).map(|piece| self.piece(piece).len()).sum()
    }

    /// Which piece has this address, which lies in the area.
    pub fn piece_of(&self, gpa: GuestPhysAddr) -> usize {
        match self.lazy {
            true => (gpa.0 / self.piece_size - self.range.first().0 / self.piece_size) as usize,
            false => 0,
        }
    }

    fn piece(&self, index: usize) -> GuestPhysAddrRange {
        if !self.lazy {
            return self.range;
        }
        let number = self.range.first().0 / self.piece_size + index as u64;
        let (first, last) =
            (number * self.piece_size, number * self.piece_size + self.piece_size - 1);
        let first = GuestPhysAddr(first).max(self.range.first());
        let last = GuestPhysAddr(last).min(self.range.last());
        // A piece that is there has an address inside the area.
        AddrRange::inclusive(first, last).unwrap_or(self.range)
    }

    /// Gives the hardware a piece, if it does not have it yet.
    pub fn give(
        &self,
        index: usize,
        slots: &dyn MemorySlots,
        numbers: &mut SlotNumbers,
    ) -> HalResult {
        let Some(piece) = self.pieces.get(index) else { return Ok(()) };
        if piece.load(Ordering::Acquire) != NOT_GIVEN {
            return Ok(());
        }
        let slot = numbers.take();
        if let Err(error) = slots.map_memory(slot, &self.region, self.piece(index), self.flags) {
            numbers.put_back(slot);
            return Err(error);
        }
        piece.store(slot.into(), Ordering::Release);
        Ok(())
    }

    /// Gives the hardware all that it does not have yet.
    pub fn give_all(&self, slots: &dyn MemorySlots, numbers: &mut SlotNumbers) -> HalResult {
        (0..self.pieces.len()).try_for_each(|index| self.give(index, slots, numbers))
    }

    /// Takes all back from the hardware; also what comes after a failure.
    pub fn take_back(&self, slots: &dyn MemorySlots, numbers: &mut SlotNumbers) -> HalResult {
        let mut result = Ok(());
        for piece in &self.pieces {
            let Ok(slot) = u32::try_from(piece.swap(NOT_GIVEN, Ordering::AcqRel)) else { continue };
            match slots.unmap_memory(slot) {
                Ok(()) => numbers.put_back(slot),
                Err(error) => result = Err(error),
            }
        }
        result
    }
}
