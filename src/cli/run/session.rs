//! The main thread while guests run: waits for their ends, signals, time and input, and ends when the
//! last guest has ended.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    sync::Arc,
    time::{Duration, Instant},
};

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use nix::sys::{signal::Signal, signalfd::SignalFd};
use vmm_sys_util::timerfd::TimerFd;

use super::{
    control::{self, Control},
    ends::{End, tell_one},
    guest::Guest,
    metrics::{Counted, Metrics, PERIOD},
    record, stats,
    watch::{self, of_process},
};
use crate::{
    cli::{
        Failure,
        console::{Command, Desk, Input, Watch},
        control::Request,
        log_output, signals,
        sink::Sink,
    },
    vm::StopReason,
};

/// How long vCPUs may take to leave when somebody waits for the end.
const GRACE: Duration = Duration::from_millis(400);

/// What is watched beside the guests.
const SIGNALS: u16 = 0;
const TIMEOUT: u16 = 1;
const GRACE_OVER: u16 = 2;
const STDIN: u16 = 3;
const QUIET: u16 = 4;
const METRICS: u16 = 5;
const RECORD: u16 = 6;

/// What the user wishes of a run beside its guests.
pub struct Wishes {
    /// When axvmm was started.
    pub started: Instant,
    /// After how long all guests end.
    pub timeout: Option<Duration>,
    /// Whether stdin is the guests'.
    pub takes_input: bool,
    /// The counts for programs.
    pub metrics: Option<Metrics>,
    /// Whether exits are recorded.
    pub records: bool,
    /// Where others ask for the counts.
    pub control: Option<Control>,
}

/// All guests from their start to the last one's end: what is watched, and what it acts on.
pub struct Session {
    guests: Vec<Guest>,
    desk: Desk,
    out: Arc<Sink>,
    signals: SignalFd,
    started: Instant,
    timeout: Option<TimerFd>,
    metrics: Option<(Metrics, TimerFd)>,
    record: Option<TimerFd>,
    control: Option<Control>,
    /// Runs once the guests are told to end.
    grace: TimerFd,
    ending: bool,
    input: Input,
    watched: Watch,
    /// What keeps axvmm from waiting for anything.
    failed: Option<Failure>,
}

impl Session {
    /// All that a run needs. The terminal becomes raw.
    pub fn new(
        guests: Vec<Guest>,
        desk: Desk,
        out: Arc<Sink>,
        signals: SignalFd,
        wishes: Wishes,
    ) -> Result<Self, Failure> {
        let timer = || TimerFd::new().map_err(|errno| Failure::call("make a timerfd", errno));
        let Wishes { started, timeout, takes_input, metrics, records, control } = wishes;
        let timeout = match timeout {
            Some(after) => {
                let mut timeout = timer()?;
                set(&mut timeout, after.saturating_sub(started.elapsed()), None)?;
                Some(timeout)
            }
            None => None,
        };
        let metrics = match metrics {
            Some(metrics) => {
                let mut timer = timer()?;
                set(&mut timer, Duration::ZERO, Some(PERIOD))?;
                Some((metrics, timer))
            }
            None => None,
        };
        let mut record = records.then(timer).transpose()?;
        if let Some(timer) = &mut record {
            set(timer, record::PERIOD, Some(record::PERIOD))?;
        }
        Ok(Self {
            started,
            metrics,
            record,
            control,
            input: if takes_input { Input::open(guests.len()) } else { Input::none(guests.len()) },
            guests,
            desk,
            out,
            signals,
            timeout,
            grace: timer()?,
            ending: false,
            watched: Watch::Not,
            failed: None,
        })
    }

    /// Runs the guests until all have ended for good.
    pub fn run(self) -> Result<Self, Failure> {
        let mut events = EventManager::new().map_err(watch::failed)?;
        let id = events.add_subscriber(self);
        while !events.subscriber_mut(id).map_err(watch::failed)?.is_over() {
            events.run().map_err(watch::failed)?;
        }
        events.remove_subscriber(id).map_err(watch::failed)
    }

    fn is_over(&self) -> bool {
        self.failed.is_some() || self.guests.iter().all(|guest| guest.ended.is_some())
    }

