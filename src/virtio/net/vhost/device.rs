//! A vhost-net device (Linux, `linux/vhost.h`): one queue pair.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
};

use vhost::{
    VhostBackend, VhostUserMemoryRegionInfo, VringConfigData,
    net::VhostNet,
    vhost_kern::{VhostKernBackend, net::Net},
};
use vm_memory::{Address, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

use crate::virtio::{Virtqueue, vring::vring};

/// A queue pair as the kernel knows it. It works there as long as this lives.
pub struct Device(Net<Arc<GuestMemoryMmap>>);

impl Device {
    /// A new one, for queues in this memory.
    ///
    /// # Errors
    /// `/dev/vhost-net` cannot be opened; the message says so.
    pub fn open(memory: Arc<GuestMemoryMmap>) -> io::Result<Self> {
        Net::new(memory).map(Self).map_err(|error| match error {
            vhost::Error::VhostOpen(error) => {
                io::Error::new(error.kind(), format!("/dev/vhost-net cannot be opened: {error}"))
            }
            error => io::Error::other(error),
        })
    }

    /// The features that the kernel has.
    pub fn features(&self) -> io::Result<u64> {
        told("VHOST_GET_FEATURES", self.get_features())
    }

    /// Begins: the kernel is told of the features in use, and of the memory.
    pub fn begin(&self, features: u64) -> io::Result<()> {
        told("VHOST_SET_OWNER", self.set_owner())?;
        told("VHOST_SET_FEATURES", self.set_features(features))?;
        let region = |region: &vm_memory::GuestRegionMmap| VhostUserMemoryRegionInfo {
            guest_phys_addr: region.start_addr().raw_value(),
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
            mmap_offset: 0,
            mmap_handle: -1,
        };
        let regions: Vec<_> = self.mem().iter().map(region).collect();
        told("VHOST_SET_MEM_TABLE", self.set_mem_table(&regions)).map(drop)
    }

    /// Tells of a queue: 0 receives, 1 transmits. The kernel signals `call` when there are used
    /// buffers, and `error` when it finds something in the queue that cannot be.
    pub fn set_queue(
        &self,
        number: usize,
        queue: &Virtqueue,
        call: &EventFd,
        error: &EventFd,
    ) -> io::Result<()> {
        let rings = vring(queue);
        told("VHOST_SET_VRING_NUM", self.set_vring_num(number, queue.size()))?;
        told("VHOST_SET_VRING_BASE", self.set_vring_base(number, 0))?;
        told("VHOST_SET_VRING_ADDR", self.set_vring_addr(number, &rings))?;
        told("VHOST_SET_VRING_CALL", self.set_vring_call(number, call))?;
        told("VHOST_SET_VRING_ERR", self.set_vring_err(number, error))?;
        told("VHOST_SET_VRING_KICK", self.set_vring_kick(number, queue.doorbell()))
    }

    /// Plugs both queues into a TAP interface's: the work begins.
    pub fn plug_in(&self, tap: &File) -> io::Result<()> {
        let plug = |number| self.0.set_backend(number, Some(tap));
        told("VHOST_NET_SET_BACKEND", plug(0).and_then(|()| plug(1)))
    }
}

impl Drop for Device {
    /// The kernel has ended all work on a queue when it has been unplugged.
    fn drop(&mut self) {
        for number in 0..2 {
            // One that was never plugged in is as good.
            let _ = self.0.set_backend(number, None);
        }
    }
}

impl AsRawFd for Device {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl VhostKernBackend for Device {
    type AS = Arc<GuestMemoryMmap>;

    fn mem(&self) -> &Self::AS {
        self.0.mem()
    }

    /// The kernel takes where a ring begins for an address of this process's, and does not look where
    /// it ends: each must lie in one piece of memory.
    fn is_valid(&self, rings: &VringConfigData) -> bool {
        let size = u64::from(rings.queue_size);
        // 2.7: with the fields of EVENT_IDX.
        let rings = [
            (rings.desc_table_addr, 16 * size),
            (rings.avail_ring_addr, 6 + 2 * size),
            (rings.used_ring_addr, 6 + 8 * size),
        ];
        rings.into_iter().all(|(at, len)| is_in_one_piece(self.mem(), at, len))
    }
}

/// Whether `len` bytes at `at` are contiguous in this process too.
fn is_in_one_piece(memory: &GuestMemoryMmap, at: u64, len: u64) -> bool {
    let region = memory.find_region(GuestAddress(at));
    region.is_some_and(|region| len <= region.len() - (at - region.start_addr().raw_value()))
}

fn told<T>(request: &str, result: Result<T, vhost::Error>) -> io::Result<T> {
    result.map_err(|error| match error {
        vhost::Error::InvalidQueue => {
            io::Error::other("a ring does not lie in one piece of the guest's memory")
        }
        error => io::Error::other(format!("vhost-net: {request} fails: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_lies_in_one_piece_or_nowhere() {
        let pieces = [(GuestAddress(0x1000), 0x2000), (GuestAddress(0x3000), 0x1000)];
        let memory = GuestMemoryMmap::from_ranges(&pieces).unwrap();
        for (at, len, is) in [
            (0x1000, 0x2000, true),
            (0x2ff0, 0x10, true),
            (0x3000, 0x1000, true),
            (0x2ff0, 0x11, false),
            (0x3ff0, 0x11, false),
            (0x4000, 1, false),
            (0xfff, 1, false),
            (u64::MAX, 1, false),
            (0x1000, u64::MAX, false),
        ] {
            assert_eq!(is_in_one_piece(&memory, at, len), is, "{at:#x} {len:#x}");
        }
    }
}
