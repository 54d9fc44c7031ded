//! All tests, side by side, each run on a thread of its own that waits for its process.

use std::{
    collections::VecDeque,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::mpsc,
    thread::{self, Scope},
    time::Instant,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{eventfd::EventFd, signal::Signal, signalfd::SignalFd},
};

use super::{
    one::{self, Ran},
    outcome::{Outcome, not_started},
    plan::Test,
    report::Reporter,
    room::Room,
};
use crate::cli::{Failure, signals};

/// How often what is shown on a terminal is looked at anew.
const TICK: u16 = 1000;

/// The tests, and how they are to be run.
pub struct Suite<'a> {
    pub outcomes: Vec<Outcome<'a>>,
    pub repeat: u32,
    pub room: Room,
    pub fail_fast: bool,
    pub output: &'a Path,
    pub log_size: u64,
    pub signals: SignalFd,
}

/// What became of them.
pub struct Ended<'a> {
    pub outcomes: Vec<Outcome<'a>>,
    /// What ended them all.
    pub signal: Option<i32>,
    pub took: std::time::Duration,
}

/// A run that is to be, or is: which test, and which of its runs.
#[derive(Clone, Copy, Debug)]
struct Run {
    test: usize,
    number: u32,
}

/// What the runs and the one that waits for them share.
struct Shared {
    /// Can be read once all are to stop.
    stop: EventFd,
    /// Can be read when a run has ended.
    news: EventFd,
}

impl<'a> Suite<'a> {
    /// Runs all, and tells of each as it ends.
    pub fn run(mut self, reporter: &mut Reporter) -> Result<Ended<'a>, Failure> {
        let eventfd = || EventFd::new().map_err(|errno| Failure::call("make an eventfd", errno));
        let shared = Shared { stop: eventfd()?, news: eventfd()? };
        let tests = self.outcomes.len();
        let runs =
            (1..=self.repeat).flat_map(|number| (0..tests).map(move |test| Run { test, number }));
        let mut waiting: VecDeque<_> = runs.collect();
        let (sender, receiver) = mpsc::channel();
        let (mut running, mut signal, started) = (0, None, Instant::now());
        reporter.begin(waiting.len());
        thread::scope(|scope| -> Result<(), Failure> {
            loop {
                while let Some(run) = self.next(&mut waiting) {
                    let test = self.outcomes[run.test].test;
                    reporter.started(&test.name);
                    self.start(scope, run, &shared, &sender);
                    running += 1;
                }
                if running == 0 {
                    return Ok(());
                }
                if let Err(failure) = self.wait(&shared, reporter) {
                    // Nobody waits any more: all must end, or the scope would not.
                    let _ = shared.stop.write(1);
                    return Err(failure);
                }
                let mut stops = false;
                while let Some(ended) = self.ending_signal() {
                    signal.get_or_insert(ended as i32);
                    stops = true;
                }
                while let Ok((run, ran)) = receiver.try_recv() {
                    running -= 1;
                    let outcome = &mut self.outcomes[run.test];
                    self.room.give(outcome.test);
                    reporter.ended(outcome.test, run.number, &ran);
                    outcome.add(run.number, ran);
                    stops |= self.fail_fast && outcome.has_failed();
                }
                if stops {
                    waiting.clear();
                    let _ = shared.stop.write(1);
                }
            }
        })?;
        Ok(Ended { outcomes: self.outcomes, signal, took: started.elapsed() })
    }

    /// The first run that there is room for.
    fn next(&mut self, waiting: &mut VecDeque<Run>) -> Option<Run> {
        // Far behind, none is smaller than all before it, and this is done at each end.
        const LOOKED_AT: usize = 1000;
        let fits = |run: &Run| self.room.take(self.outcomes[run.test].test);
        let at = waiting.iter().take(LOOKED_AT).position(fits)?;
        waiting.remove(at)
    }

    fn start<'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        run: Run,
        shared: &'scope Shared,
        sender: &mpsc::Sender<(Run, Ran)>,
    ) where
        'a: 'scope,
    {
        let test = self.outcomes[run.test].test;
        let (dir, log_size) = (self.dir(test, run.number), self.log_size);
        let to_us = sender.clone();
        let work = move || {
            let ran =
                run_in(test, &dir, log_size, &shared.stop).unwrap_or_else(|it| not_started(&it));
            let _ = to_us.send((run, ran));
            let _ = shared.news.write(1);
        };
        if let Err(error) = thread::Builder::new().name("test".to_owned()).spawn_scoped(scope, work)
        {
            let failure = Failure::call("start a thread for a test", error);
            let _ = sender.send((run, not_started(&failure)));
            let _ = shared.news.write(1);
        }
    }

    /// Where a run's files go.
    fn dir(&self, test: &Test, number: u32) -> PathBuf {
        let dir = self.output.join(&test.dir);
        if self.repeat > 1 { dir.join(number.to_string()) } else { dir }
    }

    /// Waits for news.
    fn wait(&self, shared: &Shared, reporter: &mut Reporter) -> Result<(), Failure> {
        let on = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let timeout = if reporter.shows_progress() { TICK.into() } else { PollTimeout::NONE };
        match poll(&mut [on(self.signals.as_fd()), on(shared.news.as_fd())], timeout) {
            Ok(0) => reporter.tick(),
            Ok(_) if has_news(&shared.news) => _ = shared.news.read(),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Failure::call("wait for guests", errno)),
        }
        Ok(())
    }

    /// A signal by which all are to end, if one has come.
    fn ending_signal(&self) -> Option<Signal> {
        while let Some(signal) = signals::next(&self.signals) {
            match signal {
                Signal::SIGTSTP => signals::stop_self(),
                Signal::SIGCONT | Signal::SIGWINCH | Signal::SIGUSR1 => {}
                signal => return Some(signal),
            }
        }
        None
    }
}

fn run_in(test: &Test, dir: &Path, log_size: u64, stop: &EventFd) -> Result<Ran, Failure> {
    std::fs::create_dir_all(dir)
        .map_err(|error| Failure::call(&format!("make {}", dir.display()), error))?;
    one::run(test, dir, log_size, stop)
}

/// Whether it can be read, which would wait otherwise.
fn has_news(news: &EventFd) -> bool {
    poll(&mut [PollFd::new(news.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(1)
}
