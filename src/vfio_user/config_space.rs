//! What of a device's configuration space is the VMM's own (PCI Local Bus 3.0, 6.1 and 6.2): where it
//! is, whether it answers there, its interrupts, and capabilities that nobody here can do. The rest is
//! the server's.

use crate::pci::reg;

/// How many bytes are seen. The rest of a function's 4 KiB reads as zeros: no extended capabilities.
pub const SIZE: usize = 256;

/// COMMAND: memory BARs answer.
pub const MEMORY_SPACE: u16 = 1 << 1;
/// COMMAND: what a guest may change: memory, bus mastering, the interrupt line.
const COMMANDS: u16 = MEMORY_SPACE | 1 << 2 | 1 << 10;

/// Capabilities (PCI Code and ID Assignment, 2) that need interrupts of a kind there is not here.
const MSI: u8 = 0x05;
const MSIX: u8 = 0x11;
/// MSI-X, control: 6.8.2.3.
pub const MSIX_ENABLE: u16 = 1 << 15;
pub const MSIX_MASK: u16 = 1 << 14;
const MSIX_SIZE: u16 = 0x7ff;

/// A BAR: in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Its number, which is its region's.
    pub index: usize,
    /// In bytes: a power of two.
    pub size: u64,
    /// Whether the next register has its upper half.
    is_wide: bool,
    is_prefetchable: bool,
}

/// A structure of MSI-X in a BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InBar {
    pub bar: usize,
    pub offset: u64,
}

/// Where MSI-X is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixPlace {
    /// Its capability.
    pub at: usize,
    /// How many vectors the guest sees.
    pub vectors: u16,
    pub table: InBar,
    pub pending: InBar,
}

/// The bytes that are the VMM's.
pub struct Owned {
    bytes: [u8; SIZE],
    is_owned: [bool; SIZE],
    writable: [u8; SIZE],
    pub bars: Vec<Bar>,
    pub msix: Option<MsixPlace>,
}

impl Owned {
    /// Of a function whose server has these bytes, regions of these sizes, and so many vectors, of
    /// which no more than `most` can be had.
    pub fn new(
        server: &[u8; SIZE],
        region: impl Fn(usize) -> u64,
        vectors: u32,
        most: u16,
    ) -> Self {
        let (bytes, is_owned) = ([0; SIZE], [false; SIZE]);
        let (bars, msix) = (bars(server, region), None);
        let mut owned = Self { bytes, is_owned, writable: [0; SIZE], bars, msix };
        owned.own(reg::COMMAND, &[0; 2], &COMMANDS.to_le_bytes());
        owned.own(reg::HEADER_TYPE, &[0], &[]);
        owned.own(reg::BAR0, &[0; 24], &[]);
        for bar in owned.bars.clone() {
            let low = u32::from(bar.is_wide) << 2 | u32::from(bar.is_prefetchable) << 3;
            let mask = !(bar.size - 1) & if bar.is_wide { u64::MAX } else { u32::MAX.into() };
            owned.own(reg::BAR0 + 4 * bar.index, &low.to_le_bytes(), &mask.to_le_bytes()[..4]);
            if bar.is_wide {
                let at = reg::BAR0 + 4 * bar.index + 4;
                owned.own(at, &[0; 4], &mask.to_le_bytes()[4..]);
            }
        }
        owned.own(reg::ROM, &[0; 4], &[]);
        owned.own(reg::INTERRUPT_LINE, &[0], &[0xff]);
        owned.own(reg::INTERRUPT_PIN, &[0], &[]);
        owned.capabilities(server, vectors.min(most.into()) as u16);
        owned
    }

    /// Goes through the list, and leaves out what cannot be done.
    fn capabilities(&mut self, server: &[u8; SIZE], vectors: u16) {
        let mut link = reg::CAPABILITIES;
        let mut at = usize::from(server[link] & !3);
        // As many as there is room for: a list that comes back to itself has an end here.
        for _ in 0..(SIZE - reg::HEADER_END) / 4 {
            if !(reg::HEADER_END..SIZE - 1).contains(&at) {
                break;
            }
            let next = usize::from(server[at + 1] & !3);
            let is_seen = match server[at] {
                MSI => false,
                MSIX => self.msix.is_none() && self.see_msix(server, at, vectors),
                _ => true,
            };
            if is_seen {
                self.own(link, &[at as u8], &[]);
                link = at + 1;
            }
            at = next;
        }
        self.own(link, &[0], &[]);
    }

