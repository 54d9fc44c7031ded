//! What clocks among the devices are made of: the host's time, and a timer for their alarms.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    time::{Duration, SystemTime, UNIX_EPOCH},
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

/// A device with an alarm. Whoever runs the event loop waits until [`Self::timer`] is readable and
/// then calls [`Self::timer_expired`]. Without that an alarm is not lost, but seen only when the
/// guest accesses the device.
pub trait AlarmClock: Send + Sync {
    /// What expires when the alarm is due.
    fn timer(&self) -> &AlarmTimer;

    /// Looks whether the alarm is due. Never blocks; a call too many does no harm.
    fn timer_expired(&self);
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

    /// Expires when the host's clock shows `at`, at once if it has; `None`: never. Forgets that it
    /// has expired before.
    pub(super) fn set(&self, at: Option<Duration>) {
        let result = match at {
            // All zeros would mean never. What is beyond the kernel's years is as good as never.
            Some(at) => {
                let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX / 2);
                let at =
                    TimeSpec::new(seconds.min(MAX_SECONDS), i64::from(at.subsec_nanos().max(1)));
                self.0.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
            }
            None => self.0.unset(),
        };
        if let Err(error) = result {
            log::warn!("cannot set a timer for the guest's alarm: {error}");
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
