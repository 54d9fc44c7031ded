//! The device: a counter that the guest starts, and that interrupts when it has run down.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axvmm::devices::{
    Effect,
    custom::{Device, Parts, Register},
};
use serde::Deserialize;

/// Says which device this is.
const ID: u64 = 0x0;
/// How many ticks are left. What is written there is where it begins to count down.
const COUNT: u64 = 0x4;
/// Bit 0: it has run down. Writing 1 to it takes the interrupt back.
const STATUS: u64 = 0x8;

const ID_VALUE: u64 = 0x6178_766d;
const DONE: u64 = 1 << 0;

/// What guest.toml says of it.
#[derive(Deserialize)]
pub struct Keys {
    /// How long a tick is, in microseconds.
    #[serde(default = "a_millisecond")]
    tick_us: u32,
}

fn a_millisecond() -> u32 {
    1000
}

/// Several vCPUs may use it at once.
pub struct TYPE {
    tick: Duration,
    parts: Parts,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When it has run down, on the device's clock.
    end: Duration,
    is_done: bool,
}

impl TYPE {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for TYPE {
    const KIND: &'static str = "NAME";
    const REGISTERS: &'static [Register] = &[
        Register::dword("ID", ID).read_only(),
        Register::dword("COUNT", COUNT),
        Register::dword("STATUS", STATUS),
    ];
    const COMPATIBLE: Option<&'static str> = Some("example,NAME");
    const HAS_INTERRUPT: bool = true;
    type Keys = Keys;

    fn new(keys: Keys, parts: Parts) -> Result<Self, String> {
        if keys.tick_us == 0 {
            return Err("tick_us is 1 or more".to_owned());
        }
        let tick = Duration::from_micros(keys.tick_us.into());
        Ok(Self { tick, parts, state: Mutex::default() })
    }

    fn read(&self, offset: u64) -> u64 {
        match offset {
            ID => ID_VALUE,
            COUNT => {
                let left = self.state().end.saturating_sub(self.parts.clock.now());
                left.as_nanos().div_ceil(self.tick.as_nanos()) as u64
            }
            _ => u64::from(self.state().is_done),
        }
    }

    fn write(&self, offset: u64, value: u64) -> Effect {
        let mut state = self.state();
        match offset {
            COUNT => {
                state.end = self.parts.clock.now() + self.tick * value as u32;
                self.parts.clock.wake_at(Some(state.end));
            }
            _ if value & DONE != 0 => {
                state.is_done = false;
                self.parts.line.set(false);
            }
            _ => {}
        }
        Effect::None
    }

    fn woken(&self) {
        self.state().is_done = true;
        self.parts.line.set(true);
    }
}

#[cfg(test)]
mod tests {
    use axvmm::devices::custom::Bench;

    use super::*;

    #[test]
    fn it_counts_down_and_interrupts() {
        let bench = Bench::<TYPE>::new("tick_us = 10").unwrap();
        assert_eq!(bench.read(ID), ID_VALUE);
        bench.write(COUNT, 3);
        bench.step(Duration::from_micros(20));
        assert_eq!((bench.read(COUNT), bench.read(STATUS), bench.interrupt()), (1, 0, false));
        bench.step(Duration::from_micros(10));
        assert_eq!((bench.read(COUNT), bench.read(STATUS), bench.interrupt()), (0, DONE, true));
        bench.write(STATUS, DONE);
        assert_eq!((bench.read(STATUS), bench.interrupt()), (0, false));
    }

    #[test]
    fn a_tick_takes_time() {
        assert!(Bench::<TYPE>::new("tick_us = 0").is_err());
        assert!(Bench::<TYPE>::new("tick_ms = 1").is_err());
    }
}
