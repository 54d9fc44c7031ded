//! A queue as vhost has it, in the host's kernel or in another process (`linux/vhost_types.h`).

use vhost::VringConfigData;

use super::Virtqueue;

/// Where the queue's rings are, by the guest's addresses.
pub fn vring(queue: &Virtqueue) -> VringConfigData {
    let [descriptors, available, used] = queue.rings();
    VringConfigData {
        queue_max_size: queue.size(),
        queue_size: queue.size(),
        flags: 0,
        desc_table_addr: descriptors,
        used_ring_addr: used,
        avail_ring_addr: available,
        log_addr: None,
    }
}
