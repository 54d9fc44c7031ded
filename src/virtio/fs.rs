//! The file system device (virtio 1.2, 5.11): a directory of the host's in the guest, served by this
//! process.
//!
//! The requests are those of FUSE. Host and guest may both change files: the guest sees what the host
//! has changed at the next opening of a file, and names and attributes after a second.
//!
//! - `wire`: the messages.
//! - `filesystem`: what a server serves.
//! - `server`: from messages to calls, and back.
//! - `passthrough`: a directory as it is.
//! - `command`: what a guest with one command is told, and tells.
//! - `scratch`: a directory whose changes are kept aside.
//! - `handles`: what the guest has open.
//! - `pool`: the threads.

pub mod command;
mod filesystem;
mod handles;
mod passthrough;
mod pool;
mod scratch;
mod server;
#[cfg(test)]
mod testing;
mod wire;

use std::{fmt, io, path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use serde::Serialize;

use self::{
    command::{CommandConfig, CommandFiles, Ending},
    filesystem::FileSystem,
    passthrough::Passthrough,
    pool::Pool,
    scratch::Scratch,
    server::Server,
};
use super::{Activation, DeviceType, VirtioDevice};

/// Bytes of a tag at most (5.11.4).
pub const TAG_MAX: usize = 36;

/// A directory to share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FsConfig {
    /// The directory.
    pub path: PathBuf,
    /// By which the guest knows it: `mount -t virtiofs TAG /mnt`. Not longer than [`TAG_MAX`].
    pub tag: String,
    /// Whether the guest can only read.
    pub readonly: bool,
    /// Whether what the guest changes is kept aside, and gone at the end.
    pub discard: bool,
}

/// For requests that are not to wait, and for all others.
const QUEUE_SIZES: [u16; 2] = [128, 1024];

/// A file system device.
pub struct Fs {
    name: String,
    tag: String,
    server: Arc<Server>,
    pool: Mutex<Option<Pool>>,
}

impl Fs {
    /// A device with this name that shares what the configuration says.
    ///
    /// # Errors
    /// It is no directory that can be read, or this host has no `/proc`.
    pub fn new(name: String, config: &FsConfig) -> io::Result<Self> {
        let files: Arc<dyn FileSystem> = match config.discard {
            false => Arc::new(Passthrough::new(&config.path)?),
            true => Arc::new(Scratch::new(&config.path)?),
        };
        let server = Server::new(files, config.readonly);
        Ok(Self::of(&name, &config.tag, server))
    }

    /// A device with this name that tells a guest its command, and hears of its end.
    ///
    /// # Errors
    /// The host has no file descriptor left.
    pub fn of_command(
        name: &str,
        command: &CommandConfig,
        ending: Arc<Ending>,
    ) -> io::Result<Self> {
        let files = CommandFiles::new(command, ending)?;
        Ok(Self::of(name, command::TAG, Server::new(Arc::new(files), false)))
    }

    /// One that has this server.
    fn of(name: &str, tag: &str, server: Server) -> Self {
        let (name, tag) = (name.to_owned(), tag.to_owned());
        Self { name, tag, server: Arc::new(server), pool: Mutex::default() }
    }
}

impl VirtioDevice for Fs {
    fn name(&self) -> &str {
        &self.name
    }

    fn device_type(&self) -> DeviceType {
        DeviceType::FILE_SYSTEM
    }

    fn queue_sizes(&self) -> Vec<u16> {
        QUEUE_SIZES.to_vec()
    }

    /// The tag, and the number of request queues.
    fn config(&self) -> Vec<u8> {
        let mut config: Vec<u8> = self.tag.bytes().take(TAG_MAX).collect();
        config.resize(TAG_MAX, 0);
        config.extend(1_u32.to_le_bytes());
        config
    }

    fn activate(&self, activation: Activation) -> io::Result<()> {
        let queues = activation.queues.into_iter().flatten().collect();
        let pool = Pool::start(&self.name, self.server.clone(), queues)?;
        *self.pool.lock() = Some(pool);
        Ok(())
    }

    fn reset(&self) {
        let pool = self.pool.lock().take();
        drop(pool);
        self.server.files().forget_all();
    }
}

impl fmt::Debug for Fs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fs({} {:?})", self.name, self.tag)
    }
}
