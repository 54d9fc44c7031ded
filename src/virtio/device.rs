//! What a virtio device is, on whatever transport.

use std::{fmt, io, sync::Arc};

use serde::Serialize;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vmm_sys_util::eventfd::EventFd;

use super::Virtqueue;
use crate::addrspace::AddrSpace;

/// What kind of device it is (virtio 1.2, 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceType(pub u32);

impl DeviceType {
    /// A network card.
    pub const NET: Self = Self(1);
    /// A disk.
    pub const BLOCK: Self = Self(2);
    /// A console.
    pub const CONSOLE: Self = Self(3);
    /// A source of entropy.
    pub const ENTROPY: Self = Self(4);
    /// A memory balloon.
    pub const BALLOON: Self = Self(5);
    /// A socket device.
    pub const VSOCK: Self = Self(19);
    /// A file system.
    pub const FILE_SYSTEM: Self = Self(26);
    /// Persistent memory.
    pub const PMEM: Self = Self(27);
}

/// A virtio device: what stands behind a transport's registers and queues.
///
/// Devices do their work on threads of their own, from [`Self::activate`] to [`Self::reset`]; a
/// device that is dropped stops as well.
pub trait VirtioDevice: Send + Sync {
    /// The name that messages use, e.g. `disk0`.
    fn name(&self) -> &str;

    /// What kind of device it is.
    fn device_type(&self) -> DeviceType;

    /// The feature bits of its own that it offers; those of queues and transports come from beneath
    /// it.
    fn features(&self) -> u64 {
        0
    }

    /// Which of the features of queues its driver may use (virtio 1.2, 6): all of those that
    /// [`Virtqueue`] has, unless somebody else works on them.
    fn queue_features(&self) -> u64 {
        1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC
    }

    /// The largest size of each of its queues: powers of two.
    fn queue_sizes(&self) -> Vec<u16>;

    /// All of its configuration space, as it is now.
    fn config(&self) -> Vec<u8> {
        Vec::new()
    }

    /// The driver writes `bytes` at `offset` of the configuration space; they lie inside of it.
    fn write_config(&self, _offset: usize, _bytes: &[u8]) {}

    /// The driver is ready (DRIVER_OK): the device begins its work.
    ///
    /// # Errors
    /// It cannot; the driver is told that the device needs a reset.
    fn activate(&self, activation: Activation) -> io::Result<()>;

    /// Ends all work: when this returns, nothing of the guest's is touched any more, and no queue
    /// either. Not only after an activation.
    fn reset(&self);
}

/// What a device gets when its driver is ready.
pub struct Activation {
    /// The features that both sides have.
    pub features: u64,
    /// The queues by their numbers; `None`: the driver does not use it.
    pub queues: Vec<Option<Virtqueue>>,
    /// The way to the driver beside the queues.
    pub interrupt: Arc<dyn Interrupt>,
    /// The guest's memory.
    pub memory: Arc<AddrSpace>,
}

impl Activation {
    /// Takes a queue that the device cannot do without.
    ///
    /// # Errors
    /// The driver has not set it up.
    pub fn queue(&mut self, index: usize) -> io::Result<Virtqueue> {
        let queue = self.queues.get_mut(index).and_then(Option::take);
        queue.ok_or_else(|| io::Error::other(format!("the driver has not set up queue {index}")))
    }
}

/// How a device reaches its driver: transports have this. Any thread may call.
pub trait Interrupt: Send + Sync {
    /// There are used buffers in this queue.
    fn queue(&self, index: u16);

    /// The configuration space has changed.
    fn config_changed(&self);

    /// The device cannot go on before it is reset (DEVICE_NEEDS_RESET): `why` is for the log.
    fn needs_reset(&self, why: &dyn fmt::Display);

    /// What somebody else may signal instead of calling [`Self::queue`]: another process, the host's
    /// kernel. `None`: this transport has none, and whoever made such an eventfd must pass its
    /// signals on.
    fn queue_eventfd(&self, _index: u16) -> Option<EventFd> {
        None
    }
}
