//! Any device whose backend is another process (QEMU's "Vhost-user Protocol"): this end has the
//! transport's registers, the backend works on the queues, in the guest's memory, which it shares.
//!
//! - `kinds`: what is known of kinds of devices.
//! - `session`, `message`: the conversation with the backend.
//! - `config`: the configuration space.
//! - `watch`: the thread beside the backend.

mod config;
mod kinds;
mod message;
mod session;
#[cfg(test)]
mod tests;
mod watch;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use self::{config::ConfigSpace, session::Session, watch::Watch};
pub use self::{
    config::TAG_LEN,
    kinds::{KINDS, Kind, of_name, of_number},
    session::MOST_CONFIG,
};
use super::{Activation, DeviceType, VirtioDevice, Worker};
use crate::{
    addrspace::{AddrSpace, SharedRegion},
    kept,
    ratelimit::RateLimit,
};

/// What a user says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VhostUserConfig {
    /// The Unix socket that the backend listens at.
    pub socket: PathBuf,
    /// What kind of device the backend is.
    pub device: DeviceType,
    /// How many queues it is to have; `None`: as many as its kind needs, or the backend has.
    pub queues: Option<u16>,
    /// The largest size of each: a power of two.
    pub queue_size: u16,
    /// A file system's name, where it is not the backend that has it: at most [`TAG_LEN`] bytes.
    pub tag: Option<String>,
    /// How many bytes of configuration space it has, at most [`MOST_CONFIG`]; `None`: as many as its
    /// kind has.
    pub config_size: Option<usize>,
    /// The backend between two devices for it.
    #[serde(skip)]
    pub kept: Kept,
}

impl VhostUserConfig {
    /// The largest size of queues unless told otherwise.
    pub const DEFAULT_QUEUE_SIZE: u16 = 256;
}

/// Where a device leaves its backend for the next one: some backends end with their connection.
pub type Kept = kept::Kept<Session>;

/// The backend that is left, if it still answers.
fn take(kept: &Kept) -> Option<Arc<Session>> {
    let session = kept.lock().take();
    session.filter(|session| session.is_as_it_was())
}

/// A device whose backend is another process.
pub struct VhostUser {
    name: String,
    config: VhostUserConfig,
    queues: u16,
    /// What the first backend has offered, and so the driver has seen.
    features: u64,
    space: Arc<ConfigSpace>,
    session: Mutex<Arc<Session>>,
    work: Mutex<Option<Work>>,
    trouble: RateLimit,
}

/// A backend at work.
struct Work {
    queues: Vec<u16>,
    watch: Worker,
}

impl VhostUser {
    /// A device with this name. The backend must listen already.
    ///
    /// # Errors
    /// The backend is not there, or cannot be such a device; the message says what to do.
    pub fn new(name: String, config: &VhostUserConfig) -> io::Result<Self> {
        let session = match take(&config.kept) {
            Some(session) => session,
            None => Arc::new(Session::connect(&config.socket)?),
        };
        let kind = of_number(config.device);
        let most = session.most_queues();
        let usual = kind.map_or(1, |kind| kind.queues);
        let queues = config.queues.unwrap_or(usual);
        if u64::from(queues) > most {
            return Err(io::Error::other(format!(
                "the backend at {} has {most} queues, and {queues} are asked for: write \
                 queues = {most}",
                config.socket.display()
            )));
        }
        let space = match &config.tag {
            Some(tag) => ConfigSpace::of_tag(tag, u32::from(queues.saturating_sub(1))),
            None if config.device == DeviceType::FILE_SYSTEM && !session.has_config() => {
                return Err(io::Error::other(format!(
                    "the backend at {} has no name for its file system: write tag = \"a name\"",
                    config.socket.display()
                )));
            }
            None => {
                let usual = kind.map_or(0, |kind| kind.config_size);
                ConfigSpace::of_backend(&session, config.config_size.unwrap_or(usual))?
            }
        };
        Ok(Self {
            name,
            config: config.clone(),
            queues,
            features: session.features(),
            space: Arc::new(space),
            session: Mutex::new(session),
            work: Mutex::default(),
            trouble: RateLimit::new(3, Duration::from_secs(10)),
        })
    }

