//! A thread of a device's, with an event loop.

use std::{io, sync::Arc, thread};

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::{Interrupt, Virtqueue};

/// What is watched beside what the work watches; work has smaller numbers.
const STOP: u32 = u32::MAX;

/// A running thread; dropping this ends it, and waits until it has ended.
#[derive(Debug)]
pub struct Worker {
    stop: Arc<EventFd>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread that does `work` as its events come. The name shows in lists of threads, the
    /// first 15 bytes of it.
    ///
    /// # Errors
    /// The host has no file descriptor or thread left.
    pub fn spawn(name: &str, work: impl MutEventSubscriber + Send + 'static) -> io::Result<Self> {
        let stop = Arc::new(EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?);
        let mut events = EventManager::new().map_err(io::Error::other)?;
        let until_stop = UntilStop { work, stop: stop.clone(), is_over: false };
        let run = move || {
            let id = events.add_subscriber(until_stop);
            while events.subscriber_mut(id).is_ok_and(|it| !it.is_over) {
                // An interrupted wait is waited again; no other error is left to a valid epoll.
                let _ = events.run();
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Starts a thread that serves one queue: whenever its driver has notified, and at the start, as
    /// the driver may have made something available before.
    ///
    /// # Errors
    /// As [`Self::spawn`].
    pub fn on_queue(
        name: &str,
        queue: Virtqueue,
        interrupt: Arc<dyn Interrupt>,
        serve: impl FnMut(&mut Virtqueue) + Send + 'static,
    ) -> io::Result<Self> {
        Self::spawn(name, OneQueue { queue, interrupt, serve })
    }
}

struct OneQueue<S> {
    queue: Virtqueue,
    interrupt: Arc<dyn Interrupt>,
    serve: S,
}

impl<S: FnMut(&mut Virtqueue)> MutEventSubscriber for OneQueue<S> {
    fn process(&mut self, _: Events, _: &mut EventOps<'_>) {
        let _ = self.queue.doorbell().read();
        (self.serve)(&mut self.queue);
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(error) = ops.add(Events::new(self.queue.doorbell(), EventSet::IN)) {
            self.interrupt.needs_reset(&error);
        }
        (self.serve)(&mut self.queue);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The counter cannot overflow: it is written once.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // A panic has been told where it happened.
            let _ = thread.join();
        }
    }
}

struct UntilStop<W> {
    work: W,
    stop: Arc<EventFd>,
    is_over: bool,
}

impl<W: MutEventSubscriber> MutEventSubscriber for UntilStop<W> {
    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        match events.data() {
            STOP => self.is_over = true,
            // What comes in the same round as the stop is not wanted any more.
            _ if self.is_over => {}
            _ => self.work.process(events, ops),
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        if ops.add(Events::with_data(&*self.stop, STOP, EventSet::IN)).is_err() {
            self.is_over = true;
            return;
        }
        self.work.init(ops);
    }
}
