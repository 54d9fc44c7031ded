//! Where things stand below 1 MiB when a guest begins.
//!
//! ```text
//! 0x000000  real-mode vectors, BIOS data area           left zero
//! 0x006000  STRUCTURES: GDT, start info, command line,  as few pages as they fit in; each only
//!           memory maps, zero page, page tables         where no part of the kernel is
//! 0x09fc00  EBDA                                         left zero
//! 0x0a0000  video memory                                 not RAM
//! 0x0e0000  ACPI tables, RSDP first                      the machine's
//! 0x100000  HIGH_MEMORY: kernel; initrd from the top     up to 4 GiB
//! ```

use crate::addr::{GuestPhysAddr, GuestPhysAddrRange};

/// Where boot structures may be, as start and end.
pub const STRUCTURES: (u64, u64) = (0x6000, EBDA);
/// The extended BIOS data area, and with it the end of conventional memory.
pub const EBDA: u64 = 0x9_fc00;
/// Where RAM begins that no PC has other uses for.
pub const HIGH_MEMORY: u64 = 0x10_0000;
/// The end of what 32-bit protocols can point at.
pub const LIMIT_32BIT: u64 = 1 << 32;

/// Areas that no file is put into.
pub fn reserved() -> impl Iterator<Item = (&'static str, GuestPhysAddrRange)> {
    [
        ("the EBDA", EBDA, 0xa_0000),
        ("the video memory", 0xa_0000, 0xe_0000),
        ("the ACPI tables", 0xe_0000, HIGH_MEMORY),
    ]
    .into_iter()
    .filter_map(|(what, start, end)| {
        Some((what, GuestPhysAddrRange::new(GuestPhysAddr(start), end - start)?))
    })
}

const _: () = assert!(STRUCTURES.0 % 4096 == 0 && STRUCTURES.1 > STRUCTURES.0);
