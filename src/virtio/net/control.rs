//! The control queue (virtio 1.2, 5.1.6.5).

use event_manager::{EventOps, EventSet, Events};
use virtio_bindings::virtio_net::{
    VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, VIRTIO_NET_CTRL_MAC,
    VIRTIO_NET_CTRL_MAC_ADDR_SET, VIRTIO_NET_CTRL_MAC_TABLE_SET, VIRTIO_NET_CTRL_MQ,
    VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI,
    VIRTIO_NET_CTRL_RX_PROMISC, VIRTIO_NET_ERR, VIRTIO_NET_OK,
};
use zerocopy::little_endian::{U16, U64};

use super::{Mac, card::Card, features, half::GO};
use crate::{addrspace::GuestBuffer, virtio::Virtqueue};

/// The driver's commands.
pub struct ControlQueue(Virtqueue);

impl ControlQueue {
    pub fn new(queue: Virtqueue) -> Self {
        Self(queue)
    }

    /// Watches the doorbell, with this for its data.
    pub fn watch(&self, ops: &mut EventOps<'_>, data: u32) -> Result<(), event_manager::Error> {
        ops.add(Events::with_data(self.0.doorbell(), data, EventSet::IN))
    }

    /// Does what the driver has asked for.
    pub fn run(&mut self, card: &Card) {
        let _ = self.0.doorbell().read();
        for _ in 0..GO {
            let Some(chain) = self.0.pop() else { return self.0.signal() };
            let ack = match obey(&chain.readable, card) {
                Some(()) => VIRTIO_NET_OK,
                None => VIRTIO_NET_ERR,
            };
            let written = chain.writable.write_at(0, &[ack as u8]).map_or(0, |()| 1);
            self.0.complete(chain.head, written);
        }
        self.0.signal();
        let _ = self.0.doorbell().write(1);
    }
}

/// Obeys a command; `None`: it is none that this device knows and can do.
fn obey(command: &GuestBuffer, card: &Card) -> Option<()> {
    let [class, command_of_class] = command.read_obj_at::<[u8; 2]>(0)?;
    let argument = 2;
    match (u32::from(class), u32::from(command_of_class)) {
        // All frames of the port reach the driver, wanted or not: filters are a best effort
        // (5.1.6.5.1), and whoever wants to see more than its own sees all there is.
        (VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC | VIRTIO_NET_CTRL_RX_ALLMULTI) => {
            let on: u8 = command.read_obj_at(argument)?;
            (on <= 1).then_some(())
        }
        (VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET) => Some(()),
        (VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET) => {
            let mac = Mac(command.read_obj_at(argument)?);
            let Mac([first, ..]) = mac;
            (first & 1 == 0).then(|| card.set_mac(mac))
        }
        (VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET) => {
            let pairs = command.read_obj_at::<U16>(argument)?.get();
            let is_known =
                (1..=card.pairs).contains(&pairs) && features::has_pairs(card.features());
            is_known.then(|| card.backend.set_pairs(pairs).ok())?
        }
        (VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET) => {
            let offloads = command.read_obj_at::<U64>(argument)?.get();
            let is_known = offloads & !(features::GUEST & card.features()) == 0;
            is_known.then(|| card.backend.set_offloads(offloads).ok())?
        }
        _ => None,
    }
}
