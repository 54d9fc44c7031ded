//! For log lines that a guest can trigger: a few, then a count.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Lets `burst` events through in each `period` and counts the rest.
#[derive(Debug)]
pub struct RateLimit {
    burst: u32,
    period: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    since: Option<Instant>,
    passed: u32,
    suppressed: u64,
}

impl RateLimit {
    /// `burst` events in each `period`.
    pub const fn new(burst: u32, period: Duration) -> Self {
        let state = State { since: None, passed: 0, suppressed: 0 };
        Self { burst, period, state: Mutex::new(state) }
    }

    /// `Some(n)`: tell it, and that `n` before it were not told. `None`: keep quiet.
    pub fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        let fresh = state.since.is_none_or(|since| now.duration_since(since) >= self.period);
        if fresh {
            state.since = Some(now);
            state.passed = 0;
        }
        if state.passed == self.burst {
            state.suppressed += 1;
            return None;
        }
        state.passed += 1;
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_a_burst_and_tells_what_it_swallowed() {
        let limit = RateLimit::new(2, Duration::from_secs(5));
        let start = Instant::now();
        let at = |s| limit.pass_at(start + Duration::from_secs(s));
        assert_eq!([at(0), at(1), at(2), at(4)], [Some(0), Some(0), None, None]);
        assert_eq!([at(5), at(6), at(7)], [Some(2), Some(0), None]);
    }
}
