//! What becomes of each row that AxVisor's files ask for things by: the board has it, or has
//! something in its place, or leaves it out, or it cannot be.

mod console;
mod emulated;
mod outcome;
mod passthrough;

pub use console::place_console;
pub use outcome::{Answer, Outcome, RequestKind, RequestOutcome};

use super::{
    Error,
    board::{Board, Hardware},
    memory,
};
use crate::{
    addr::{GuestPhysAddrRange, MappingFlags},
    hal::Arch,
    vm::config::{
        AxVMConfig, DevicesConfig, InterruptModeConfig, MemoryConfig, MemoryRegion,
        VMInterruptMode, VmMemMappingType, WrittenAt,
    },
};

/// All that rows are compared with.
pub struct Offer<'a> {
    pub arch: Arch,
    pub board: &'a dyn Board,
    pub hardware: &'a Hardware,
    pub ram: &'a [GuestPhysAddrRange],
}

/// What becomes of each row, in the order of the file.
///
/// # Errors
/// All rows that there is no honest way for.
pub fn answer(config: &AxVMConfig, offer: &Offer<'_>) -> Result<Vec<RequestOutcome>, Error> {
    let mut outcomes = Vec::new();
    let mut add = |kind, name: String, at: &WrittenAt, answer: Answer| {
        let Answer { outcome, sentence } = answer;
        outcomes.push(RequestOutcome { kind, name, at: at.clone(), outcome, sentence });
    };
    if let MemoryConfig::Regions(regions) = &config.memory {
        for region in regions {
            let range = memory::window(region.gpa.0, region.size)?;
            let answer = offer.memory(region, range);
            add(RequestKind::MemoryRegions, range.to_string(), &region.at, answer);
        }
    }
    let DevicesConfig { emulated, passthrough, passthrough_addresses, excluded, .. } =
        &config.devices;
    for row in emulated {
        add(RequestKind::EmuDevices, row.name.clone(), &row.at, offer.emulated(row));
    }
    for row in passthrough {
        let answer = offer.passthrough(&row.name, row.window());
        add(RequestKind::PassthroughDevices, row.name.clone(), &row.at, answer);
    }
    for row in passthrough_addresses {
        let answer = offer.passthrough("", Some(row.window));
        add(RequestKind::PassthroughAddresses, row.window.to_string(), &row.at, answer);
    }
    for row in excluded {
        let answer = Answer::as_asked("not passed through, as nothing of the host's is");
        add(RequestKind::ExcludedDevices, row.paths.join(", "), &row.at, answer);
    }
    if let Some(InterruptModeConfig { mode, at }) = &config.devices.interrupt_mode {
        add(RequestKind::InterruptMode, String::new(), at, offer.interrupt_mode(*mode));
    }
    // Those of the command line come last.
    outcomes.sort_by_key(|row| row.at.line.unwrap_or(usize::MAX));
    match outcomes.iter().any(|row| row.outcome == Outcome::Refused) {
        true => {
            outcomes.retain(|row| row.outcome == Outcome::Refused);
            Err(Error::Requests(outcomes))
        }
        false => Ok(outcomes),
    }
}

impl Offer<'_> {
    fn memory(&self, region: &MemoryRegion, range: GuestPhysAddrRange) -> Answer {
        if region.flags.contains(MappingFlags::DEVICE) {
            return self.passthrough("", Some(range));
        }
        let lazy = if region.lazy { ", on first touch" } else { "" };
        match region.map_type {
            VmMemMappingType::MapAlloc => Answer::as_asked(format!("memory of its own{lazy}")),
            VmMemMappingType::MapIdentical => Answer::instead(
                "memory of its own at the same guest address; the host's memory at this physical \
                 address (MapIdentical) cannot be had",
            ),
            VmMemMappingType::MapReserved => Answer::instead(
                "memory of its own at the same guest address; an area that the host has set aside \
                 (MapReserved) cannot be had",
            ),
        }
    }

    fn interrupt_mode(&self, mode: VMInterruptMode) -> Answer {
        let controller = &self.hardware.interrupt_controller;
        match mode {
            VMInterruptMode::Emulated => Answer::as_asked(format!("by {controller}")),
            VMInterruptMode::Passthrough => Answer::instead(format!(
                "interrupts are emulated, by {controller}; physical ones cannot be passed through"
            )),
            VMInterruptMode::NoIrq => Answer::instead(format!(
                "the guest has {controller} all the same; until it enables interrupts there, none \
                 comes"
            )),
        }
    }
}

#[cfg(test)]
mod tests;
