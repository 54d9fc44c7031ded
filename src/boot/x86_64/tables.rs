//! The descriptor table and the page tables that a guest begins with (Intel SDM vol. 3, chapters 3
//! and 4).

use std::collections::BTreeSet;

use crate::{
    addr::GuestPhysAddr,
    addrspace::AddrSpace,
    boot::{Error, Segment, draft::Draft},
    hal::DescriptorTable,
};

use super::layout::{LIMIT_32BIT, STRUCTURES};

/// Two unused entries, then code and data at the selectors 0x10 and 0x18 that Linux wants.
const GDT_LEN: u64 = 4 * 8;
const CODE32: u64 = 0x00cf_9b00_0000_ffff;
const CODE64: u64 = 0x00af_9b00_0000_ffff;
const DATA: u64 = 0x00cf_9300_0000_ffff;

const PAGE: u64 = 4096;
const GIB: u64 = 1 << 30;
const PRESENT_WRITABLE: u64 = 0x3;
const LARGE: u64 = 1 << 7;
const LARGE_PAGE: u64 = 2 << 20;
const ENTRIES: u64 = 512;

pub fn place_gdt(draft: &mut Draft) -> Result<DescriptorTable, Error> {
    let base = draft.structure("GDT", GDT_LEN, 8, STRUCTURES)?;
    Ok(DescriptorTable { base, limit: GDT_LEN as u16 - 1 })
}

pub fn write_gdt(mem: &AddrSpace, gdt: DescriptorTable, long: bool) -> Result<(), Error> {
    let code = if long { CODE64 } else { CODE32 };
    let bytes: Vec<u8> = [0, 0, code, DATA].into_iter().flat_map(u64::to_le_bytes).collect();
    Ok(mem.write(gdt.base, &bytes)?)
}

/// Page tables that map guest-physical memory at its own addresses, by pages of 2 MiB (not every
/// processor has larger ones): the first GiB, and each further GiB below 512 that something to be
/// found stands in. Each costs a page, so that no more are made.
#[derive(Clone, Debug)]
pub struct PageTables {
    root: GuestPhysAddr,
    gibs: Vec<u64>,
}

impl PageTables {
    /// For all the segments of the draft.
    pub fn place(draft: &mut Draft) -> Result<Self, Error> {
        let touched = |s: &Segment| {
            let last = s.gpa.0.saturating_add(s.size.max(1) - 1);
            s.gpa.0 / GIB..=last / GIB
        };
        let mut gibs: BTreeSet<u64> = draft.segments.iter().flat_map(touched).collect();
        gibs.insert(0);
        let gibs: Vec<u64> = gibs.into_iter().filter(|gib| *gib < ENTRIES).collect();
        let size = (2 + gibs.len() as u64) * PAGE;
        let root = draft.structure("page tables", size, PAGE, STRUCTURES)?;
        debug_assert!(root.0 + size <= LIMIT_32BIT);
        Ok(Self { root, gibs })
    }

    /// What CR3 is to be.
    pub fn root(&self) -> GuestPhysAddr {
        self.root
    }

    pub fn write(&self, mem: &AddrSpace) -> Result<(), Error> {
        let pointers = self.root.0 + PAGE;
        let entry = |gpa, value: u64| mem.write(GuestPhysAddr(gpa), &value.to_le_bytes());
        entry(self.root.0, pointers | PRESENT_WRITABLE)?;
        for (directory, gib) in (pointers + PAGE..).step_by(PAGE as usize).zip(&self.gibs) {
            entry(pointers + gib * 8, directory | PRESENT_WRITABLE)?;
            let page = |i| (gib * GIB + i * LARGE_PAGE) | LARGE | PRESENT_WRITABLE;
            let bytes: Vec<u8> = (0..ENTRIES).flat_map(|i| page(i).to_le_bytes()).collect();
            mem.write(GuestPhysAddr(directory), &bytes)?;
        }
        Ok(())
    }
}
