//! The thread beside the kernel at work: interrupts that it cannot make itself, queues that it gives
//! up, and the control queue.

use std::sync::Arc;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vmm_sys_util::eventfd::EventFd;

use super::device::Device;
use crate::virtio::{
    Interrupt,
    net::{card::Card, control::ControlQueue},
};

/// Smaller ones are of queues: two numbers each.
const CONTROL: u32 = 1 << 16;

/// What is watched of a queue.
pub struct Watched {
    pub index: u16,
    /// What the kernel signals where the transport has no eventfd for that.
    pub call: Option<EventFd>,
    /// What it signals when it cannot go on.
    pub error: EventFd,
}

/// All that lives from an activation to the next reset.
pub struct Watch {
    pub devices: Vec<Device>,
    pub watched: Vec<Watched>,
    pub control: Option<ControlQueue>,
    pub card: Arc<Card>,
    pub interrupt: Arc<dyn Interrupt>,
}

impl Watch {
    fn relay(&self, place: usize) {
        let Some(Watched { index, call: Some(call), .. }) = self.watched.get(place) else { return };
        let _ = call.read();
        self.interrupt.queue(*index);
    }

    fn give_up(&mut self, place: usize) {
        let Some(Watched { index, error, .. }) = self.watched.get(place) else { return };
        let _ = error.read();
        self.interrupt.needs_reset(&format_args!("queue {index}: it is malformed, says vhost-net"));
        self.devices.clear();
    }
}

impl MutEventSubscriber for Watch {
    fn process(&mut self, events: Events, _: &mut EventOps<'_>) {
        match events.data() {
            CONTROL => {
                if let Some(control) = &mut self.control {
                    control.run(&self.card);
                }
            }
            number if number % 2 == 0 => self.relay(number as usize / 2),
            number => self.give_up(number as usize / 2),
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        let mut watched = Vec::new();
        for (number, queue) in (0..).step_by(2).zip(&self.watched) {
            if let Some(call) = &queue.call {
                watched.push(Events::with_data(call, number, EventSet::IN));
            }
            watched.push(Events::with_data(&queue.error, number + 1, EventSet::IN));
        }
        let added = watched.into_iter().try_for_each(|events| ops.add(events));
        let added = added.and_then(|()| match &self.control {
            Some(control) => control.watch(ops, CONTROL),
            None => Ok(()),
        });
        if let Err(error) = added {
            return self.interrupt.needs_reset(&error);
        }
        // What the driver has asked for before it was ready.
        if let Some(control) = &mut self.control {
            control.run(&self.card);
        }
    }
}
