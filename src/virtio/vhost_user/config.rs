//! The configuration space of a device whose backend is elsewhere.

use std::io;

use parking_lot::Mutex;

use super::session::Session;

/// The length of a tag in `struct virtio_fs_config` (virtio 1.2, 5.11.4).
pub const TAG_LEN: usize = 36;

/// A configuration space: the backend's, as it was when last read, or one that is made here.
#[derive(Debug)]
pub struct ConfigSpace {
    bytes: Mutex<Vec<u8>>,
    is_of_backend: bool,
}

impl ConfigSpace {
    /// The backend's, of `len` bytes if it has one.
    pub fn of_backend(session: &Session, len: usize) -> io::Result<Self> {
        let is_of_backend = session.has_config() && len > 0;
        let bytes = if is_of_backend { session.read_config(len)? } else { vec![0; len] };
        Ok(Self { bytes: Mutex::new(bytes), is_of_backend })
    }

    /// `struct virtio_fs_config`: a tag, and how many queues there are for requests.
    pub fn of_tag(tag: &str, requests: u32) -> Self {
        let mut bytes = tag.as_bytes().to_vec();
        bytes.resize(TAG_LEN, 0);
        bytes.extend(requests.to_le_bytes());
        Self { bytes: Mutex::new(bytes), is_of_backend: false }
    }

    /// All of it.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().clone()
    }

    /// Reads it again, as the backend says that it has changed.
    pub fn read_again(&self, session: &Session) -> io::Result<()> {
        if self.is_of_backend {
            let new = session.read_config(self.bytes().len())?;
            *self.bytes.lock() = new;
        }
        Ok(())
    }

    /// The driver writes to it: the backend decides what comes of that.
    pub fn write(&self, session: &Session, offset: usize, bytes: &[u8]) -> io::Result<()> {
        if !self.is_of_backend {
            return Ok(());
        }
        session.write_config(offset, bytes)?;
        self.read_again(session)
    }
}
