//! A minimal PCI Express root complex (PCI Local Bus 3.0; PCI Express Base 3.0): one bus of up to
//! [`SLOTS`] devices with a function each, configured through memory (ECAM), whose registers stand
//! in one aperture and whose interrupts are messages (MSI-X). No I/O space, no interrupt lines.
//!
//! - `bus`: which functions there are, and where their BARs answer just now.
//! - `ecam`, `aperture`: the two windows, as devices of the board's.
//! - `mirror`: configuration without an exit for each read.
//! - `function`, `config_space`: a function's registers for configuration.
//! - `msix`: its interrupts.

mod aperture;
mod bus;
mod config_space;
mod ecam;
mod function;
mod mirror;
mod msix;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use aperture::Aperture;
pub use bus::{Bus, SLOTS};
pub(crate) use config_space::reg;
pub use config_space::{Capability, Identity, VENDOR_SPECIFIC};
pub use ecam::{ECAM_SIZE, Ecam};
pub use function::{BarWindow, Function, FunctionParts};
pub use msix::{MSIX_SIZE, MSIX_VECTORS, Msix, PENDING as MSIX_PENDING};

use crate::{
    addr::{AccessWidth, GuestPhysAddr, GuestPhysAddrRange},
    devices::{Access, Effect, RegisterMap},
};

/// A function, as a bus has it.
pub trait PciFunction: Send + Sync {
    /// The name that messages use.
    fn name(&self) -> &str;

    /// What the registers behind its BARs are called, wherever in the aperture these are: a BAR lies
    /// at a multiple of its size.
    fn registers(&self) -> RegisterMap {
        RegisterMap::default()
    }

    /// Where its BARs answer, each by its number.
    fn places(&self) -> Vec<(usize, GuestPhysAddrRange)>;

    /// Reads the configuration space from `offset` on.
    fn read_config(&self, offset: usize, bytes: &mut [u8]);

    /// Writes the configuration space from `offset` on.
    fn write_config(&self, offset: usize, bytes: &[u8]) -> Effect;

    /// Reads from a BAR, inside of which the access lies wholly.
    ///
    /// # Errors
    /// It does not suit the device.
    fn read(&self, bar: usize, offset: u64, width: AccessWidth) -> Result<u64, Access>;

    /// Writes to a BAR likewise.
    ///
    /// # Errors
    /// It does not suit the device.
    fn write(
        &self,
        bar: usize,
        offset: u64,
        width: AccessWidth,
        value: u64,
    ) -> Result<Effect, Access>;

    /// From now on a BAR answers there; `None`: nowhere. Not called twice with the same.
    fn moved(&self, _bar: usize, _to: Option<GuestPhysAddr>) {}

    /// Whether reading the configuration space is, somewhere, more than reading what was there when
    /// it was written last.
    fn reads_through(&self) -> bool;
}

/// What stands behind the BAR of a [`Function`].
pub trait PciDevice: Send + Sync {
    /// The name that messages use.
    fn name(&self) -> &str;

    /// What the registers behind its BAR are called.
    fn registers(&self) -> RegisterMap {
        RegisterMap::default()
    }

    /// Reads `width` at `offset` from the BAR's start; the access lies wholly inside of it.
    ///
    /// # Errors
    /// It does not suit the device.
    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access>;

    /// Writes likewise.
    ///
    /// # Errors
    /// It does not suit the device.
    fn write(&self, offset: u64, width: AccessWidth, value: u64) -> Result<Effect, Access>;

    /// From now on the BAR answers there; `None`: nowhere. Not called twice with the same.
    fn moved(&self, _to: Option<GuestPhysAddr>) {}
}

/// The PCI requester id of the device in a slot of the only bus: bus, device, function.
pub const fn requester_id(slot: u8) -> u32 {
    (slot as u32) << 3
}

/// A function and its slot.
pub type Slotted = (u8, Box<dyn PciFunction>);

/// A bus for its two windows.
type SharedBus = Arc<Bus>;
