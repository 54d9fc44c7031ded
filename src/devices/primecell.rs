//! What Arm's PrimeCell peripherals have in common: 32-bit registers on the APB, and at the end of
//! their 4 KiB who they are (PrimeCell UART (PL011) Technical Reference Manual, DDI 0183G, 3.3.14 to
//! 3.3.15, and the same sections of its sisters).

use super::{Access, RegisterName};
use crate::addr::AccessWidth;

/// How large a PrimeCell's window is, in bytes.
pub const SIZE: u64 = 0x1000;

/// PeriphID0, the first of the identification registers: they go on to the end of the window.
const IDS: u64 = 0xfe0;
/// What the identification registers are called.
pub const PERIPH_ID: RegisterName = RegisterName::dword("PeriphID", IDS).times(4, 4);
/// The same.
pub const PCELL_ID: RegisterName = RegisterName::dword("PCellID", IDS + 4 * 4).times(4, 4);

/// PCellID0 to PCellID3.
const PRIMECELL: [u8; 4] = [0x0d, 0xf0, 0x05, 0xb1];
/// The designer, by JEDEC number.
const ARM: u32 = 0x41;

/// Part and revision, as the first four identification registers tell them.
#[derive(Clone, Copy, Debug)]
pub struct PeripheralId {
    /// Three decimal digits, written in hexadecimal: 0x011 is the PL011.
    pub part: u32,
    /// The part's revision.
    pub revision: u32,
}

impl PeripheralId {
    /// What stands at `offset`, if an identification register does.
    pub fn read(self, offset: u64) -> Option<u32> {
        let at = offset.checked_sub(IDS)? / 4;
        // Part number in bits 0-11, designer in 12-19, revision in 20-23, configuration above.
        let periph = (self.part | ARM << 12 | self.revision << 20).to_le_bytes();
        let byte = match at {
            0..4 => periph[at as usize],
            4..8 => PRIMECELL[at as usize - 4],
            _ => return None,
        };
        Some(byte.into())
    }
}

/// The offset of the register that an access goes to. The bus moves words; whoever accesses less
/// of a register finds it at the register's own address, and the register sees zeros above.
pub fn register(offset: u64, width: AccessWidth) -> Result<u64, Access> {
    match width {
        _ if offset >= SIZE => Err(Access::NoRegister),
        AccessWidth::Qword => Err(Access::BadWidth),
        _ if offset % 4 != 0 => Err(Access::Unaligned),
        _ => Ok(offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_are_those_of_the_manuals() {
        let id = PeripheralId { part: 0x011, revision: 1 };
        let read: Vec<_> = (0..9).map(|at| id.read(IDS + 4 * at)).collect();
        let bytes = [0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1].map(Some);
        assert_eq!((&read[..8], read[8]), (&bytes[..], None));
        assert_eq!((id.read(0), id.read(IDS - 4)), (None, None));
    }

    #[test]
    fn registers_are_found_at_their_own_address_only() {
        for width in [AccessWidth::Byte, AccessWidth::Word, AccessWidth::Dword] {
            assert_eq!(register(0x18, width), Ok(0x18));
            assert_eq!(register(0x19, width), Err(Access::Unaligned));
            assert_eq!(register(SIZE, width), Err(Access::NoRegister));
        }
        assert_eq!(register(0x18, AccessWidth::Qword), Err(Access::BadWidth));
    }
}
