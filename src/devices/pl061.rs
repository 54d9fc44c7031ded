//! Arm's general purpose I/O, the PL061 (PrimeCell General Purpose Input/Output (PL061) Technical
//! Reference Manual, DDI 0190B): eight lines, as far as they are inputs of the guest's. One of them
//! is the board's power button.
//!
//! A guest that waits for edges may read a line only a while after its interrupt, when a button that
//! was pressed and let go at once is up again. So a press lasts until the guest has seen it.

use std::fmt;

use parking_lot::Mutex;

use super::{
    Access, BaseDeviceOps, Effect, IrqLine, RegisterMap, RegisterName,
    irq::LevelIrq,
    primecell::{self, PeripheralId},
};
use crate::addr::{AccessWidth, GuestPhysAddrRange};

/// Data: bits 2 to 9 of the address say which lines are read or written.
pub const DATA: u64 = 0x000;
const DATA_END: u64 = 0x400;
/// Direction: 1 is an output.
pub const DIR: u64 = 0x400;
/// Interrupt sense: 1 for levels, 0 for edges.
pub const IS: u64 = 0x404;
/// Interrupt on both edges.
pub const IBE: u64 = 0x408;
/// Interrupt event: 1 for rising edges or high levels.
pub const IEV: u64 = 0x40c;
/// Interrupt mask: 1 lets the interrupt through.
pub const IE: u64 = 0x410;
/// Raw and masked interrupt status.
pub const RIS: u64 = 0x414;
/// Masked interrupt status.
pub const MIS: u64 = 0x418;
/// Interrupt clear, for edges.
pub const IC: u64 = 0x41c;
/// Mode control: lines that are not the guest's to drive. There is nobody else.
pub const AFSEL: u64 = 0x420;

/// Their names (table 3-1).
const NAMES: &[RegisterName] = &[
    RegisterName::new("GPIODATA", DATA, DATA_END - DATA),
    RegisterName::dword("GPIODIR", DIR),
    RegisterName::dword("GPIOIS", IS),
    RegisterName::dword("GPIOIBE", IBE),
    RegisterName::dword("GPIOIEV", IEV),
    RegisterName::dword("GPIOIE", IE),
    RegisterName::dword("GPIORIS", RIS),
    RegisterName::dword("GPIOMIS", MIS),
    RegisterName::dword("GPIOIC", IC),
    RegisterName::dword("GPIOAFSEL", AFSEL),
    primecell::PERIPH_ID,
    primecell::PCELL_ID,
];

const ID: PeripheralId = PeripheralId { part: 0x061, revision: 0 };

/// How many lines there are.
pub const LINES: u8 = 8;

struct State {
    irq: LevelIrq,
    /// What drives the lines from outside.
    inputs: u8,
    /// What the guest drives them to, where they are outputs.
    outputs: u8,
    dir: u8,
    is: u8,
    ibe: u8,
    iev: u8,
    ie: u8,
    afsel: u8,
    /// Edges that were seen and not cleared.
    edges: u8,
    /// Inputs that fall when the guest has read them.
    pressed: u8,
}

impl State {
    /// The lines as they are.
    fn data(&self) -> u8 {
        self.outputs & self.dir | self.inputs & !self.dir
    }

    fn ris(&self) -> u8 {
        let levels = self.is & !self.dir & !(self.inputs ^ self.iev);
        self.edges & !self.is | levels
    }

    fn set_inputs(&mut self, inputs: u8) {
        let changed = (self.inputs ^ inputs) & !self.dir;
        self.inputs = inputs;
        let wanted = self.ibe | !(inputs ^ self.iev);
        self.edges |= changed & wanted & !self.is;
    }

    fn press(&mut self, lines: u8) {
        // One that is still down comes up first.
        self.set_inputs(self.inputs & !lines);
        self.set_inputs(self.inputs | lines);
        self.pressed |= lines;
    }

