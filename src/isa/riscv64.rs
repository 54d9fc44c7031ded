//! Address translation of RISC-V (privileged ISA manual, "Sv39: Page-Based 39-bit Virtual-Memory
//! System" and what follows), and `next`, where an instruction leads.

mod next;

pub use next::{length, successors};

use crate::addr::GuestPhysAddr;

/// A page table entry's bits.
const VALID: u64 = 1 << 0;
const READ: u64 = 1 << 1;
const WRITE: u64 = 1 << 2;
const EXECUTE: u64 = 1 << 3;
/// Svnapot: 16 pages that are one.
const NAPOT: u64 = 1 << 63;

const PAGE_BITS: u32 = 12;
const INDEX_BITS: u32 = 9;

/// Where `addr` is in physical memory for a hart with this `satp`; `None`: nowhere. Machine mode and
/// hypervisors are not looked at: what runs beneath KVM is neither.
pub fn translate(
    satp: u64,
    addr: u64,
    read: &dyn Fn(GuestPhysAddr) -> Option<u64>,
) -> Option<GuestPhysAddr> {
    let levels = match satp >> 60 {
        0 => return Some(GuestPhysAddr(addr)),
        8 => 3,
        9 => 4,
        10 => 5,
        _ => return None,
    };
    let bits = PAGE_BITS + levels * INDEX_BITS;
    // All bits above are copies of the highest one.
    let above = (addr as i64) >> (bits - 1);
    if above != 0 && above != -1 {
        return None;
    }
    let mut table = (satp & ((1 << 44) - 1)) << PAGE_BITS;
    for level in (0..levels).rev() {
        let shift = PAGE_BITS + level * INDEX_BITS;
        let index = addr >> shift & ((1 << INDEX_BITS) - 1);
        let entry = read(GuestPhysAddr(table + index * 8))?;
        if entry & VALID == 0 || entry & (READ | WRITE) == WRITE {
            return None;
        }
        let page = entry >> 10 & ((1 << 44) - 1);
        if entry & (READ | EXECUTE) == 0 {
            table = page << PAGE_BITS;
            continue;
        }
        let offset = addr & ((1 << shift) - 1);
        if entry & NAPOT != 0 {
            // Bits 3:0 of the page's number say how many; 16 is all that there is.
            let is_known = level == 0 && page & 0xf == 0b1000;
            let offset = addr & 0xffff;
            return is_known.then_some(GuestPhysAddr((page & !0xf) << PAGE_BITS | offset));
        }
        // A large page begins at a multiple of its size.
        let base = page << PAGE_BITS;
        return (base & ((1 << shift) - 1) == 0).then_some(GuestPhysAddr(base | offset));
    }
    None
}

#[cfg(test)]
mod tests;
