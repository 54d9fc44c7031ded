//! Devices and addresses of the host's: what the guest finds there, as they cannot be passed through.

use super::{Answer, Offer, console::is_serial};
use crate::{
    addr::GuestPhysAddrRange,
    machine::parts::{DevicePlan, Model},
};

/// Names of interrupt controllers and of parts of them.
const CONTROLLERS: [&str; 7] =
    ["gic", "intc", "interrupt-controller", "plic", "aplic", "imsic", "apic"];

impl Offer<'_> {
    /// What stands in the place of a device of the host's, or of addresses (which have no name).
    pub fn passthrough(&self, name: &str, window: Option<GuestPhysAddrRange>) -> Answer {
        if name == "/" && window.is_none() {
            let devices = self.hardware.devices.iter();
            let own = devices.filter(|device| device.model != Model::HostKernel);
            let own: Vec<_> = own.map(|device| device.name.as_str()).collect();
            return Answer::instead(format!(
                "nothing of the host's is passed through; the guest has the board's own: {}, and \
                 {}",
                own.join(", "),
                self.hardware.interrupt_controller
            ));
        }
        if let Some(window) = window {
            if let Some(problem) = self.over_memory(window) {
                return Answer::refuse(problem);
            }
            if let Some(answer) = self.boards_own(window) {
                return answer;
            }
        }
        let nothing = match window {
            Some(window) => format!("nothing is at {window}: reads give all ones"),
            None => "nothing of the host's is passed through".into(),
        };
        let console = self.hardware.console_index().map(|index| &self.hardware.devices[index]);
        match (is_serial(name), console) {
            (true, Some(console)) => {
                Answer::instead(format!("the guest's serial port is {}; {nothing}", told(console)))
            }
            _ if is_controller(name) => {
                Answer::instead(format!("{}; {nothing}", self.interrupts_by()))
            }
            _ => Answer::left_out(nothing),
        }
    }

    /// What is wrong with a device's window that lies over memory.
    pub fn over_memory(&self, window: GuestPhysAddrRange) -> Option<String> {
        let ram = self.ram.iter().find(|ram| ram.overlaps(&window))?;
        Some(format!(
            "{window} lies over the guest's memory at {ram}; correct the row, or give the guest \
             other memory_regions"
        ))
    }

    /// The board's own devices in a window, if there are any.
    pub fn boards_own(&self, window: GuestPhysAddrRange) -> Option<Answer> {
        let in_memory = |device: &DevicePlan| device.window.mmio();
        let there = self.hardware.devices.iter();
        let there: Vec<_> = there
            .filter(|device| in_memory(device).is_some_and(|range| range.overlaps(&window)))
            .collect();
        let covered: u64 =
            there.iter().filter_map(|device| in_memory(device)).map(|it| it.len()).sum();
        let rest = if covered < window.len() { "; elsewhere reads give all ones" } else { "" };
        let there: Vec<_> = there.into_iter().map(told).collect();
        let own = || Answer::instead(format!("the board's own: {}{rest}", there.join(", ")));
        (!there.is_empty()).then(own)
    }

    /// Who brings the guest its interrupts, and where it finds that.
    pub fn interrupts_by(&self) -> String {
        let controller = &self.hardware.interrupt_controller;
        let parts = self.hardware.devices.iter().filter(|device| match device.model {
            Model::Plic => true,
            Model::HostKernel => is_controller(&device.name),
            _ => false,
        });
        let parts = parts.map(|part| format!("{} at {}", part.name, part.window));
        let parts: Vec<_> = parts.collect();
        format!("the guest's interrupts come by {controller}: {}", parts.join(", "))
    }
}

fn is_controller(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    CONTROLLERS.iter().any(|part| name.contains(part))
}

/// A device and where it is.
pub fn told(device: &DevicePlan) -> String {
    let DevicePlan { name, model, window, irq, .. } = device;
    let irq = irq.map_or(String::new(), |irq| format!(", interrupt {irq}"));
    format!("{name} ({model}) at {window}{irq}")
}
