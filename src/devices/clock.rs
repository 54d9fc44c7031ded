//! What clocks among the devices are made of: the host's time, and a timer for their alarms.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};

/// The time since 1970-01-01 00:00 UTC.
pub type WallClock = Box<dyn Fn() -> Duration + Send + Sync>;

/// The host's clock.
pub fn host_clock() -> WallClock {
    Box::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Where a machine's devices have the time from.
#[derive(Clone, Debug)]
pub enum Time {
    /// The host.
    Host,
    /// Whoever tells it.
    Told(Arc<ToldTime>),
}

/// A time that stands still until it is told.
#[derive(Debug)]
pub struct ToldTime {
    /// Since 1970, when nothing has passed.
    began: Duration,
    /// In nanoseconds.
    passed: AtomicU64,
}

impl ToldTime {
    /// It is so long since 1970.
    pub fn new(began: Duration) -> Arc<Self> {
        Arc::new(Self { began, passed: AtomicU64::new(0) })
    }

    /// So long has passed since it began. What is due by then does not notice by itself:
    /// [`AlarmClock::timer_expired`].
    pub fn set(&self, passed: Duration) {
        let nanoseconds = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
        self.passed.store(nanoseconds, Ordering::Relaxed);
    }

    /// How long it is since it began.
    pub fn passed(&self) -> Duration {
        Duration::from_nanos(self.passed.load(Ordering::Relaxed))
    }
}

impl Time {
    /// The time since 1970.
    pub fn wall(&self) -> WallClock {
        match self {
            Self::Host => host_clock(),
            Self::Told(time) => {
                let time = time.clone();
                Box::new(move || time.began.saturating_add(time.passed()))
            }
        }
    }

    /// A time that nobody sets, from some begin on.
    pub fn steady(&self) -> Box<dyn Fn() -> Duration + Send + Sync> {
        match self {
            Self::Host => {
                let began = Instant::now();
                Box::new(move || began.elapsed())
            }
            Self::Told(time) => {
                let time = time.clone();
                Box::new(move || time.passed())
            }
        }
    }
}

/// A device with an alarm. Whoever runs the event loop waits until [`Self::timer`] is readable and
/// then calls [`Self::timer_expired`]. Without that an alarm is not lost, but seen only when the
/// guest accesses the device.
pub trait AlarmClock: Send + Sync {
    /// What expires when the alarm is due.
    fn timer(&self) -> &AlarmTimer;

    /// Looks whether the alarm is due. Never blocks; a call too many does no harm.
    fn timer_expired(&self);

    /// How long it is until the alarm is due; `None`: there is none.
    fn due_in(&self) -> Option<Duration>;
}

/// A timer on the host's clock, which goes with it when that is set; its file descriptor is readable
/// when it has expired.
#[derive(Debug)]
pub struct AlarmTimer(TimerFd);

impl AlarmTimer {
    /// A timer that is off; fails if the host has no timerfd left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Ok(Self(TimerFd::new(ClockId::CLOCK_REALTIME, flags)?))
    }

    /// A timer that no setting of the host's clock moves, for [`Self::set_after`].
    pub(super) fn steady() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Ok(Self(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?))
    }

    /// Expires after `time`, at once if that is 0; `None`: never. Forgets that it has expired before.
    pub(super) fn set_after(&self, time: Option<Duration>) {
        let time = time.map(|time| time.max(Duration::from_nanos(1)));
        self.arm(time, TimerSetTimeFlags::empty());
    }

    /// Expires when the host's clock shows `at`, at once if it has; `None`: never. Forgets that it
    /// has expired before.
    pub(super) fn set(&self, at: Option<Duration>) {
        // All zeros would mean never.
        let at = at.map(|at| at.max(Duration::from_nanos(1)));
        self.arm(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME);
    }

    fn arm(&self, time: Option<Duration>, flags: TimerSetTimeFlags) {
        let result = match time {
            // What is beyond the kernel's years is as good as never.
            Some(time) => {
                let seconds = i64::try_from(time.as_secs()).unwrap_or(MAX_SECONDS);
                let nanoseconds = i64::from(time.subsec_nanos());
                let time = TimeSpec::new(seconds.min(MAX_SECONDS), nanoseconds);
                self.0.set(Expiration::OneShot(time), flags)
            }
            None => self.0.unset(),
        };
        if let Err(error) = result {
            log::warn!("cannot set a timer for a device: {error}");
        }
    }
}

/// The kernel counts nanoseconds in 63 bits.
const MAX_SECONDS: i64 = i64::MAX / 1_000_000_000 - 1;

impl AsRawFd for AlarmTimer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
pub(super) mod testing {
    use std::{
        os::fd::BorrowedFd,
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
    };

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    /// A clock that stands still until it is told.
    #[derive(Clone)]
    pub struct ManualClock(Arc<AtomicU64>);

    impl ManualClock {
        pub fn at(time: Duration) -> Self {
            Self(Arc::new(AtomicU64::new(time.as_nanos() as u64)))
        }

        pub fn pass(&self, time: Duration) {
            self.0.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
        }

        pub fn clock(&self) -> WallClock {
            let nanos = self.0.clone();
            Box::new(move || Duration::from_nanos(nanos.load(Ordering::Relaxed)))
        }
    }

    /// Waits until the timer expires; `false`: not within so many milliseconds.
    pub fn expires(timer: &AlarmTimer, within_ms: u16) -> bool {
        let fd: BorrowedFd<'_> = timer.0.as_fd();
        poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::from(within_ms)).unwrap() == 1
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::expires, *};

    #[test]
    fn a_timer_expires_when_the_hosts_clock_is_there_and_not_before() {
        let timer = AlarmTimer::new().unwrap();
        let now = host_clock();
        for (at, expired) in [
            (Some(now()), true),
            (Some(Duration::ZERO), true),
            (Some(now() + Duration::from_secs(3600)), false),
            (Some(Duration::MAX), false),
            (Some(now() - Duration::from_secs(1)), true),
            (None, false),
        ] {
            timer.set(at);
            assert_eq!(expires(&timer, if expired { 60_000 } else { 0 }), expired, "{at:?}");
        }
        timer.set(Some(now() + Duration::from_millis(20)));
        assert!(expires(&timer, 60_000));
    }
}
