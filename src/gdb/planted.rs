//! Breakpoint instructions in the guest's memory, and what was there before.
//!
//! They are kept by where they are in guest-physical memory: the same code may have several virtual
//! addresses, and the translation of one may change while a breakpoint is there.

use std::collections::BTreeMap;

use crate::{addr::GuestPhysAddr, addrspace::AddrSpace};

/// More would be a client's mistake.
const MOST: usize = 4096;

/// An instruction in another's place.
#[derive(Debug)]
struct Breakpoint {
    code: &'static [u8],
    original: Vec<u8>,
}

impl Breakpoint {
    fn overlaps(&self, own: u64, at: u64, len: usize) -> bool {
        own < at.saturating_add(len as u64) && at < own + self.code.len() as u64
    }
}

/// All breakpoints of a debugger.
#[derive(Debug, Default)]
pub struct Planted {
    breakpoints: BTreeMap<u64, Breakpoint>,
    /// Where the debugger thinks that they are.
    places: BTreeMap<u64, u64>,
    /// Those that are there for one step, by their virtual and physical addresses.
    temporary: Vec<(u64, u64)>,
}

impl Planted {
    /// Puts one where the debugger's address `addr` is in memory. `false`: that cannot be.
    pub fn plant(
        &mut self,
        memory: &AddrSpace,
        addr: u64,
        at: GuestPhysAddr,
        code: &'static [u8],
    ) -> bool {
        if self.places.len() >= MOST || !self.put(memory, at, code) {
            return false;
        }
        self.places.insert(addr, at.0);
        true
    }

    /// Puts one there until [`Self::end_step`].
    pub fn plant_for_step(
        &mut self,
        memory: &AddrSpace,
        addr: u64,
        at: GuestPhysAddr,
        code: &'static [u8],
    ) -> bool {
        let is_put = self.put(memory, at, code);
        if is_put {
            self.temporary.push((addr, at.0));
        }
        is_put
    }

    fn put(&mut self, memory: &AddrSpace, at: GuestPhysAddr, code: &'static [u8]) -> bool {
        if self.breakpoints.contains_key(&at.0) {
            return true;
        }
        let mut original = vec![0; code.len()];
        if memory.read(at, &mut original).is_err() || memory.write(at, code).is_err() {
            return false;
        }
        self.breakpoints.insert(at.0, Breakpoint { code, original });
        true
    }

    /// Takes away what the debugger has at `addr`, and says where that was.
    pub fn unplant(&mut self, memory: &AddrSpace, addr: u64) -> Option<GuestPhysAddr> {
        let at = self.places.remove(&addr)?;
        self.take_back(memory, at);
        Some(GuestPhysAddr(at))
    }

    /// Takes those for one step away; the virtual addresses where there is none left.
    pub fn end_step(&mut self, memory: Option<&AddrSpace>) -> Vec<u64> {
        let temporary = std::mem::take(&mut self.temporary);
        for (_, at) in &temporary {
            match memory {
                Some(memory) => self.take_back(memory, *at),
                None => drop(self.breakpoints.remove(at)),
            }
        }
        let of_debugger = |addr: &u64| self.places.contains_key(addr);
        temporary.into_iter().map(|(addr, _)| addr).filter(|addr| !of_debugger(addr)).collect()
    }

    /// Takes all away.
    pub fn unplant_all(&mut self, memory: &AddrSpace) {
        self.places.clear();
        self.temporary.clear();
        for at in self.breakpoints.keys().copied().collect::<Vec<_>>() {
            self.take_back(memory, at);
        }
    }

    /// The original comes back, unless another address leads there as well, or the guest has written
    /// something else there meanwhile.
    fn take_back(&mut self, memory: &AddrSpace, at: u64) {
        if self.places.values().chain(self.temporary.iter().map(|(_, at)| at)).any(|it| *it == at) {
            return;
        }
        let Some(Breakpoint { code, original }) = self.breakpoints.remove(&at) else { return };
        let mut now = vec![0; code.len()];
        let is_there = memory.read(GuestPhysAddr(at), &mut now).is_ok() && now == code;
        if is_there {
            // It could be read, so it can be written.
            let _ = memory.write(GuestPhysAddr(at), &original);
        }
    }

    /// Where they are.
    pub fn addresses(&self) -> Vec<GuestPhysAddr> {
        self.breakpoints.keys().copied().map(GuestPhysAddr).collect()
    }

    /// In what was read at `at`, puts back what the guest would see without a debugger.
    pub fn hide(&self, at: GuestPhysAddr, bytes: &mut [u8]) {
        for (own, breakpoint) in &self.breakpoints {
            if !breakpoint.overlaps(*own, at.0, bytes.len()) {
                continue;
            }
            for (offset, (original, code)) in
                breakpoint.original.iter().zip(breakpoint.code).enumerate()
            {
                let index = (own + offset as u64).checked_sub(at.0);
                if let Some(byte) = index.and_then(|index| bytes.get_mut(index as usize)) {
                    *byte = if *byte == *code { *original } else { *byte };
                }
            }
        }
    }

