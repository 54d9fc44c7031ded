//! The socket device (virtio 1.2, 5.10): stream connections between programs in the guest and on the
//! host, without a network.
//!
//! The host's side is Unix sockets, as Firecracker has them. A program that connects to the device's
//! own socket, writes `CONNECT <port>` and a line feed, and reads `OK <port>`, is connected to the
//! guest's program at that port. A guest's program that connects to port P of context id 2 is
//! connected to whoever listens at the socket of the same path with `_P` behind it.
//!
//! - `packet`, `credit`: what the two sides say to each other, checked.
//! - `connection`: one connection; `peers`: all of them.
//! - `host`, `greeting`: the Unix sockets.
//! - `work`: the device's thread.

mod connection;
mod credit;
mod greeting;
mod host;
mod packet;
mod peers;
#[cfg(test)]
mod tests;
mod work;

use std::{io, path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use serde::Serialize;

pub use self::host::LONGEST_PATH;
use self::{host::HostSocket, peers::Peers, work::Work};
use super::{Activation, DeviceType, VirtioDevice, Worker};

/// What a user says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VsockConfig {
    /// The guest's context id, from 3 on.
    pub cid: u32,
    /// Where the Unix socket comes to be; at most [`LONGEST_PATH`] bytes.
    pub path: PathBuf,
}

impl VsockConfig {
    /// The context id that guests have unless told otherwise.
    pub const DEFAULT_CID: u32 = 3;
}

/// Sizes of the queues to the guest, from it, and for events, of which there are none.
const QUEUE_SIZES: [u16; 3] = [256, 256, 16];

/// VIRTIO_VSOCK_F_STREAM (5.10.3).
const F_STREAM: u64 = 1 << 0;

/// A socket device.
pub struct Vsock {
    name: String,
    cid: u32,
    host: Arc<HostSocket>,
    worker: Mutex<Option<Worker>>,
}

impl Vsock {
    /// A device with this name. Programs can connect from now on; they wait until the guest's driver
    /// is there.
    ///
    /// # Errors
    /// The host's socket cannot be had; the message has the path and what to do.
    pub fn new(name: String, config: &VsockConfig) -> io::Result<Self> {
        let host = Arc::new(HostSocket::bind(&config.path)?);
        Ok(Self { name, cid: config.cid, host, worker: Mutex::default() })
    }
}

impl VirtioDevice for Vsock {
    fn name(&self) -> &str {
        &self.name
    }

    fn device_type(&self) -> DeviceType {
        DeviceType::VSOCK
    }

    fn features(&self) -> u64 {
        F_STREAM
    }

    fn queue_sizes(&self) -> Vec<u16> {
        QUEUE_SIZES.into()
    }

    /// `struct virtio_vsock_config` (5.10.4).
    fn config(&self) -> Vec<u8> {
        u64::from(self.cid).to_le_bytes().into()
    }

    fn activate(&self, mut activation: Activation) -> io::Result<()> {
        let work = Work {
            to_guest: activation.queue(0)?,
            from_guest: activation.queue(1)?,
            interrupt: activation.interrupt,
            peers: Peers::new(self.name.clone(), self.host.clone(), self.cid.into())?,
        };
        let worker = Worker::spawn(&self.name, work)?;
        *self.worker.lock() = Some(worker);
        Ok(())
    }

    fn reset(&self) {
        let worker = self.worker.lock().take();
        drop(worker);
    }
}
