//! A device of one's own in a process of its own: an entropy device as a vhost-user backend, to be
//! used by
//!
//! ```toml
//! [[devices.virtio]]
//! kind = "vhost-user"
//! device = "rng"
//! socket = "rng.sock"
//! ```
//!
//! `vhost_user_rng SOCKET` listens there, serves one guest, and ends with it.

use std::{
    env, io,
    process::ExitCode,
    sync::{Arc, Mutex},
};

use vhost::vhost_user::VhostUserProtocolFeatures;
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringT};
use virtio_bindings::{
    virtio_config::VIRTIO_F_VERSION_1,
    virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC},
};
use virtio_queue::QueueOwnedT;
use vm_memory::{Bytes, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::{
    epoll::EventSet,
    event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier},
};

/// VHOST_USER_F_PROTOCOL_FEATURES
const PROTOCOL_FEATURES: u64 = 1 << 30;

#[derive(Default)]
struct Rng {
    memory: Option<GuestMemoryAtomic<GuestMemoryMmap>>,
    event_idx: bool,
}

impl Rng {
    fn serve(&self, vring: &VringRwLock) -> io::Result<()> {
        let memory = self.memory.as_ref().ok_or(io::ErrorKind::NotConnected)?.memory();
        let chains: Vec<_> = {
            let mut state = vring.get_mut();
            let chains = state.get_queue_mut().iter(memory.clone()).map_err(io::Error::other)?;
            chains.collect()
        };
        for chain in chains {
            let (head, mut written) = (chain.head_index(), 0);
            for descriptor in chain.writable() {
                let mut bytes = vec![0; descriptor.len().min(4096) as usize];
                getrandom::fill(&mut bytes).map_err(io::Error::other)?;
                memory.write_slice(&bytes, descriptor.addr()).map_err(io::Error::other)?;
                written += bytes.len() as u32;
            }
            vring.add_used(head, written).map_err(io::Error::other)?;
        }
        match vring.needs_notification().map_err(io::Error::other)? {
            true => vring.signal_used_queue(),
            false => Ok(()),
        }
    }
}

impl VhostUserBackendMut for Rng {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        1
    }

    fn max_queue_size(&self) -> usize {
        256
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | PROTOCOL_FEATURES
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK
    }

    fn set_event_idx(&mut self, enabled: bool) {
        self.event_idx = enabled;
    }

    fn update_memory(&mut self, memory: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        self.memory = Some(memory);
        Ok(())
    }

    fn exit_event(&self, _: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::NONBLOCK).ok()
    }

    fn handle_event(
        &mut self,
        queue: u16,
        _: EventSet,
        vrings: &[VringRwLock],
        _: usize,
    ) -> io::Result<()> {
        let Some(vring) = vrings.get(usize::from(queue)) else { return Ok(()) };
        loop {
            if self.event_idx {
                vring.disable_notification().map_err(io::Error::other)?;
            }
            self.serve(vring)?;
            // What came in between is not notified of.
            if !self.event_idx || !vring.enable_notification().map_err(io::Error::other)? {
                return Ok(());
            }
        }
    }
}

fn main() -> ExitCode {
    let Some(socket) = env::args_os().nth(1) else {
        eprintln!("Usage: vhost_user_rng SOCKET");
        return ExitCode::FAILURE;
    };
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let backend = Arc::new(Mutex::new(Rng::default()));
    let served = VhostUserDaemon::new("vhost_user_rng".into(), backend, memory)
        .and_then(|mut daemon| daemon.serve(&socket));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vhost_user_rng: {error:?}");
            ExitCode::FAILURE
        }
    }
}
