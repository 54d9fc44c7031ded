//! The reset control register at port 0xcf9 (Intel PIIX3 and every ICH after it: "Reset Control
//! Register"), which ACPI's RESET_REG names. A byte: it lies in the middle of the double word that
//! PCI configuration uses.

use std::sync::atomic::{AtomicU8, Ordering};

use super::{Access, BaseDeviceOps, Effect, RegisterMap, RegisterName, byte_wide};
use crate::addr::{AccessWidth, Port, PortRange};

/// The next reset is a hard one.
const SYS_RST: u8 = 1 << 1;
/// Resets, together with the bit above.
const RST_CPU: u8 = 1 << 2;
/// The next reset takes the power away for a moment.
const FULL_RST: u8 = 1 << 3;

/// What ACPI's RESET_VALUE says to write.
pub const RESET_VALUE: u8 = SYS_RST | RST_CPU;

/// A port that resets the machine.
#[derive(Debug)]
pub struct ResetControl {
    port: Port,
    value: AtomicU8,
}

impl ResetControl {
    /// At `port`.
    pub fn new(port: Port) -> Self {
        Self { port, value: AtomicU8::new(0) }
    }
}

impl BaseDeviceOps<PortRange> for ResetControl {
    fn name(&self) -> &str {
        "reset-control"
    }

    fn address_range(&self) -> PortRange {
        PortRange::at(self.port)
    }

    fn registers(&self) -> RegisterMap {
        RegisterMap::of(vec![RegisterName::byte("Reset control", 0)])
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        byte_wide::only(offset, width)?;
        Ok(self.value.load(Ordering::Relaxed).into())
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        byte_wide::only(offset, width)?;
        let val = val as u8;
        if val & RESET_VALUE == RESET_VALUE {
            return Ok(Effect::Reset);
        }
        self.value.store(val & (SYS_RST | FULL_RST), Ordering::Relaxed);
        Ok(Effect::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::testing::touch_everything;

    #[test]
    fn every_offset_takes_every_width_both_ways() {
        touch_everything(&ResetControl::new(Port(0xcf9)));
    }

    #[test]
    fn only_a_hard_reset_resets_and_the_rest_is_kept() {
        let control = ResetControl::new(Port(0xcf9));
        for value in 0..=0xff_u8 {
            let effect = control.handle_write(0, AccessWidth::Byte, value.into()).unwrap();
            let reset = [0x06, 0x0e].contains(&(value & 0x0e));
            assert_eq!(effect, if reset { Effect::Reset } else { Effect::None }, "{value:#x}");
        }
        let _ = control.handle_write(0, AccessWidth::Byte, 0x02).unwrap();
        assert_eq!(control.handle_read(0, AccessWidth::Byte), Ok(0x02));
        assert_eq!(control.handle_write(0, AccessWidth::Dword, 6), Err(Access::BadWidth));
    }
}
