//! One guest from its first start to its end: what of it is watched, and what becomes of it. A
//! guest that resets itself is built anew.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use event_manager::{EventOps, EventSet, Events};
use nix::sys::eventfd::EventFd;

use super::{
    blueprint::Blueprint,
    ends::{self, End, Ended, tell_one},
    tally::Tally,
    watch,
};
use crate::{
    cli::{Failure, about::about, console::terminal, log_output},
    devices::console::ConsoleIn,
    gdb,
    kvm::KvmHal,
    machine::Machine,
    ratelimit::RateLimit,
    trace::VmRecorder,
    virtio::{DeviceConfig, fs::command::CommandConfig},
    vm::{StopReason, VCpuThreads},
};

/// What is watched of a guest: the last vCPU has left.
const STOPPED: u16 = 0;
/// A machine is built, or cannot be.
const REBUILT: u16 = 1;
/// It takes input again.
const LISTENS: u16 = 2;
/// It asks for its end, with a status.
const ASKS: u16 = 3;
/// And from here on, the alarms of its clocks.
const ALARMS: u16 = 4;

type Built = Result<Machine<KvmHal>, Failure>;

/// A guest among those of the process.
pub struct Guest {
    number: usize,
    pub blueprint: Arc<Blueprint>,
    /// How often it may reset itself; `None`: any number of times.
    reboots: Option<u64>,
    recorder: Option<Arc<VmRecorder>>,
    /// Whether it is counted how long exits take.
    is_timed: bool,
    debugger: Option<gdb::Server<KvmHal>>,
    pub tally: Tally,
    /// Signalled when the last vCPU has left.
    stopped: Arc<EventFd>,
    /// Built and not started yet.
    fresh: Option<Machine<KvmHal>>,
    running: Option<Running>,
    /// Signalled when there is something in `rebuilding`.
    rebuilt: Arc<EventFd>,
    rebuilding: Option<mpsc::Receiver<Built>>,
    reboots_told: RateLimit,
    /// How the guest is to end, once somebody has decided so, or something has failed.
    ending: Option<Ended>,
    pub ended: Option<Ended>,
}

struct Running {
    machine: Machine<KvmHal>,
    threads: VCpuThreads<KvmHal>,
}

impl Guest {
    /// A guest with its first machine. Its number is its place among all, from 0.
    pub fn new(
        number: usize,
        blueprint: Arc<Blueprint>,
        machine: Machine<KvmHal>,
        reboots: Option<u64>,
        recorder: Option<Arc<VmRecorder>>,
        debugger: Option<gdb::Server<KvmHal>>,
    ) -> Result<Self, Failure> {
        let eventfd = || {
            let made = EventFd::new().map(Arc::new);
            made.map_err(|errno| Failure::call("make an eventfd", errno))
        };
        Ok(Self {
            number,
            blueprint,
            reboots,
            recorder,
            is_timed: false,
            debugger,
            tally: Tally::default(),
            stopped: eventfd()?,
            fresh: Some(machine),
            running: None,
            rebuilt: eventfd()?,
            rebuilding: None,
            reboots_told: RateLimit::new(3, Duration::from_secs(10)),
            ending: None,
            ended: None,
        })
    }

    /// Starts the guest for the first time.
    pub fn begin(&mut self, ops: &mut EventOps<'_>) {
        let _about = about(self.blueprint.plan.id);
        let begun = self.watch(ops).and_then(|()| self.start(ops));
        self.settle(begun);
    }

    fn watch(&self, ops: &mut EventOps<'_>) -> Result<(), Failure> {
        for (what, fd) in [(STOPPED, &self.stopped), (REBUILT, &self.rebuilt)] {
            let data = watch::of_guest(self.number, what);
            add(ops, Events::with_data(&**fd, data, EventSet::IN))?;
        }
        Ok(())
    }

