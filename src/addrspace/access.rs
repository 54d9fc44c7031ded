//! Reading and writing guest memory from outside: loaders, devices, hypercalls.

use std::{fs::File, mem, sync::Arc};

use vm_memory::Bytes;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{AddrSpace, Error, Map, area::Area, host_memory};
use crate::addr::{DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange, MappingFlags};

impl AddrSpace {
    /// Reads `len` bytes of `file` from `offset` on into guest memory at `gpa`.
    ///
    /// A private mapping of the file would save the copy, and costs more than it saves: its pages
    /// are small, so that a kernel's first steps through itself become thousands of nested page
    /// faults, and whoever edits the file edits the running guest.
    ///
    /// # Errors
    /// The bytes do not lie in one area, or the file does not have them.
    pub fn load_file(
        &self,
        gpa: GuestPhysAddr,
        file: &File,
        offset: u64,
        len: u64,
    ) -> Result<(), Error> {
        if len == 0 {
            return Ok(());
        }
        let outside = || Error::OutsideMemory { gpa, len };
        let map = self.map.load();
        let range = GuestPhysAddrRange::new(gpa, len).ok_or_else(outside)?;
        let area = map.area_at(gpa).filter(|area| area.range.contains(range.last()));
        let area = area.ok_or_else(outside)?;
        self.give_hardware(gpa, len)?;
        host_memory::read_file(&area.region, gpa, file, offset, len)
            .map_err(|source| Error::ReadFile { gpa, len, source })
    }

    /// Copies bytes into guest memory, as firmware and loaders do: also where the guest may only
    /// read.
    ///
    /// # Errors
    /// Not all of the bytes lie in guest memory; some may have been written.
    pub fn write(&self, gpa: GuestPhysAddr, bytes: &[u8]) -> Result<(), Error> {
        let len = bytes.len() as u64;
        self.give_hardware(gpa, len)?;
        let outside = |_| Error::OutsideMemory { gpa, len };
        self.map.load().memory.write_slice(bytes, gpa.into()).map_err(outside)
    }

    /// Copies bytes out of guest memory.
    ///
    /// # Errors
    /// Not all of the bytes lie in guest memory.
    pub fn read(&self, gpa: GuestPhysAddr, bytes: &mut [u8]) -> Result<(), Error> {
        let len = bytes.len() as u64;
        let outside = |_| Error::OutsideMemory { gpa, len };
        self.map.load().memory.read_slice(bytes, gpa.into()).map_err(outside)
    }

    /// The value at `gpa`, as the guest could read it.
    ///
    /// # Errors
    /// It is not aligned as its type wants it, not all of it lies in guest memory, or some of it
    /// where the guest may not read.
    pub fn read_obj<T: FromBytes + IntoBytes>(&self, gpa: GuestPhysAddr) -> Result<T, Error> {
        self.check::<T>(gpa, MappingFlags::READ)?;
        let mut value = T::new_zeroed();
        self.read(gpa, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes a value to `gpa`, as the guest could: not where it may only read.
    ///
    /// # Errors
    /// As [`Self::read_obj`]; nothing has been written then.
    pub fn write_obj<T: IntoBytes + Immutable>(
        &self,
        gpa: GuestPhysAddr,
        value: &T,
    ) -> Result<(), Error> {
        self.check::<T>(gpa, MappingFlags::WRITE)?;
        self.write(gpa, value.as_bytes())
    }

    /// Whether all of the bytes lie in areas whose flags allow `access`.
    pub fn allows(&self, gpa: GuestPhysAddr, len: u64, access: MappingFlags) -> bool {
        self.map.load().check(gpa, len, access).is_ok()
    }

    fn check<T>(&self, gpa: GuestPhysAddr, access: MappingFlags) -> Result<(), Error> {
        let align = mem::align_of::<T>();
        if gpa.0 % align as u64 != 0 {
            return Err(Error::Unaligned { gpa, align });
        }
        self.map.load().check(gpa, mem::size_of::<T>() as u64, access)
    }

    /// What is put into lazy memory from outside the guest need not be touched by the guest's loads
    /// and stores before it is executed or walked as a page table, and those first touches are none
    /// that every host can tell.
    pub(super) fn give_hardware(&self, gpa: GuestPhysAddr, len: u64) -> Result<(), Error> {
        let Some(range) = GuestPhysAddrRange::new(gpa, len) else { return Ok(()) };
        let wants = |area: &Arc<Area>| area.is_lazy() && area.range.overlaps(&range);
        if !self.map.load().areas.iter().any(wants) {
            return Ok(());
        }
        let mut numbers = self.lock();
        for area in self.map.load().areas.iter().filter(|area| wants(area)) {
            let first = area.piece_of(range.first().max(area.range.first()));
            let last = area.piece_of(range.last().min(area.range.last()));
            for piece in first..=last {
                area.give(piece, &*self.slots, &mut numbers)?;
            }
        }
        Ok(())
    }
}

impl Map {
    fn check(&self, gpa: GuestPhysAddr, len: u64, access: MappingFlags) -> Result<(), Error> {
        let outside = || Error::OutsideMemory { gpa, len };
        let (mut at, mut left) = (gpa, len);
        while left > 0 {
            let area = self.area_at(at).ok_or_else(outside)?;
            if !area.flags.contains(access) {
                return Err(Error::Forbidden { gpa, len, access });
            }
            let here = area.range.last().0 - at.0;
            if left - 1 <= here {
                break;
            }
            left -= here + 1;
            at = area.range.last().checked_add(1).ok_or_else(outside)?;
        }
        Ok(())
    }
}
