//! `axvmm run`: from configurations to guests that run, and from how they ended to an exit status.
//!
//! - `blueprint`: what a guest's machines are built from, the first and those after its resets.
//! - `guest`: one guest from its first start to its end.
//! - `session`: the main thread's event loop, for all of them.
//! - `control`: who asks from outside, and is answered.
//! - `debug`: `--gdb`.
//! - `ends`: how they ended, and which end is the process's own.
//! - `tally`: what was counted, for `stats`, `metrics` and the `result_file`.

mod blueprint;
mod control;
mod debug;
mod ends;
mod guest;
mod metrics;
mod record;
pub mod result_file;
mod session;
mod stats;
mod tally;
mod watch;

use std::{
    os::fd::AsFd,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser},
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{eventfd::EventFd, signalfd::SignalFd},
};

use self::{
    blueprint::{Blueprint, build_all},
    control::Control,
    ends::End,
    guest::Guest,
    metrics::{Counted, Metrics},
    session::{Session, Wishes},
};
use super::{
    Failure, GuestArgs, about,
    console::{self, Desk, Style},
    control::Wanted,
    emulated::{Along, HostWish, run_inside},
    host,
    log_output::{self, tell},
    plans::plan,
    signals,
    sink::Sink,
};

use crate::{
    config::{self, parse_duration, parse_size},
    devices::custom::Kinds,
    gdb,
    machine::{Plan, VirtioPlan},
    virtio::DeviceConfig,
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
    /// How several guests share the console: each line with its guest's name before it, or one
    /// guest shown at a time, switched with Ctrl-A 1, Ctrl-A 2, … [default: switch on a terminal,
    /// else prefix]
    #[arg(long, value_name = "HOW")]
    console: Option<Style>,
    /// Runs the guests in an emulated KVM host (emulated[:HOST][,cpus=N][,memory=SIZE][,axvmm=FILE]),
    /// which sees copies of the files that they name; HOST is x86_64, aarch64 or riscv64 [default:
    /// that of the kernel]
    #[arg(long, value_name = "emulated[:HOST]")]
    host: Option<HostWish>,
    /// Ends all guests after this time, such as 30s, 500ms, 2m
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Ends a guest that resets itself, with status 32
    #[arg(long)]
    no_reboot: bool,
    /// Starts a guest that resets itself again, but only so often; the next time ends it, with
    /// status 32
    #[arg(long, value_name = "N", conflicts_with = "no_reboot")]
    reboots: Option<u64>,
    /// Writes how it ended to this file, as JSON
    #[arg(long, value_name = "FILE")]
    result_file: Option<PathBuf>,
    /// Tells at the end what the guests' exits were for: by reason, vCPU and device. Signal SIGUSR1
    /// tells it at any time
    #[arg(long)]
    stats: bool,
    /// Writes the same to this file for Prometheus, every 10 seconds, at SIGUSR1 and at the end
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    /// Serves GDB at this port of 127.0.0.1, at HOST:PORT, or at a socket (a path, or unix:PATH). The
    /// guest does not run before GDB says so, as with QEMU's -S -s together
    #[arg(long, value_name = "WHERE", conflicts_with = "host")]
    gdb: Option<gdb::Endpoint>,
    /// The guest runs at once; GDB stops it when it attaches
    #[arg(long, requires = "gdb")]
    gdb_no_wait: bool,
    /// Records every exit in this file, for `axvmm trace`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// The most that the recording takes: of a longer run it has the latest exits
    #[arg(long, value_name = "SIZE", requires = "record", default_value = "1G",
        value_parser = parse_size)]
    record_size: u64,
    /// Where `axvmm top` and others ask for the counts: a socket in this file, or none [default: a
    /// socket that is no file, by which `axvmm top` finds the run]
    #[arg(long, value_name = "FILE|none", conflicts_with = "host",
        value_parser = OsStringValueParser::new().map(|text| Wanted::from(&*text)))]
    control: Option<Wanted>,
}

/// Runs the guests to their ends; the result is the process's exit status.
pub fn run(args: &RunArgs, kinds: &Kinds, started: Instant) -> Result<u8, Failure> {
    match &args.host {
        Some(wish) => run_inside(wish, &along(args, kinds)?),
        None => run_one(args, kinds, started).map(|(status, _)| status),
    }
}

/// What the run names, and what is written of it.
fn along(args: &RunArgs, kinds: &Kinds) -> Result<Along, Failure> {
    let which = &args.guest.which;
    let files = which.config.iter().chain(&which.firecracker_config).cloned();
    let writes = [&args.result_file, &args.metrics, &args.record].into_iter().flatten();
    let mut along =
        Along { reads: files.collect(), writes: writes.cloned().collect(), ..Along::default() };
    let mut wrong = Vec::new();
    for guest in args.guest.load(kinds) {
        match guest {
            Ok(guest) => along.add(&guest),
            Err(error) => wrong.push(error),
        }
    }
    match config::Error::all_of(wrong) {
        Some(error) => Err(error.into()),
        None => Ok(along),
    }
}

