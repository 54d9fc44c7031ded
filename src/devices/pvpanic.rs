//! pvpanic: the guest tells that its kernel panicked (QEMU, `docs/specs/pvpanic.rst`). One byte: it
//! reads as the events that are understood, and writing an event reports it.

use std::sync::atomic::{AtomicU64, Ordering};

use log::warn;

use super::{Access, BaseDeviceOps, Effect, EmuDeviceType, byte_wide};
use crate::addr::{AccessWidth, Port, PortRange};

/// The guest panicked and expects the host to deal with it.
pub const PANICKED: u8 = 1 << 0;
/// The guest panicked and its own crash kernel deals with it.
pub const CRASH_LOADED: u8 = 1 << 1;

#[derive(Debug)]
pub struct Pvpanic {
    port: Port,
    crash_loaded: AtomicU64,
}

impl Pvpanic {
    pub fn new(port: Port) -> Self {
        Self { port, crash_loaded: AtomicU64::new(0) }
    }

    /// How often the guest said that its crash kernel takes over.
    pub fn crash_loaded(&self) -> u64 {
        self.crash_loaded.load(Ordering::Relaxed)
    }
}

impl BaseDeviceOps<PortRange> for Pvpanic {
    fn name(&self) -> &str {
        "pvpanic"
    }

    fn emu_type(&self) -> EmuDeviceType {
        EmuDeviceType::Dummy
    }

    fn address_range(&self) -> PortRange {
        PortRange::at(self.port)
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        byte_wide::only(offset, width)?;
        Ok((PANICKED | CRASH_LOADED).into())
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        byte_wide::only(offset, width)?;
        let events = val as u8;
        if events & PANICKED != 0 {
            return Ok(Effect::Panicked);
        }
        // Told once: a guest may write as often as it likes.
        if events & CRASH_LOADED != 0 && self.crash_loaded.fetch_add(1, Ordering::Relaxed) == 0 {
            warn!("pvpanic: the guest panicked; its crash kernel takes over");
        }
        Ok(Effect::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::testing::touch_everything;

    #[test]
    fn every_offset_takes_every_width_both_ways() {
        touch_everything(&Pvpanic::new(Port(0x505)));
    }

    #[test]
    fn a_panic_stops_the_machine_and_a_crash_kernel_does_not() {
        let pvpanic = Pvpanic::new(Port(0x505));
        assert_eq!(pvpanic.handle_read(0, AccessWidth::Byte), Ok(3));
        for (events, effect) in
            [(0, Effect::None), (2, Effect::None), (4, Effect::None), (1, Effect::Panicked)]
        {
            assert_eq!(pvpanic.handle_write(0, AccessWidth::Byte, events), Ok(effect));
        }
        assert_eq!(pvpanic.crash_loaded(), 1);
    }
}
