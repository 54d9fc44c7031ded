//! The console's thread.

use std::{io, os::fd::AsRawFd, sync::Arc};

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};

use super::{
    PortConfig, Shared, feature,
    host::Host,
    messages::{self, About, DEVICE_READY, Message, PORT_OPEN, PORT_READY, Untold},
    port::{Pause, Port},
};
use crate::virtio::{Activation, Interrupt, Virtqueue};

/// What is watched: queues by their number, and ports by theirs from here on.
const STREAMS: u32 = 0x100;
const LISTENERS: u32 = 0x200;
const INPUT: u32 = 0x300;

/// The queues that messages are in (5.3.2): to the driver, and from it.
const TO_DRIVER: usize = 2;
const FROM_DRIVER: usize = 3;

pub(super) struct Work {
    ports: Vec<Port>,
    messages: Option<Messages>,
    shared: Arc<Shared>,
    interrupt: Arc<dyn Interrupt>,
    /// Columns and rows, as the driver knows them.
    size: [u16; 2],
}

struct Messages {
    to_driver: Virtqueue,
    from_driver: Virtqueue,
}

impl Work {
    pub fn new(
        device: &str,
        ports: &[(PortConfig, Arc<Host>)],
        shared: Arc<Shared>,
        mut activation: Activation,
    ) -> io::Result<Self> {
        let has_messages = activation.features & feature::MULTIPORT != 0;
        let messages = match has_messages {
            true => Some(Messages {
                to_driver: activation.queue(TO_DRIVER)?,
                from_driver: activation.queue(FROM_DRIVER)?,
            }),
            false => None,
        };
        let count = if has_messages { ports.len() } else { 1 };
        let mut queue = |index| activation.queues.get_mut(index).and_then(Option::take);
        let port = |(number, (config, host)): (usize, &(PortConfig, Arc<Host>))| {
            let first = if number == 0 { 0 } else { 2 * number + 2 };
            let queues = [queue(first), queue(first + 1)];
            Port::new(device, number, config, host.clone(), queues)
        };
        let ports = ports.iter().take(count).enumerate().map(port).collect();
        let (interrupt, size) = (activation.interrupt, shared.size());
        Ok(Self { ports, messages, shared, interrupt, size })
    }

    fn handle(&mut self, what: u32, ops: &mut EventOps<'_>) {
        match what {
            INPUT => {
                let _ = self.shared.input.work().read();
                self.resized();
                (0..self.ports.len()).for_each(|number| self.receive(number, ops));
            }
            LISTENERS.. => self.accept((what - LISTENERS) as usize, ops),
            STREAMS.. => {
                let number = (what - STREAMS) as usize;
                self.receive(number, ops);
                if let Some(port) = self.ports.get_mut(number) {
                    port.send();
                }
            }
            queue => self.queue(queue as u16, ops),
        }
        self.tell();
    }

    fn queue(&mut self, queue: u16, ops: &mut EventOps<'_>) {
        if let Some(messages) = &mut self.messages {
            if queue == messages.from_driver.index() {
                let _ = messages.from_driver.doorbell().read();
                return self.listen(ops);
            }
            if queue == messages.to_driver.index() {
                let _ = messages.to_driver.doorbell().read();
                return;
            }
        }
        let is_its = |port: &Port| port.queues().any(|it| it.index() == queue);
        let Some(number) = self.ports.iter().position(is_its) else { return };
        let port = &mut self.ports[number];
        if let Some(queue) = port.queues().find(|it| it.index() == queue) {
            let _ = queue.doorbell().read();
        }
        match port.is_for_receiving(queue) {
            true => self.receive(number, ops),
            false => port.send(),
        }
    }

    fn receive(&mut self, number: usize, ops: &mut EventOps<'_>) {
        let Some(port) = self.ports.get_mut(number) else { return };
        if port.receive() == Pause::Gone {
            self.disconnect(number, ops);
        }
    }

    fn accept(&mut self, number: usize, ops: &mut EventOps<'_>) {
        let Some(port) = self.ports.get_mut(number) else { return };
        if !port.host.socket().is_some_and(|socket| socket.accept()) {
            return;
        }
        port.untold.is_open |= port.is_ready;
        self.watch_stream(number, ops);
        self.receive(number, ops);
    }

