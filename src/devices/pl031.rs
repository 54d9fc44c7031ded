//! Arm's real-time clock, the PL031 (PrimeCell Real Time Clock (PL031) Technical Reference Manual,
//! DDI 0224B): a counter of seconds, and an alarm when it matches a register.
//!
//! It begins with the host's time, in seconds since 1970. The guest can set it, which lasts as long
//! as the machine. It runs from the start, as firmware leaves it.

use std::{fmt, io, time::Duration};

use parking_lot::{Mutex, MutexGuard};

use super::{
    Access, BaseDeviceOps, Effect, IrqLine, RegisterMap, RegisterName,
    clock::{AlarmClock, AlarmTimer, WallClock},
    irq::LevelIrq,
    primecell::{self, PeripheralId},
};
use crate::addr::{AccessWidth, GuestPhysAddrRange};

/// Data: the counter.
pub const DR: u64 = 0x000;
/// Match.
pub const MR: u64 = 0x004;
/// Load: sets the counter.
pub const LR: u64 = 0x008;
/// Control: 1 starts the counter.
pub const CR: u64 = 0x00c;
/// Interrupt mask set/clear: 1 lets the interrupt through.
pub const IMSC: u64 = 0x010;
/// Raw and masked interrupt status.
pub const RIS: u64 = 0x014;
/// Masked interrupt status.
pub const MIS: u64 = 0x018;
/// Interrupt clear.
pub const ICR: u64 = 0x01c;

/// Their names (table 3-1).
const NAMES: &[RegisterName] = &[
    RegisterName::dword("RTCDR", DR),
    RegisterName::dword("RTCMR", MR),
    RegisterName::dword("RTCLR", LR),
    RegisterName::dword("RTCCR", CR),
    RegisterName::dword("RTCIMSC", IMSC),
    RegisterName::dword("RTCRIS", RIS),
    RegisterName::dword("RTCMIS", MIS),
    RegisterName::dword("RTCICR", ICR),
    primecell::PERIPH_ID,
    primecell::PCELL_ID,
];

const ID: PeripheralId = PeripheralId { part: 0x031, revision: 0 };

/// The counter runs: it cannot be stopped once it does.
const CR_RUNS: u32 = 1;
/// The only interrupt there is.
const INT: u32 = 1;

/// The counter comes round after so many seconds.
const ROUND: u64 = 1 << 32;

struct State {
    irq: LevelIrq,
    /// What the guest has set the counter ahead of the host's clock by, modulo 2^32.
    ahead: u32,
    mr: u32,
    lr: u32,
    imsc: u32,
    ris: u32,
    /// The host's second in which counter and match register meet next.
    meet: u64,
    /// What the timer is set to.
    armed: Option<u64>,
}

impl State {
    fn counter(&self, now: u64) -> u32 {
        (now as u32).wrapping_add(self.ahead)
    }

    /// How far it is from the counter to the match register.
    fn left(&self, now: u64) -> u64 {
        self.mr.wrapping_sub(self.counter(now)).into()
    }

    /// Notices that the two have met.
    fn look(&mut self, now: u64) {
        if now >= self.meet {
            self.ris = INT;
            let left = self.left(now);
            self.meet = now.saturating_add(if left == 0 { ROUND } else { left });
        }
    }

    fn read(&self, register: u64, now: u64) -> Result<u32, Access> {
        Ok(match register {
            DR => self.counter(now),
            MR => self.mr,
            LR => self.lr,
            CR => CR_RUNS,
            IMSC => self.imsc,
            RIS => self.ris,
            MIS => self.ris & self.imsc,
            ICR => return Err(Access::WriteOnly),
            other => return ID.read(other).ok_or(Access::NoRegister),
        })
    }

    fn write(&mut self, register: u64, value: u32, now: u64) -> Result<(), Access> {
        match register {
            MR => self.mr = value,
            LR => {
                self.lr = value;
                self.ahead = value.wrapping_sub(now as u32);
            }
            CR => return Ok(()),
            IMSC => self.imsc = value & INT,
            ICR => self.ris &= !value,
            DR | RIS | MIS => return Err(Access::ReadOnly),
            other if ID.read(other).is_some() => return Err(Access::ReadOnly),
            _ => return Err(Access::NoRegister),
        }
        if matches!(register, MR | LR) {
            self.meet = now.saturating_add(self.left(now));
            self.look(now);
        }
        Ok(())
    }

    /// Brings the line and the timer up to date.
    fn after(&mut self, timer: &AlarmTimer) {
        self.irq.set(self.ris & self.imsc != 0);
        let wanted = (self.imsc & !self.ris != 0).then_some(self.meet);
        if self.armed != wanted {
            self.armed = wanted;
            timer.set(wanted.map(Duration::from_secs));
        }
    }
}

/// A PL031 in memory.
pub struct Pl031 {
    range: GuestPhysAddrRange,
    clock: WallClock,
    timer: AlarmTimer,
    state: Mutex<State>,
}

impl Pl031 {
    /// In [`primecell::SIZE`] bytes; `irq` is driven by level. Fails if the host has no timerfd left.
    pub fn new(range: GuestPhysAddrRange, irq: IrqLine, clock: WallClock) -> io::Result<Self> {
        let mut state = State {
            irq: LevelIrq::new(irq),
            ahead: 0,
            mr: 0,
            lr: 0,
            imsc: 0,
            ris: 0,
            meet: 0,
            armed: None,
        };
        let now = clock().as_secs();
        let left = state.left(now);
        state.meet = now.saturating_add(if left == 0 { ROUND } else { left });
        Ok(Self { range, clock, timer: AlarmTimer::new()?, state: Mutex::new(state) })
    }

    /// Does `what` at the time that it is now, and all that comes of it.
    fn with<T>(&self, what: impl FnOnce(&mut State, u64) -> T) -> T {
        let mut state = self.lock();
        let now = (self.clock)().as_secs();
        state.look(now);
        let result = what(&mut state, now);
        state.after(&self.timer);
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl AlarmClock for Pl031 {
    fn timer(&self) -> &AlarmTimer {
        &self.timer
    }

    fn timer_expired(&self) {
        self.with(|state, _| {
            // What has expired is set anew if it is still wanted, or readable for ever if not.
            if state.armed.take().is_some() {
                self.timer.set(None);
            }
        });
    }

    fn due_in(&self) -> Option<Duration> {
        let armed = self.lock().armed?;
        Some(Duration::from_secs(armed).saturating_sub((self.clock)()))
    }
}

impl BaseDeviceOps<GuestPhysAddrRange> for Pl031 {
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
        let register = primecell::register(offset, width)?;
        let value = self.with(|state, now| state.read(register, now))?;
        Ok(u64::from(value) & width.mask())
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        let register = primecell::register(offset, width)?;
        self.with(|state, now| state.write(register, val as u32, now))?;
        Ok(Effect::None)
    }
}

impl fmt::Debug for Pl031 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pl031({})", self.range)
    }
}

#[cfg(test)]
mod tests;
