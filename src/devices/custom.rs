//! Devices of a user's own: a struct, a map of its registers, and two functions.
//!
//! [`Device`] is what there is to write; [`Kinds`] gives them to the program
//! ([`crate::cli::main_with`]), whose `guest.toml` then has them as `[[devices.custom]]`; [`Bench`]
//! tests one with no guest.
//!
//! ```
//! use axvmm::devices::{Effect, custom::{Bench, Device, NoKeys, Parts, Register}};
//! use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
//!
//! /// What is written is read back doubled.
//! #[derive(Default)]
//! struct Doubler(AtomicU32);
//!
//! const VALUE: u64 = 0;
//!
//! impl Device for Doubler {
//!     const KIND: &str = "doubler";
//!     const REGISTERS: &[Register] = &[Register::dword("VALUE", VALUE)];
//!     type Keys = NoKeys;
//!
//!     fn new(_: NoKeys, _: Parts) -> Result<Self, String> {
//!         Ok(Self::default())
//!     }
//!
//!     fn read(&self, _offset: u64) -> u64 {
//!         2 * u64::from(self.0.load(Relaxed))
//!     }
//!
//!     fn write(&self, _offset: u64, value: u64) -> Effect {
//!         self.0.store(value as u32, Relaxed);
//!         Effect::None
//!     }
//! }
//!
//! let bench = Bench::<Doubler>::new("").unwrap();
//! bench.write(VALUE, 21);
//! assert_eq!(bench.read(VALUE), 42);
//! ```

mod bench;
mod clock;
mod kinds;
mod mapped;
mod register;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, de::DeserializeOwned};

pub use bench::Bench;
pub use clock::Clock;
pub use kinds::{About, KeyProblem, Keys, Kinds, PartsBut, Recipe};
pub use mapped::{CustomDevice, MakeError, Mapped};
pub use register::{Allowed, Register};

use super::{Effect, IrqLine};
use crate::addrspace::AddrSpace;

/// A kind of device: what it is called, which registers it has, and what they do.
///
/// It is used by all vCPUs at once, so its state is in atomics or behind a lock.
pub trait Device: Send + Sync + Sized + 'static {
    /// What `guest.toml` calls it: `kind = "…"`. No other kind of a program's has it.
    const KIND: &'static str;

    /// All its registers, by ascending offset. Accesses that are none to one of these, as wide as it
    /// is, do not come to the device: reads give all ones, writes are dropped, and both are told.
    const REGISTERS: &'static [Register];

    /// How many bytes its window has.
    const SIZE: u64 = register::end(Self::REGISTERS);

    /// What drivers know it by: the `compatible` of its node in the device tree, and on x86_64 of
    /// its device in the DSDT (`PRP0001`). `None`: a kernel is not told of it.
    const COMPATIBLE: Option<&'static str> = None;

    /// Whether it has an interrupt line, level-triggered and active high.
    const HAS_INTERRUPT: bool = false;

    /// Its own keys in `guest.toml`: a struct that serde can read. One that is not there and is not
    /// optional, or that the struct has not, is told with its place. The names `kind`, `name`, `at` and
    /// `irq` are taken.
    type Keys: DeserializeOwned;

    /// Makes the device.
    ///
    /// # Errors
    /// What is wrong with the values of its keys, for the user.
    fn new(keys: Self::Keys, parts: Parts) -> Result<Self, String>;

    /// Reads the register at `offset`; the value is as wide as the register.
    fn read(&self, offset: u64) -> u64;

    /// Writes the register at `offset`.
    fn write(&self, offset: u64, value: u64) -> Effect;

    /// The time that was asked for ([`Clock::wake_at`]) has come.
    fn woken(&self) {}
}

/// Of a device that has no keys of its own.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct NoKeys {}

/// What a device gets when it is made.
#[derive(Clone)]
pub struct Parts {
    /// What messages and `axvmm check` call it.
    pub name: String,
    /// Its interrupt; leads nowhere if it has none.
    pub line: IrqLine,
    /// The guest's memory.
    pub memory: Arc<AddrSpace>,
    /// Its time.
    pub clock: Arc<dyn Clock>,
}