    /// How each guest ended.
    pub fn into_ends(self) -> (Vec<End>, Desk, SignalFd, Option<Control>) {
        let failure = self.failed.unwrap_or_else(|| Failure::failed("the guest vanished"));
        let ends = self.guests.into_iter().enumerate().map(|(number, guest)| {
            let mut end = guest.into_end(&failure);
            end.tally.console_dropped = self.desk.dropped(number);
            end
        });
        (ends.collect(), self.desk, self.signals, self.control)
    }

    /// Ends all guests, from outside.
    fn end(&mut self, reason: &StopReason) -> Result<(), Failure> {
        self.ending = true;
        self.out.hurry();
        self.for_each(|guest| guest.end(reason.clone()));
        set(&mut self.grace, GRACE, None)
    }

    /// Does it to each guest that has not ended, and sees to those that end by it.
    fn for_each(&mut self, mut act: impl FnMut(&mut Guest)) {
        for number in 0..self.guests.len() {
            self.with(number, &mut act);
        }
    }

    fn with(&mut self, number: usize, act: impl FnOnce(&mut Guest)) {
        let Some(guest) = self.guests.get_mut(number) else { return };
        if guest.ended.is_some() {
            return;
        }
        act(guest);
        if guest.ended.is_some() {
            self.has_ended(number);
        } else {
            self.deliver(number);
        }
    }

    /// Tells how a guest ended where others may go on, and leaves its console.
    fn has_ended(&mut self, number: usize) {
        self.desk.flush(number);
        let guest = &self.guests[number];
        if !guest.blueprint.several {
            return;
        }
        if let Some(ended) = &guest.ended {
            tell_one(guest.blueprint.plan.id, ended);
        }
        let at_its_console = number == self.desk.selected() && self.input.is_terminal();
        if self.ending || !at_its_console {
            return;
        }
        if let Some(next) = self.guests.iter().position(|guest| guest.ended.is_none()) {
            self.select(next);
        }
    }

    fn select(&mut self, number: usize) {
        if self.guests.len() > 1 {
            let has_ended = self.guests.get(number).is_some_and(|guest| guest.ended.is_some());
            self.input.select(number);
            self.desk.select(number, has_ended);
        }
    }

    fn deliver(&mut self, number: usize) {
        if let Some(serial) = self.guests.get(number).and_then(Guest::serial) {
            self.input.deliver(number, serial);
        }
    }

    fn signals(&mut self) -> Result<(), Failure> {
        while let Some(signal) = signals::next(&self.signals) {
            match signal {
                Signal::SIGTSTP => {
                    signals::stop_self();
                    self.input.resume();
                }
                Signal::SIGCONT => self.input.resume(),
                Signal::SIGWINCH => {
                    self.input.resized();
                    self.guests.iter().for_each(Guest::terminal_resized);
                    (0..self.guests.len()).for_each(|number| self.deliver(number));
                }
                Signal::SIGUSR1 => {
                    self.tell_stats();
                    self.write_metrics();
                }
                signal => self.end(&StopReason::Signal(signal as i32))?,
            }
        }
        Ok(())
    }

    /// What the exits of each guest were for so far.
    fn tell_stats(&self) {
        for guest in &self.guests {
            let name = &guest.blueprint.plan.name;
            let table = stats::table(name, &guest.tally_now(), self.started.elapsed());
            log_output::tell_raw(&table);
        }
    }

    fn write_metrics(&mut self) {
        let Some((metrics, _)) = &mut self.metrics else { return };
        let tallies: Vec<_> = self.guests.iter().map(Guest::tally_now).collect();
        let counted = self.guests.iter().zip(&tallies).map(|(guest, tally)| {
            let plan = &guest.blueprint.plan;
            Counted { id: plan.id, name: &plan.name, tally }
        });
        metrics.write(&counted.collect::<Vec<_>>(), self.started.elapsed());
    }

    /// Somebody asks for the counts, or comes or goes.
    fn control(&mut self, what: u16, ops: &mut EventOps<'_>) {
        let Some(control) = &mut self.control else { return };
        let time = self.started.elapsed();
        control.handle(what, ops, &mut |asked| match asked {
            Ok(request) => control::counts(&self.guests, request == Request::Times, time),
            Err(wrong) => control::refusal(&wrong),
        });
        let wants_times = control.wants_times();
        self.guests.iter_mut().for_each(|guest| guest.time_exits(wants_times));
    }

