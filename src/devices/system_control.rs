//! System control port B, 0x61 (Intel ICH data sheets, "NMI Status and Control Register"). Kernels
//! read it to learn why an NMI came, and old code waits for its bits to change.

use std::sync::atomic::{AtomicU8, Ordering};

use super::{Access, BaseDeviceOps, Effect, EmuDeviceType, byte_wide};
use crate::addr::{AccessWidth, Port, PortRange};

/// The bits that can be written: timer 2's gate, the speaker, and the two NMI masks.
const WRITABLE: u8 = 0x0f;
/// Changes with every memory refresh; here with every read, so that a wait for it ends.
const REF_TOGGLE: u8 = 1 << 4;
/// Timer 2's output. There is no timer: it is high for good, so that a wait for it ends.
const TMR2_OUT_STS: u8 = 1 << 5;

#[derive(Debug)]
pub struct SystemControl {
    port: Port,
    bits: AtomicU8,
}

impl SystemControl {
    pub fn new(port: Port) -> Self {
        Self { port, bits: AtomicU8::new(0) }
    }
}

impl BaseDeviceOps<PortRange> for SystemControl {
    fn name(&self) -> &str {
        "system-control"
    }

    fn emu_type(&self) -> EmuDeviceType {
        EmuDeviceType::Dummy
    }

    fn address_range(&self) -> PortRange {
        PortRange::at(self.port)
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        byte_wide::only(offset, width)?;
        let bits = self.bits.fetch_xor(REF_TOGGLE, Ordering::Relaxed);
        Ok((bits | TMR2_OUT_STS).into())
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        byte_wide::only(offset, width)?;
        let toggle = self.bits.load(Ordering::Relaxed) & REF_TOGGLE;
        self.bits.store(val as u8 & WRITABLE | toggle, Ordering::Relaxed);
        Ok(Effect::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::testing::touch_everything;

    #[test]
    fn every_offset_takes_every_width_both_ways() {
        touch_everything(&SystemControl::new(Port(0x61)));
    }

    #[test]
    fn no_wait_for_a_bit_is_endless_and_no_nmi_is_reported() {
        let control = SystemControl::new(Port(0x61));
        assert_eq!(control.handle_write(0, AccessWidth::Byte, 0xfd), Ok(Effect::None));
        let reads = [(); 3].map(|()| control.handle_read(0, AccessWidth::Byte).unwrap());
        assert_eq!(reads, [0x2d, 0x3d, 0x2d]);
    }
}
