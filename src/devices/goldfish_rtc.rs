//! The clock of Android's emulator and of QEMU's `virt` board for riscv64 (QEMU,
//! `hw/rtc/goldfish_rtc.c`; Linux, `drivers/rtc/rtc-goldfish.c`): nanoseconds since 1970 in 64 bits,
//! and an alarm.
//!
//! It begins with the host's time. The guest can set it, which lasts as long as the machine.

use std::{fmt, io, time::Duration};

use parking_lot::Mutex;

use super::{
    Access, BaseDeviceOps, Effect, IrqLine, RegisterMap, RegisterName,
    clock::{AlarmClock, AlarmTimer, WallClock},
    irq::LevelIrq,
};
use crate::addr::{AccessWidth, GuestPhysAddrRange};

/// How large the window is on the boards that have it, in bytes.
pub const SIZE: u64 = 0x1000;

/// The time, low half: reading it keeps the high half for the read that follows.
pub const TIME_LOW: u64 = 0x00;
/// The time, high half.
pub const TIME_HIGH: u64 = 0x04;
/// When the alarm is: writing the low half arms it.
pub const ALARM_LOW: u64 = 0x08;
/// When the alarm is, high half.
pub const ALARM_HIGH: u64 = 0x0c;
/// 1 lets the interrupt through.
pub const IRQ_ENABLED: u64 = 0x10;
/// Any write disarms the alarm.
pub const CLEAR_ALARM: u64 = 0x14;
/// 1: the alarm is armed.
pub const ALARM_STATUS: u64 = 0x18;
/// Any write acknowledges the interrupt.
pub const CLEAR_INTERRUPT: u64 = 0x1c;

/// Their names, without the TIMER_ that Linux has before each.
const NAMES: &[RegisterName] = &[
    RegisterName::dword("TIME_LOW", TIME_LOW),
    RegisterName::dword("TIME_HIGH", TIME_HIGH),
    RegisterName::dword("ALARM_LOW", ALARM_LOW),
    RegisterName::dword("ALARM_HIGH", ALARM_HIGH),
    RegisterName::dword("IRQ_ENABLED", IRQ_ENABLED),
    RegisterName::dword("CLEAR_ALARM", CLEAR_ALARM),
    RegisterName::dword("ALARM_STATUS", ALARM_STATUS),
    RegisterName::dword("CLEAR_INTERRUPT", CLEAR_INTERRUPT),
];

struct State {
    irq: LevelIrq,
    /// What the guest has set the time ahead of the host's clock by, modulo 2^64 ns.
    ahead: u64,
    time_high: u32,
    alarm: u64,
    armed: bool,
    enabled: bool,
    pending: bool,
    /// The host's time that the timer is set to.
    timer_at: Option<u64>,
}

impl State {
    fn time(&self, now: u64) -> u64 {
        now.wrapping_add(self.ahead)
    }

    /// Notices that the alarm is due.
    fn look(&mut self, now: u64) {
        if self.armed && self.alarm <= self.time(now) {
            self.armed = false;
            self.pending = true;
        }
    }

    fn read(&mut self, register: u64, now: u64) -> Result<u32, Access> {
        Ok(match register {
            TIME_LOW => {
                let time = self.time(now);
                self.time_high = high(time);
                time as u32
            }
            TIME_HIGH => self.time_high,
            ALARM_LOW => self.alarm as u32,
            ALARM_HIGH => high(self.alarm),
            IRQ_ENABLED => self.enabled.into(),
            ALARM_STATUS => self.armed.into(),
            CLEAR_ALARM | CLEAR_INTERRUPT => return Err(Access::WriteOnly),
            _ => return Err(Access::NoRegister),
        })
    }

    fn write(&mut self, register: u64, value: u32, now: u64) -> Result<(), Access> {
        match register {
            TIME_LOW => self.set_time(with_low(self.time(now), value), now),
            TIME_HIGH => self.set_time(with_high(self.time(now), value), now),
            ALARM_LOW => {
                self.alarm = with_low(self.alarm, value);
                self.armed = true;
            }
            ALARM_HIGH => self.alarm = with_high(self.alarm, value),
            IRQ_ENABLED => self.enabled = value & 1 != 0,
            CLEAR_ALARM => self.armed = false,
            CLEAR_INTERRUPT => self.pending = false,
            ALARM_STATUS => return Err(Access::ReadOnly),
            _ => return Err(Access::NoRegister),
        }
        self.look(now);
        Ok(())
    }

