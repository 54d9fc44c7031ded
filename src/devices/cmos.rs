//! The real-time clock and its battery-backed RAM at ports 0x70 and 0x71 (Motorola MC146818A data
//! sheet; the century at 0x32 and the memory sizes as PC firmware leaves them).
//!
//! The clock shows the host's time in UTC and cannot be set: what a guest writes to it is dropped.
//! It raises no interrupts, and never says that an update is under way.

mod calendar;

use std::fmt;

pub use self::calendar::DateTime;
use parking_lot::Mutex;

use super::{Access, BaseDeviceOps, Effect, RegisterMap, RegisterName, byte_wide};
use crate::addr::{AccessWidth, Port, PortRange};

/// Port offsets.
const INDEX: u64 = 0;
const DATA: u64 = 1;
/// The ports; what is behind the second is for the first to say.
const NAMES: &[RegisterName] =
    &[RegisterName::byte("Index", INDEX), RegisterName::byte("Data", DATA)];
/// The index port's top bit masks NMIs and is no part of the index.
const INDEX_MASK: u8 = 0x7f;

const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const DAY_OF_WEEK: u8 = 0x06;
const DAY_OF_MONTH: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const REGISTER_A: u8 = 0x0a;
const REGISTER_B: u8 = 0x0b;
const REGISTER_C: u8 = 0x0c;
const REGISTER_D: u8 = 0x0d;
/// Also named by the FADT.
pub const CENTURY: u8 = 0x32;

/// A: 32.768 kHz time base, 1.024 kHz rate; "update in progress" is bit 7.
const A_RESET: u8 = 0x26;
const A_UIP: u8 = 1 << 7;
/// B: 24 hours a day; 0 is 12.
const B_24H: u8 = 1 << 1;
/// B: values are binary; 0 is BCD.
const B_BINARY: u8 = 1 << 2;
/// D: the battery is good.
const D_VALID: u8 = 1 << 7;
/// Hours, 12-hour form: afternoon.
const PM: u8 = 1 << 7;

/// The memory that loaders look up here, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemorySizes {
    /// From 0 up to the first hole, below 4 GiB.
    pub below_4g: u64,
    /// From 4 GiB on.
    pub above_4g: u64,
}

struct State {
    index: u8,
    ram: [u8; 128],
}

/// Seconds since 1970-01-01 00:00 UTC.
pub type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// The clock and its memory, of which this has what loaders read and the time.
pub struct Cmos {
    ports: PortRange,
    clock: Clock,
    state: Mutex<State>,
}

impl Cmos {
    /// At `first` and the port behind it.
    pub fn new(first: Port, clock: Clock, memory: MemorySizes) -> Self {
        let mut ram = [0; 128];
        ram[usize::from(REGISTER_A)] = A_RESET;
        ram[usize::from(REGISTER_B)] = B_24H;
        put_memory_sizes(&mut ram, memory);
        let ports = PortRange::new(first, 2).unwrap_or_else(|| PortRange::at(first));
        Self { ports, clock, state: Mutex::new(State { index: 0, ram }) }
    }

    fn read(&self, state: &State) -> u8 {
        let stored = state.ram[usize::from(state.index)];
        let b = state.ram[usize::from(REGISTER_B)];
        let now = || DateTime::at((self.clock)());
        let number = match state.index {
            SECONDS => now().second,
            MINUTES => now().minute,
            HOURS => return hour(now().hour, b),
            DAY_OF_WEEK => now().weekday,
            DAY_OF_MONTH => now().day,
            MONTH => now().month,
            YEAR => (now().year % 100) as u8,
            CENTURY => (now().year / 100) as u8,
            REGISTER_A => return stored & !A_UIP,
            REGISTER_C => return 0,
            REGISTER_D => return D_VALID,
            _ => return stored,
        };
        encode(number, b)
    }

    fn write(state: &mut State, value: u8) {
        match state.index {
            SECONDS | MINUTES | HOURS | DAY_OF_WEEK..=YEAR | CENTURY => {}
            REGISTER_C | REGISTER_D => {}
            index => state.ram[usize::from(index)] = value,
        }
    }
}

/// As register B wants numbers.
fn encode(number: u8, b: u8) -> u8 {
    if b & B_BINARY != 0 { number } else { ((number / 10) << 4) | (number % 10) }
}

fn hour(hour: u8, b: u8) -> u8 {
    if b & B_24H != 0 {
        return encode(hour, b);
    }
    let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
    encode(twelve, b) | if hour >= 12 { PM } else { 0 }
}

fn put_memory_sizes(ram: &mut [u8; 128], memory: MemorySizes) {
    const K: u64 = 1 << 10;
    const M: u64 = 1 << 20;
    let capped = |size: u64, from: u64, unit: u64, max: u64| {
        (size.saturating_sub(from) / unit).min(max).to_le_bytes()
    };
    let base = capped(memory.below_4g, 0, K, 640);
    let extended = capped(memory.below_4g, M, K, 0xffff);
    let above_16m = capped(memory.below_4g, 16 * M, 64 * K, 0xffff);
    let above_4g = capped(memory.above_4g, 0, 64 * K, 0xff_ffff);
    for (at, bytes) in [
        (0x15, &base[..2]),
        (0x17, &extended[..2]),
        (0x30, &extended[..2]),
        (0x34, &above_16m[..2]),
        (0x5b, &above_4g[..3]),
    ] {
        ram[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl BaseDeviceOps<PortRange> for Cmos {
    fn name(&self) -> &str {
        "cmos"
    }

    fn address_range(&self) -> PortRange {
        self.ports
    }

    fn registers(&self) -> RegisterMap {
        RegisterMap::of(NAMES)
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        check(offset, width)?;
        let state = self.state.lock();
        // The index cannot be read back.
        let byte = |offset| if offset == DATA { self.read(&state) } else { 0xff };
        Ok(byte_wide::read(offset, width, byte))
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        check(offset, width)?;
        let mut state = self.state.lock();
        Ok(byte_wide::write(offset, width, val, |offset, byte| {
            match offset {
                INDEX => state.index = byte & INDEX_MASK,
                _ => Self::write(&mut state, byte),
            }
            Effect::None
        }))
    }
}

fn check(offset: u64, width: AccessWidth) -> Result<(), Access> {
    match offset.checked_add(width.size() as u64) {
        Some(end) if end <= DATA + 1 => Ok(()),
        _ => Err(Access::NoRegister),
    }
}

impl fmt::Debug for Cmos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cmos({})", self.ports)
    }
}

#[cfg(test)]
mod tests;
