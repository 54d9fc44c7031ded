//! Addresses, access widths and mapping flags: the words that every other module speaks.

use std::fmt;

use serde::Serialize;
use vm_memory::GuestAddress;

/// A guest-physical address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct GuestPhysAddr(pub u64);

impl GuestPhysAddr {
    /// The address `bytes` further up, or `None` past the end of the 64-bit space.
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }
}

impl fmt::Debug for GuestPhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GPA:{:#x}", self.0)
    }
}

impl fmt::Display for GuestPhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl From<u64> for GuestPhysAddr {
    fn from(addr: u64) -> Self {
        Self(addr)
    }
}

impl From<GuestPhysAddr> for GuestAddress {
    fn from(addr: GuestPhysAddr) -> Self {
        GuestAddress(addr.0)
    }
}

/// An x86 I/O port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct Port(pub u16);

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {:#x}", self.0)
    }
}

/// A system register: an MSR number on x86_64, a CSR number on riscv64, the ISS encoding of
/// `op0,op2,op1,CRn,CRm` on aarch64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct SysRegAddr(pub u64);

impl fmt::Display for SysRegAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "system register {:#x}", self.0)
    }
}

/// How many bytes an access moves. "Word" is 16 bits, as in the x86 manuals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub enum AccessWidth {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Word,
    /// 32 bits.
    Dword,
    /// 64 bits.
    Qword,
}

impl AccessWidth {
    /// The width in bytes.
    pub const fn size(self) -> usize {
        1 << self as usize
    }

    /// All bits of the width set: what a read finds where nobody answers.
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * self.size())
    }
}

impl TryFrom<usize> for AccessWidth {
    type Error = ();

    fn try_from(bytes: usize) -> Result<Self, ()> {
        match bytes {
            1 => Ok(Self::Byte),
            2 => Ok(Self::Word),
            4 => Ok(Self::Dword),
            8 => Ok(Self::Qword),
            _ => Err(()),
        }
    }
}

bitflags::bitflags! {
    /// What an area of guest memory may be used for; the bits are those of AxVisor's
    /// `memory_regions` rows (0x7 = read, write, execute).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct MappingFlags: u64 {
        /// Loads.
        const READ = 1 << 0;
        /// Stores.
        const WRITE = 1 << 1;
        /// Fetches of instructions.
        const EXECUTE = 1 << 2;
        /// By user mode too; means nothing here.
        const USER = 1 << 3;
        /// A device's registers, and no memory.
        const DEVICE = 1 << 4;
        /// Without caches; means nothing here.
        const UNCACHED = 1 << 5;
    }
}

impl fmt::Display for MappingFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |flag, c| if self.contains(flag) { c } else { '-' };
        write!(
            f,
            "{}{}{}",
            letter(Self::READ, 'r'),
            letter(Self::WRITE, 'w'),
            letter(Self::EXECUTE, 'x')
        )
    }
}

/// An address that a bus can dispatch on.
pub trait DeviceAddr: Copy + Ord + fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// The address as a number.
    fn number(self) -> u64;
}

impl DeviceAddr for GuestPhysAddr {
    fn number(self) -> u64 {
        self.0
    }
}

impl DeviceAddr for Port {
    fn number(self) -> u64 {
        self.0.into()
    }
}

impl DeviceAddr for SysRegAddr {
    fn number(self) -> u64 {
        self.0
    }
}

/// The window that a device answers in.
pub trait DeviceAddrRange: Copy + fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// An address of that bus.
    type Addr: DeviceAddr;

    /// The first address of the window.
    fn first(&self) -> Self::Addr;

    /// The last address of the window, itself inside.
    fn last(&self) -> Self::Addr;

    /// Whether `addr` lies inside.
    fn contains(&self, addr: Self::Addr) -> bool {
        self.first() <= addr && addr <= self.last()
    }
}

/// A range of addresses, both ends inside, never empty and never wrapping.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct AddrRange<A> {
    first: A,
    last: A,
}

/// A window of guest-physical memory.
pub type GuestPhysAddrRange = AddrRange<GuestPhysAddr>;
/// A window of x86 I/O ports.
pub type PortRange = AddrRange<Port>;
/// A run of system registers.
pub type SysRegAddrRange = AddrRange<SysRegAddr>;

impl<A: DeviceAddr> AddrRange<A> {
    /// A single address.
    pub fn at(addr: A) -> Self {
        Self { first: addr, last: addr }
    }

    /// From the first to the last address, both inside; `None` if `last` comes before `first`.
    pub fn inclusive(first: A, last: A) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// The number of addresses inside; 2^64 is given as `u64::MAX`.
    #[allow(clippy::len_without_is_empty)] // a range is never empty
    pub fn len(&self) -> u64 {
        (self.last.number() - self.first.number()).saturating_add(1)
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl GuestPhysAddrRange {
    /// `size` bytes from `first` on; `None` if that is empty or wraps.
    pub fn new(first: GuestPhysAddr, size: u64) -> Option<Self> {
        let last = first.checked_add(size.checked_sub(1)?)?;
        Some(Self { first, last })
    }
}

impl PortRange {
    /// `count` ports from `first` on; `None` if that is empty or wraps.
    pub fn new(first: Port, count: u16) -> Option<Self> {
        let last = first.0.checked_add(count.checked_sub(1)?)?;
        Some(Self { first, last: Port(last) })
    }
}

impl<A: DeviceAddr> DeviceAddrRange for AddrRange<A> {
    type Addr = A;

    fn first(&self) -> A {
        self.first
    }

    fn last(&self) -> A {
        self.last
    }
}

impl<A: DeviceAddr> fmt::Display for AddrRange<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.first.number(), self.last.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_know_their_size_and_mask() {
        let sizes = [1usize, 2, 4, 8].map(|n| AccessWidth::try_from(n).unwrap());
        assert_eq!(sizes.map(AccessWidth::size), [1, 2, 4, 8]);
        assert_eq!(sizes.map(AccessWidth::mask), [0xff, 0xffff, 0xffff_ffff, u64::MAX]);
        for bad in [0usize, 3, 5, 16, usize::MAX] {
            assert_eq!(AccessWidth::try_from(bad), Err(()));
        }
    }

    #[test]
    fn ranges_are_never_empty_and_never_wrap() {
        assert_eq!(GuestPhysAddrRange::new(GuestPhysAddr(0x1000), 0), None);
        assert_eq!(GuestPhysAddrRange::new(GuestPhysAddr(u64::MAX), 2), None);
        let top = GuestPhysAddrRange::new(GuestPhysAddr(u64::MAX), 1).unwrap();
        assert!(top.contains(GuestPhysAddr(u64::MAX)));
        assert_eq!(PortRange::new(Port(0xffff), 2), None);
        assert_eq!(PortRange::new(Port(0xfff8), 8).unwrap().len(), 8);
        assert_eq!(AddrRange::inclusive(Port(2), Port(1)), None);
    }
}
