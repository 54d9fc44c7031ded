//! Limits of what a device may do in a time: so many bytes, so many operations.
//!
//! A limit is a token bucket that may be overdrawn: what fits into no bucket passes all the same, and
//! what comes after it waits until that is paid for. A bucket is kept as one number, the time at
//! which it is full again, so that several queues share it without a lock.

use std::{
    io,
    num::NonZeroU64,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use serde::Serialize;

/// What is unused is saved up for so long, and then may be used at once.
const BURST: Duration = Duration::from_millis(100);

/// What a user allows a device at most. Nothing said: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rate {
    /// Bytes each second.
    pub bandwidth: Option<NonZeroU64>,
    /// Operations each second.
    pub operations: Option<NonZeroU64>,
}

/// A limit, to be shared by all that it is for together. Any thread may use it.
#[derive(Debug)]
pub struct RateLimiter {
    since: Instant,
    bytes: Option<Bucket>,
    operations: Option<Bucket>,
}

impl RateLimiter {
    /// `None`: there is nothing to be limited.
    pub fn new(rate: &Rate) -> Option<Self> {
        let is_limited = rate.bandwidth.is_some() || rate.operations.is_some();
        is_limited.then(|| Self {
            since: Instant::now(),
            bytes: rate.bandwidth.map(Bucket::new),
            operations: rate.operations.map(Bucket::new),
        })
    }

    /// Takes what an operation on so many bytes costs.
    ///
    /// # Errors
    /// It must wait: so long from now.
    pub fn take(&self, bytes: u64) -> Result<(), Duration> {
        self.take_at(self.since.elapsed(), bytes)
    }

    fn take_at(&self, now: Duration, bytes: u64) -> Result<(), Duration> {
        let now = nanos(now);
        let costs = [(&self.bytes, bytes), (&self.operations, 1)];
        let buckets = || costs.iter().filter_map(|(bucket, n)| Some((bucket.as_ref()?, *n)));
        let wait = buckets().map(|(bucket, _)| bucket.debt(now)).max().unwrap_or(0);
        if wait > 0 {
            return Err(Duration::from_nanos(wait));
        }
        // Queues that look at the same moment may all find it open: each overdraws it by one
        // operation, which is paid for like any other.
        buckets().for_each(|(bucket, n)| bucket.charge(now, n));
        Ok(())
    }
}

/// Times are in nanoseconds since its limiter was made, and begin with a whole burst.
#[derive(Debug)]
struct Bucket {
    per_second: NonZeroU64,
    /// When what was taken is paid for.
    paid_at: AtomicU64,
}

impl Bucket {
    fn new(per_second: NonZeroU64) -> Self {
        Self { per_second, paid_at: AtomicU64::new(0) }
    }

    fn debt(&self, now: u64) -> u64 {
        let burst = nanos(BURST);
        self.paid_at.load(Ordering::Relaxed).saturating_sub(now.saturating_add(burst))
    }

    fn charge(&self, now: u64, n: u64) {
        let cost = u128::from(n) * 1_000_000_000 / u128::from(self.per_second.get());
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let charged = |paid_at: u64| Some(paid_at.max(now).saturating_add(cost));
        let _ = self.paid_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charged);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A limiter at the door of one event loop, with a timer for when it opens again.
#[derive(Debug)]
pub struct Gate(Option<(Arc<RateLimiter>, TimerFd)>);

impl Gate {
    /// `None`: all pass.
    ///
    /// # Errors
    /// The host has no file descriptor left.
    pub fn new(limiter: Option<Arc<RateLimiter>>) -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = || TimerFd::new(ClockId::CLOCK_MONOTONIC, flags);
        Ok(Self(limiter.map(|limiter| Ok::<_, io::Error>((limiter, timer()?))).transpose()?))
    }

