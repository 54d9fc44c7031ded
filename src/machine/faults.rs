//! Faults that a user wants devices to have: which there can be, and where they are put.

use std::sync::Arc;

use super::{
    Error,
    parts::{DevicePlan, Window},
};
use crate::{
    devices::{
        AxVmDevices,
        fault::{Fault, FaultAction, Losing},
    },
    hal::{IrqSink, MsiSink},
    vm::config::FaultRow,
};

/// Refuses faults of devices that are not there, or that the host kernel emulates; `on_pci` are those
/// that stand where the guest wants them.
///
/// # Errors
/// With the names of those that can have one.
pub fn check(rows: &[FaultRow], devices: &[DevicePlan], on_pci: &[&str]) -> Result<(), Error> {
    let emulated = devices.iter().filter(|it| it.model.is_device()).map(|it| it.name.as_str());
    let names: Vec<_> = emulated.chain(on_pci.iter().copied()).collect();
    for row in rows {
        let name = &row.fault.device;
        let problem = if !names.contains(&name.as_str()) {
            format!(
                "there is no device {name:?} that could have a fault; there are {}",
                names.join(", ")
            )
        } else if let Some(problem) = misses(row, devices) {
            problem
        } else {
            continue;
        };
        return Err(Error::Fault { at: row.at.clone(), problem });
    }
    Ok(())
}

/// What is wrong with a fault's addresses.
fn misses(row: &FaultRow, devices: &[DevicePlan]) -> Option<String> {
    let (first, last) = row.fault.addresses?;
    let name = &row.fault.device;
    let windows: Vec<_> =
        devices.iter().filter(|it| it.name == *name).map(|it| it.window).collect();
    let is_in = windows.iter().map(Window::bounds).any(|(low, high)| first <= high && last >= low);
    // A device on PCI stands where the guest wants it.
    if is_in || windows.is_empty() {
        return None;
    }
    let windows: Vec<_> = windows.iter().map(ToString::to_string).collect();
    Some(format!("{name} is not at {first:#x}, but at {}", windows.join(" and ")))
}

/// The faults of a machine.
pub struct Faults(Vec<Arc<Fault>>);

impl Faults {
    /// As they are asked for.
    pub fn new(rows: &[FaultRow]) -> Self {
        Self(rows.iter().map(|row| Fault::new(row.fault.clone())).collect())
    }

    fn losses(&self, device: &str) -> Vec<Arc<Fault>> {
        let loses = |it: &&Arc<Fault>| {
            it.config().device == device && it.config().action == FaultAction::LoseInterrupt
        };
        self.0.iter().filter(loses).cloned().collect()
    }

    /// Where a device's interrupt lines lead to.
    pub fn lines(&self, device: &str, lines: &Arc<dyn IrqSink>) -> Arc<dyn IrqSink> {
        match self.losses(device) {
            losses if losses.is_empty() => lines.clone(),
            losses => Arc::new(Losing::new(lines.clone(), losses)),
        }
    }

    /// Where a device's messages go.
    pub fn messages(&self, device: &str, messages: &Arc<dyn MsiSink>) -> Arc<dyn MsiSink> {
        match self.losses(device) {
            losses if losses.is_empty() => messages.clone(),
            losses => Arc::new(Losing::new(messages.clone(), losses)),
        }
    }

    /// Has the accesses to devices go wrong.
    pub fn interpose(&self, devices: &mut AxVmDevices) {
        let of_accesses = |it: &&Arc<Fault>| it.config().action != FaultAction::LoseInterrupt;
        let faults: Vec<_> = self.0.iter().filter(of_accesses).cloned().collect();
        if !faults.is_empty() {
            devices.interpose(&faults);
        }
    }
}
