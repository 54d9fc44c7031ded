//! vhost-net: the host's kernel does the work on the queues of a card that is plugged into a TAP
//! interface. The transport's registers and the control queue stay here.
//!
//! - `device`: what the kernel is told of one queue pair.
//! - `watch`: the thread beside the kernel.

mod device;
mod watch;

use std::{fs::File, io, os::fd::BorrowedFd, sync::Arc};

use virtio_bindings::{virtio_config::VIRTIO_F_VERSION_1, virtio_net::VIRTIO_NET_F_MRG_RXBUF};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use self::{
    device::Device,
    watch::{Watch, Watched},
};
use super::{card::Card, control::ControlQueue, pair::SharedPort};
use crate::virtio::{Activation, Virtqueue, Worker};

/// Without these it is of no use: all kernels since 4.0 have them.
const NEEDED: u64 = 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_NET_F_MRG_RXBUF;

/// A host's vhost-net.
#[derive(Debug)]
pub struct Vhost {
    features: u64,
}

/// A queue pair that the driver uses, and its port.
pub struct Plugged<'a> {
    pub port: &'a SharedPort,
    pub queues: [Virtqueue; 2],
}

impl Vhost {
    /// What this host has.
    ///
    /// # Errors
    /// It has none, or none for this user.
    pub fn probe() -> io::Result<Self> {
        let device = Device::open(Arc::new(GuestMemoryMmap::new()))?;
        let features = device.features()?;
        match features & NEEDED {
            NEEDED => Ok(Self { features }),
            _ => Err(io::Error::other("it is too old: Linux 4.0 or newer is needed")),
        }
    }

    /// The features that the kernel has.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Has the kernel work on these pairs, until the worker is dropped.
    ///
    /// # Errors
    /// The kernel does not do it.
    pub fn start(
        &self,
        card: &Arc<Card>,
        pairs: &[Plugged<'_>],
        control: Option<ControlQueue>,
        activation: &Activation,
    ) -> io::Result<Worker> {
        // The kernel announces nothing that it writes.
        activation.memory.give_all();
        let memory = Arc::new(GuestMemoryMmap::clone(&activation.memory.device_memory()));
        let (mut devices, mut watched) = (Vec::new(), Vec::new());
        for pair in pairs {
            let device = Device::open(memory.clone())?;
            device.begin(activation.features & self.features)?;
            for (number, queue) in pair.queues.iter().enumerate() {
                let index = queue.index();
                let error = new_eventfd()?;
                let (call, relayed) = match activation.interrupt.queue_eventfd(index) {
                    Some(call) => (call, None),
                    None => {
                        let call = new_eventfd()?;
                        (call.try_clone()?, Some(call))
                    }
                };
                device.set_queue(number, queue, &call, &error)?;
                watched.push(Watched { index, call: relayed, error });
            }
            let port = pair.port.lock();
            device.plug_in(&file(port.fd())?)?;
            devices.push(device);
            for queue in &pair.queues {
                // The driver may have made something available before the kernel listened.
                let _ = queue.doorbell().write(1);
            }
        }
        let interrupt = activation.interrupt.clone();
        Worker::spawn(
            &card.name,
            Watch { devices, watched, control, card: card.clone(), interrupt },
        )
    }
}

fn new_eventfd() -> io::Result<EventFd> {
    EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)
}

fn file(fd: BorrowedFd<'_>) -> io::Result<File> {
    fd.try_clone_to_owned().map(File::from)
}