    fn stdin(&mut self, events: EventSet) -> Result<(), Failure> {
        let hung_up = events.intersects(EventSet::HANG_UP | EventSet::ERROR);
        for command in self.input.readable(hung_up) {
            match command {
                Command::Quit => self.end(&StopReason::Quit)?,
                Command::Help => log_output::tell_raw(&self.desk.help()),
                Command::Button => self.guests[self.desk.selected()].press_button(),
                Command::Select(number) => self.select(number),
            }
        }
        (0..self.guests.len()).for_each(|number| self.deliver(number));
        Ok(())
    }

    /// Watches stdin as it is to be watched now.
    fn watch_stdin(&mut self, ops: &mut EventOps<'_>) -> Result<(), Failure> {
        let wanted = self.input.watch();
        if wanted == self.watched {
            return Ok(());
        }
        let set = match wanted {
            Watch::Edge => EventSet::IN | EventSet::EDGE_TRIGGERED,
            _ => EventSet::IN,
        };
        let stdin = Events::with_data(&io::stdin(), of_process(STDIN), set);
        let done = match (self.watched, wanted) {
            (Watch::Not, _) => ops.add(stdin),
            (_, Watch::Not) => ops.remove(stdin),
            _ => ops.modify(stdin),
        };
        self.watched = wanted;
        match done {
            Err(event_manager::Error::Epoll(errno)) if errno.errno() == libc::EPERM => {
                // A file, which is always ready and cannot be watched.
                self.watched = Watch::Not;
                self.input.is_a_file();
                self.deliver(0);
                Ok(())
            }
            done => done.map_err(watch::failed),
        }
    }

    fn watch_all(&mut self, ops: &mut EventOps<'_>) -> event_manager::Result<()> {
        let on = EventSet::IN;
        ops.add(Events::with_data(&self.signals, of_process(SIGNALS), on))?;
        ops.add(Events::with_data(&self.grace, of_process(GRACE_OVER), on))?;
        if let Some(timeout) = &self.timeout {
            ops.add(Events::with_data(timeout, of_process(TIMEOUT), on))?;
        }
        if let Some((_, timer)) = &self.metrics {
            ops.add(Events::with_data(timer, of_process(METRICS), on))?;
        }
        if let Some(timer) = &self.record {
            ops.add(Events::with_data(timer, of_process(RECORD), on))?;
        }
        match self.desk.timer() {
            Some(timer) => {
                ops.add(Events::with_data_raw(timer.as_fd().as_raw_fd(), of_process(QUIET), on))
            }
            None => Ok(()),
        }
    }

    fn handle(&mut self, events: &Events, ops: &mut EventOps<'_>) -> Result<(), Failure> {
        match watch::whose(events.data()) {
            (Some(number), what) => self.with(number, |guest| guest.handle(what, ops)),
            (None, SIGNALS) => self.signals()?,
            (None, TIMEOUT) => {
                let _ = self.timeout.as_mut().map(TimerFd::wait);
                self.end(&StopReason::Timeout)?;
            }
            (None, GRACE_OVER) => {
                let _ = self.grace.wait();
                self.for_each(Guest::give_up);
            }
            (None, METRICS) => {
                let _ = self.metrics.as_mut().map(|(_, timer)| timer.wait());
                self.write_metrics();
            }
            (None, RECORD) => {
                let _ = self.record.as_mut().map(TimerFd::wait);
                self.guests.iter().for_each(Guest::flush_recording);
            }
            (None, STDIN) => self.stdin(events.event_set())?,
            (None, QUIET) => self.desk.flush_quiet(),
            (None, what) => self.control(what, ops),
        }
        Ok(())
    }
}

impl MutEventSubscriber for Session {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        self.desk.begin();
        self.for_each(|guest| guest.begin(ops));
        // Not before: no guest needs it.
        self.control.iter_mut().for_each(|control| control.begin(ops));
        let watched =
            self.watch_all(ops).map_err(watch::failed).and_then(|()| self.watch_stdin(ops));
        self.failed = watched.err();
    }

    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        let handled = self.handle(&events, ops).and_then(|()| self.watch_stdin(ops));
        if let Err(failure) = handled {
            self.failed.get_or_insert(failure);
        }
    }
}

fn set(timer: &mut TimerFd, after: Duration, every: Option<Duration>) -> Result<(), Failure> {
    // 0 would disarm it.
    let after = after.max(Duration::from_nanos(1));
    timer.reset(after, every).map_err(|errno| Failure::call("set a timer", errno))
}
