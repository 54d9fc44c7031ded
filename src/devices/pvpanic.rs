//! pvpanic: the guest tells that its kernel panicked (QEMU, `docs/specs/pvpanic.rst`). One byte: it
//! reads as the events that are understood, and writing an event reports it. A PC has it at a port,
//! other boards have it in memory (`qemu,pvpanic-mmio`).

use std::sync::atomic::{AtomicU64, Ordering};

use log::warn;

use super::{Access, BaseDeviceOps, Effect, RegisterMap, RegisterName, byte_wide};
use crate::addr::{AccessWidth, DeviceAddrRange};

/// The guest panicked and expects the host to deal with it.
pub const PANICKED: u8 = 1 << 0;
/// The guest panicked and its own crash kernel deals with it.
pub const CRASH_LOADED: u8 = 1 << 1;

/// A register by which a guest tells that it panicked.
#[derive(Debug)]
pub struct Pvpanic<R> {
    range: R,
    crash_loaded: AtomicU64,
}

impl<R: DeviceAddrRange> Pvpanic<R> {
    /// At the first address of `range`.
    pub fn new(range: R) -> Self {
        Self { range, crash_loaded: AtomicU64::new(0) }
    }

    /// How often the guest said that its crash kernel takes over.
    pub fn crash_loaded(&self) -> u64 {
        self.crash_loaded.load(Ordering::Relaxed)
    }
}

impl<R: DeviceAddrRange> BaseDeviceOps<R> for Pvpanic<R> {
    fn name(&self) -> &str {
        "pvpanic"
    }

    fn address_range(&self) -> R {
        self.range
    }

    fn registers(&self) -> RegisterMap {
        RegisterMap::of(vec![RegisterName::byte("Events", 0)])
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
    use crate::{
        addr::{Port, PortRange},
        devices::testing::{touch_everything, window},
    };

    fn pvpanic() -> Pvpanic<PortRange> {
        Pvpanic::new(PortRange::at(Port(0x505)))
    }

    #[test]
    fn every_offset_takes_every_width_both_ways() {
        touch_everything(&pvpanic());
        touch_everything(&Pvpanic::new(window(2)));
    }

    #[test]
    fn a_panic_stops_the_machine_and_a_crash_kernel_does_not() {
        let pvpanic = pvpanic();
        assert_eq!(pvpanic.handle_read(0, AccessWidth::Byte), Ok(3));
        for (events, effect) in
            [(0, Effect::None), (2, Effect::None), (4, Effect::None), (1, Effect::Panicked)]
        {
            assert_eq!(pvpanic.handle_write(0, AccessWidth::Byte, events), Ok(effect));
        }
        assert_eq!(pvpanic.crash_loaded(), 1);
    }

    #[test]
    fn in_memory_it_is_the_first_byte() {
        let pvpanic = Pvpanic::new(window(2));
        assert_eq!(pvpanic.handle_read(0, AccessWidth::Byte), Ok(3));
        let panicked = PANICKED.into();
        assert_eq!(pvpanic.handle_write(1, AccessWidth::Byte, panicked), Err(Access::NoRegister));
        assert_eq!(pvpanic.handle_write(0, AccessWidth::Word, panicked), Err(Access::BadWidth));
        assert_eq!(pvpanic.handle_write(0, AccessWidth::Byte, panicked), Ok(Effect::Panicked));
    }
}
