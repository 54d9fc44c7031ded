//! The balloon's thread.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vmm_sys_util::timerfd::TimerFd;

use super::{BalloonConfig, PAGE, Shared, Statistics, feature, queue};
use crate::{
    addr::GuestPhysAddr,
    addrspace::{AddrSpace, GuestBuffer},
    ratelimit::RateLimit,
    virtio::{Activation, Chain, Interrupt, Virtqueue},
};

/// Pages that one request may bring; Linux has 256. What is beyond the guest keeps.
const MOST_PAGES: usize = 4096;

/// What is watched; queues by their number.
const TIMER: u32 = 0x100;

pub(super) struct Work {
    name: String,
    shared: Arc<Shared>,
    memory: Arc<AddrSpace>,
    interrupt: Arc<dyn Interrupt>,
    inflate: Virtqueue,
    deflate: Virtqueue,
    reports: Vec<Virtqueue>,
    polls: Option<Polls>,
    /// The host may refuse to take memory back as often as the guest gives it.
    refusals: RateLimit,
}

/// Statistics: the driver gives a buffer that is filled, and fills it anew when it has it back.
struct Polls {
    queue: Virtqueue,
    timer: TimerFd,
    held: Option<Chain>,
    /// It has been given back since the last look.
    asked: bool,
}

impl Work {
    pub fn new(
        name: &str,
        config: &BalloonConfig,
        shared: Arc<Shared>,
        mut activation: Activation,
    ) -> io::Result<Self> {
        let (inflate, deflate) =
            (activation.queue(queue::INFLATE)?, activation.queue(queue::DEFLATE)?);
        let polls = match activation.features & feature::STATS_VQ {
            0 => None,
            _ => {
                let mut timer = TimerFd::new()?;
                let interval = Duration::from_secs(config.statistics.max(1).into());
                timer.reset(interval, Some(interval))?;
                let queue = activation.queue(queue::STATISTICS)?;
                Some(Polls { queue, timer, held: None, asked: false })
            }
        };
        let reports = match activation.features & feature::PAGE_REPORTING {
            0 => Vec::new(),
            _ => activation.queues.into_iter().flatten().collect(),
        };
        Ok(Self {
            name: name.to_owned(),
            shared,
            memory: activation.memory,
            interrupt: activation.interrupt,
            inflate,
            deflate,
            reports,
            polls,
            refusals: RateLimit::new(1, Duration::from_secs(60)),
        })
    }

    fn inflate(&mut self) {
        let Self { inflate, memory, name, refusals, .. } = self;
        inflate.serve(|chain| {
            for (first, count) in runs(pages(&chain.readable)) {
                let gpa = GuestPhysAddr(u64::from(first) * PAGE);
                tell(name, refusals, memory.discard(gpa, count * PAGE));
            }
            0
        });
    }

    fn report(&mut self, number: u32) {
        let Self { reports, name, refusals, .. } = self;
        let queue = reports.iter_mut().find(|queue| u32::from(queue.index()) == number);
        if let Some(queue) = queue {
            let _ = queue.doorbell().read();
            queue.serve(|chain| {
                tell(name, refusals, chain.writable.discard());
                0
            });
        }
    }

    fn statistics(&mut self) {
        let Some(Polls { queue, held, asked, .. }) = &mut self.polls else { return };
        let _ = queue.doorbell().read();
        // A driver has one buffer; of one that has more the newest is kept.
        let mut newest = held.take();
        for _ in 0..queue.size() {
            let Some(chain) = queue.pop() else { break };
            if let Some(older) = newest.replace(chain) {
                queue.complete(older.head, 0);
            }
        }
        queue.signal();
        if let Some(chain) = &newest {
            let statistics = Statistics::read(&chain.readable);
            *self.shared.statistics.lock() = Some(statistics);
            if std::mem::take(asked) {
                let pages = u64::from(self.shared.actual.load(Ordering::Acquire));
                let in_it = (pages * PAGE) >> 20;
                log::info!("{}: {in_it} MiB in the balloon; the guest has {statistics}", self.name);
            }
        }
        *held = newest;
    }

    fn ask(&mut self) {
        let Some(Polls { queue, timer, held, asked }) = &mut self.polls else { return };
        let _ = timer.wait();
        if let Some(chain) = held.take() {
            queue.complete(chain.head, 0);
            queue.signal();
            *asked = true;
        }
    }

    fn watch(&self, ops: &mut EventOps<'_>) -> event_manager::Result<()> {
        let mut watch = |queue: &Virtqueue| {
            ops.add(Events::with_data(queue.doorbell(), queue.index().into(), EventSet::IN))
        };
        watch(&self.inflate)?;
        watch(&self.deflate)?;
        self.reports.iter().try_for_each(&mut watch)?;
        if let Some(polls) = &self.polls {
            watch(&polls.queue)?;
            ops.add(Events::with_data(&polls.timer, TIMER, EventSet::IN))?;
        }
        Ok(())
    }

    fn handle(&mut self, what: u32) {
        match what {
            TIMER => self.ask(),
            number if number == queue::INFLATE as u32 => {
                let _ = self.inflate.doorbell().read();
                self.inflate();
            }
            number if number == queue::DEFLATE as u32 => {
                let _ = self.deflate.doorbell().read();
                // The pages come back when they are touched.
                self.deflate.serve(|_| 0);
            }
            number
                if self.polls.as_ref().is_some_and(|it| u32::from(it.queue.index()) == number) =>
            {
                self.statistics();
            }
            number => self.report(number),
        }
    }
}

impl MutEventSubscriber for Work {
    fn process(&mut self, events: Events, _: &mut EventOps<'_>) {
        self.handle(events.data());
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(error) = self.watch(ops) {
            self.interrupt.needs_reset(&error);
            return;
        }
        // What the driver has made available before it was ready.
        (0..queue::COUNT as u32).for_each(|number| self.handle(number));
    }
}

/// The page numbers of a request, ascending.
fn pages(buffer: &GuestBuffer) -> Vec<u32> {
    let mut bytes = vec![0; (buffer.len() / 4).min(MOST_PAGES) * 4];
    // They lie inside: no more is asked for than there is.
    let _ = buffer.read_at(0, &mut bytes);
    let number = |at: &[u8]| u32::from_le_bytes([at[0], at[1], at[2], at[3]]);
    let mut pages: Vec<u32> = bytes.chunks_exact(4).map(number).collect();
    pages.sort_unstable();
    pages
}

/// Pages that follow on each other, as the first and how many.
fn runs(pages: Vec<u32>) -> Vec<(u32, u64)> {
    let mut runs: Vec<(u32, u64)> = Vec::new();
    for page in pages {
        match runs.last_mut() {
            Some((first, count)) if u64::from(*first) + *count == u64::from(page) => *count += 1,
            Some((first, count)) if u64::from(*first) + *count > u64::from(page) => {}
            _ => runs.push((page, 1)),
        }
    }
    runs
}

fn tell(name: &str, refusals: &RateLimit, discarded: io::Result<()>) {
    let Err(error) = discarded else { return };
    if refusals.pass().is_some() {
        log::warn!("{name}: the host does not take the guest's memory back: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_become_runs() {
        assert_eq!(runs(vec![]), []);
        assert_eq!(runs(vec![1, 2, 2, 3, 5, 7, 8, 8]), [(1, 3), (5, 1), (7, 2)]);
        assert_eq!(runs(vec![u32::MAX - 1, u32::MAX, u32::MAX]), [(u32::MAX - 1, 2)]);
    }
}
