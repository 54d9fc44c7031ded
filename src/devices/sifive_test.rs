//! The test finisher of SiFive's boards and of QEMU's `virt` for riscv64 (QEMU,
//! `hw/misc/sifive_test.c`; device tree `sifive,test0`): one 32-bit register. Its low half says how
//! the machine ends, and with a failure its high half is the exit status.
//!
//! Kernels power off and reset through it (`syscon-poweroff`, `syscon-reboot`), so that "pass" is a
//! power off. A failure never looks like a success: its code counts from 1 to 255, the nearest of
//! these taking the place of others.

use super::{Access, BaseDeviceOps, Effect, RegisterMap, RegisterName};
use crate::addr::{AccessWidth, GuestPhysAddrRange};

/// How large the window is on the boards that have it, in bytes.
pub const SIZE: u64 = 0x1000;

/// Ends the machine with the status in the upper half.
pub const FAIL: u32 = 0x3333;
/// Powers off: status 0.
pub const PASS: u32 = 0x5555;
/// Resets the machine.
pub const RESET: u32 = 0x7777;

/// A register by which a test ends with its result.
#[derive(Debug)]
pub struct SifiveTest {
    range: GuestPhysAddrRange,
}

impl SifiveTest {
    /// At the start of `range`.
    pub fn new(range: GuestPhysAddrRange) -> Self {
        Self { range }
    }
}

impl BaseDeviceOps<GuestPhysAddrRange> for SifiveTest {
    fn name(&self) -> &str {
        "sifive-test"
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        self.range
    }

    fn registers(&self) -> RegisterMap {
        RegisterMap::of(vec![RegisterName::dword("Finisher", 0)])
    }

    /// Linux reads before it writes, and writes only what differs: 0 differs from all that counts.
    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        check(offset, width).map(|()| 0)
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        check(offset, width)?;
        let (how, code) = (val as u32 & 0xffff, val as u32 >> 16);
        Ok(match how {
            PASS => Effect::PowerOff,
            RESET => Effect::Reset,
            FAIL => Effect::Exit(code.clamp(1, 0xff) as u8),
            _ => Effect::None,
        })
    }
}

/// A half is enough for all but a code.
fn check(offset: u64, width: AccessWidth) -> Result<(), Access> {
    match (offset, width) {
        (0, AccessWidth::Word | AccessWidth::Dword) => Ok(()),
        (0, _) => Err(Access::BadWidth),
        _ => Err(Access::NoRegister),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::testing::{read32, touch_everything, window, write32};

    #[test]
    fn every_offset_takes_every_width_both_ways() {
        touch_everything(&SifiveTest::new(window(SIZE)));
    }

    #[test]
    fn each_way_to_finish_has_its_effect_and_no_failure_is_a_success() {
        let finisher = SifiveTest::new(window(SIZE));
        for (value, effect) in [
            (0x5555, Effect::PowerOff),
            (0x1234_5555, Effect::PowerOff),
            (0x7777, Effect::Reset),
            (0x0001_3333, Effect::Exit(1)),
            (0x002a_3333, Effect::Exit(42)),
            (0x00ff_3333, Effect::Exit(255)),
            (0x0000_3333, Effect::Exit(1)),
            (0x0100_3333, Effect::Exit(255)),
            (0xffff_3333, Effect::Exit(255)),
            (0, Effect::None),
            (0x5556, Effect::None),
        ] {
            let write = finisher.handle_write(0, AccessWidth::Dword, value);
            assert_eq!(write, Ok(effect), "{value:#x}");
        }
    }

    #[test]
    fn linux_powers_off_by_a_read_and_a_write_and_half_a_word_is_enough() {
        let finisher = SifiveTest::new(window(SIZE));
        write32(&finisher, 0, 0x1234);
        assert_eq!(read32(&finisher, 0), 0);
        let off = finisher.handle_write(0, AccessWidth::Word, PASS.into());
        assert_eq!(off, Ok(Effect::PowerOff));
        let bytes = finisher.handle_write(0, AccessWidth::Byte, 0x55);
        assert_eq!(bytes, Err(Access::BadWidth));
        let elsewhere = finisher.handle_write(4, AccessWidth::Dword, PASS.into());
        assert_eq!(elsewhere, Err(Access::NoRegister));
    }
}
