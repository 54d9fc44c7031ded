//! The processor time of a vCPU's thread, which costs that thread nothing: any other asks the kernel.

use std::{
    sync::atomic::{AtomicI32, AtomicU64, Ordering},
    time::Duration,
};

use nix::{
    libc,
    time::{ClockId, clock_gettime},
    unistd::gettid,
};

/// What the kernel's id of a thread's clock says in its lowest bits: a thread's, time on a processor.
const PER_THREAD: libc::clockid_t = 4;
const SCHEDULED: libc::clockid_t = 2;

/// One thread's, also when it has ended.
#[derive(Debug, Default)]
pub(super) struct ThreadClock {
    /// 0: none runs.
    thread: AtomicI32,
    /// By threads that have ended, in nanoseconds.
    spent: AtomicU64,
}

impl ThreadClock {
    /// It is the calling thread's, until the result is dropped.
    pub fn enter(&self) -> Entered<'_> {
        self.thread.store(gettid().as_raw(), Ordering::Relaxed);
        Entered(self)
    }

    /// How long the thread was on a processor so far: in the guest, or for it.
    pub fn spent(&self) -> Duration {
        let thread = self.thread.load(Ordering::Acquire);
        let now = (thread != 0).then_some((!thread << 3) | PER_THREAD | SCHEDULED);
        // One that has ended in between has left what it had spent.
        now.and_then(|clock| spent(ClockId::from_raw(clock)))
            .unwrap_or_else(|| Duration::from_nanos(self.spent.load(Ordering::Relaxed)))
    }
}

/// While it is there, the thread that has made it is the clock's.
pub(super) struct Entered<'a>(&'a ThreadClock);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let own = spent(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap_or_default();
        let ns = u64::try_from(own.as_nanos()).unwrap_or(u64::MAX);
        self.0.spent.store(ns, Ordering::Relaxed);
        self.0.thread.store(0, Ordering::Release);
    }
}

fn spent(clock: ClockId) -> Option<Duration> {
    clock_gettime(clock).ok().map(Duration::from)
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread, time::Instant};

    use super::*;

    #[test]
    fn it_tells_what_a_thread_spends_and_has_spent() {
        let (clock, at) = (ThreadClock::default(), Barrier::new(2));
        assert_eq!(clock.spent(), Duration::ZERO);
        thread::scope(|scope| {
            scope.spawn(|| {
                let _entered = clock.enter();
                let mine = || spent(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
                while mine() < Duration::from_millis(5) {}
                at.wait();
                at.wait();
            });
            at.wait();
            let seen = clock.spent();
            let limit = Duration::from_secs(5);
            assert!((Duration::from_millis(5)..limit).contains(&seen), "{seen:?}");
            at.wait();
        });
        let (after, begun) = (clock.spent(), Instant::now());
        assert!(after >= Duration::from_millis(5), "{after:?}");
        while begun.elapsed() < Duration::from_millis(2) {}
        assert_eq!(clock.spent(), after);
    }
}
