//! A queue's event loop: takes requests, has them done, answers.

use std::{
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};

use super::{
    engine::Engine,
    op::{Done, Outline},
    request::{Answer, Rules, Status, Work, parse},
};
use crate::{
    ratelimit::RateLimit,
    virtio::{Interrupt, Virtqueue, rate_limit::Gate},
};

/// What the event loop watches.
const DOORBELL: u32 = 0;
const TIMER: u32 = 1;
const ENGINE: u32 = 2;

/// What all queues of a disk have in common.
pub struct Shared {
    pub name: String,
    pub rules: Rules,
    /// Whether writes may stay in a cache until they are flushed.
    pub writeback: Arc<AtomicBool>,
    pub interrupt: Arc<dyn Interrupt>,
    pub trouble: RateLimit,
}

impl Shared {
    pub fn trouble() -> RateLimit {
        RateLimit::new(3, Duration::from_secs(10))
    }
}

/// One queue of a disk.
pub struct QueueWorker {
    shared: Arc<Shared>,
    queue: Virtqueue,
    engine: Engine,
    gate: Gate,
    /// By slot: what the engine works on.
    running: Box<[Option<Running>]>,
    free: Vec<u16>,
    /// What has been taken from the queue and must wait for its turn.
    held: Option<(Work, Answer)>,
    done: Vec<Done>,
}

struct Running {
    answer: Answer,
    outline: Outline,
}

impl QueueWorker {
    /// As many operations run at a time as the queue has descriptors.
    pub fn new(shared: Arc<Shared>, queue: Virtqueue, engine: Engine, gate: Gate) -> Self {
        let size = queue.size();
        Self {
            shared,
            queue,
            engine,
            gate,
            running: (0..size).map(|_| None).collect(),
            free: (0..size).rev().collect(),
            held: None,
            done: Vec::with_capacity(usize::from(size)),
        }
    }

    /// Goes on until there is nothing to take and nothing to answer. What the host has in its memory
    /// is done at once, and the guest asks for more meanwhile: hence the loop, and no notifications
    /// before its end.
    fn serve(&mut self) {
        loop {
            let taken = self.take();
            self.engine.submit();
            let finished = self.finish();
            self.queue.signal();
            if taken || finished {
                continue;
            }
            // Else the next look comes with an end, or with leave.
            let has_room = self.held.is_none() && !self.free.is_empty();
            if !has_room || !self.queue.rest() {
                return;
            }
        }
    }

    /// Takes requests as long as there are some, and room and leave for them. Whether there were any.
    fn take(&mut self) -> bool {
        let mut taken = false;
        while let Some(slot) = self.free.last().copied() {
            let held = self.held.take().or_else(|| {
                let durable = !self.shared.writeback.load(Ordering::Relaxed);
                Some(parse(self.queue.pop_now()?, &self.shared.rules, durable))
            });
            let Some((work, answer)) = held else { break };
            let op = match work {
                Work::Op(op) => op,
                Work::Over(status) => {
                    taken = true;
                    let (head, written) = answer.give(status);
                    self.queue.complete(head, written);
                    continue;
                }
            };
            let outline = op.outline();
            if !self.gate.passes(outline.len) {
                self.held = Some((Work::Op(op), answer));
                break;
            }
            taken = true;
            self.free.pop();
            self.running[usize::from(slot)] = Some(Running { answer, outline });
            self.engine.push(slot, op);
        }
        taken
    }

    /// Answers what is over. Whether there was anything.
    fn finish(&mut self) -> bool {
        self.engine.reap(&mut self.done);
        let finished = !self.done.is_empty();
        for (slot, result) in self.done.drain(..) {
            let Some(running) = self.running[usize::from(slot)].take() else { continue };
            self.free.push(slot);
            let status = match result {
                Ok(()) => Status::Ok,
                Err(error) => {
                    if let Some(untold) = self.shared.trouble.pass() {
                        log::warn!(
                            "{}: {} failed: {error} ({untold} more such since the last told)",
                            self.shared.name,
                            running.outline
                        );
                    }
                    Status::IoError
                }
            };
            let (head, written) = running.answer.give(status);
            self.queue.complete(head, written);
        }
        finished
    }
}

impl MutEventSubscriber for QueueWorker {
    fn process(&mut self, events: Events, _: &mut EventOps<'_>) {
        match events.data() {
            DOORBELL => _ = self.queue.doorbell().read(),
            TIMER => self.gate.opened(),
            _ => {}
        }
        self.serve();
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        let timer = self.gate.timer().map(|timer| (timer.as_raw_fd(), TIMER));
        let engine = self.engine.sources().into_iter().map(|source| (source, ENGINE));
        let doorbell = (self.queue.doorbell().as_raw_fd(), DOORBELL);
        for (source, data) in [doorbell].into_iter().chain(timer).chain(engine) {
            if let Err(error) = ops.add(Events::with_data_raw(source, data, EventSet::IN)) {
                return self.shared.interrupt.needs_reset(&error);
            }
        }
        self.serve();
    }
}
