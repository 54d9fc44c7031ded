//! A queue pair at work, on a thread of its own.

use std::{io, os::fd::AsRawFd, sync::Arc};

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use parking_lot::Mutex;

use super::{
    backend::Port, card::Card, control::ControlQueue, receive::Receiver, transmit::Transmitter,
};
use crate::virtio::Interrupt;

/// A port, which each activation of the device takes anew.
pub type SharedPort = Arc<Mutex<Box<dyn Port>>>;

/// What is watched: the halves have two numbers each.
const RECEIVE: u32 = 0;
const RECEIVE_GATE: u32 = RECEIVE + 1;
const TRANSMIT: u32 = 2;
const TRANSMIT_GATE: u32 = TRANSMIT + 1;
const PORT: u32 = 4;
const CONTROL: u32 = 5;

/// A queue pair; the first one has the control queue as well.
pub struct Pair {
    pub card: Arc<Card>,
    pub port: SharedPort,
    pub receiver: Receiver,
    pub transmitter: Transmitter,
    pub control: Option<ControlQueue>,
    pub interrupt: Arc<dyn Interrupt>,
    /// Whether the port is writable is watched.
    pub awaits_room: bool,
}

impl Pair {
    fn receive(&mut self) {
        if self.card.is_up() {
            let done = self.receiver.run(&mut **self.port.lock());
            self.check(done);
        }
    }

    fn transmit(&mut self, ops: &mut EventOps<'_>) {
        if !self.card.is_up() {
            return self.transmitter.run_dry();
        }
        let done = self.transmitter.run(&mut **self.port.lock());
        if self.awaits_room != self.transmitter.is_blocked() {
            self.awaits_room = !self.awaits_room;
            self.watch_port(ops);
        }
        self.check(done);
        if !self.card.is_up() {
            self.transmitter.run_dry();
        }
    }

    /// Whether the port is writable is only asked when that is waited for: each frame that leaves it
    /// would wake this thread up.
    fn watch_port(&self, ops: &mut EventOps<'_>) {
        let mut events = EventSet::IN | EventSet::EDGE_TRIGGERED;
        if self.awaits_room {
            events |= EventSet::OUT;
        }
        let events = Events::with_data_raw(self.port.lock().fd().as_raw_fd(), PORT, events);
        if let Err(error) = ops.modify(events) {
            self.interrupt.needs_reset(&error);
        }
    }

    fn check(&self, done: io::Result<()>) {
        if let Err(error) = done {
            self.card.unplug(&error, &*self.interrupt);
        }
    }
}

impl MutEventSubscriber for Pair {
    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        match events.data() {
            RECEIVE => {
                self.receiver.half.rung();
                self.receive();
            }
            RECEIVE_GATE => {
                self.receiver.half.opened();
                self.receive();
            }
            TRANSMIT => {
                self.transmitter.half.rung();
                self.transmit(ops);
            }
            TRANSMIT_GATE => {
                self.transmitter.half.opened();
                self.transmit(ops);
            }
            PORT => {
                if events.event_set().contains(EventSet::OUT) {
                    self.transmitter.writable();
                    self.transmit(ops);
                }
                // Also what is no frame must be read, to know what it is.
                self.receiver.readable();
                self.receive();
            }
            _ => {
                if let Some(control) = &mut self.control {
                    control.run(&self.card);
                }
            }
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        let events = EventSet::IN | EventSet::EDGE_TRIGGERED;
        let port = self.port.lock().fd().as_raw_fd();
        let watched = (self.receiver.half.watch(ops, RECEIVE))
            .and_then(|()| self.transmitter.half.watch(ops, TRANSMIT))
            .and_then(|()| ops.add(Events::with_data_raw(port, PORT, events)))
            .and_then(|()| match &self.control {
                Some(control) => control.watch(ops, CONTROL),
                None => Ok(()),
            });
        if let Err(error) = watched {
            return self.interrupt.needs_reset(&error);
        }
        // What the driver has made available before it was ready.
        if let Some(control) = &mut self.control {
            control.run(&self.card);
        }
        self.transmit(ops);
        self.receive();
    }
}
