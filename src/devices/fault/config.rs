//! Faults that a user wants devices to have.

use std::{fmt, time::Duration};

use serde::Serialize;

/// A fault of a device's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultConfig {
    /// Which device, by its name.
    pub device: String,
    /// At which addresses of its bus, first and last; `None`: all of the device's.
    pub addresses: Option<(u64, u64)>,
    /// Which accesses; means nothing for interrupts.
    pub access: FaultAccess,
    /// What happens.
    pub action: FaultAction,
    /// Which times.
    pub when: FaultWhen,
}

/// Which accesses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultAccess {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// All.
    #[default]
    Any,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultAction {
    /// A read gives all ones, a write is dropped, and the device sees neither. Of a system register
    /// the guest gets a fault.
    Fail,
    /// The device gets it later.
    Delay(Duration),
    /// The bits in `mask` are those of `value`: in what a read gives, or in what a write brings.
    Bits {
        /// The bits.
        value: u64,
        /// Which of them.
        mask: u64,
    },
    /// The device's interrupt does not come.
    LoseInterrupt,
}

/// Which of the times that it could happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultWhen {
    /// Each.
    #[default]
    Always,
    /// This one only, from 1.
    Nth(u64),
    /// Each that is a multiple of it.
    Every(u64),
    /// By chance, one of so many; the same `seed` makes the same choices.
    OneIn {
        /// Of how many.
        times: u64,
        /// Where chance begins.
        seed: u64,
    },
}

impl fmt::Display for FaultConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.device)?;
        match self.addresses {
            Some((first, last)) if first == last => write!(f, " at {first:#x}")?,
            Some((first, last)) => write!(f, " at {first:#x}-{last:#x}")?,
            None => {}
        }
        let accesses = match self.access {
            FaultAccess::Read => "reads",
            FaultAccess::Write => "writes",
            FaultAccess::Any => "accesses",
        };
        match self.action {
            FaultAction::Fail => write!(f, ": {accesses} fail")?,
            FaultAction::Delay(time) => write!(f, ": {accesses} take {time:?} more")?,
            FaultAction::Bits { value, mask } => {
                write!(f, ": {accesses} have the bits {value:#x} of {mask:#x}")?;
            }
            FaultAction::LoseInterrupt => write!(f, ": interrupts are lost")?,
        }
        match self.when {
            FaultWhen::Always => Ok(()),
            FaultWhen::Nth(n) => write!(f, ", only number {n}"),
            FaultWhen::Every(n) => write!(f, ", one in {n} in turn"),
            FaultWhen::OneIn { times, seed } => {
                write!(f, ", one in {times} by chance (seed {seed})")
            }
        }
    }
}