/// [`run`], with the status that a guest which ran alone has chosen itself, by its test-exit device: a
/// crash may have the same one.
pub fn run_one(
    args: &RunArgs,
    kinds: &Kinds,
    started: Instant,
) -> Result<(u8, Option<u8>), Failure> {
    let files = [
        ("--result-file", &args.result_file),
        ("--metrics", &args.metrics),
        ("--record", &args.record),
    ];
    for (option, path) in files {
        path.as_ref().map_or(Ok(()), |path| result_file::check(option, path))?;
    }
    let ran = run_guests(args, kinds, started);
    console::terminal::restore();
    let mut status = match &ran {
        Ok(ends) => ends::worst(ends.iter().map(|end| &end.ended)),
        Err(failure) => failure.status,
    };
    let chosen = match ran.as_deref() {
        Ok([End { ended: Ok(StopReason::TestExit(status)), .. }]) => Some(*status),
        _ => None,
    };
    let time = started.elapsed();
    let result_file = args.result_file.as_ref().map(|path| result_file::write(path, &ran, time));
    let metrics = args.metrics.as_ref().map(|path| {
        let ends = ran.as_deref().unwrap_or_default();
        let counted = ends.iter().map(|it| Counted { id: it.id, name: &it.name, tally: &it.tally });
        Metrics::new(path).finish(&counted.collect::<Vec<_>>(), time)
    });
    for failure in [result_file, metrics].into_iter().flatten().filter_map(Result::err) {
        tell(&failure.message);
        status = if status == 0 { failure.status } else { status };
    }
    match ran {
        Ok(ends) => {
            ends::tell_all(&ends, args.timeout);
            for end in ends.iter().filter(|_| args.stats) {
                log_output::tell_raw(&stats::table(&end.name, &end.tally, time));
            }
        }
        Err(failure) => tell(&failure.message),
    }
    Ok((status, chosen))
}

fn run_guests(args: &RunArgs, kinds: &Kinds, started: Instant) -> Result<Vec<End>, Failure> {
    let (hal, platform) = match host::open() {
        Ok((hal, platform)) => (Ok(hal), Ok(platform)),
        Err(failure) => (Err(failure.clone()), Err(failure)),
    };
    let plans = plan(&args.guest, kinds, platform).map_err(|wrong| wrong.failure)?;
    // A command's streams are ours; what its kernel prints goes another way.
    let has_streams = plans.iter().any(has_streams);
    let out = Arc::new(console::output(has_streams));
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
    let no_reboot = args.no_reboot || args.guest.which.firecracker_config.is_some();
    let control = Control::new(args.control.as_ref())?;
    let signals =
        signals::block().map_err(|errno| Failure::call("receive signals (signalfd)", errno))?;
    let recorder = args.record.as_deref();
    let recorder = recorder.map(|path| record::begin(path, args.record_size, &machines));
    let recorder = recorder.transpose()?;
    let mut debugger = debug::begin(args.gdb.as_ref(), !args.gdb_no_wait, blueprints.len())?;
    let reboots = if no_reboot { Some(0) } else { args.reboots };
    let guests = blueprints.into_iter().zip(machines).enumerate();
    let guests = guests
        .map(|(number, (blueprint, machine))| {
            let recorder = recorder.as_ref();
            let recorder = recorder.map(|it| Arc::new(it.for_vm(number, machine.vm.vcpu_num())));
            Guest::new(number, blueprint, machine, reboots, recorder, debugger.take())
        })
        .collect::<Result<_, _>>()?;
    let metrics = args.metrics.as_deref().map(Metrics::new);
    let wishes = Wishes {
        started,
        timeout: args.timeout,
        takes_input: !has_streams,
        metrics,
        records: recorder.is_some(),
        control,
    };
    let session = Session::new(guests, desk, out.clone(), signals, wishes)?;
    let (mut ends, desk, signals, control) = session.run()?.into_ends();
    let hurry = ends::is_in_a_hurry(&ends);
    if !hurry {
        desk.flush_kept();
    }
    drain(&out, &signals, hurry);
    if let [alone] = ends.as_mut_slice() {
        alone.tally.console_dropped = out.dropped() + out.waiting();
    }
    if let Some(mut control) = control {
        control.finish(&control::ends(&ends, started.elapsed()));
    }
    Ok(ends)
}

/// The guest's command has our stdin and stdout, and not its console.
fn has_streams(plan: &Plan) -> bool {
    let is_so = |device: &VirtioPlan| match &device.device {
        DeviceConfig::Command(command) => command.terminal.is_none(),
        _ => false,
    };
    plan.virtio.iter().any(is_so)
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
