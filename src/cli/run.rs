//! `axvmm run`: from configurations to guests that run, and from how they ended to an exit status.
//!
//! - `blueprint`: what a guest's machines are built from, the first and those after its resets.
//! - `guest`: one guest from its first start to its end.
//! - `session`: the main thread's event loop, for all of them.
//! - `ends`: how they ended, and which end is the process's own.

mod blueprint;
mod ends;
mod guest;
mod result_file;
mod session;
mod signals;
mod tally;
mod watch;

use std::{
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

use self::{
    blueprint::{Blueprint, build_all},
    ends::End,
    guest::Guest,
    session::Session,
};
use super::{
    Failure, GuestArgs, about,
    console::{self, Desk, Style},
    duration, host,
    log_output::{self, tell},
    plans::plan,
    sink::Sink,
};

/// How long the end waits for a stdout that takes nothing.
const STALL: Duration = Duration::from_secs(1);
/// How long the end takes at most over stdout if somebody waits for it.
const IN_A_HURRY: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    guest: GuestArgs,
    /// How several guests share the console: each line with its guest's name before it, or one
    /// guest shown at a time, switched with Ctrl-A 1, Ctrl-A 2, … [default: switch on a terminal,
    /// else prefix]
    #[arg(long, value_name = "HOW")]
    console: Option<Style>,
    /// Ends all guests after this time, such as 30s, 500ms, 2m
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// Ends a guest that resets itself, with status 32
    #[arg(long)]
    no_reboot: bool,
    /// Writes how it ended to this file, as JSON
    #[arg(long, value_name = "FILE")]
    result_file: Option<PathBuf>,
}

/// Runs the guests to their ends; the result is the process's exit status.
pub fn run(args: &RunArgs, started: Instant) -> Result<u8, Failure> {
    if let Some(path) = &args.result_file {
        result_file::check(path)?;
    }
    let ran = run_guests(args, started);
    console::terminal::restore();
    let mut status = match &ran {
        Ok(ends) => ends::worst(ends.iter().map(|end| &end.ended)),
        Err(failure) => failure.status,
    };
    if let Some(path) = &args.result_file {
        if let Err(failure) = result_file::write(path, &ran, started.elapsed()) {
            tell(&failure.message);
            status = if status == 0 { failure.status } else { status };
        }
    }
    match ran {
        Ok(ends) => ends::tell_all(&ends, args.timeout),
        Err(failure) => tell(&failure.message),
    }
    Ok(status)
}

fn run_guests(args: &RunArgs, started: Instant) -> Result<Vec<End>, Failure> {
    let (hal, platform) = match host::open() {
        Ok((hal, platform)) => (Ok(hal), Ok(platform)),
        Err(failure) => (Err(failure.clone()), Err(failure)),
    };
    let plans = plan(&args.guest, platform).map_err(|wrong| wrong.failure)?;
    let out = Arc::new(console::output());
    log_output::join(&out);
    if plans.len() > 1 {
        about::name(plans.iter().map(|plan| (plan.id, plan.name.clone())));
    }
    for plan in &plans {
        let _about = about::about(plan.id);
        plan.all_notes().for_each(|note| log::info!("note: {note}"));
    }
    let style = args.console.unwrap_or_else(Style::usual);
    let desk = Desk::new(&out, plans.iter().map(|plan| plan.name.as_str()), style)?;
    let blueprints = Blueprint::for_all(plans, &desk);
    let machines = build_all(&blueprints, hal?)?;
    let signals =
        signals::block().map_err(|errno| Failure::call("receive signals (signalfd)", errno))?;
    let guests = blueprints.into_iter().zip(machines).enumerate();
    let guests = guests
        .map(|(number, (blueprint, machine))| {
            Guest::new(number, blueprint, machine, args.no_reboot)
        })
        .collect::<Result<_, _>>()?;
    let deadline = args.timeout.map(|timeout| started + timeout);
    let session = Session::new(guests, desk, out.clone(), signals, deadline)?;
    let (mut ends, desk, signals) = session.run()?.into_ends();
    let hurry = ends::is_in_a_hurry(&ends);
    if !hurry {
        desk.flush_kept();
    }
    drain(&out, &signals, hurry);
    if let [alone] = ends.as_mut_slice() {
        alone.tally.console_dropped = out.dropped() + out.waiting();
    }
    Ok(ends)
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
