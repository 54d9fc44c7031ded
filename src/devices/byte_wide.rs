//! Wide accesses to byte-wide devices. An ISA bus splits an access that is wider than the device
//! into bytes, the lowest address first; drivers count on it (`outw` to 0x70 sets the CMOS index
//! and its data at once).

use super::{Access, Effect};
use crate::addr::AccessWidth;

/// Reads byte by byte; the first is the lowest of the value.
pub fn read(offset: u64, width: AccessWidth, mut byte: impl FnMut(u64) -> u8) -> u64 {
    (0..width.size() as u64).fold(0, |value, i| value | u64::from(byte(offset + i)) << (8 * i))
}

/// Writes byte by byte, the lowest first. The last effect that is one counts.
pub fn write(
    offset: u64,
    width: AccessWidth,
    value: u64,
    mut byte: impl FnMut(u64, u8) -> Effect,
) -> Effect {
    (0..width.size() as u64).fold(Effect::None, |effect, i| {
        match byte(offset + i, (value >> (8 * i)) as u8) {
            Effect::None => effect,
            next => next,
        }
    })
}

/// The check of a device that is a single byte and takes nothing wider.
pub fn only(offset: u64, width: AccessWidth) -> Result<(), Access> {
    match (offset, width) {
        (0, AccessWidth::Byte) => Ok(()),
        (0, _) => Err(Access::BadWidth),
        _ => Err(Access::NoRegister),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_byte_goes_first() {
        assert_eq!(read(4, AccessWidth::Word, |offset| offset as u8 * 0x11), 0x5544);
        let mut seen = Vec::new();
        let effect = write(0x10, AccessWidth::Dword, 0x4433_2211, |offset, byte| {
            seen.push((offset, byte));
            if byte == 0x22 { Effect::Reset } else { Effect::None }
        });
        assert_eq!(seen, [(0x10, 0x11), (0x11, 0x22), (0x12, 0x33), (0x13, 0x44)]);
        assert_eq!(effect, Effect::Reset);
    }
}
