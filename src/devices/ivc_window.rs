//! The addresses that a guest's inter-VM channels come to be at (AxVisor's emulated device of type
//! 0x0A, "IVC channel").

use parking_lot::Mutex;
use vm_allocator::{AddressAllocator, AllocPolicy};

use crate::addr::{DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange};

/// Channels are whole pages of this many bytes.
pub const PAGE_SIZE: u64 = 4096;

/// Which of a window's addresses are in use.
#[derive(Debug)]
pub struct IvcWindow {
    range: GuestPhysAddrRange,
    taken: Mutex<Taken>,
}

#[derive(Debug)]
struct Taken {
    addresses: AddressAllocator,
    /// Channels in use: address and size.
    channels: Vec<(GuestPhysAddr, u64)>,
}

impl IvcWindow {
    /// All of `range`, free; `None` if it is not whole pages.
    pub fn new(range: GuestPhysAddrRange) -> Option<Self> {
        if range.first().0 % PAGE_SIZE != 0 || range.len() % PAGE_SIZE != 0 {
            return None;
        }
        let addresses = AddressAllocator::new(range.first().0, range.len()).ok()?;
        let taken = Taken { addresses, channels: Vec::new() };
        Some(Self { range, taken: Mutex::new(taken) })
    }

    /// Its addresses.
    pub fn range(&self) -> GuestPhysAddrRange {
        self.range
    }

    /// The lowest free addresses for `size` bytes, rounded up to whole pages, and that size; `None`
    /// if there are none, or `size` is 0.
    pub fn alloc(&self, size: u64) -> Option<(GuestPhysAddr, u64)> {
        let size = size.checked_next_multiple_of(PAGE_SIZE).filter(|size| *size > 0)?;
        let mut taken = self.taken.lock();
        let range = taken.addresses.allocate(size, PAGE_SIZE, AllocPolicy::FirstMatch).ok()?;
        let gpa = GuestPhysAddr(range.start());
        taken.channels.push((gpa, size));
        Some((gpa, size))
    }

    /// Gives back what [`Self::alloc`] gave; `false`: it is not in use.
    pub fn release(&self, gpa: GuestPhysAddr, size: u64) -> bool {
        let mut taken = self.taken.lock();
        let Some(at) = taken.channels.iter().position(|channel| *channel == (gpa, size)) else {
            return false;
        };
        taken.channels.swap_remove(at);
        let range = vm_allocator::RangeInclusive::new(gpa.0, gpa.0.saturating_add(size - 1));
        range.is_ok_and(|range| taken.addresses.free(&range).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(first: u64, size: u64) -> Option<IvcWindow> {
        IvcWindow::new(GuestPhysAddrRange::new(GuestPhysAddr(first), size).unwrap())
    }

    #[test]
    fn a_window_is_whole_pages() {
        for (first, size) in [(0x1001, 0x1000), (0x1000, 0xfff), (0x1000, 1)] {
            assert!(window(first, size).is_none(), "{first:#x} {size:#x}");
        }
        assert!(window(u64::MAX - 0xfff, 0x1000).is_some());
    }

    #[test]
    fn addresses_are_given_once_and_come_back() {
        let window = window(0x10_0000, 0x4000).unwrap();
        assert_eq!(window.alloc(0x1001), Some((GuestPhysAddr(0x10_0000), 0x2000)));
        assert_eq!(window.alloc(1), Some((GuestPhysAddr(0x10_2000), 0x1000)));
        for size in [0, 0x1001, u64::MAX, u64::MAX - 0xfff] {
            assert_eq!(window.alloc(size), None, "{size:#x}");
        }
        assert!(window.release(GuestPhysAddr(0x10_0000), 0x2000));
        for (gpa, size) in [(0x10_0000, 0x2000), (0x10_2000, 0x2000), (0x10_2000, 0), (0, 0x1000)] {
            assert!(!window.release(GuestPhysAddr(gpa), size), "{gpa:#x} {size:#x}");
        }
        assert_eq!(window.alloc(0x2000), Some((GuestPhysAddr(0x10_0000), 0x2000)));
        assert_eq!(window.alloc(0x1000), Some((GuestPhysAddr(0x10_3000), 0x1000)));
        assert_eq!(window.alloc(1), None, "full");
    }
}
