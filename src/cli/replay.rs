//! `axvmm replay`: a recording's accesses for devices that no guest uses, and where they answer
//! otherwise than was recorded.

pub mod recorded;

use std::{fmt::Write, path::PathBuf};

use clap::Args;

use super::{Failure, check::print, columns::lay_out, log_output::tell};
use crate::{
    addr::AccessWidth,
    devices::{WindowInfo, custom::Kinds},
    trace::{AboutVm, Event, Reader, Reason},
};

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The file that `axvmm run --record` wrote
    file: PathBuf,
    /// Only what this device took, by its name; may be given more than once. Default: what all
    /// devices took that the board has without a configuration
    #[arg(long, value_name = "NAME")]
    device: Vec<String>,
    /// Of this VM, by its name, if the recording has several
    #[arg(long, value_name = "NAME")]
    vm: Option<String>,
    /// The guest's configuration, for devices that the board has only if they are asked for
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Shows the first N of the differences
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

/// What came of a device's accesses.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    reads: u64,
    writes: u64,
    /// Reads that gave something else.
    differ: u64,
}

/// Feeds a recording to devices; says where their answers differ from what was recorded, and fails
/// if any does.
pub fn replay(args: &ReplayArgs, kinds: &Kinds) -> Result<u8, Failure> {
    let reader = Reader::open(&args.file)?;
    let about = reader.about();
    let (number, vm) = vm(&about.vms, args.vm.as_deref())?;
    let build = || recorded::build(about, vm, args.config.as_deref(), kinds);
    let mut bare = build()?;
    let windows = windows(&vm.windows, &bare.devices().windows(), &args.device)?;
    let mut outcomes = vec![Outcome::default(); vm.windows.len()];
    let (mut shown, mut text) = (0, String::new());
    let mut is_fresh = true;
    for (place, event) in reader.events().enumerate() {
        let event = event?;
        if event.vm != number {
            continue;
        }
        let record = &event.record;
        let is_start = record.reason() == Some(Reason::Started);
        match (is_start, std::mem::take(&mut is_fresh)) {
            (true, true) => continue,
            (true, false) => {
                // Two at once cannot have the same disk.
                drop(bare);
                bare = build()?;
                continue;
            }
            (false, true) => tell(
                "note: the recording lacks its begin, and with it what the devices were told then",
            ),
            (false, false) => {}
        }
        let Some(window) = record.window().filter(|it| windows.get(*it) == Some(&true)) else {
            continue;
        };
        let Ok(width) = AccessWidth::try_from(usize::from(record.width())) else { continue };
        let outcome = &mut outcomes[window];
        let Some(answer) = recorded::access(&bare, record, width) else {
            outcome.writes += 1;
            continue;
        };
        outcome.reads += 1;
        let (answer, recorded) = (answer & width.mask(), record.value() & width.mask());
        if answer != recorded {
            outcome.differ += 1;
            shown += 1;
            if shown <= args.limit {
                let name = &vm.windows[window].device;
                let _ = writeln!(text, "{}", difference(place, &event, name, answer, recorded));
            }
        }
    }
    let differ: u64 = outcomes.iter().map(|outcome| outcome.differ).sum();
    let reads: u64 = outcomes.iter().map(|outcome| outcome.reads).sum();
    let mut rows = vec![["device", "reads", "differ", "writes"].map(str::to_owned).to_vec()];
    for (window, Outcome { reads, writes, differ }) in vm.windows.iter().zip(&outcomes) {
        if reads + writes > 0 {
            let [reads, differ, writes] = [reads, differ, writes].map(u64::to_string);
            rows.push(vec![window.device.clone(), reads, differ, writes]);
        }
    }
    lay_out(&mut text, &rows);
    print(&text)?;
    match differ {
        0 => Ok(0),
        _ => Err(Failure::failed(format!("{differ} of {reads} answers differ from the recording"))),
    }
}

/// An answer that is another one.
fn difference(place: usize, event: &Event, device: &str, answer: u64, recorded: u64) -> String {
    let Event { vcpu, record, .. } = event;
    let seconds = record.time() as f64 / 1e9;
    let digits = 2 + 2 * usize::from(record.width());
    format!(
        "exit {place} at {seconds:.9} s, vCPU {vcpu}, pc {:#x}: {device} {:#x} -> \
         {answer:#0digits$x}, recorded {recorded:#0digits$x}",
        record.pc(),
        record.addr()
    )
}

/// The VM that is meant, and its place.
fn vm<'a>(vms: &'a [AboutVm], name: Option<&str>) -> Result<(usize, &'a AboutVm), Failure> {
    let names = || vms.iter().map(|vm| vm.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut numbered = vms.iter().enumerate();
    match (name, vms) {
        (None, [vm]) => Ok((0, vm)),
        (None, _) => Err(Failure::usage(format!("choose one of {} with --vm", names()))),
        (Some(name), _) => numbered
            .find(|(_, vm)| vm.name == name)
            .ok_or_else(|| Failure::usage(format!("--vm {name}: the recording has {}", names()))),
    }
}

/// Of the recording's windows, which are replayed: those of the devices that are asked for, or all
/// that there are here.
fn windows(
    recorded: &[WindowInfo],
    here: &[WindowInfo],
    asked: &[String],
) -> Result<Vec<bool>, Failure> {
    let has = |windows: &[WindowInfo]| {
        windows.iter().map(|it| it.device.as_str()).collect::<Vec<_>>().join(", ")
    };
    for name in asked {
        let is_it = |window: &&WindowInfo| window.device == *name;
        let Some(window) = recorded.iter().find(is_it) else {
            let has = has(recorded);
            return Err(Failure::usage(format!("--device {name}: the recording has {has}")));
        };
        if !here.contains(window) {
            return Err(Failure::usage(format!(
                "--device {name}: a board has none at {} unless a configuration asks for it\n  Give \
                 the guest's with --config.",
                window.addresses
            )));
        }
    }
    let wanted = |window: &WindowInfo| match asked {
        [] => here.contains(window),
        asked => asked.contains(&window.device),
    };
    if asked.is_empty() {
        let left_out: Vec<_> = recorded.iter().filter(|it| !wanted(it)).cloned().collect();
        if !left_out.is_empty() {
            tell(&format!("note: left out, as there is no --config: {}", has(&left_out)));
        }
    }
    Ok(recorded.iter().map(wanted).collect())
}