    fn read_data(&mut self, lines: u8) -> u8 {
        let data = self.data() & lines;
        let seen = self.pressed & data;
        if seen != 0 {
            self.pressed &= !seen;
            self.set_inputs(self.inputs & !seen);
        }
        data
    }

    fn read(&mut self, register: u64) -> Result<u32, Access> {
        let value = match register {
            DATA..DATA_END => self.read_data((register >> 2) as u8),
            DIR => self.dir,
            IS => self.is,
            IBE => self.ibe,
            IEV => self.iev,
            IE => self.ie,
            RIS => self.ris(),
            MIS => self.ris() & self.ie,
            IC => return Err(Access::WriteOnly),
            AFSEL => self.afsel,
            other => return ID.read(other).ok_or(Access::NoRegister),
        };
        Ok(value.into())
    }

    fn write(&mut self, register: u64, value: u8) -> Result<(), Access> {
        match register {
            DATA..DATA_END => {
                let lines = (register >> 2) as u8;
                self.outputs = self.outputs & !lines | value & lines;
            }
            DIR => self.dir = value,
            IS => self.is = value,
            IBE => self.ibe = value,
            IEV => self.iev = value,
            IE => self.ie = value,
            IC => self.edges &= !value,
            AFSEL => self.afsel = value,
            RIS | MIS => return Err(Access::ReadOnly),
            other if ID.read(other).is_some() => return Err(Access::ReadOnly),
            _ => return Err(Access::NoRegister),
        }
        Ok(())
    }

    fn after(&mut self) {
        self.irq.set(self.ris() & self.ie != 0);
    }
}

/// A PL061 in memory, all of whose lines are low from outside.
pub struct Pl061 {
    range: GuestPhysAddrRange,
    state: Mutex<State>,
}

impl Pl061 {
    /// In [`primecell::SIZE`] bytes; `irq` is driven by level.
    pub fn new(range: GuestPhysAddrRange, irq: IrqLine) -> Self {
        let state = State {
            irq: LevelIrq::new(irq),
            inputs: 0,
            outputs: 0,
            dir: 0,
            is: 0,
            ibe: 0,
            iev: 0,
            ie: 0,
            afsel: 0,
            edges: 0,
            pressed: 0,
        };
        Self { range, state: Mutex::new(state) }
    }

    /// Drives a line from outside; one that the guest has made an output does not change by it, and
    /// one from [`LINES`] on is nobody's.
    pub fn set_input(&self, line: u8, high: bool) {
        let Some(bit) = bit(line) else { return };
        self.with(|state| {
            state.pressed &= !bit;
            state.set_inputs(if high { state.inputs | bit } else { state.inputs & !bit });
        });
    }

    /// Presses a button on a line that is low while it is up, and lets go when the guest has read
    /// the line high. `false`: no driver waits for it (yet), and nothing was done.
    pub fn press(&self, line: u8) -> bool {
        let Some(bit) = bit(line) else { return false };
        self.with(|state| {
            let awaited = state.ie & !state.dir & bit != 0;
            if awaited {
                state.press(bit);
            }
            awaited
        })
    }

    /// Does `what` and all that comes of it.
    fn with<T>(&self, what: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = what(&mut state);
        state.after();
        result
    }
}

fn bit(line: u8) -> Option<u8> {
    1_u8.checked_shl(line.into())
}

impl BaseDeviceOps<GuestPhysAddrRange> for Pl061 {
    fn name(&self) -> &str {
        "gpio"
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        self.range
    }

    fn registers(&self) -> RegisterMap {
        RegisterMap::of(NAMES)
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        let register = primecell::register(offset, width)?;
        self.with(|state| state.read(register)).map(u64::from)
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        let register = primecell::register(offset, width)?;
        self.with(|state| state.write(register, val as u8))?;
        Ok(Effect::None)
    }
}

impl fmt::Debug for Pl061 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pl061({})", self.range)
    }
}

#[cfg(test)]
mod tests;
