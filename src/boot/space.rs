//! Who has which part of guest RAM before the guest runs.

use crate::addr::{DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange};

use super::error::SpaceError;

/// The guest's RAM and what is taken of it.
#[derive(Clone, Debug)]
pub struct Space {
    ram: Vec<GuestPhysAddrRange>,
    /// Sorted by address, without overlaps.
    taken: Vec<(GuestPhysAddrRange, String)>,
}

impl Space {
    pub fn new(ram: &[GuestPhysAddrRange]) -> Self {
        Self { ram: ram.to_vec(), taken: Vec::new() }
    }

    /// Keeps others off an area, whether or not there is RAM.
    pub fn reserve(&mut self, what: &str, range: GuestPhysAddrRange) {
        self.insert(what.to_owned(), range);
    }

    /// Takes `size` bytes at `gpa` for `what`: all in one piece of RAM, and not taken by another.
    /// Nothing is taken for a size of 0.
    pub fn claim(&mut self, what: &str, gpa: u64, size: u64) -> Result<(), SpaceError> {
        if size == 0 {
            return Ok(());
        }
        let range = GuestPhysAddrRange::new(GuestPhysAddr(gpa), size)
            .filter(|range| {
                self.ram.iter().any(|ram| ram.contains(range.first()) && ram.contains(range.last()))
            })
            .ok_or_else(|| SpaceError::OutsideRam {
                what: what.to_owned(),
                gpa,
                size,
                ram: self.ram.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            })?;
        if let Some((other_range, other)) = self.taken.iter().find(|(t, _)| t.overlaps(&range)) {
            return Err(SpaceError::Overlap {
                what: what.to_owned(),
                range,
                other: other.clone(),
                other_range: *other_range,
            });
        }
        self.insert(what.to_owned(), range);
        Ok(())
    }

    /// Takes the highest free `size` bytes that begin at a multiple of `align` (a power of two) and
    /// lie in `from..below`.
    pub fn take_high(
        &mut self,
        what: &str,
        size: u64,
        align: u64,
        (from, below): (u64, u64),
    ) -> Result<u64, SpaceError> {
        let fits = |&(start, end): &(u64, u64)| {
            let at = end.checked_sub(size)? & !(align - 1);
            (at >= start).then_some(at)
        };
        let found = self.free(from, below).iter().rev().find_map(fits);
        self.take(what, size, (from, below), found)
    }

    /// Takes the lowest free `size` bytes that begin at a multiple of `align` (a power of two) and
    /// lie in `from..below`.
    pub fn take_low(
        &mut self,
        what: &str,
        size: u64,
        align: u64,
        (from, below): (u64, u64),
    ) -> Result<u64, SpaceError> {
        let fits = |&(start, end): &(u64, u64)| {
            let at = start.checked_next_multiple_of(align)?;
            (at.checked_add(size)? <= end).then_some(at)
        };
        let found = self.free(from, below).iter().find_map(fits);
        self.take(what, size, (from, below), found)
    }

    fn take(
        &mut self,
        what: &str,
        size: u64,
        (from, below): (u64, u64),
        found: Option<u64>,
    ) -> Result<u64, SpaceError> {
        let gpa = found.ok_or_else(|| {
            let free = self.free(from, below).iter().map(|(s, e)| e - s).max().unwrap_or(0);
            SpaceError::NoRoom { what: what.to_owned(), size, from, below, free }
        })?;
        self.claim(what, gpa, size)?;
        Ok(gpa)
    }

    /// The free pieces of RAM in `from..below`, ascending, each as start and end.
    fn free(&self, from: u64, below: u64) -> Vec<(u64, u64)> {
        let mut pieces = Vec::new();
        for ram in &self.ram {
            let mut start = ram.first().0.max(from);
            let end = ram.last().0.saturating_add(1).min(below);
            for (taken, _) in &self.taken {
                if taken.last().0 < start || taken.first().0 >= end {
                    continue;
                }
                if taken.first().0 > start {
                    pieces.push((start, taken.first().0));
                }
                start = taken.last().0.saturating_add(1);
            }
            if start < end {
                pieces.push((start, end));
            }
        }
        pieces.sort_unstable();
        pieces
    }

    fn insert(&mut self, what: String, range: GuestPhysAddrRange) {
        let at = self.taken.partition_point(|(other, _)| other.first() < range.first());
        self.taken.insert(at, (range, what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, size: u64) -> GuestPhysAddrRange {
        GuestPhysAddrRange::new(GuestPhysAddr(first), size).unwrap()
    }

    fn space() -> Space {
        let mut space = Space::new(&[range(0, 0x10_0000), range(0x20_0000, 0x10_0000)]);
        space.reserve("the hole", range(0xa_0000, 0x6_0000));
        space.claim("a kernel", 0x20_0000, 0x8_0000).unwrap();
        space
    }

    #[test]
    fn claims_lie_in_one_piece_of_ram_and_never_overlap() {
        let mut space = space();
        for (gpa, size) in
            [(0x10_0000, 1), (0x2f_ffff, 2), (0xf_ffff, 0x10_0002), (u64::MAX, 2), (0, u64::MAX)]
        {
            let error = space.claim("x", gpa, size).unwrap_err();
            assert!(matches!(error, SpaceError::OutsideRam { .. }), "{error}");
        }
        let error = space.claim("an initrd", 0x27_ffff, 2).unwrap_err().to_string();
        assert_eq!(error, "an initrd at 0x27ffff-0x280000 overlaps a kernel at 0x200000-0x27ffff");
        space.claim("nothing", 0x20_0000, 0).unwrap();
        space.claim("what is left", 0x28_0000, 0x8_0000).unwrap();
    }

    #[test]
    fn places_are_sought_from_either_end() {
        let mut space = space();
        let all = (0, u64::MAX);
        assert_eq!(space.take_low("a", 0x10, 0x10, (0x6000, 0x9_0000)), Ok(0x6000));
        assert_eq!(space.take_low("b", 0x1000, 0x1000, (0x6000, 0x9_0000)), Ok(0x7000));
        assert_eq!(space.take_low("c", 0x20, 0x10, (0x6000, 0x9_0000)), Ok(0x6010));
        assert_eq!(space.take_high("d", 0x1001, 0x1000, all), Ok(0x2f_e000));
        assert_eq!(space.take_high("e", 0x7_f000, 0x1000, all), Ok(0x2_1000));
        assert_eq!(
            space.take_high("f", 0x10_0000, 1, all).unwrap_err().to_string(),
            "f has 1048576 bytes, but the largest free piece of RAM from 0x0 to \
             0xffffffffffffffff has 516096; give the guest more memory"
        );
    }
}
