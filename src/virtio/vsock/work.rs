//! The thread between the queues and the peers.

use std::sync::Arc;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};

use super::peers::Peers;
use crate::virtio::{Interrupt, Virtqueue};

const TO_GUEST: u32 = 0;
const FROM_GUEST: u32 = 1;
const HOST: u32 = 2;

/// All that a vsock device does while its driver is there.
pub struct Work {
    pub to_guest: Virtqueue,
    pub from_guest: Virtqueue,
    pub interrupt: Arc<dyn Interrupt>,
    pub peers: Peers,
}

impl Work {
    /// Takes what the guest has sent. No more at a time than fits into the queue: a guest that sends
    /// without end is not alone here.
    fn receive(&mut self) {
        for _ in 0..self.from_guest.size() {
            let Some(chain) = self.from_guest.pop() else {
                return self.from_guest.signal();
            };
            self.peers.take(chain.readable);
            self.from_guest.complete(chain.head, 0);
        }
        self.from_guest.signal();
        ring(&self.from_guest);
    }

    /// Gives the guest what there is for it, as far as it has made room; likewise.
    fn send(&mut self) {
        for _ in 0..self.to_guest.size() {
            if !self.peers.has_packets() {
                return self.to_guest.signal();
            }
            let Some(chain) = self.to_guest.pop() else {
                return self.to_guest.signal();
            };
            match self.peers.fill(&chain.writable) {
                Some(written) => self.to_guest.complete(chain.head, written),
                None => self.to_guest.undo_pop(chain),
            }
        }
        self.to_guest.signal();
        ring(&self.to_guest);
    }
}

/// Comes back to this queue after all else that is to do.
fn ring(queue: &Virtqueue) {
    // A counter that is full is signalled already.
    let _ = queue.doorbell().write(1);
}

impl MutEventSubscriber for Work {
    fn process(&mut self, events: Events, _: &mut EventOps<'_>) {
        match events.data() {
            TO_GUEST => {
                let _ = self.to_guest.doorbell().read();
            }
            FROM_GUEST => {
                let _ = self.from_guest.doorbell().read();
                self.receive();
            }
            _ => self.peers.on_events(),
        }
        self.send();
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        let watched = [
            Events::with_data(self.to_guest.doorbell(), TO_GUEST, EventSet::IN),
            Events::with_data(self.from_guest.doorbell(), FROM_GUEST, EventSet::IN),
            Events::with_data(self.peers.events(), HOST, EventSet::IN),
        ];
        for events in watched {
            if let Err(error) = ops.add(events) {
                self.interrupt.needs_reset(&error);
            }
        }
        // What the driver has made available before it was ready.
        self.receive();
        self.send();
    }
}