    /// Who was at the other end has gone; perhaps somebody else waits.
    fn disconnect(&mut self, number: usize, ops: &mut EventOps<'_>) {
        let Some(port) = self.ports.get_mut(number) else { return };
        let Some(socket) = port.host.socket() else { return };
        let Some(client) = socket.client() else { return };
        let stream = Events::with_data_raw(client.as_raw_fd(), 0, EventSet::empty());
        if let Err(error) = ops.remove(stream) {
            log::debug!("a stream that nobody watched: {error}");
        }
        drop(client);
        socket.disconnect();
        port.untold.is_open |= port.is_ready;
        // What has waited for it has nowhere to go.
        port.send();
        self.accept(number, ops);
    }

    fn watch_stream(&mut self, number: usize, ops: &mut EventOps<'_>) {
        let set = EventSet::IN | EventSet::OUT | EventSet::EDGE_TRIGGERED;
        let mut result = Ok(());
        self.ports[number].host.with_stream(|fd| {
            let data = STREAMS + number as u32;
            result = ops.add(Events::with_data_raw(fd.as_raw_fd(), data, set));
        });
        if let Err(error) = result {
            self.interrupt.needs_reset(&error);
        }
    }

    /// The driver's messages.
    fn listen(&mut self, ops: &mut EventOps<'_>) {
        let Some(messages) = &mut self.messages else { return };
        let mut heard = Vec::new();
        messages.from_driver.serve(|chain| {
            heard.extend(messages::read(&chain.readable));
            0
        });
        for Message { id, event, value } in heard {
            let number = id.get() as usize;
            match (event.get(), value.get()) {
                (DEVICE_READY, 1) => {
                    self.ports.iter_mut().for_each(|port| port.untold.add = true);
                }
                (PORT_READY, 1) => {
                    if let Some(port) = self.ports.get_mut(number) {
                        let has_label = port.label.is_some();
                        port.is_ready = true;
                        port.untold = Untold::of_ready_port(port.is_console, has_label);
                    }
                }
                (PORT_OPEN, value) => self.guest_opens(number, value != 0, ops),
                _ => {}
            }
        }
    }

    /// The guest opens a port, or closes it.
    fn guest_opens(&mut self, number: usize, is_open: bool, ops: &mut EventOps<'_>) {
        let Some(port) = self.ports.get_mut(number) else { return };
        port.is_open = is_open;
        if let Host::Stdio(_, input) = &*port.host {
            match is_open {
                true => input.open(),
                false => input.close(),
            }
        }
        self.receive(number, ops);
    }

    fn resized(&mut self) {
        let size = self.shared.size();
        if std::mem::replace(&mut self.size, size) != size {
            let ready = self.ports.iter_mut().filter(|port| port.is_console && port.is_ready);
            ready.for_each(|port| port.untold.size = true);
        }
    }

    /// Tells the driver what it does not know yet, as far as it has buffers for that.
    fn tell(&mut self) {
        let Some(Messages { to_driver, .. }) = &mut self.messages else { return };
        for (id, port) in (0..).zip(&mut self.ports) {
            while port.untold != Untold::default() {
                let Some(chain) = to_driver.pop() else { return to_driver.signal() };
                let (label, is_open) = (port.label.as_deref(), port.host.is_connected());
                let about = About { id, label, size: self.size, is_open };
                let message = port.untold.next(&about).unwrap_or_default();
                let written = chain.writable.write_at(0, &message).map_or(0, |()| message.len());
                to_driver.complete(chain.head, written as u32);
            }
        }
        to_driver.signal();
    }

    fn watch(&self, ops: &mut EventOps<'_>) -> event_manager::Result<()> {
        let messages = self.messages.iter().flat_map(|it| [&it.to_driver, &it.from_driver]);
        for queue in self.ports.iter().flat_map(Port::queues).chain(messages) {
            let data = queue.index().into();
            ops.add(Events::with_data(queue.doorbell(), data, EventSet::IN))?;
        }
        for (number, port) in (0..).zip(&self.ports) {
            if let Some(socket) = port.host.socket() {
                let set = EventSet::IN | EventSet::EDGE_TRIGGERED;
                ops.add(Events::with_data(socket.listener(), LISTENERS + number, set))?;
            }
        }
        ops.add(Events::with_data(self.shared.input.work(), INPUT, EventSet::IN))
    }
}

impl MutEventSubscriber for Work {
    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        self.handle(events.data(), ops);
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(error) = self.watch(ops) {
            self.interrupt.needs_reset(&error);
            return;
        }
        for number in 0..self.ports.len() {
            // Somebody may have connected before the driver was ready.
            self.watch_stream(number, ops);
            self.accept(number, ops);
            self.ports[number].send();
        }
        if self.messages.is_none() {
            self.guest_opens(0, true, ops);
        }
        self.listen(ops);
        self.tell();
    }
}
