//! The memory balloon (virtio 1.2, 5.5): memory that the guest lends to the host.
//!
//! What the guest puts into the balloon, and free pages that it reports, the host has back at once;
//! when the guest touches them again, they come back as zeros. So nothing is done on deflation, and
//! the driver need not wait for it.

mod statistics;
#[cfg(test)]
mod tests;
mod work;

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use parking_lot::Mutex;
use serde::Serialize;

pub use self::statistics::Statistics;
use self::work::Work;
use super::{Activation, DeviceType, Interrupt, VirtioDevice, Worker};

/// What a user says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BalloonConfig {
    /// How much the guest is asked to lend, in bytes: whole pages of 4096.
    pub size: u64,
    /// The guest may take memory back before it runs out of it.
    pub deflate_on_oom: bool,
    /// The guest reports memory that is free, without being asked.
    pub free_page_reporting: bool,
    /// How often the guest's statistics are asked for, in seconds; 0: never.
    pub statistics: u32,
}

impl Default for BalloonConfig {
    fn default() -> Self {
        Self { size: 0, deflate_on_oom: true, free_page_reporting: true, statistics: 0 }
    }
}

/// What the balloon counts in, whatever the guest's pages are (5.5.6).
const PAGE: u64 = 4096;

/// The most that can be asked for, in bytes.
pub const MOST: u64 = u32::MAX as u64 * PAGE;

const QUEUE_SIZE: u16 = 128;

/// Feature bits (5.5.3).
mod feature {
    pub const STATS_VQ: u64 = 1 << 1;
    pub const DEFLATE_ON_OOM: u64 = 1 << 2;
    pub const PAGE_REPORTING: u64 = 1 << 5;
}

/// Queues (5.5.2). Drivers do not agree on whether those that a feature brings keep their number
/// where that feature is missing, as page hints are here: hence reports come in any behind the
/// statistics.
mod queue {
    pub const INFLATE: usize = 0;
    pub const DEFLATE: usize = 1;
    pub const STATISTICS: usize = 2;
    pub const COUNT: usize = 5;
}

/// The configuration space (5.5.4), as far as its fields are without features: `num_pages`, and
/// `actual`, which the driver writes.
const ACTUAL: usize = 4;
const CONFIG_SIZE: usize = 8;

/// A balloon.
pub struct Balloon {
    name: String,
    config: BalloonConfig,
    shared: Arc<Shared>,
    worker: Mutex<Option<Worker>>,
}

/// What the device's thread knows as well.
#[derive(Default)]
struct Shared {
    /// In pages: what is asked for, and what the driver says that it has.
    asked: AtomicU32,
    actual: AtomicU32,
    statistics: Mutex<Option<Statistics>>,
    interrupt: Mutex<Option<Arc<dyn Interrupt>>>,
}

impl Balloon {
    /// A device with this name.
    pub fn new(name: String, config: &BalloonConfig) -> Self {
        let balloon =
            Self { name, config: config.clone(), shared: Arc::default(), worker: Mutex::default() };
        balloon.set_size(config.size);
        balloon
    }

    /// Asks the guest to have so many bytes in the balloon, [`MOST`] at most, cut to whole pages. It
    /// may take its time, and may not do it at all.
    pub fn set_size(&self, bytes: u64) {
        let pages = u32::try_from(bytes / PAGE).unwrap_or(u32::MAX);
        if self.shared.asked.swap(pages, Ordering::AcqRel) != pages {
            if let Some(interrupt) = &*self.shared.interrupt.lock() {
                interrupt.config_changed();
            }
        }
    }

    /// How many bytes the guest says are in the balloon.
    pub fn actual(&self) -> u64 {
        u64::from(self.shared.actual.load(Ordering::Acquire)) * PAGE
    }

    /// What the guest has told of its memory last.
    pub fn statistics(&self) -> Option<Statistics> {
        *self.shared.statistics.lock()
    }
}

impl VirtioDevice for Balloon {
    fn name(&self) -> &str {
        &self.name
    }

    fn device_type(&self) -> DeviceType {
        DeviceType::BALLOON
    }

    fn features(&self) -> u64 {
        let BalloonConfig { deflate_on_oom, free_page_reporting, statistics, .. } = self.config;
        [
            (deflate_on_oom, feature::DEFLATE_ON_OOM),
            (free_page_reporting, feature::PAGE_REPORTING),
            (statistics != 0, feature::STATS_VQ),
        ]
        .into_iter()
        .filter_map(|(wanted, bit)| wanted.then_some(bit))
        .sum()
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; queue::COUNT]
    }

    fn config(&self) -> Vec<u8> {
        let pages = [&self.shared.asked, &self.shared.actual];
        pages.iter().flat_map(|pages| pages.load(Ordering::Acquire).to_le_bytes()).collect()
    }

    fn write_config(&self, offset: usize, bytes: &[u8]) {
        let mut config = self.config();
        config[offset..offset + bytes.len()].copy_from_slice(bytes);
        if let Ok(actual) = config[ACTUAL..CONFIG_SIZE].try_into() {
            self.shared.actual.store(u32::from_le_bytes(actual), Ordering::Release);
        }
    }

    fn activate(&self, activation: Activation) -> io::Result<()> {
        *self.shared.interrupt.lock() = Some(activation.interrupt.clone());
        let work = Work::new(&self.name, &self.config, self.shared.clone(), activation)?;
        *self.worker.lock() = Some(Worker::spawn(&self.name, work)?);
        Ok(())
    }

    fn reset(&self) {
        let worker = self.worker.lock().take();
        drop(worker);
        *self.shared.interrupt.lock() = None;
        *self.shared.statistics.lock() = None;
        self.shared.actual.store(0, Ordering::Release);
    }
}

impl fmt::Debug for Balloon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Balloon({} {:?})", self.name, self.config)
    }
}
