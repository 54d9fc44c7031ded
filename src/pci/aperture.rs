//! The window in which BARs answer.

use super::SharedBus;
use crate::{
    addr::{AccessWidth, DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange},
    devices::{Access, BaseDeviceOps, Effect, RegisterMap},
};

/// The aperture of a bus.
pub struct Aperture {
    bus: SharedBus,
}

impl Aperture {
    /// That of `bus`.
    pub fn new(bus: SharedBus) -> Self {
        Self { bus }
    }

    fn address(&self, offset: u64) -> Result<GuestPhysAddr, Access> {
        let window = self.bus.aperture();
        let addr = window.first().checked_add(offset).filter(|addr| window.contains(*addr));
        addr.ok_or(Access::NoRegister)
    }
}

impl BaseDeviceOps<GuestPhysAddrRange> for Aperture {
    fn name(&self) -> &str {
        "pci-memory"
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        self.bus.aperture()
    }

    fn parts(&self) -> Vec<String> {
        self.bus.names()
    }

    fn part_at(&self, offset: u64) -> Option<usize> {
        self.bus.part_at(self.address(offset).ok()?)
    }

    fn part_registers(&self) -> Vec<RegisterMap> {
        self.bus.registers()
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        let addr = self.address(offset)?;
        let (function, bar, offset) = self.bus.find(addr, width).ok_or(Access::NoRegister)?;
        function.read(bar, offset, width).map(|value| value & width.mask())
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        let addr = self.address(offset)?;
        let (function, bar, offset) = self.bus.find(addr, width).ok_or(Access::NoRegister)?;
        function.write(bar, offset, width, val)
    }
}
