//! `axvmm run`: from a configuration to a guest that runs, and from how it ended to an exit status.

mod result_file;
mod session;
mod signals;
mod tally;

use std::{
    mem,
    os::fd::AsFd,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{eventfd::EventFd, signalfd::SignalFd},
};

use self::{session::Session, tally::Tally};
use super::{
    Failure, GuestArgs, console, duration, host,
    log_output::{self, tell},
    sink::Sink,
};
use crate::{
    kvm::KvmHal,
    machine::{Machine, Plan},
    vm::StopReason,
};

/// How long the end waits for a stdout that takes nothing.
const STALL: Duration = Duration::from_secs(1);
/// How long the end takes at most over stdout if somebody waits for it.
const IN_A_HURRY: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    guest: GuestArgs,
    /// Ends the guest after this time, such as 30s, 500ms, 2m
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// Ends when the guest resets itself, with status 32
    #[arg(long)]
    no_reboot: bool,
    /// Writes how it ended to this file, as JSON
    #[arg(long, value_name = "FILE")]
    result_file: Option<PathBuf>,
}

/// Runs the guest to its end; the result is the process's exit status.
pub fn run(args: &RunArgs, started: Instant) -> Result<u8, Failure> {
    if let Some(path) = &args.result_file {
        result_file::check(path)?;
    }
    let mut tally = Tally::default();
    let ended = run_guest(args, started, &mut tally);
    console::terminal::restore();
    let mut status = match &ended {
        Ok(reason) => reason.exit_status(),
        Err(failure) => failure.status,
    };
    if let Some(path) = &args.result_file {
        if let Err(failure) = result_file::write(path, &ended, &tally, started.elapsed()) {
            tell(&failure.message);
            status = if status == 0 { failure.status } else { status };
        }
    }
    match ended {
        Ok(StopReason::Shutdown | StopReason::TestExit(_)) => {}
        Ok(StopReason::Timeout) => tell(&match args.timeout {
            Some(allowed) => format!("the time allowed was up: {allowed:?}"),
            None => StopReason::Timeout.to_string(),
        }),
        Ok(reason) => tell(&reason.to_string()),
        Err(failure) => tell(&failure.message),
    }
    Ok(status)
}

fn run_guest(args: &RunArgs, started: Instant, tally: &mut Tally) -> Result<StopReason, Failure> {
    let config = args.guest.load()?;
    // What is wrong with the configuration comes before what is wrong with the host.
    let (hal, platform) = match host::open() {
        Ok(opened) => opened,
        Err(failure) => {
            Plan::new(&config, &host::usual()?)?;
            return Err(failure);
        }
    };
    let plan = Arc::new(Plan::new(&config, &platform)?);
    let out = Arc::new(console::output());
    log_output::join(&out);
    for note in plan.all_notes() {
        log::info!("note: {note}");
    }
    let machine = Machine::build(&plan, hal, out.clone(), &Arc::default())?;
    let signals =
        signals::block().map_err(|errno| Failure::call("receive signals (signalfd)", errno))?;
    let settings = session::Settings {
        deadline: args.timeout.map(|timeout| started + timeout),
        no_reboot: args.no_reboot,
    };
    let session = Session::new(plan, out.clone(), signals, settings, machine)?;
    let mut session = session.run()?;
    let ended = session.ended.take().unwrap_or_else(|| Err(Failure::failed("the guest vanished")));
    *tally = mem::take(&mut session.tally);
    let hurry = matches!(ended, Ok(StopReason::Signal(_) | StopReason::Quit | StopReason::Timeout));
    drain(&out, &session.signals, hurry);
    tally.console_dropped = out.dropped() + out.waiting();
    ended
}

/// A fresh machine on fresh hardware.
fn rebuild(plan: &Plan, out: &Arc<Sink>) -> Result<Machine<KvmHal>, Failure> {
    Ok(Machine::build(plan, KvmHal::new()?, out.clone(), &Arc::default())?)
}

/// Waits for stdout to take what the guest has printed: for as long as it takes some and no signal
/// comes; in a hurry, just for a moment.
fn drain(out: &Sink, signals: &SignalFd, hurry: bool) {
    let Ok(drained) = EventFd::new().map(Arc::new) else { return };
    out.drain(drained.clone());
    let patience = if hurry { IN_A_HURRY } else { STALL };
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
    let mut written = out.written();
    loop {
        let mut fds = [
            PollFd::new(drained.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(0) if !hurry && out.written() > written => written = out.written(),
            Err(nix::errno::Errno::EINTR) => {}
            _ => break,
        }
    }
    if out.waiting() > 0 {
        log::warn!("the last {} bytes of the guest's output were dropped", out.waiting());
    }
}