    /// Acts on what has happened to it.
    pub fn handle(&mut self, what: u16, ops: &mut EventOps<'_>) {
        let _about = about(self.blueprint.plan.id);
        let handled = match what {
            STOPPED => self.stopped(ops),
            REBUILT => self.rebuilt(ops),
            LISTENS => {
                if let Some(running) = &self.running {
                    let _ = running.machine.handles.serial.notify().read();
                }
                Ok(())
            }
            ASKS => {
                let handles = self.running.as_ref().map(|running| &running.machine.handles);
                if let Some(ending) = handles.map(|handles| handles.ending.clone()) {
                    let _ = ending.asked().read();
                    ending.status().into_iter().for_each(|status| {
                        self.end(StopReason::TestExit(status));
                    });
                }
                Ok(())
            }
            alarm => {
                let alarms = self.running.iter().flat_map(|it| &it.machine.handles.alarms);
                let expired = alarms.skip(usize::from(alarm - ALARMS)).take(1);
                expired.for_each(|it| it.timer_expired());
                Ok(())
            }
        };
        self.settle(handled);
    }

    /// A guest for which something failed ends.
    fn settle(&mut self, done: Result<(), Failure>) {
        let Err(failure) = done else { return };
        match &self.running {
            Some(running) => {
                running.machine.vm.stop(StopReason::Failed(failure.message.clone()));
                self.ending = Some(Err(failure));
            }
            None => {
                self.ended.get_or_insert(Err(failure));
            }
        }
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
        let Running { machine, .. } = self.running.insert(Running { machine, threads });
        if let Some(recorder) = &self.recorder {
            machine.vm.record_to(recorder.clone());
            recorder.started();
        }
        if self.is_timed {
            machine.vm.time_exits(true);
        }
        match &self.debugger {
            Some(debugger) => debugger.debug(&machine.vm),
            None => machine.vm.boot()?,
        }
        let of_guest = |what| watch::of_guest(self.number, what);
        let notify = machine.handles.serial.notify();
        add(ops, Events::with_data(notify, of_guest(LISTENS), EventSet::IN))?;
        let ending = machine.handles.ending.asked();
        add(ops, Events::with_data(ending, of_guest(ASKS), EventSet::IN))?;
        for (alarm, what) in machine.handles.alarms.iter().zip(ALARMS..) {
            add(ops, Events::with_data(alarm.timer(), of_guest(what), EventSet::IN))?;
        }
        Ok(())
    }

    /// The last vCPU has left.
    fn stopped(&mut self, ops: &mut EventOps<'_>) -> Result<(), Failure> {
        let _ = self.stopped.read();
        let Some(Running { machine, threads }) = self.running.take() else { return Ok(()) };
        let reason = threads.join();
        self.tally.add(&machine.vm);
        let ended = match (reason, self.ending.take()) {
            (_, Some(Err(failure))) => Err(failure),
            (StopReason::Reset, None) if self.may_reboot() && !self.blueprint.has_command() => {
                unwatch(&machine, ops)?;
                return self.rebuild(machine);
            }
            (StopReason::Shutdown | StopReason::Reset, None) if self.blueprint.has_command() => {
                Err(Failure::failed("the guest ended before its command did"))
            }
            // Told to end, and before it was, it reset itself.
            (StopReason::Reset, Some(Ok(reason))) => Ok(reason),
            (reason, _) => Ok(reason),
        };
        self.ended = Some(ended);
        unwatch(&machine, ops)
    }

    fn may_reboot(&self) -> bool {
        self.reboots.is_none_or(|allowed| self.tally.reboots < allowed)
    }

    /// Makes the machine anew, on a thread: a signal must not have to wait for it.
    fn rebuild(&mut self, old: Machine<KvmHal>) -> Result<(), Failure> {
        self.tally.reboots += 1;
        if self.reboots_told.pass().is_some() {
            log::info!("the guest reset itself: starting it again (reboot {})", self.tally.reboots);
        }
        let blueprint = self.blueprint.clone();
        let (rebuilt, (sender, receiver)) = (self.rebuilt.clone(), mpsc::channel());
        let work = move || {
            let _about = about(blueprint.plan.id);
            // First, so that there is never the memory of two.
            drop(old);
            // If nobody waits any more, the machine is not wanted.
            let _ = sender.send(blueprint.build());
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
            if self.ended.is_none() {
                self.fresh = Some(machine?);
                self.start(ops)?;
            }
        }
        Ok(())
    }

