//! The configuration space of a function (PCI Local Bus 3.0, 6.1 and 6.2): bytes, and which of their
//! bits a guest may change. There is one BAR, in 32-bit memory, and a list of capabilities.

use crate::devices::RegisterName;

/// How many bytes are there. The rest of a function's 4 KiB reads as zeros: no extended
/// capabilities.
const SIZE: usize = 256;

/// The header (6.1, type 0).
pub mod reg {
    pub const VENDOR_ID: usize = 0x00;
    pub const DEVICE_ID: usize = 0x02;
    pub const COMMAND: usize = 0x04;
    pub const STATUS: usize = 0x06;
    pub const REVISION_ID: usize = 0x08;
    pub const HEADER_TYPE: usize = 0x0e;
    /// Three bytes.
    pub const CLASS_CODE: usize = 0x09;
    pub const BAR0: usize = 0x10;
    /// How many there are.
    pub const BARS: usize = 6;
    pub const SUBSYSTEM_VENDOR_ID: usize = 0x2c;
    pub const SUBSYSTEM_ID: usize = 0x2e;
    pub const ROM: usize = 0x30;
    pub const CAPABILITIES: usize = 0x34;
    pub const INTERRUPT_LINE: usize = 0x3c;
    pub const INTERRUPT_PIN: usize = 0x3d;
    pub const HEADER_END: usize = 0x40;
}

/// Their names (PCI Local Bus 3.0, 6.1).
pub const NAMES: &[RegisterName] = &[
    RegisterName::new("Vendor ID", reg::VENDOR_ID as u64, 2),
    RegisterName::new("Device ID", reg::DEVICE_ID as u64, 2),
    RegisterName::new("Command", reg::COMMAND as u64, 2),
    RegisterName::new("Status", reg::STATUS as u64, 2),
    RegisterName::new("Revision ID", reg::REVISION_ID as u64, 1),
    RegisterName::new("Class Code", reg::CLASS_CODE as u64, 3),
    RegisterName::new("BAR", reg::BAR0 as u64, 4).times(6, 4),
    RegisterName::new("Subsystem Vendor ID", reg::SUBSYSTEM_VENDOR_ID as u64, 2),
    RegisterName::new("Subsystem ID", reg::SUBSYSTEM_ID as u64, 2),
    RegisterName::new("Capabilities Pointer", reg::CAPABILITIES as u64, 1),
    RegisterName::new("Interrupt Line", reg::INTERRUPT_LINE as u64, 1),
];

/// COMMAND: the BAR answers.
pub const MEMORY_SPACE: u16 = 1 << 1;
const BUS_MASTER: u16 = 1 << 2;
const INTX_DISABLE: u16 = 1 << 10;
/// STATUS: there are capabilities.
const CAPABILITIES_LIST: u16 = 1 << 4;

/// A capability that its vendor defines (PCI Code and ID Assignment, 2).
pub const VENDOR_SPECIFIC: u8 = 0x09;

/// What a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who made it.
    pub vendor: u16,
    /// Which one it is.
    pub device: u16,
    /// What it does: base class, sub-class, interface, from the highest byte on.
    pub class: u32,
    /// Of what.
    pub revision: u8,
    /// Who made the card.
    pub subsystem_vendor: u16,
    /// Which one.
    pub subsystem: u16,
}

/// An entry of the list of capabilities, without its first two bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Of what kind.
    pub id: u8,
    /// What comes after the pointer to the next one.
    pub body: Vec<u8>,
    /// Which bits of it a guest may change; what is missing at the end are none.
    pub writable: Vec<u8>,
}

#[derive(Debug)]
pub struct ConfigSpace {
    bytes: [u8; SIZE],
    writable: [u8; SIZE],
    /// Where the pointer to the next capability will stand.
    link: usize,
    end: usize,
}

impl ConfigSpace {
    /// A function with a BAR of `bar_size` bytes, a power of two, at `bar`.
    pub fn new(identity: &Identity, bar_size: u32, bar: u32) -> Self {
        let mut space = Self {
            bytes: [0; SIZE],
            writable: [0; SIZE],
            link: reg::CAPABILITIES,
            end: reg::HEADER_END,
        };
        let [class @ .., _] = identity.class.to_le_bytes();
        space.put(reg::VENDOR_ID, &identity.vendor.to_le_bytes());
        space.put(reg::DEVICE_ID, &identity.device.to_le_bytes());
        space.put(reg::REVISION_ID, &[identity.revision]);
        space.put(reg::CLASS_CODE, &class);
        space.put(reg::BAR0, &bar.to_le_bytes());
        space.put(reg::SUBSYSTEM_VENDOR_ID, &identity.subsystem_vendor.to_le_bytes());
        space.put(reg::SUBSYSTEM_ID, &identity.subsystem.to_le_bytes());
        let command = MEMORY_SPACE | BUS_MASTER | INTX_DISABLE;
        space.let_write(reg::COMMAND, &command.to_le_bytes());
        // Its size is what a BAR's lowest bits, which are fixed, say.
        space.let_write(reg::BAR0, &(!(bar_size - 1)).to_le_bytes());
        space.let_write(reg::INTERRUPT_LINE, &[0xff]);
        space
    }

    /// Puts a capability at the list's end, and tells where; `None`: there is no room.
    pub fn add(&mut self, capability: &Capability) -> Option<usize> {
        let at = self.end;
        let end = at + 2 + capability.body.len();
        if end > SIZE {
            return None;
        }
        self.put(self.link, &[at as u8]);
        self.put(at, &[capability.id]);
        self.put(at + 2, &capability.body);
        self.let_write(at + 2, &capability.writable);
        self.put(reg::STATUS, &CAPABILITIES_LIST.to_le_bytes());
        (self.link, self.end) = (at + 1, end.next_multiple_of(4));
        Some(at)
    }

    /// Reads from `offset` on; zeros behind the end.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        for (at, byte) in (offset..).zip(bytes) {
            *byte = self.bytes.get(at).copied().unwrap_or(0);
        }
    }

    /// Changes those of the bits from `offset` on that a guest may change.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        for (at, new) in (offset..).zip(bytes) {
            if let (Some(byte), Some(mask)) = (self.bytes.get_mut(at), self.writable.get(at)) {
                *byte = *byte & !mask | new & mask;
            }
        }
    }

    pub fn u16(&self, at: usize) -> u16 {
        let mut bytes = [0; 2];
        self.read(at, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    pub fn u32(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        self.read(at, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Changes what no guest may; `at` is one of ours.
    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        for (at, byte) in (at..).zip(bytes) {
            if let Some(there) = self.bytes.get_mut(at) {
                *there = *byte;
            }
        }
    }

    fn let_write(&mut self, at: usize, mask: &[u8]) {
        for (at, mask) in (at..).zip(mask) {
            if let Some(there) = self.writable.get_mut(at) {
                *there = *mask;
            }
        }
    }
}
