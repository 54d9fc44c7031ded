//! `[[devices.fault]]`: what is to go wrong with a device.

use std::time::Duration;

use super::{
    node::{Node, Table, Value},
    report::Report,
    schema::{FromNode, Key, Shape, located, table, unexpected, words},
    source::At,
    values::Integer,
};
use crate::{
    devices::fault::{FaultAccess, FaultAction, FaultConfig, FaultWhen},
    vm::config::FaultRow,
};

table! {
    /// A fault of a device's.
    pub struct FaultKeys {
        /// The device, by the name that `axvmm check` has for it.
        device: String,
        /// An address or port in its window, or `[first, last]`. Default: all of the window.
        at: Addresses,
        /// Which accesses. Default: `"any"`.
        access: FaultAccessWord,
        /// What happens: `"fail"`, `"delay"` (by `delay_us`), `"bits"` (those of `value` that are in
        /// `mask`), `"lose-interrupt"`.
        action: FaultActionWord,
        /// How much later the device gets an access, in microseconds.
        delay_us: Integer<1, 60_000_000>,
        /// The bits that a read gives, or a write brings.
        value: Integer,
        /// Which bits of `value` count. Default: all.
        mask: Integer,
        /// It happens this time only, counted from 1. Default: each time.
        nth: Integer<1, { u64::MAX }>,
        /// It happens each time that is a multiple of this.
        every: Integer<1, { u64::MAX }>,
        /// It happens by chance, one of so many times.
        one_in: Integer<1, { u64::MAX }>,
        /// Where chance begins: the same seed makes the same choices. Default: 0.
        seed: Integer,
    }
}

words! {
    /// Which accesses have a fault.
    pub enum FaultAccessWord {
        /// Reads.
        Read = "read",
        /// Writes.
        Write = "write",
        /// All.
        Any = "any",
    }
}

words! {
    /// What happens.
    pub enum FaultActionWord {
        /// A read gives all ones, a write is dropped.
        Fail = "fail",
        /// The device gets it later.
        Delay = "delay",
        /// Some bits are given.
        Bits = "bits",
        /// The device's interrupt does not come.
        LoseInterrupt = "lose-interrupt",
    }
}

/// One address, or the first and the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses(pub u64, pub u64);

impl FromNode for Addresses {
    const SHAPE: Shape =
        Shape::Either(&[Integer::<0, { u64::MAX }>::SHAPE, Vec::<At<Integer>>::SHAPE]);

    fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Integer(_) => {
                let address: At<Integer> = located(node, report)?;
                Some(Self(address.value.0, address.value.0))
            }
            Value::Array(_) => {
                let list = Vec::<At<Integer>>::from_node(node, report)?;
                match list.as_slice() {
                    [first, last] if first.value <= last.value => {
                        Some(Self(first.value.0, last.value.0))
                    }
                    _ => {
                        let message = "expected the first and the last address, in this order";
                        report.bad_value(node.place, message);
                        None
                    }
                }
            }
            _ => unexpected(Self::SHAPE, node, report),
        }
    }
}

/// The faults that are meant.
pub(super) fn resolve(rows: &[At<FaultKeys>], report: &mut Report) -> Vec<FaultRow> {
    let mut faults = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let key = format!("devices.fault[{index}]");
        match one(&row.value) {
            Ok((device, action, when)) => {
                let addresses = row.value.at.as_ref().map(|at| (at.value.0, at.value.1));
                let access = access(&row.value);
                let fault = FaultConfig { device, addresses, access, action, when };
                faults.push(FaultRow { fault, at: report.written_at(row.place) });
            }
            Err(problem) => _ = report.problem_of(&key, row.place, problem),
        }
    }
    faults
}

fn access(keys: &FaultKeys) -> FaultAccess {
    match keys.access.as_ref().map(|at| at.value) {
        Some(FaultAccessWord::Read) => FaultAccess::Read,
        Some(FaultAccessWord::Write) => FaultAccess::Write,
        Some(FaultAccessWord::Any) | None => FaultAccess::Any,
    }
}

/// The device, what happens, and when; or what is missing, or too much.
fn one(keys: &FaultKeys) -> Result<(String, FaultAction, FaultWhen), &'static str> {
    let device = keys.device.as_ref().ok_or("a fault needs the name of a device")?;
    let action = keys.action.as_ref().ok_or("a fault needs an action")?.value;
    let needs = |what: FaultActionWord, key: bool, without: &'static str| match key {
        true if action != what => Err(without),
        _ => Ok(()),
    };
    needs(FaultActionWord::Delay, keys.delay_us.is_some(), "delay_us is of action = \"delay\"")?;
    needs(FaultActionWord::Bits, keys.value.is_some(), "value is of action = \"bits\"")?;
    needs(FaultActionWord::Bits, keys.mask.is_some(), "mask is of action = \"bits\"")?;
    let action = match action {
        FaultActionWord::Fail => FaultAction::Fail,
        FaultActionWord::Delay => {
            let delay = keys.delay_us.as_ref().ok_or("action = \"delay\" needs delay_us")?;
            FaultAction::Delay(Duration::from_micros(delay.value.0))
        }
        FaultActionWord::Bits => {
            let value = keys.value.as_ref().ok_or("action = \"bits\" needs a value")?.value.0;
            let mask = keys.mask.as_ref().map_or(u64::MAX, |mask| mask.value.0);
            FaultAction::Bits { value, mask }
        }
        FaultActionWord::LoseInterrupt if keys.at.is_some() || keys.access.is_some() => {
            return Err("an interrupt has neither an address nor an access");
        }
        FaultActionWord::LoseInterrupt => FaultAction::LoseInterrupt,
    };
    let seed = keys.seed.as_ref().map(|seed| seed.value.0);
    let when = match (&keys.nth, &keys.every, &keys.one_in) {
        (None, None, None) => FaultWhen::Always,
        (Some(nth), None, None) => FaultWhen::Nth(nth.value.0),
        (None, Some(every), None) => FaultWhen::Every(every.value.0),
        (None, None, Some(times)) => {
            FaultWhen::OneIn { times: times.value.0, seed: seed.unwrap_or(0) }
        }
        _ => return Err("only one of nth, every and one_in can be"),
    };
    match (when, seed) {
        (FaultWhen::OneIn { .. }, _) | (_, None) => Ok((device.value.clone(), action, when)),
        (_, Some(_)) => Err("a seed is of one_in"),
    }
}