    /// Writes what the debugger wants at `at`, beneath the breakpoints that are there. `false`: it is
    /// not all memory.
    pub fn write(&mut self, memory: &AddrSpace, at: GuestPhysAddr, bytes: &[u8]) -> bool {
        if memory.write(at, bytes).is_err() {
            return false;
        }
        let overlapping =
            self.breakpoints.iter_mut().filter(|(own, it)| it.overlaps(**own, at.0, bytes.len()));
        for (own, breakpoint) in overlapping {
            for (offset, original) in breakpoint.original.iter_mut().enumerate() {
                let index = (own + offset as u64).checked_sub(at.0);
                if let Some(byte) = index.and_then(|index| bytes.get(index as usize)) {
                    *original = *byte;
                }
            }
            let _ = memory.write(GuestPhysAddr(*own), breakpoint.code);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{addr::MappingFlags, scripted::ScriptedHal};

    const AT: GuestPhysAddr = GuestPhysAddr(0x1000);
    const CODE: &[u8] = &[0xcc, 0xdd];

    fn memory() -> AddrSpace {
        let memory = AddrSpace::new_empty(ScriptedHal::new([vec![]]));
        memory.map_alloc(AT, 0x1000, MappingFlags::READ, true).unwrap();
        memory.write(AT, &[1, 2, 3, 4]).unwrap();
        memory
    }

    fn bytes(memory: &AddrSpace) -> [u8; 4] {
        let mut bytes = [0; 4];
        memory.read(AT, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_was_there_is_seen_and_comes_back() {
        let (memory, mut planted) = (memory(), Planted::default());
        assert!(planted.plant(&memory, 0x8000_1001, GuestPhysAddr(0x1001), CODE));
        assert!(planted.plant(&memory, 0x9000_1001, GuestPhysAddr(0x1001), CODE));
        assert_eq!(bytes(&memory), [1, 0xcc, 0xdd, 4]);
        let mut seen = bytes(&memory);
        planted.hide(AT, &mut seen);
        assert_eq!(seen, [1, 2, 3, 4]);
        let mut part = [0xdd, 4];
        planted.hide(GuestPhysAddr(0x1002), &mut part);
        assert_eq!(part, [3, 4]);
        assert_eq!(planted.addresses(), [GuestPhysAddr(0x1001)]);
        planted.unplant(&memory, 0x8000_1001).unwrap();
        assert_eq!(bytes(&memory), [1, 0xcc, 0xdd, 4], "the other address has it still");
        planted.unplant(&memory, 0x9000_1001).unwrap();
        assert_eq!(bytes(&memory), [1, 2, 3, 4]);
        assert_eq!(planted.unplant(&memory, 0x9000_1001), None);
    }

    #[test]
    fn a_debugger_writes_beneath_and_a_guest_above() {
        let (memory, mut planted) = (memory(), Planted::default());
        assert!(planted.plant(&memory, 0x1001, GuestPhysAddr(0x1001), CODE));
        assert!(planted.write(&memory, AT, &[5, 6]));
        assert_eq!(bytes(&memory), [5, 0xcc, 0xdd, 4]);
        planted.unplant_all(&memory);
        assert_eq!(bytes(&memory), [5, 6, 3, 4]);
        assert!(planted.plant(&memory, 0x1001, GuestPhysAddr(0x1001), CODE));
        memory.write(AT, &[7, 7, 7, 7]).unwrap();
        planted.unplant_all(&memory);
        assert_eq!(bytes(&memory), [7, 7, 7, 7], "the guest's own newer code");
    }

    #[test]
    fn a_steps_breakpoints_are_told_apart_from_the_debuggers() {
        let (memory, mut planted) = (memory(), Planted::default());
        assert!(planted.plant(&memory, 0x1000, AT, CODE));
        assert!(planted.plant_for_step(&memory, 0x1000, AT, CODE));
        assert!(planted.plant_for_step(&memory, 0x1002, GuestPhysAddr(0x1002), CODE));
        assert_eq!(planted.end_step(Some(&memory)), [0x1002]);
        assert_eq!(bytes(&memory), [0xcc, 0xdd, 3, 4]);
    }

    #[test]
    fn where_no_memory_is_there_are_none() {
        let (memory, mut planted) = (memory(), Planted::default());
        assert!(!planted.plant(&memory, 0x5000, GuestPhysAddr(0x5000), CODE));
        assert!(!planted.plant(&memory, 0x1fff, GuestPhysAddr(0x1fff), CODE));
        assert!(!planted.write(&memory, GuestPhysAddr(0x5000), &[1]));
        assert_eq!(planted.addresses(), []);
    }
}
