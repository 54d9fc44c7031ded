//! How many of each kind there are over time, in so much memory whatever the time is: bins that grow
//! with it.

use std::collections::BTreeMap;

/// So many bins are kept; then ten become one.
const FINE: usize = 2000;
/// So many are shown at most.
const SHOWN: usize = 200;
/// What a bin begins with, in nanoseconds.
const FIRST_WIDTH: u64 = 100;

/// Counts by kind and time.
#[derive(Debug)]
pub struct Timeline<K> {
    origin: u64,
    /// A bin's, in nanoseconds: a power of ten.
    width: u64,
    counts: BTreeMap<K, Vec<u64>>,
    last: u64,
}

/// A timeline as it is shown.
#[derive(Debug, PartialEq, Eq)]
pub struct Bins<K> {
    /// When the first bin begins, in nanoseconds.
    pub origin: u64,
    /// How long a bin is, in nanoseconds: 1, 2 or 5 times a power of ten.
    pub width: u64,
    /// How many there are.
    pub count: usize,
    /// Of each kind one count a bin.
    pub counts: BTreeMap<K, Vec<u64>>,
}

impl<K: Ord> Timeline<K> {
    /// Nothing yet, from `origin` on.
    pub fn new(origin: u64) -> Self {
        Self { origin, width: FIRST_WIDTH, counts: BTreeMap::new(), last: origin }
    }

    /// Counts one; what is before the origin counts as at it.
    pub fn add(&mut self, kind: K, time: u64) {
        self.last = self.last.max(time);
        let at = loop {
            match (time.saturating_sub(self.origin) / self.width) as usize {
                at if at < FINE => break at,
                _ => self.widen(),
            }
        };
        let counts = self.counts.entry(kind).or_default();
        if counts.len() <= at {
            counts.resize(at + 1, 0);
        }
        counts[at] += 1;
    }

    fn widen(&mut self) {
        self.width *= 10;
        for counts in self.counts.values_mut() {
            *counts = joined(counts, 10);
        }
    }

    /// What is to be shown.
    pub fn bins(&self) -> Bins<K>
    where
        K: Clone,
    {
        let fine = (self.last - self.origin) / self.width + 1;
        let shown = |by: &u64| fine.div_ceil(*by) <= SHOWN as u64;
        let by = [1, 2, 5, 10].into_iter().find(shown).unwrap_or(10);
        let count = fine.div_ceil(by) as usize;
        let counts = self.counts.iter().map(|(kind, counts)| {
            let mut joined = joined(counts, by as usize);
            joined.resize(count, 0);
            (kind.clone(), joined)
        });
        let counts = counts.collect();
        Bins { origin: self.origin, width: self.width.saturating_mul(by), count, counts }
    }
}

impl<K> Bins<K> {
    /// When a bin begins, in nanoseconds.
    pub fn begins(&self, bin: usize) -> u64 {
        self.origin.saturating_add(self.width.saturating_mul(bin as u64))
    }

    /// From the first bin's begin to the last one's end, in nanoseconds.
    pub fn length(&self) -> u64 {
        self.width.saturating_mul(self.count as u64)
    }
}

fn joined(counts: &[u64], by: usize) -> Vec<u64> {
    counts.chunks(by).map(|some| some.iter().sum()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_grow_and_nothing_is_lost() {
        for (step, count) in [(1, 150), (999, 2), (7, 5000), (1_000_003, 40_000), (1 << 40, 3000)] {
            let mut timeline = Timeline::new(50);
            for number in 0..count {
                timeline.add(number % 3, 50 + number * step);
            }
            let bins = timeline.bins();
            let all: u64 = bins.counts.values().flatten().sum();
            assert_eq!(all, count, "{step}");
            assert!(bins.counts.values().all(|counts| counts.len() == bins.count));
            assert!((1..=SHOWN).contains(&bins.count), "{step}: {}", bins.count);
            let first_digit = bins.width.to_string();
            assert!(["1", "2", "5"].contains(&first_digit.trim_end_matches('0')), "{first_digit}");
            assert!(bins.length() > (count - 1) * step, "{step}");
        }
    }

    #[test]
    fn times_that_cannot_be_are_taken() {
        let mut timeline = Timeline::new(1000);
        timeline.add((), 0);
        timeline.add((), u64::MAX);
        let bins = timeline.bins();
        assert_eq!((bins.origin, bins.counts[&()].iter().sum::<u64>()), (1000, 2));
        assert_eq!((bins.counts[&()][0], *bins.counts[&()].last().unwrap()), (1, 1));
        assert_eq!(Timeline::<()>::new(7).bins().count, 1);
    }
}
