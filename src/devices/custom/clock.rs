//! The time of a user's own device: its machine's, or one that stands still until it is told.

use std::{io, time::Duration};

use parking_lot::Mutex;

use crate::devices::clock::{AlarmTimer, Time};

/// Time, and a timer.
pub trait Clock: Send + Sync {
    /// The time since the device was made.
    fn now(&self) -> Duration;

    /// Has the device woken ([`super::Device::woken`]) when the time is `at`, once; at once if it is
    /// that already. `None`: not at all. What was asked for before is forgotten.
    fn wake_at(&self, at: Option<Duration>);
}

/// The time of a machine.
pub struct MachineClock {
    steady: Box<dyn Fn() -> Duration + Send + Sync>,
    made: Duration,
    timer: AlarmTimer,
    due: Mutex<Option<Duration>>,
}

impl MachineClock {
    pub(super) fn new(time: &Time) -> io::Result<Self> {
        let steady = time.steady();
        let made = steady();
        Ok(Self { steady, made, timer: AlarmTimer::steady()?, due: Mutex::default() })
    }

    pub(super) fn timer(&self) -> &AlarmTimer {
        &self.timer
    }

    /// How long it is until the time that was asked for.
    pub(super) fn due_in(&self) -> Option<Duration> {
        self.due.lock().map(|at| at.saturating_sub(self.now()))
    }

    /// Whether the time has come that was asked for; then it is forgotten.
    pub(super) fn is_due(&self) -> bool {
        let mut due = self.due.lock();
        let left = due.map(|at| at.saturating_sub(self.now()));
        let is_due = left == Some(Duration::ZERO);
        if is_due {
            *due = None;
        }
        // It is no longer readable, if it was.
        self.timer.set_after(left.filter(|_| !is_due));
        is_due
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Duration {
        (self.steady)().saturating_sub(self.made)
    }

    fn wake_at(&self, at: Option<Duration>) {
        let mut due = self.due.lock();
        *due = at;
        self.timer.set_after(at.map(|at| at.saturating_sub(self.now())));
    }
}

/// A time that stands still until it is told.
#[derive(Debug, Default)]
pub struct ManualClock(Mutex<(Duration, Option<Duration>)>);

impl ManualClock {
    /// Lets time pass up to `end`, or up to when the device is to be woken; `true`: that is now.
    pub(super) fn pass_to(&self, end: Duration) -> bool {
        let mut state = self.0.lock();
        let (now, due) = *state;
        match due.filter(|due| *due <= end) {
            Some(due) => {
                *state = (due.max(now), None);
                true
            }
            None => {
                state.0 = end;
                false
            }
        }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        self.0.lock().0
    }

    fn wake_at(&self, at: Option<Duration>) {
        self.0.lock().1 = at;
    }
}
