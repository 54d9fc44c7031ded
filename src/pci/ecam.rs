//! The window through which functions are configured (PCI Express Base 3.0, 7.2.2): 4 KiB each.

use std::sync::Arc;

use super::{
    SharedBus,
    bus::{FUNCTION, FUNCTIONS, SLOTS},
    config_space::NAMES,
    mirror::Mirror,
};
use crate::{
    addr::{AccessWidth, GuestPhysAddrRange},
    addrspace::AddrSpace,
    devices::{Access, BaseDeviceOps, Effect, RegisterMap},
};

/// How many bytes a bus has.
pub const ECAM_SIZE: u64 = SLOTS as u64 * FUNCTIONS * FUNCTION;

/// The window of one bus.
pub struct Ecam {
    bus: SharedBus,
    window: GuestPhysAddrRange,
    mirror: Mirror,
}

impl Ecam {
    /// The functions of `bus`, from the window's start on, in the guest's `memory` where that does.
    pub fn new(bus: SharedBus, window: GuestPhysAddrRange, memory: Arc<AddrSpace>) -> Self {
        Self { bus, window, mirror: Mirror::new(memory, window) }
    }
}

/// The slot and function of an access, and the offset in its 4 KiB.
fn decode(offset: u64, width: AccessWidth) -> Result<(usize, u64, usize), Access> {
    let register = offset % FUNCTION;
    if offset >= ECAM_SIZE {
        return Err(Access::NoRegister);
    }
    if register + width.size() as u64 > FUNCTION {
        return Err(Access::Unaligned);
    }
    let function = offset / FUNCTION;
    Ok(((function / FUNCTIONS) as usize, function % FUNCTIONS, register as usize))
}

impl BaseDeviceOps<GuestPhysAddrRange> for Ecam {
    fn name(&self) -> &str {
        "pci-ecam"
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        self.window
    }

    fn registers(&self) -> RegisterMap {
        RegisterMap::of(NAMES).repeating(FUNCTION)
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        let (slot, function, register) = decode(offset, width)?;
        self.mirror.show(&self.bus);
        Ok(match self.bus.function(slot).filter(|_| function == 0) {
            Some(function) => {
                let mut bytes = [0; 8];
                function.read_config(register, &mut bytes[..width.size()]);
                u64::from_le_bytes(bytes)
            }
            // What says that nobody is there.
            None => width.mask(),
        })
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        let (slot, function, register) = decode(offset, width)?;
        let Some(function) = self.bus.function(slot).filter(|_| function == 0) else {
            return Ok(Effect::None);
        };
        let effect = function.write_config(register, &val.to_le_bytes()[..width.size()]);
        self.bus.settle(slot);
        self.mirror.follow(slot, function, register, width.size());
        Ok(effect)
    }
}
