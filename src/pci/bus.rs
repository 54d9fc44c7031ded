//! The bus: its functions by their slots, and where their BARs answer just now.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{PciFunction, Slotted};
use crate::{
    addr::{AccessWidth, DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange},
    devices::RegisterMap,
};

/// How many devices a bus has room for.
pub const SLOTS: u8 = 32;
/// How many functions a device may have.
pub(super) const FUNCTIONS: u64 = 8;
/// How many bytes of configuration space each of them has.
pub(super) const FUNCTION: u64 = 0x1000;

/// A bus with its aperture.
pub struct Bus {
    /// By slot.
    functions: Vec<Option<Box<dyn PciFunction>>>,
    aperture: GuestPhysAddrRange,
    /// Where the BARs are that answer, ascending by slot and number: an access takes no lock.
    places: ArcSwap<Vec<Place>>,
    moving: Mutex<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    slot: usize,
    bar: usize,
    range: GuestPhysAddrRange,
}

impl Bus {
    /// A bus with `functions` in their slots, whose BARs can answer inside of `aperture`. Those in
    /// slots that a bus does not have are dropped.
    pub fn new(
        functions: impl IntoIterator<Item = Slotted>,
        aperture: GuestPhysAddrRange,
    ) -> Arc<Self> {
        let mut slots: Vec<Option<Box<dyn PciFunction>>> = (0..SLOTS).map(|_| None).collect();
        for (slot, function) in functions {
            if let Some(place) = slots.get_mut(usize::from(slot)) {
                *place = Some(function);
            }
        }
        Arc::new(Self {
            functions: slots,
            aperture,
            places: ArcSwap::default(),
            moving: Mutex::default(),
        })
    }

    /// The aperture.
    pub fn aperture(&self) -> GuestPhysAddrRange {
        self.aperture
    }

    /// The function in a slot.
    pub fn function(&self, slot: usize) -> Option<&dyn PciFunction> {
        self.functions.get(slot)?.as_deref()
    }

    /// Whether reading configuration is, for some function, more than reading memory.
    pub fn reads_through(&self) -> bool {
        self.functions.iter().flatten().any(|function| function.reads_through())
    }

    /// Whose BAR has all of an access, which it is, and at which offset. Of BARs over each other the one in the
    /// lowest slot answers.
    pub fn find(
        &self,
        addr: GuestPhysAddr,
        width: AccessWidth,
    ) -> Option<(&dyn PciFunction, usize, u64)> {
        let last = addr.checked_add(width.size() as u64 - 1)?;
        let places = self.places.load();
        let Place { slot, bar, range } =
            places.iter().find(|it| it.range.contains(addr) && it.range.contains(last))?;
        Some((self.function(*slot)?, *bar, addr.0 - range.first().0))
    }

    /// The names of all devices, by their slots.
    pub fn names(&self) -> Vec<String> {
        self.functions.iter().flatten().map(|it| it.name().to_owned()).collect()
    }

    /// What the registers of all devices are called, by their slots.
    pub fn registers(&self) -> Vec<RegisterMap> {
        let functions = self.functions.iter().flatten();
        functions.map(|it| it.registers()).collect()
    }

    /// Which of [`Self::names`] answers at an address.
    pub fn part_at(&self, addr: GuestPhysAddr) -> Option<usize> {
        let places = self.places.load();
        let slot = places.iter().find(|it| it.range.contains(addr))?.slot;
        Some(self.functions[..slot].iter().flatten().count())
    }

    /// The function in a slot may have been moved, or told to answer or not to: has it so.
    pub fn settle(&self, slot: usize) {
        let Some(function) = self.function(slot) else { return };
        let _moving = self.moving.lock();
        let is_inside = |range: &GuestPhysAddrRange| {
            self.aperture.contains(range.first()) && self.aperture.contains(range.last())
        };
        let mut new = function.places();
        new.retain(|(_, range)| is_inside(range));
        let mut places = Vec::clone(&self.places.load());
        let of_slot = places.iter().filter(|it| it.slot == slot);
        let old: Vec<_> = of_slot.map(|it| (it.bar, it.range)).collect();
        if new == old {
            return;
        }
        places.retain(|it| it.slot != slot);
        places.extend(new.iter().map(|(bar, range)| Place { slot, bar: *bar, range: *range }));
        places.sort_by_key(|it| (it.slot, it.bar));
        self.places.store(Arc::new(places));
        let is_new = |(bar, _): &&(usize, _)| new.iter().all(|(other, _)| other != bar);
        for (bar, _) in old.iter().filter(is_new) {
            function.moved(*bar, None);
        }
        for (bar, range) in new.iter().filter(|it| !old.contains(it)) {
            function.moved(*bar, Some(range.first()));
        }
    }
}
