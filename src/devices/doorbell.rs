//! The hypercall doorbell: one register through which a guest calls the hypervisor where the
//! architecture's own instruction for that does not come through. axvmm's own, the same on every
//! board. (KVM answers `vmcall` on x86_64 itself, and on the others hands out some calls only.)
//!
//! A call is a block of eight 64-bit words in guest memory, little-endian, aligned to 8 bytes:
//!
//! | offset | word |
//! |---|---|
//! | 0 | the call's number |
//! | 8 to 48 | six arguments |
//! | 56 | the result, written by axvmm |
//!
//! Writing the block's guest-physical address to the register makes the call. It is done, and the
//! result is there, when the write is: one exit a call, and nothing that vCPUs share. A number that
//! nobody knows gives what such a call gives on this architecture
//! ([`crate::hal::AxVMHal::UNKNOWN_HYPERCALL`]). A block that is not aligned, or not all in memory
//! that the guest may read and write, is no call: nothing is written, and the guest goes on.
//!
//! | offset | width | read | write |
//! |---|---|---|---|
//! | 0 | 64 | [`MAGIC`], and [`VERSION`] above it | a block's address |
//! | 0 | 32 | [`MAGIC`] | a block's address below 4 GiB |
//! | 4 | 32 | [`VERSION`] | - |

use super::{Access, BaseDeviceOps, Effect, RegisterMap, RegisterName};
use crate::addr::{AccessWidth, GuestPhysAddr, GuestPhysAddrRange};

/// The window's size in bytes.
pub const SIZE: u64 = 0x1000;
/// What a device tree calls it.
pub const COMPATIBLE: &str = "axvmm,hypercall-doorbell";
/// What ACPI calls it.
pub const HID: &str = "AXVM0001";

/// "AXHC".
pub const MAGIC: u32 = u32::from_le_bytes(*b"AXHC");
/// Of what is told above.
pub const VERSION: u32 = 1;

/// The size of a call's block in bytes, and where the result is in it.
pub const BLOCK_SIZE: u64 = 64;
/// Where the result is in a call's block, in bytes from its start.
pub const RESULT: u64 = 56;

/// A call, as its block has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which call.
    pub nr: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

impl Call {
    /// Takes a block apart, as it is in memory.
    pub fn of_block(block: [u64; BLOCK_SIZE as usize / 8]) -> Self {
        let [nr, args @ .., _] = block.map(u64::from_le);
        Self { nr, args }
    }
}

/// The device.
#[derive(Debug)]
pub struct Doorbell {
    range: GuestPhysAddrRange,
}

impl Doorbell {
    /// At the first address of `range`.
    pub const fn new(range: GuestPhysAddrRange) -> Self {
        Self { range }
    }
}

impl BaseDeviceOps<GuestPhysAddrRange> for Doorbell {
    fn name(&self) -> &str {
        "hypercall-doorbell"
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        self.range
    }

    fn registers(&self) -> RegisterMap {
        RegisterMap::of(vec![RegisterName::new("Call", 0, 8)])
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        let both = u64::from(VERSION) << 32 | u64::from(MAGIC);
        match (offset, width) {
            (0, AccessWidth::Dword | AccessWidth::Qword) => Ok(both & width.mask()),
            (4, AccessWidth::Dword) => Ok(VERSION.into()),
            (0 | 4, _) => Err(Access::BadWidth),
            _ => Err(Access::NoRegister),
        }
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        match (offset, width) {
            (0, AccessWidth::Dword | AccessWidth::Qword) => {
                Ok(Effect::Hypercall(GuestPhysAddr(val)))
            }
            (0, _) => Err(Access::BadWidth),
            (4, AccessWidth::Dword) => Err(Access::ReadOnly),
            _ => Err(Access::NoRegister),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::testing::{touch_everything, window};

    #[test]
    fn every_offset_takes_every_width_both_ways() {
        touch_everything(&Doorbell::new(window(SIZE)));
    }

    #[test]
    fn a_written_address_is_a_call() {
        let doorbell = Doorbell::new(window(SIZE));
        for (width, address) in [(AccessWidth::Dword, 0xffff_fff8), (AccessWidth::Qword, u64::MAX)]
        {
            let call = Ok(Effect::Hypercall(GuestPhysAddr(address)));
            assert_eq!(doorbell.handle_write(0, width, address), call);
        }
        assert_eq!(doorbell.handle_write(0, AccessWidth::Word, 8), Err(Access::BadWidth));
        assert_eq!(doorbell.handle_write(4, AccessWidth::Dword, 8), Err(Access::ReadOnly));
        assert_eq!(doorbell.handle_write(8, AccessWidth::Qword, 8), Err(Access::NoRegister));
    }

    #[test]
    fn it_tells_what_it_is() {
        let doorbell = Doorbell::new(window(SIZE));
        let read = |offset, width| doorbell.handle_read(offset, width);
        assert_eq!(read(0, AccessWidth::Qword), Ok(0x1_4348_5841));
        assert_eq!(read(0, AccessWidth::Dword), Ok(0x4348_5841));
        assert_eq!(read(4, AccessWidth::Dword), Ok(1));
        assert_eq!(read(0, AccessWidth::Byte), Err(Access::BadWidth));
    }

    #[test]
    fn a_block_is_little_endian_words_in_their_order() {
        let block = [11, 12, 13, 14, 15, 16, 17, 18].map(u64::to_le);
        assert_eq!(Call::of_block(block), Call { nr: 11, args: [12, 13, 14, 15, 16, 17] });
        assert_eq!(8 * block.iter().position(|word| *word == 18).unwrap() as u64, RESULT);
    }
}
