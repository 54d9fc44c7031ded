//! Stage 1 of address translation at EL1 (Arm ARM, DDI 0487, D8: "The AArch64 Virtual Memory System
//! Architecture").

use crate::addr::GuestPhysAddr;

/// Bit 0 of `SCTLR_EL1`: address translation is on.
const SCTLR_M: u64 = 1;
/// A descriptor's bits: valid; a table, or at the last level a page.
const VALID: u64 = 1;
const TABLE: u64 = 1 << 1;

/// The registers that translation depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the registers' own names")]
pub struct Stage1 {
    pub sctlr: u64,
    pub tcr: u64,
    pub ttbr0: u64,
    pub ttbr1: u64,
}

/// One half of the address space: how its tables are.
struct Half {
    base: u64,
    /// Bits of a virtual address that are translated.
    bits: u32,
    /// Bits of an offset in a page.
    granule: u32,
    /// Physical addresses of more than 48 bits: where a descriptor has bits 48 on differs.
    is_large: bool,
}

impl Stage1 {
    /// Where `addr` is in physical memory; `None`: nowhere.
    pub fn translate(
        &self,
        addr: u64,
        read: &dyn Fn(GuestPhysAddr) -> Option<u64>,
    ) -> Option<GuestPhysAddr> {
        if self.sctlr & SCTLR_M == 0 {
            return Some(GuestPhysAddr(addr));
        }
        let half = self.half(addr)?;
        // An entry has 8 bytes, so that a table in one page resolves so many bits.
        let stride = half.granule - 3;
        let levels = (half.bits - half.granule).div_ceil(stride);
        let mut table = half.base;
        for level in (0..levels).rev() {
            let shift = half.granule + level * stride;
            let width = (half.bits - shift).min(stride);
            let index = addr >> shift & ones(width);
            let descriptor = read(GuestPhysAddr(table.checked_add(index * 8)?))?;
            if descriptor & VALID == 0 {
                return None;
            }
            let is_table = descriptor & TABLE != 0;
            match (level, is_table) {
                (0, true) => return Some(half.output(descriptor, addr, half.granule)),
                // Reserved.
                (0, false) => return None,
                (_, true) => table = half.address(descriptor, half.granule),
                (_, false) => return Some(half.output(descriptor, addr, shift)),
            }
        }
        None
    }

    /// The half that `addr` lies in; `None`: in neither.
    fn half(&self, addr: u64) -> Option<Half> {
        let is_upper = addr >> 55 & 1 == 1;
        let field = |at: u32, bits: u32| (self.tcr >> at & ones(bits)) as u32;
        // EPD, "no walks here"; TBI, "the top byte means nothing"; TG, the granule's size.
        let (size, disabled, ignores_top, granule) = match is_upper {
            false => {
                (field(0, 6), field(7, 1), field(37, 1), [12, 16, 14, 0][field(14, 2) as usize])
            }
            true => {
                (field(16, 6), field(23, 1), field(38, 1), [0, 14, 12, 16][field(30, 2) as usize])
            }
        };
        let bits = 64u32.checked_sub(size)?;
        // FEAT_LVA and FEAT_LPA2 go to 52 bits; below 16 there is no use of a table.
        if disabled == 1 || granule == 0 || !(16..=52).contains(&bits) || bits <= granule {
            return None;
        }
        let checked = if ignores_top == 1 { 56 } else { 64 };
        let above = (addr & ones(checked)) >> bits;
        if above != if is_upper { ones(checked - bits) } else { 0 } {
            return None;
        }
        // TCR_EL1.DS (bit 59) for 4 KiB and 16 KiB granules; 64 KiB ones need but IPS (bits 34:32).
        let is_large = if granule == 16 { field(32, 3) == 6 } else { field(59, 1) == 1 };
        let register = if is_upper { self.ttbr1 } else { self.ttbr0 };
        // Bit 0 is CnP, and bits 63:48 are the ASID; with large addresses bits 5:2 are 51:48.
        let mut base = register & ones(48) & !1;
        if is_large {
            base = base & !0x3f | (register >> 2 & 0xf) << 48;
        }
        Some(Half { base, bits, granule, is_large })
    }
}

impl Half {
    /// The address in a descriptor, of which the lowest `low` bits are none.
    fn address(&self, descriptor: u64, low: u32) -> u64 {
        let plain = descriptor & ones(48) & !ones(low);
        match (self.is_large, self.granule) {
            (false, _) => plain,
            (true, 16) => plain | (descriptor >> 12 & 0xf) << 48,
            (true, _) => descriptor & ones(50) & !ones(low) | (descriptor >> 8 & 3) << 50,
        }
    }

    fn output(&self, descriptor: u64, addr: u64, low: u32) -> GuestPhysAddr {
        GuestPhysAddr(self.address(descriptor, low) | addr & ones(low))
    }
}

const fn ones(bits: u32) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

#[cfg(test)]
mod tests;