    fn see_msix(&mut self, server: &[u8; SIZE], at: usize, vectors: u16) -> bool {
        let Some([low, high, table @ .., _, _, _, _]) = server.get(at + 2..at + 12) else {
            return false;
        };
        let pending = &server[at + 8..at + 12];
        let has = (u16::from_le_bytes([*low, *high]) & MSIX_SIZE) + 1;
        let vectors = vectors.min(has);
        let place = |word: &[u8]| {
            let word = u32::from_le_bytes(word.try_into().ok()?);
            let (bar, offset) = ((word & 7) as usize, u64::from(word & !7));
            self.bars.iter().any(|it| it.index == bar).then_some(InBar { bar, offset })
        };
        let (Some(table), Some(pending)) = (place(table), place(pending)) else { return false };
        if vectors == 0 {
            return false;
        }
        self.msix = Some(MsixPlace { at, vectors, table, pending });
        let writable = MSIX_ENABLE | MSIX_MASK;
        self.own(at + 2, &(vectors - 1).to_le_bytes(), &writable.to_le_bytes());
        true
    }

    fn own(&mut self, at: usize, bytes: &[u8], writable: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            let Some(there) = self.bytes.get_mut(at + index) else { continue };
            *there = *byte;
            self.is_owned[at + index] = true;
            self.writable[at + index] = writable.get(index).copied().unwrap_or(0);
        }
    }

    /// Puts what is owned over the server's `bytes`, which begin at `offset`.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        for (at, byte) in (offset..).zip(bytes) {
            match self.is_owned.get(at) {
                Some(true) => *byte = self.bytes[at],
                Some(false) => {}
                None => *byte = 0,
            }
        }
    }

    /// Changes what is owned and may be changed.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        for (at, new) in (offset..).zip(bytes) {
            if let Some(byte) = self.bytes.get_mut(at) {
                let mask = self.writable[at];
                *byte = *byte & !mask | new & mask;
            }
        }
    }

    /// Whether the server is told what is written there: what is not owned, what the device has to
    /// know (COMMAND), and the state of its interrupts.
    pub fn is_for_server(&self, at: usize) -> bool {
        let is_shared = (reg::COMMAND..reg::COMMAND + 2).contains(&at)
            || self.msix.is_some_and(|msix| (msix.at + 2..msix.at + 4).contains(&at));
        self.is_owned.get(at).is_some_and(|is_owned| !is_owned || is_shared)
    }

    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    /// Where a BAR is, if it answers.
    pub fn place(&self, bar: &Bar) -> u64 {
        let half = |index: usize| {
            let at = reg::BAR0 + 4 * index;
            u64::from(self.u16(at)) | u64::from(self.u16(at + 2)) << 16
        };
        let high = if bar.is_wide { half(bar.index + 1) } else { 0 };
        (high << 32 | half(bar.index)) & !(bar.size - 1)
    }

    /// Puts a BAR there.
    pub fn set_place(&mut self, bar: &Bar, place: u64) {
        let low = u64::from(self.bytes[reg::BAR0 + 4 * bar.index]) & 0xf;
        let len = if bar.is_wide { 8 } else { 4 };
        let value = (place | low).to_le_bytes();
        let at = reg::BAR0 + 4 * bar.index;
        self.bytes[at..at + len].copy_from_slice(&value[..len]);
    }
}

/// The BARs in memory; those in I/O space cannot be had.
fn bars(server: &[u8; SIZE], region: impl Fn(usize) -> u64) -> Vec<Bar> {
    const IN_IO: u8 = 1;
    const IS_WIDE: u8 = 1 << 2;
    const IS_PREFETCHABLE: u8 = 1 << 3;
    let mut bars = Vec::new();
    let mut index = 0;
    while index < reg::BARS {
        let bits = server[reg::BAR0 + 4 * index];
        let is_wide = bits & (IN_IO | IS_WIDE) == IS_WIDE && index + 1 < reg::BARS;
        let size = region(index).max(16).checked_next_power_of_two();
        if let (Some(size), true) = (size, region(index) > 0 && bits & IN_IO == 0) {
            let is_prefetchable = bits & IS_PREFETCHABLE != 0;
            bars.push(Bar { index, size, is_wide, is_prefetchable });
        }
        index += if is_wide { 2 } else { 1 };
    }
    bars
}

#[cfg(test)]
mod tests;
