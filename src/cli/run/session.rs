//! The main thread while a guest runs: waits for the guest's end, signals, time and input, and
//! starts the guest again when it resets itself.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use nix::sys::{eventfd::EventFd, signal::Signal, signalfd::SignalFd};
use vmm_sys_util::timerfd::TimerFd;

use super::{signals, tally::Tally};
use crate::{
    cli::{
        Failure,
        console::{Command, HELP, Input, Watch},
        log_output,
        sink::Sink,
    },
    kvm::KvmHal,
    machine::{Machine, Plan},
    ratelimit::RateLimit,
    vm::{StopReason, VCpuThreads},
};

/// How long vCPUs may take to leave when somebody waits for the end.
const GRACE: Duration = Duration::from_millis(400);

/// What is watched, as the event loop's data.
const SIGNALS: u32 = 0;
const TIMEOUT: u32 = 1;
const STOPPED: u32 = 2;
const GRACE_OVER: u32 = 3;
const REBUILT: u32 = 4;
const STDIN: u32 = 5;
const GUEST_LISTENS: u32 = 6;
/// And from here on, the alarms of the guest's clocks.
const ALARMS: u32 = 7;

/// What the user has set.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub deadline: Option<Instant>,
    pub no_reboot: bool,
}

/// How a guest ended; a failure is axvmm's or its host's.
pub type Ended = Result<StopReason, Failure>;
type Rebuilt = Result<Machine<KvmHal>, Failure>;

/// A guest from its first start to its end: what is watched, and what it acts on.
pub struct Session {
    plan: Arc<Plan>,
    out: Arc<Sink>,
    settings: Settings,
    pub tally: Tally,
    pub signals: SignalFd,
    timeout: Option<TimerFd>,
    /// Runs once the guest is told to end.
    grace: TimerFd,
    /// Signalled when the last vCPU has left.
    stopped: Arc<EventFd>,
    /// Built and not started yet.
    fresh: Option<Machine<KvmHal>>,
    running: Option<Running>,
    /// Signalled when there is something in `rebuilding`.
    rebuilt: Arc<EventFd>,
    rebuilding: Option<mpsc::Receiver<Rebuilt>>,
    input: Input,
    watched: Watch,
    /// Why the guest is to end, once somebody has decided so.
    ending: Option<StopReason>,
    pub ended: Option<Ended>,
}

struct Running {
    machine: Machine<KvmHal>,
    threads: VCpuThreads<KvmHal>,
}

impl Session {
    /// All that a run needs. The terminal becomes raw.
    pub fn new(
        plan: Arc<Plan>,
        out: Arc<Sink>,
        signals: SignalFd,
        settings: Settings,
        machine: Machine<KvmHal>,
    ) -> Result<Self, Failure> {
        let eventfd = || {
            let made = EventFd::new().map(Arc::new);
            made.map_err(|errno| Failure::call("make an eventfd", errno))
        };
        let timer = || TimerFd::new().map_err(|errno| Failure::call("make a timerfd", errno));
        let timeout = match settings.deadline {
            Some(deadline) => {
                let mut timeout = timer()?;
                set(&mut timeout, deadline.saturating_duration_since(Instant::now()))?;
                Some(timeout)
            }
            None => None,
        };
        Ok(Self {
            plan,
            out,
            settings,
            tally: Tally::default(),
            signals,
            timeout,
            grace: timer()?,
            stopped: eventfd()?,
            fresh: Some(machine),
            running: None,
            rebuilt: eventfd()?,
            rebuilding: None,
            input: Input::open(),
            watched: Watch::Not,
            ending: None,
            ended: None,
        })
    }

    /// Runs the guest until it ends for good, which is told in `ended`.
    pub fn run(self) -> Result<Self, Failure> {
        let mut events = EventManager::new().map_err(loop_failed)?;
        let id = events.add_subscriber(self);
        while events.subscriber_mut(id).map_err(loop_failed)?.ended.is_none() {
            events.run().map_err(loop_failed)?;
        }
        events.remove_subscriber(id).map_err(loop_failed)
    }