    fn set_time(&mut self, time: u64, now: u64) {
        self.ahead = time.wrapping_sub(now);
    }

    /// Brings the line and the timer up to date.
    fn after(&mut self, now: u64, timer: &AlarmTimer) {
        self.irq.set(self.pending && self.enabled);
        let left = self.alarm.saturating_sub(self.time(now));
        // While the interrupt is off, the guest's next access is early enough.
        let wanted = (self.armed && self.enabled).then(|| now.saturating_add(left));
        if self.timer_at != wanted {
            self.timer_at = wanted;
            timer.set(wanted.map(Duration::from_nanos));
        }
    }
}

fn high(value: u64) -> u32 {
    (value >> 32) as u32
}

fn with_low(value: u64, low: u32) -> u64 {
    value & !u64::from(u32::MAX) | u64::from(low)
}

fn with_high(value: u64, high: u32) -> u64 {
    value & u64::from(u32::MAX) | u64::from(high) << 32
}

/// A Goldfish RTC in memory.
pub struct GoldfishRtc {
    range: GuestPhysAddrRange,
    clock: WallClock,
    timer: AlarmTimer,
    state: Mutex<State>,
}

impl GoldfishRtc {
    /// At the start of `range`; `irq` is driven by level. Fails if the host has no timerfd left.
    pub fn new(range: GuestPhysAddrRange, irq: IrqLine, clock: WallClock) -> io::Result<Self> {
        let state = State {
            irq: LevelIrq::new(irq),
            ahead: 0,
            time_high: 0,
            alarm: 0,
            armed: false,
            enabled: false,
            pending: false,
            timer_at: None,
        };
        Ok(Self { range, clock, timer: AlarmTimer::new()?, state: Mutex::new(state) })
    }

    /// Does `what` at the time that it is now, and all that comes of it.
    fn with<T>(&self, what: impl FnOnce(&mut State, u64) -> T) -> T {
        let mut state = self.state.lock();
        // Enough until the year 2554.
        let now = (self.clock)().as_nanos() as u64;
        state.look(now);
        let result = what(&mut state, now);
        state.after(now, &self.timer);
        result
    }
}

impl AlarmClock for GoldfishRtc {
    fn timer(&self) -> &AlarmTimer {
        &self.timer
    }

    fn timer_expired(&self) {
        self.with(|state, _| {
            // What has expired is set anew if it is still wanted, or readable for ever if not.
            if state.timer_at.take().is_some() {
                self.timer.set(None);
            }
        });
    }

    fn due_in(&self) -> Option<Duration> {
        let at = self.state.lock().timer_at?;
        Some(Duration::from_nanos(at).saturating_sub((self.clock)()))
    }
}

impl BaseDeviceOps<GuestPhysAddrRange> for GoldfishRtc {
    fn name(&self) -> &str {
        "rtc"
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        self.range
    }

    fn registers(&self) -> RegisterMap {
        RegisterMap::of(NAMES)
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        check(offset, width)?;
        self.with(|state, now| state.read(offset, now)).map(u64::from)
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        check(offset, width)?;
        self.with(|state, now| state.write(offset, val as u32, now))?;
        Ok(Effect::None)
    }
}

fn check(offset: u64, width: AccessWidth) -> Result<(), Access> {
    match width {
        _ if offset >= CLEAR_INTERRUPT + 4 => Err(Access::NoRegister),
        AccessWidth::Dword if offset % 4 == 0 => Ok(()),
        AccessWidth::Dword => Err(Access::Unaligned),
        _ => Err(Access::BadWidth),
    }
}

impl fmt::Debug for GoldfishRtc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GoldfishRtc({})", self.range)
    }
}

#[cfg(test)]
mod tests;