    /// The terminal has another size, which is the guest's command's as well.
    pub fn terminal_resized(&self) {
        let Some((columns, rows)) = terminal::size() else { return };
        for device in &self.blueprint.plan.virtio {
            if let DeviceConfig::Command(CommandConfig { terminal: Some(window), .. }) =
                &device.device
            {
                window.resize(rows, columns);
            }
        }
    }

    /// Ends the guest, from outside; the first reason stands.
    pub fn end(&mut self, reason: StopReason) {
        match &self.running {
            Some(running) => {
                running.machine.vm.stop(reason.clone());
                self.ending.get_or_insert(Ok(reason));
            }
            None => {
                self.ended.get_or_insert(Ok(reason));
            }
        }
    }

    /// The vCPUs do not leave: something in the host holds them. The process's end will end them.
    pub fn give_up(&mut self) {
        let _about = about(self.blueprint.plan.id);
        if let (Some(running), Some(ending)) = (&self.running, self.ending.take()) {
            log::warn!("the guest's processors did not stop in time");
            self.tally.add(&running.machine.vm);
            self.ended = Some(ending);
        }
    }

    /// What has been counted so far, reboots and all.
    pub fn tally_now(&self) -> Tally {
        let mut tally = self.tally.clone();
        if let (Some(running), None) = (&self.running, &self.ended) {
            tally.add(&running.machine.vm);
        }
        tally
    }

    /// Counts from now on how long exits take, or no longer; also after a reset.
    pub fn time_exits(&mut self, wanted: bool) {
        if wanted != self.is_timed {
            self.is_timed = wanted;
            self.running.iter().for_each(|it| it.machine.vm.time_exits(wanted));
        }
    }

    /// Where it is in its life, in a word.
    pub fn status(&self) -> &'static str {
        match (&self.ended, &self.running) {
            (Some(_), _) => "ended",
            (None, Some(running)) => running.machine.vm.status().as_str(),
            (None, None) => "Loading",
        }
    }

    /// Brings into its recording what its vCPUs have gathered.
    pub fn flush_recording(&self) {
        self.recorder.iter().for_each(|it| it.flush());
    }

    /// Where input for it goes, while it runs.
    pub fn serial(&self) -> Option<&dyn ConsoleIn> {
        self.running.as_ref().map(|running| &*running.machine.handles.serial)
    }

    /// Presses the board's button, and tells if that means nothing.
    pub fn press_button(&self) {
        let _about = about(self.blueprint.plan.id);
        let Some(running) = &self.running else { return };
        match &running.machine.handles.button {
            None => log_output::tell("this board has no button; end it with Ctrl-A x"),
            Some(button) if !button.press() => {
                log_output::tell(&format!("the guest does not wait for it: no {button}"));
            }
            Some(_) => {}
        }
    }

    /// How it ended; if it has not, that `failure` ended it, which is told.
    pub fn into_end(self, failure: &Failure) -> End {
        self.flush_recording();
        let Blueprint { plan, several, .. } = &*self.blueprint;
        let ended = self.ended.unwrap_or_else(|| {
            let ended = Err(failure.clone());
            if *several {
                tell_one(plan.id, &ended);
            }
            ended
        });
        if let Some(debugger) = self.debugger {
            debugger.finish(ends::status(&ended));
        }
        End { id: plan.id, name: plan.name.clone(), ended, tally: self.tally }
    }
}

fn add(ops: &mut EventOps<'_>, events: Events) -> Result<(), Failure> {
    ops.add(events).map_err(watch::failed)
}

/// What was watched of a machine is watched no more.
fn unwatch(machine: &Machine<KvmHal>, ops: &mut EventOps<'_>) -> Result<(), Failure> {
    let notify = machine.handles.serial.notify();
    ops.remove(Events::new(notify, EventSet::IN)).map_err(watch::failed)?;
    let ending = machine.handles.ending.asked();
    ops.remove(Events::new(ending, EventSet::IN)).map_err(watch::failed)?;
    for alarm in &machine.handles.alarms {
        ops.remove(Events::new(alarm.timer(), EventSet::IN)).map_err(watch::failed)?;
    }
    Ok(())
}
