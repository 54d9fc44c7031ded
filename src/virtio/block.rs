//! The block device (virtio 1.2, 5.2): a disk.
//!
//! Each queue has a thread of its own with an event loop (`worker`), and shares nothing with the
//! others but the image: `request` takes its chains apart, and an `engine` does what they ask for
//! (`op`), `uring` or `pool`, on an `image`, `raw` or `qcow2`.
//!
//! What is flushed is on disk. A driver that does not know how to flush, or switches the cache off,
//! has each of its writes on disk when it is answered.

mod engine;
mod guest_slices;
mod image;
mod layout;
mod op;
mod pool;
mod qcow2;
mod raw;
mod request;
#[cfg(test)]
mod tests;
mod uring;
mod worker;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use serde::Serialize;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH,
    VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_TOPOLOGY,
    VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_ID_BYTES,
};
use zerocopy::IntoBytes;

pub use self::image::{Backing, Image, ImageError, ImageFormat};
use self::{
    engine::Engine,
    image::open_file,
    layout::{Layout, WRITEBACK},
    qcow2::Qcow2Image,
    raw::RawImage,
    request::Rules,
    worker::{QueueWorker, Shared},
};
use super::{
    Activation, DeviceType, VirtioDevice, Worker,
    rate_limit::{Gate, Rate, RateLimiter},
};

/// How many descriptors each queue has.
const QUEUE_SIZE: u16 = 256;

/// The most queues of a disk.
pub const MOST_QUEUES: u16 = 64;
/// The most that it has if nobody says how many.
const USUAL_QUEUES: u16 = 8;

/// The most characters of a serial number.
pub const MOST_SERIAL: usize = VIRTIO_BLK_ID_BYTES as usize;

/// What a user says of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockConfig {
    /// The image: a file or a block device.
    pub path: PathBuf,
    /// How it keeps the disk.
    pub format: ImageFormat,
    /// The guest only reads.
    pub readonly: bool,
    /// It has the guest's root file system.
    pub root: bool,
    /// By which the guest knows the disk, at most 20 characters; the device's name if there is none.
    pub serial: Option<String>,
    /// How many queues, 1 to 64; `None`: one for each vCPU, at most 8.
    pub queues: Option<u16>,
    /// Past the host's page cache.
    pub direct: bool,
    /// What a qcow2 image may take from other files.
    pub backing: Backing,
    /// How much it may do in a time.
    pub rate: Rate,
}

impl BlockConfig {
    /// A disk of which only this is said.
    pub fn new(path: PathBuf, format: ImageFormat) -> Self {
        Self {
            path,
            format,
            readonly: false,
            root: false,
            serial: None,
            queues: None,
            direct: false,
            backing: Backing::None,
            rate: Rate::default(),
        }
    }

    /// A few words for a plan.
    pub fn describe(&self) -> String {
        let (format, path) = (self.format, self.path.display());
        let readonly = if self.readonly { ", only read" } else { "" };
        let root = if self.root { ", the root file system" } else { "" };
        format!("disk, {format} image {path}{readonly}{root}")
    }
}

/// A disk.
pub struct Block {
    name: String,
    image: Arc<dyn Image>,
    readonly: bool,
    queues: u16,
    id: [u8; MOST_SERIAL],
    limiter: Option<Arc<RateLimiter>>,
    /// Whether the driver wants a cache, if it can say so.
    writeback: Arc<AtomicBool>,
    workers: Mutex<Vec<Worker>>,
}

/// Opens what a configuration names, for this disk alone.
///
/// # Errors
/// It is not there, no disk, not of its format, or in use.
fn open(config: &BlockConfig) -> Result<Box<dyn Image>, ImageError> {
    let file = open_file(&config.path, config.readonly, config.direct)?;
    match config.format {
        ImageFormat::Raw => Ok(Box::new(RawImage::new(file, config)?)),
        ImageFormat::Qcow2 => Ok(Box::new(Qcow2Image::new(file, config)?)),
    }
}