    /// Whether an operation on so many bytes may be done now; it counts as done then. `false`: to be
    /// asked again when [`Self::timer`] is readable.
    pub fn passes(&self, bytes: u64) -> bool {
        let Some((limiter, timer)) = &self.0 else { return true };
        let Err(wait) = limiter.take(bytes) else { return true };
        let expiration = Expiration::OneShot(TimeSpec::from_duration(wait));
        match timer.set(expiration, TimerSetTimeFlags::empty()) {
            Ok(()) => false,
            // No limit is better than an operation that waits for ever.
            Err(_) => true,
        }
    }

    /// What to wait for, if anything is limited.
    pub fn timer(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(|(_, timer)| timer.as_fd())
    }

    /// The timer has been seen: it is readable no longer.
    pub fn opened(&self) {
        if let Some((_, timer)) = &self.0 {
            let _ = timer.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use proptest::prelude::*;

    use super::*;

    fn limiter(bandwidth: u64, operations: u64) -> RateLimiter {
        let rate =
            Rate { bandwidth: NonZeroU64::new(bandwidth), operations: NonZeroU64::new(operations) };
        RateLimiter::new(&rate).unwrap()
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limiter = limiter(0, 1000);
        let passed = (0..1000).take_while(|_| limiter.take_at(ms(0), 4096).is_ok()).count();
        assert_eq!(passed, 101, "a tenth of a second's, and one that overdraws");
        assert_eq!(limiter.take_at(ms(0), 0), Err(ms(1)));
        assert_eq!(limiter.take_at(ms(1), 0), Ok(()));
        assert_eq!(limiter.take_at(ms(1), 0), Err(ms(1)));
        let rested = (0..1000).take_while(|_| limiter.take_at(ms(9000), 0).is_ok()).count();
        assert_eq!(rested, 101, "no more is saved up than a burst");
    }

    #[test]
    fn what_is_larger_than_any_burst_passes_and_is_paid_for() {
        let limiter = limiter(1 << 20, 0);
        assert_eq!(limiter.take_at(ms(0), 10 << 20), Ok(()));
        assert_eq!(limiter.take_at(ms(0), 1), Err(ms(9900)));
        assert!(limiter.take_at(ms(9899), 1).is_err());
        assert_eq!(limiter.take_at(ms(9900), 1), Ok(()));
    }

    #[test]
    fn the_slower_of_both_limits_holds() {
        let limiter = limiter(1000, 1);
        limiter.take_at(ms(0), 500).unwrap();
        assert_eq!(limiter.take_at(ms(0), 1), Err(ms(900)));
    }

    #[test]
    fn nothing_said_is_no_limit() {
        assert!(RateLimiter::new(&Rate::default()).is_none());
        let gate = Gate::new(None).unwrap();
        assert!(gate.passes(u64::MAX) && gate.timer().is_none());
    }

    #[test]
    fn a_gate_says_when_it_is_open_again() {
        let limiter = Arc::new(limiter(0, 100));
        let gate = Gate::new(Some(limiter)).unwrap();
        let passed = (0..100).take_while(|_| gate.passes(0)).count();
        assert!((11..100).contains(&passed), "{passed}");
        let timer = gate.timer().unwrap();
        assert!(timer.as_raw_fd() >= 0);
        let ready = poll(&mut [PollFd::new(timer, PollFlags::POLLIN)], PollTimeout::NONE);
        assert_eq!(ready, Ok(1));
        gate.opened();
        assert!(gate.passes(0));
    }

    proptest! {
        /// Over any time, no more passes than the rate, a burst and one operation.
        #[test]
        fn the_rate_holds(
            rate in 1..1_000_000_u64,
            steps in prop::collection::vec((0..50_000_u64, 0..100_000_u64), 1..200),
        ) {
            let limiter = limiter(rate, 0);
            let (mut now, mut passed, mut last) = (Duration::ZERO, 0_u128, 0_u64);
            for (micros, bytes) in steps {
                now += Duration::from_micros(micros);
                if limiter.take_at(now, bytes).is_ok() {
                    passed += u128::from(bytes);
                    last = last.max(bytes);
                }
            }
            let allowed = u128::from(rate) * (now + BURST).as_nanos() / 1_000_000_000;
            prop_assert!(passed <= allowed + u128::from(last) + 200, "{passed} > {allowed}");
        }
    }
}
