//! Persistent memory (virtio 1.2, 5.19): a file that the guest has in its memory. There is nothing to
//! read or write by requests; the only one there is asks for what was written to be made durable.

#[cfg(test)]
mod tests;

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use serde::Serialize;

use super::{Activation, Chain, DeviceType, VirtioDevice, Virtqueue, Worker, file_lock};
use crate::{
    addr::GuestPhysAddr,
    addrspace::{self, AddrSpace, FileMapping},
};

/// The area is a multiple of so many bytes, and begins at one: Linux takes nothing smaller.
pub const UNIT: u64 = 2 << 20;

/// What a user says of it, and where the board has a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PmemConfig {
    /// The file.
    pub path: PathBuf,
    /// What the guest writes is its own, and lasts as long as its memory; the file never changes.
    pub readonly: bool,
    /// In bytes: that of the file, or where the file does not change, the next multiple of [`UNIT`].
    pub size: u64,
    /// Where the guest has it.
    pub place: GuestPhysAddr,
}

/// Why a file cannot be persistent memory. Sizes are in bytes.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what each is")]
pub enum FileError {
    #[error("{}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is no file", path.display())]
    NoFile { path: PathBuf },
    #[error("{} is empty", path.display())]
    Empty { path: PathBuf },
    #[error("{} has {size} bytes, which is no multiple of 2 MiB", path.display())]
    Size { path: PathBuf, size: u64 },
}

impl FileError {
    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Open { .. } | Self::NoFile { .. } => None,
            Self::Empty { path } => {
                Some(format!("give it a size: truncate -s 64M {}", path.display()))
            }
            Self::Size { path, size } => {
                let size = size.next_multiple_of(UNIT) >> 20;
                let path = path.display();
                Some(format!("make it larger: truncate -s {size}M {path}; or say readonly = true"))
            }
        }
    }
}

/// Opens a file, and says how much memory it becomes, in bytes.
///
/// # Errors
/// A file that is none, or cannot be opened so, or has not the size for it.
pub fn open(path: &Path, readonly: bool) -> Result<(File, u64), FileError> {
    let failed = |source| FileError::Open { path: path.to_owned(), source };
    // A pipe that nobody writes to must not hold us.
    let mut options = OpenOptions::new();
    options.read(true).write(!readonly).custom_flags(libc::O_NONBLOCK);
    let file = options.open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let path = path.to_owned();
    match metadata.len() {
        _ if !metadata.is_file() => Err(FileError::NoFile { path }),
        0 => Err(FileError::Empty { path }),
        size if size % UNIT != 0 && !readonly => Err(FileError::Size { path, size }),
        size => Ok((file, size.next_multiple_of(UNIT))),
    }
}

/// Makes what was written durable.
type Sync = dyn Fn() -> io::Result<()> + Send + std::marker::Sync;

/// A persistent memory device.
pub struct Pmem {
    name: String,
    size: u64,
    place: GuestPhysAddr,
    sync: Arc<Sync>,
    /// Locked as long as it is open.
    _file: Option<Arc<File>>,
    /// A flush has failed. What was to be written may be gone, which a later flush does not hear of.
    failed: Arc<AtomicBool>,
    worker: Mutex<Option<Worker>>,
}

/// Why there is no such device.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what each is")]
pub enum Error {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} has changed its size from {was} to {size} bytes", path.display())]
    Resized { path: PathBuf, was: u64, size: u64 },
    #[error(
        "{} is in use by another program, or by another device of this one{}", path.display(),
        if *readonly { ", which writes to it" } else { "; two writers would destroy it" }
    )]
    InUse { path: PathBuf, readonly: bool },
    #[error(transparent)]
    Memory(#[from] addrspace::Error),
}

impl Pmem {
    /// A device with this name; its file becomes part of `memory`.
    ///
    /// # Errors
    /// A file that is not as it was when its size was asked for, and a host that does not map it.
    pub fn new(name: String, config: &PmemConfig, memory: &AddrSpace) -> Result<Self, Error> {
        let PmemConfig { path, readonly, size, place } = config.clone();
        let (file, now) = open(&path, readonly)?;
        if now != size {
            return Err(Error::Resized { path, was: size, size: now });
        }
        if !file_lock::lock(&file, &path, readonly) {
            return Err(Error::InUse { path, readonly });
        }
        let file = Arc::new(file);
        let mapping = if readonly { FileMapping::Private } else { FileMapping::Shared };
        memory.map_file(place, size, file.clone(), mapping)?;
        let written = file.clone();
        let sync: Arc<Sync> = match readonly {
            true => Arc::new(|| Ok(())),
            false => Arc::new(move || written.sync_data()),
        };
        Ok(Self { _file: Some(file), ..Self::over(name, size, place, sync) })
    }

    fn over(name: String, size: u64, place: GuestPhysAddr, sync: Arc<Sync>) -> Self {
        Self {
            name,
            size,
            place,
            sync,
            _file: None,
            failed: Arc::default(),
            worker: Mutex::default(),
        }
    }
}

const QUEUE_SIZE: u16 = 64;

impl VirtioDevice for Pmem {
    fn name(&self) -> &str {
        &self.name
    }

    fn device_type(&self) -> DeviceType {
        DeviceType::PMEM
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE]
    }

    /// `start` and `size` (5.19.4).
    fn config(&self) -> Vec<u8> {
        [self.place.0, self.size].iter().flat_map(|field| field.to_le_bytes()).collect()
    }

    fn activate(&self, mut activation: Activation) -> io::Result<()> {
        let requests = activation.queue(0)?;
        let (name, sync, failed) = (self.name.clone(), self.sync.clone(), self.failed.clone());
        let worker = Worker::on_queue(&self.name, requests, activation.interrupt, move |queue| {
            serve(queue, &name, &*sync, &failed);
        })?;
        *self.worker.lock() = Some(worker);
        Ok(())
    }

    fn reset(&self) {
        let worker = self.worker.lock().take();
        drop(worker);
    }
}

impl fmt::Debug for Pmem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pmem({} at {})", self.name, self.place)
    }
}

/// The only type of request (5.19.6), and its results (5.19.7).
const FLUSH: u32 = 0;
const DONE: u32 = 0;
const FAILED: u32 = u32::MAX;

fn serve(requests: &mut Virtqueue, name: &str, sync: &Sync, failed: &AtomicBool) {
    requests.serve_together(|chains| {
        let is_flush = |chain: &Chain| chain.readable.read_obj_at(0) == Some(FLUSH.to_le_bytes());
        let flushes: Vec<bool> = chains.iter().map(is_flush).collect();
        // One for all: each was asked for before it begins.
        let result = match flushes.contains(&true) {
            true => flush(name, sync, failed),
            false => FAILED,
        };
        let answer = |(chain, is_flush): (&Chain, bool)| {
            let result = if is_flush { result } else { FAILED };
            chain.writable.write_obj_at(0, &result.to_le_bytes()).map_or(0, |()| 4)
        };
        chains.iter().zip(flushes).map(answer).collect()
    });
}

fn flush(name: &str, sync: &Sync, failed: &AtomicBool) -> u32 {
    if failed.load(Ordering::Acquire) {
        return FAILED;
    }
    match sync() {
        Ok(()) => DONE,
        Err(error) => {
            failed.store(true, Ordering::Release);
            log::error!(
                "{name}: cannot write to the file, and what was written may be lost: {error}"
            );
            FAILED
        }
    }
}