    /// Starts `fresh`.
    fn start(&mut self, ops: &mut EventOps<'_>) -> Result<(), Failure> {
        let Some(machine) = self.fresh.take() else { return Ok(()) };
        let stopped = self.stopped.clone();
        let on_stopped = move || {
            // The counter cannot overflow: it is read after each VM.
            let _ = stopped.write(1);
        };
        let threads = VCpuThreads::spawn(&machine.vm, on_stopped)?;
        machine.vm.boot()?;
        let notify = machine.handles.serial.notify();
        ops.add(Events::with_data(notify, GUEST_LISTENS, EventSet::IN)).map_err(loop_failed)?;
        for (alarm, data) in machine.handles.alarms.iter().zip(ALARMS..) {
            let timer = Events::with_data(alarm.timer(), data, EventSet::IN);
            ops.add(timer).map_err(loop_failed)?;
        }
        self.running = Some(Running { machine, threads });
        self.deliver();
        Ok(())
    }

    /// The last vCPU has left.
    fn stopped(&mut self, ops: &mut EventOps<'_>) -> Result<(), Failure> {
        let _ = self.stopped.read();
        let Some(Running { machine, threads }) = self.running.take() else { return Ok(()) };
        let notify = machine.handles.serial.notify();
        ops.remove(Events::new(notify, EventSet::IN)).map_err(loop_failed)?;
        for alarm in &machine.handles.alarms {
            ops.remove(Events::new(alarm.timer(), EventSet::IN)).map_err(loop_failed)?;
        }
        let reason = threads.join();
        self.tally.add(&machine.vm);
        match (reason, self.ending.take()) {
            (StopReason::Reset, None) if !self.settings.no_reboot => self.rebuild(machine)?,
            // Told to end, and before it was, it reset itself.
            (StopReason::Reset, Some(reason)) => self.ended = Some(Ok(reason)),
            (reason, _) => self.ended = Some(Ok(reason)),
        }
        Ok(())
    }

    /// Makes the machine anew, on a thread: a signal must not have to wait for it.
    fn rebuild(&mut self, old: Machine<KvmHal>) -> Result<(), Failure> {
        static TOLD: RateLimit = RateLimit::new(3, Duration::from_secs(10));
        self.tally.reboots += 1;
        if TOLD.pass().is_some() {
            log::info!("the guest reset itself: starting it again (reboot {})", self.tally.reboots);
        }
        let (plan, out) = (self.plan.clone(), self.out.clone());
        let (rebuilt, (sender, receiver)) = (self.rebuilt.clone(), mpsc::channel());
        let work = move || {
            // First, so that there is never the memory of two.
            drop(old);
            // If nobody waits any more, the machine is not wanted.
            let _ = sender.send(super::rebuild(&plan, &out));
            let _ = rebuilt.write(1);
        };
        let spawned = thread::Builder::new().name("reboot".to_owned()).spawn(work);
        spawned.map_err(|error| Failure::call("start the thread that reboots the guest", error))?;
        self.rebuilding = Some(receiver);
        Ok(())
    }

    fn rebuilt(&mut self, ops: &mut EventOps<'_>) -> Result<(), Failure> {
        let _ = self.rebuilt.read();
        if let Some(machine) = self.rebuilding.take().and_then(|built| built.try_recv().ok()) {
            self.fresh = Some(machine?);
            self.start(ops)?;
        }
        Ok(())
    }

    /// Ends the guest, from outside; the first reason stands.
    fn end(&mut self, reason: StopReason) -> Result<(), Failure> {
        self.out.hurry();
        match &self.running {
            Some(running) => {
                running.machine.vm.stop(reason.clone());
                set(&mut self.grace, GRACE)?;
                self.ending.get_or_insert(reason);
            }
            None => self.ended = Some(Ok(reason)),
        }
        Ok(())
    }

    /// The vCPUs do not leave: something in the host holds them. The process's end will end them.
    fn grace_over(&mut self) -> Result<(), Failure> {
        if let (Some(running), Some(reason)) = (&self.running, self.ending.take()) {
            log::warn!("the guest's processors did not stop in time");
            self.tally.add(&running.machine.vm);
            self.ended = Some(Ok(reason));
        }
        Ok(())
    }