impl Block {
    /// A disk with this name, for a guest of so many vCPUs, which has its image for itself from now
    /// on.
    ///
    /// # Errors
    /// The image cannot be had.
    pub fn new(name: String, config: &BlockConfig, cpus: usize) -> Result<Self, ImageError> {
        let usual = u16::try_from(cpus).map_or(USUAL_QUEUES, |cpus| cpus.min(USUAL_QUEUES));
        let queues = config.queues.unwrap_or(usual).clamp(1, MOST_QUEUES);
        let serial = config.serial.as_deref().unwrap_or(&name).as_bytes();
        let mut id = [0; MOST_SERIAL];
        id.iter_mut().zip(serial).for_each(|(place, byte)| *place = *byte);
        Ok(Self {
            image: open(config)?.into(),
            readonly: config.readonly,
            queues,
            id,
            limiter: RateLimiter::new(&config.rate).map(Arc::new),
            writeback: Arc::new(AtomicBool::new(true)),
            workers: Mutex::default(),
            name,
        })
    }

    /// What all queues have in common while a driver uses them.
    fn shared(&self, activation: &Activation) -> Shared {
        let has = |bit: u32| activation.features & 1 << bit != 0;
        // Without the feature the driver cannot flush, whatever it says of a cache.
        let writeback = match has(VIRTIO_BLK_F_FLUSH) {
            true => self.writeback.clone(),
            false => Arc::default(),
        };
        Shared {
            name: self.name.clone(),
            rules: Rules {
                size: self.image.size(),
                readonly: self.readonly,
                discard: has(VIRTIO_BLK_F_DISCARD),
                write_zeroes: has(VIRTIO_BLK_F_WRITE_ZEROES),
                id: self.id,
            },
            writeback,
            interrupt: activation.interrupt.clone(),
            trouble: Shared::trouble(),
        }
    }
}

impl VirtioDevice for Block {
    fn name(&self) -> &str {
        &self.name
    }

    fn device_type(&self) -> DeviceType {
        DeviceType::BLOCK
    }

    fn features(&self) -> u64 {
        let always = [
            VIRTIO_BLK_F_SEG_MAX,
            VIRTIO_BLK_F_BLK_SIZE,
            VIRTIO_BLK_F_FLUSH,
            VIRTIO_BLK_F_TOPOLOGY,
            VIRTIO_BLK_F_CONFIG_WCE,
            VIRTIO_BLK_F_MQ,
        ];
        let own: &[u32] = match self.readonly {
            true => &[VIRTIO_BLK_F_RO],
            false => &[VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES],
        };
        always.iter().chain(own).fold(0, |bits, bit| bits | 1 << bit)
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; usize::from(self.queues)]
    }

    fn config(&self) -> Vec<u8> {
        let mut layout = Layout::new(&*self.image, self.readonly, self.queues, QUEUE_SIZE);
        layout.writeback = self.writeback.load(Ordering::Relaxed).into();
        layout.as_bytes().to_vec()
    }

    fn write_config(&self, offset: usize, bytes: &[u8]) {
        let Some(value) = WRITEBACK.checked_sub(offset).and_then(|at| bytes.get(at)) else {
            return;
        };
        let wanted = *value != 0;
        // What is in the cache would have nobody who flushes it.
        if self.writeback.swap(wanted, Ordering::Relaxed) && !wanted {
            if let Err(error) = self.image.flush() {
                log::warn!("{}: flush failed: {error}", self.name);
            }
        }
    }

    fn activate(&self, mut activation: Activation) -> io::Result<()> {
        let shared = Arc::new(self.shared(&activation));
        let mut workers = Vec::new();
        for index in 0..usize::from(self.queues) {
            // A driver may use fewer queues than there are, but not none.
            let queue = match activation.queue(index) {
                Ok(queue) => queue,
                Err(error) if index == 0 => return Err(error),
                Err(_) => continue,
            };
            let name = format!("{}q{index}", self.name);
            let engine = Engine::new(&name, &self.image, queue.size())?;
            let gate = Gate::new(self.limiter.clone())?;
            let worker = QueueWorker::new(shared.clone(), queue, engine, gate);
            workers.push(Worker::spawn(&name, worker)?);
        }
        *self.workers.lock() = workers;
        Ok(())
    }

    fn reset(&self) {
        let workers = std::mem::take(&mut *self.workers.lock());
        drop(workers);
        self.writeback.store(true, Ordering::Relaxed);
    }
}