    fn session(&self) -> MutexGuard<'_, Arc<Session>> {
        self.session.lock()
    }

    /// The backend; if it has ended, the one that listens in its place now.
    fn living_session(&self) -> io::Result<Arc<Session>> {
        let mut session = self.session();
        if session.is_broken() {
            let new = Session::connect(&self.config.socket)?;
            let missing = self.features & !new.features();
            if missing != 0 || new.most_queues() < self.queues.into() {
                return Err(io::Error::other(format!(
                    "the backend at {} can do less than the one before: it lacks features {missing:#x} \
                     or queues",
                    self.config.socket.display()
                )));
            }
            self.space.read_again(&new)?;
            *session = Arc::new(new);
        }
        Ok(session.clone())
    }
}

impl Drop for VhostUser {
    fn drop(&mut self) {
        self.reset();
        let session = self.session().clone();
        if !session.is_broken() {
            *self.config.kept.lock() = Some(session);
        }
    }
}

impl VirtioDevice for VhostUser {
    fn name(&self) -> &str {
        &self.name
    }

    fn device_type(&self) -> DeviceType {
        self.config.device
    }

    fn features(&self) -> u64 {
        kinds::own_features(self.config.device, self.features)
    }

    /// The backend is the one that reads the rings.
    fn queue_features(&self) -> u64 {
        self.features & (1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC)
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![self.config.queue_size; self.queues.into()]
    }

    fn config(&self) -> Vec<u8> {
        self.space.bytes()
    }

    fn write_config(&self, offset: usize, bytes: &[u8]) {
        let session = self.session().clone();
        let written = self.space.write(&session, offset, bytes);
        if let (Err(error), Some(untold)) = (&written, self.trouble.pass()) {
            log::warn!("{}: {error} ({untold} more such since the last told)", self.name);
        }
    }

    fn activate(&self, activation: Activation) -> io::Result<()> {
        let session = self.living_session()?;
        let queues: Vec<_> = activation.queues.into_iter().flatten().collect();
        let (mut calls, mut relays) = (Vec::new(), Vec::new());
        for queue in &queues {
            let call = match activation.interrupt.queue_eventfd(queue.index()) {
                Some(call) => call,
                None => {
                    let call = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
                    relays.push((queue.index(), call.try_clone()?));
                    call
                }
            };
            calls.push(call);
        }
        let regions = shared_memory(&activation.memory)?;
        let rings: Vec<_> = queues.iter().zip(&calls).collect();
        session.start(activation.features, &regions, &rings)?;
        for queue in &queues {
            // The driver may have made something available before the backend listened.
            let _ = queue.doorbell().write(1);
        }
        let numbers = queues.iter().map(|queue| queue.index()).collect();
        let interrupt = activation.interrupt;
        let config = self.space.clone();
        let watch = Watch { session, interrupt, config, relays };
        let watch = Worker::spawn(&self.name, watch)?;
        let mut work = self.work.lock();
        *work = Some(Work { queues: numbers, watch });
        Ok(())
    }

    fn reset(&self) {
        let work = self.work.lock().take();
        let Some(Work { queues, watch }) = work else { return };
        drop(watch);
        let session = self.session().clone();
        if session.is_broken() {
            return;
        }
        if let (Err(error), Some(untold)) = (session.stop(&queues), self.trouble.pass()) {
            log::warn!("{}: {error} ({untold} more such since the last told)", self.name);
        }
    }
}

/// The guest's memory, for the backend to map.
fn shared_memory(memory: &AddrSpace) -> io::Result<Vec<SharedRegion>> {
    let regions = memory.shared_regions();
    if regions.is_empty() {
        return Err(io::Error::other("the guest's memory cannot be shared with a backend"));
    }
    Ok(regions)
}
