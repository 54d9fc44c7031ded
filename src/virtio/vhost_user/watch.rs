//! The thread beside a backend at work: interrupts that it cannot make itself, what it says by
//! itself, and its end.

use std::sync::Arc;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vmm_sys_util::eventfd::EventFd;

use super::{config::ConfigSpace, session::Session};
use crate::virtio::Interrupt;

/// Smaller ones are queues.
const END: u32 = 1 << 16;
const CHANNEL: u32 = END + 1;

/// All that is watched from an activation to the next reset.
pub struct Watch {
    pub session: Arc<Session>,
    pub interrupt: Arc<dyn Interrupt>,
    pub config: Arc<ConfigSpace>,
    /// What the backend signals for a queue where the transport has no eventfd for that.
    pub relays: Vec<(u16, EventFd)>,
}

impl Watch {
    fn relay(&self, index: u32) {
        for (queue, call) in self.relays.iter().filter(|(queue, _)| u32::from(*queue) == index) {
            let _ = call.read();
            self.interrupt.queue(*queue);
        }
    }

    fn hear(&self) {
        let Some(channel) = self.session.channel() else { return };
        let heard = channel.lock().take();
        match heard {
            Ok(false) => {}
            Ok(true) => match self.config.read_again(&self.session) {
                Ok(()) => self.interrupt.config_changed(),
                Err(error) => self.interrupt.needs_reset(&error),
            },
            Err(_) => self.end(),
        }
    }

    fn end(&self) {
        self.session.give_up();
        let path = self.session.path().display();
        self.interrupt.needs_reset(&format_args!("the backend at {path} has ended"));
    }
}

impl MutEventSubscriber for Watch {
    fn process(&mut self, events: Events, _: &mut EventOps<'_>) {
        match events.data() {
            END => self.end(),
            CHANNEL => self.hear(),
            index => self.relay(index),
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        // Of the socket only the end is of interest; answers are read by who has asked.
        let end = EventSet::READ_HANG_UP | EventSet::HANG_UP | EventSet::EDGE_TRIGGERED;
        let mut watched = vec![Events::with_data(self.session.socket(), END, end)];
        for (queue, call) in &self.relays {
            watched.push(Events::with_data(call, (*queue).into(), EventSet::IN));
        }
        if let Some(channel) = self.session.channel() {
            let fd = channel.lock().fd();
            let edges = EventSet::IN | EventSet::EDGE_TRIGGERED;
            watched.push(Events::with_data_raw(fd, CHANNEL, edges));
        }
        for events in watched {
            if let Err(error) = ops.add(events) {
                self.interrupt.needs_reset(&error);
            }
        }
    }
}