    fn signals(&mut self) -> Result<(), Failure> {
        while let Some(signal) = signals::next(&self.signals) {
            match signal {
                Signal::SIGTSTP => {
                    signals::stop_self();
                    self.input.resume();
                }
                Signal::SIGCONT => self.input.resume(),
                signal => self.end(StopReason::Signal(signal as i32))?,
            }
        }
        Ok(())
    }

    fn stdin(&mut self, events: EventSet) -> Result<(), Failure> {
        let hung_up = events.intersects(EventSet::HANG_UP | EventSet::ERROR);
        for command in self.input.readable(hung_up) {
            match command {
                Command::Quit => self.end(StopReason::Quit)?,
                Command::Help => log_output::tell_raw(HELP),
                Command::Button => self.press_button(),
            }
        }
        self.deliver();
        Ok(())
    }

    fn press_button(&self) {
        let Some(running) = &self.running else { return };
        match &running.machine.handles.button {
            None => log_output::tell("this board has no button; end it with Ctrl-A x"),
            Some(button) if !button.press() => {
                log_output::tell(&format!("the guest does not wait for it: no {button}"));
            }
            Some(_) => {}
        }
    }

    fn deliver(&mut self) {
        if let Some(running) = &self.running {
            self.input.deliver(&*running.machine.handles.serial);
        }
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
        let stdin = Events::with_data(&io::stdin(), STDIN, set);
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
                self.deliver();
                Ok(())
            }
            done => done.map_err(loop_failed),
        }
    }

    fn watch_all(&mut self, ops: &mut EventOps<'_>) -> event_manager::Result<()> {
        ops.add(Events::with_data(&self.signals, SIGNALS, EventSet::IN))?;
        ops.add(Events::with_data(&*self.stopped, STOPPED, EventSet::IN))?;
        ops.add(Events::with_data(&*self.rebuilt, REBUILT, EventSet::IN))?;
        ops.add(Events::with_data(&self.grace, GRACE_OVER, EventSet::IN))?;
        match &self.timeout {
            Some(timeout) => ops.add(Events::with_data(timeout, TIMEOUT, EventSet::IN)),
            None => Ok(()),
        }
    }

    fn handle(&mut self, events: &Events, ops: &mut EventOps<'_>) -> Result<(), Failure> {
        match events.data() {
            SIGNALS => self.signals(),
            TIMEOUT => {
                let _ = self.timeout.as_mut().map(TimerFd::wait);
                self.end(StopReason::Timeout)
            }
            STOPPED => self.stopped(ops),
            GRACE_OVER => {
                let _ = self.grace.wait();
                self.grace_over()
            }
            REBUILT => self.rebuilt(ops),
            STDIN => self.stdin(events.event_set()),
            alarm @ ALARMS.. => {
                let alarms = self.running.iter().flat_map(|it| &it.machine.handles.alarms);
                alarms.skip((alarm - ALARMS) as usize).take(1).for_each(|it| it.timer_expired());
                Ok(())
            }
            _ => {
                if let Some(running) = &self.running {
                    let _ = running.machine.handles.serial.notify().read();
                }
                self.deliver();
                Ok(())
            }
        }
    }
}

impl MutEventSubscriber for Session {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        let started = self
            .start(ops)
            .and_then(|()| self.watch_all(ops).map_err(loop_failed))
            .and_then(|()| self.watch_stdin(ops));
        if let Err(failure) = started {
            self.ended = Some(Err(failure));
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        let handled = self.handle(&events, ops).and_then(|()| self.watch_stdin(ops));
        if let Err(failure) = handled {
            self.ended.get_or_insert(Err(failure));
        }
    }
}

fn set(timer: &mut TimerFd, after: Duration) -> Result<(), Failure> {
    // 0 would disarm it.
    let after = after.max(Duration::from_nanos(1));
    timer.reset(after, None).map_err(|errno| Failure::call("set a timer", errno))
}

fn loop_failed(error: event_manager::Error) -> Failure {
    use event_manager::Error::{Epoll, EventFd};
    match error {
        Epoll(errno) | EventFd(errno) => Failure::call("wait for events (epoll)", errno),
        other => Failure::failed(format!("Failed to wait for events: {other}")),
    }
}
