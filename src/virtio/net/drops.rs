//! Frames that come to nothing.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::ratelimit::RateLimit;

/// Counts the frames of a card that are dropped, and tells of some of them.
#[derive(Clone, Debug)]
pub struct Drops(Arc<State>);

#[derive(Debug)]
struct State {
    card: String,
    count: AtomicU64,
    told: RateLimit,
}

impl Drops {
    pub fn new(card: &str) -> Self {
        let told = RateLimit::new(2, Duration::from_secs(30));
        Self(Arc::new(State { card: card.to_owned(), count: AtomicU64::new(0), told }))
    }

    /// Another one, and the reason.
    pub fn add(&self, why: &dyn fmt::Display) {
        let State { card, count, told } = &*self.0;
        let count = count.fetch_add(1, Ordering::Relaxed) + 1;
        if told.pass().is_some() {
            log::warn!("{card}: a frame is dropped: {why} ({count} dropped so far)");
        }
    }

    /// How many there were.
    #[cfg(test)]
    pub fn count(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed)
    }
}
