//! How long axvmm took over exits: counted by length, while somebody looks.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::hal::EXIT_REASONS;

/// From one power of two to the next, so many lengths are told apart: each within a quarter.
const STEPS: u64 = 4;
/// As many as there are below 2^32 ns; what takes longer is counted as that.
const BUCKETS: usize = 124;

/// Where a length is counted.
const fn bucket(ns: u32) -> usize {
    if (ns as u64) < STEPS {
        return ns as usize;
    }
    let octave = ns.ilog2() as usize;
    (octave - 1) * STEPS as usize + ((ns >> (octave - 2)) as usize & (STEPS as usize - 1))
}

/// The longest that is counted there, in nanoseconds.
const fn longest(bucket: usize) -> u64 {
    let (octave, step) = (bucket as u64 / STEPS + 1, bucket as u64 % STEPS);
    if octave < 2 { step } else { ((STEPS + step + 1) << (octave - 2)) - 1 }
}

const _: () = assert!(bucket(u32::MAX) == BUCKETS - 1 && longest(BUCKETS - 1) == u32::MAX as u64);

/// Lengths of one kind of exit: written by one thread only, read by any.
#[derive(Debug)]
struct Counted {
    sum: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Counted {
    fn new() -> Self {
        Self { sum: AtomicU64::new(0), buckets: array::from_fn(|_| AtomicU64::new(0)) }
    }

    fn count(&self, took: Duration) {
        let ns = u32::try_from(took.as_nanos()).unwrap_or(u32::MAX);
        let add = |to: &AtomicU64, n: u64| {
            to.store(to.load(Ordering::Relaxed) + n, Ordering::Relaxed);
        };
        add(&self.sum, ns.into());
        add(&self.buckets[bucket(ns)], 1);
    }

    fn read(&self) -> HandlingTimes {
        HandlingTimes {
            sum: self.sum.load(Ordering::Relaxed),
            buckets: self.buckets.iter().map(|it| it.load(Ordering::Relaxed)).collect(),
        }
    }
}

/// A vCPU's, by reason and by window.
#[derive(Debug)]
pub(super) struct VCpuTimes {
    reasons: [Counted; EXIT_REASONS],
    windows: Box<[Counted]>,
}

impl VCpuTimes {
    pub fn new(windows: usize) -> Self {
        let reasons = array::from_fn(|_| Counted::new());
        Self { reasons, windows: (0..windows).map(|_| Counted::new()).collect() }
    }

    pub fn count(&self, reason: usize, window: Option<usize>, took: Duration) {
        self.reasons[reason].count(took);
        if let Some(window) = window.and_then(|it| self.windows.get(it)) {
            window.count(took);
        }
    }

    pub fn reason(&self, reason: usize) -> HandlingTimes {
        self.reasons[reason].read()
    }

    pub fn window(&self, window: usize) -> HandlingTimes {
        self.windows.get(window).map(Counted::read).unwrap_or_default()
    }
}

/// How long exits took to handle, as far as it was counted.
///
/// It is serialized as their `count`, their sum in nanoseconds `sum_ns`, and `up_to_ns`: pairs of a
/// length in nanoseconds and how many took no longer than that, and longer than the pair before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandlingTimes {
    sum: u64,
    buckets: Vec<u64>,
}

impl HandlingTimes {
    /// All of them together, in nanoseconds.
    pub const fn sum_ns(&self) -> u64 {
        self.sum
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Lengths in nanoseconds, ascending, and how many took no longer than that and longer than the one
    /// before.
    pub fn up_to_ns(&self) -> impl Iterator<Item = (u64, u64)> {
        let counted = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(bucket, count)| (longest(bucket), *count))
    }

    /// Adds others.
    pub fn add(&mut self, others: &Self) {
        self.sum += others.sum;
        if self.buckets.len() < others.buckets.len() {
            self.buckets.resize(others.buckets.len(), 0);
        }
        for (sum, other) in self.buckets.iter_mut().zip(&others.buckets) {
            *sum += other;
        }
    }
}

impl Serialize for HandlingTimes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut to = to.serialize_struct("HandlingTimes", 3)?;
        to.serialize_field("count", &self.count())?;
        to.serialize_field("sum_ns", &self.sum)?;
        to.serialize_field("up_to_ns", &self.up_to_ns().collect::<Vec<_>>())?;
        to.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_length_is_counted_within_a_quarter() {
        let mut before = 0;
        for ns in (0..100_000).chain((17..32).map(|bit| 1 << bit)).chain([u32::MAX]) {
            let (it, bound) = (bucket(ns), longest(bucket(ns)));
            assert!(u64::from(ns) <= bound && bound <= u64::from(ns) * 5 / 4, "{ns}: {bound}");
            assert!(it >= before && (it == 0 || longest(it - 1) < ns.into()), "{ns}: {it}");
            before = it;
        }
    }

    #[test]
    fn they_add_up() {
        let counted = Counted::new();
        for ns in [3, 100, 101, 5_000_000_000] {
            counted.count(Duration::from_nanos(ns));
        }
        let mut all = HandlingTimes::default();
        all.add(&counted.read());
        all.add(&counted.read());
        assert_eq!((all.count(), all.sum_ns()), (8, 2 * (204 + u64::from(u32::MAX))));
        let expect = [(3, 2), (111, 4), (u32::MAX.into(), 2)];
        assert_eq!(all.up_to_ns().collect::<Vec<_>>(), expect);
        let json = serde_json::to_value(&all).unwrap();
        assert_eq!(json["up_to_ns"][1], serde_json::json!([111, 4]));
    }
}
