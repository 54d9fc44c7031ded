//! A device of a user's own, on a bus.

use std::{fmt, io, sync::Arc, time::Duration};

use super::{Device, Parts, clock::MachineClock, register};
use crate::{
    addr::{AccessWidth, GuestPhysAddrRange},
    devices::{
        Access, BaseDeviceOps, BaseMmioDeviceOps, Effect, RegisterMap, RegisterName,
        clock::{AlarmClock, AlarmTimer, Time},
    },
};

/// A device in its window, that gets only the accesses that its map of registers has.
pub struct Mapped<D> {
    name: String,
    range: GuestPhysAddrRange,
    device: D,
    clock: Arc<MachineClock>,
}

/// What a machine does with such a device, whatever its kind.
pub trait CustomDevice: BaseMmioDeviceOps + AlarmClock {}
impl<D: Device> CustomDevice for Mapped<D> {}

/// Why a device is not there.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The device does not want to be, as it is asked for.
    #[error("{0}")]
    Refused(String),
    /// The host has no timer left.
    #[error("the host has no timer left: {0}")]
    Timer(#[from] io::Error),
}

impl<D: Device> Mapped<D> {
    /// Makes the device in its window.
    ///
    /// # Errors
    /// What the device says; a host that has no timer left.
    pub fn new(
        keys: D::Keys,
        range: GuestPhysAddrRange,
        time: &Time,
        parts: impl FnOnce(Arc<MachineClock>) -> Parts,
    ) -> Result<Self, MakeError> {
        let clock = Arc::new(MachineClock::new(time)?);
        let parts = parts(clock.clone());
        let name = parts.name.clone();
        let device = D::new(keys, parts).map_err(MakeError::Refused)?;
        Ok(Self { name, range, device, clock })
    }
}

impl<D: Device> BaseDeviceOps<GuestPhysAddrRange> for Mapped<D> {
    fn name(&self) -> &str {
        &self.name
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        self.range
    }

    fn registers(&self) -> RegisterMap {
        let names = D::REGISTERS.iter().map(|register| {
            let bytes = register.width.size() as u64;
            RegisterName::new(register.name, register.offset, bytes).times(register.count, bytes)
        });
        RegisterMap::of(names.collect::<Vec<_>>())
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        register::find(D::REGISTERS, offset, width, false)?;
        Ok(self.device.read(offset) & width.mask())
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        register::find(D::REGISTERS, offset, width, true)?;
        Ok(self.device.write(offset, val))
    }
}

impl<D: Device> AlarmClock for Mapped<D> {
    fn timer(&self) -> &AlarmTimer {
        self.clock.timer()
    }

    fn timer_expired(&self) {
        if self.clock.is_due() {
            self.device.woken();
        }
    }

    fn due_in(&self) -> Option<Duration> {
        self.clock.due_in()
    }
}

impl<D> fmt::Debug for Mapped<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.range)
    }
}
