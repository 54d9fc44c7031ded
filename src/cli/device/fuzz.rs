//! `axvmm device fuzz`: accesses by chance to a device that no guest uses, until it panics, hangs, or
//! leaves its interrupt up; then the fewest of them that do it.
//!
//! The device is in another process (`child`), which is this program as `axvmm qtest`: so a panic is
//! an end like any other, and what is found can be tried again by hand.

mod child;
mod sequence;
mod virtio;

use std::{
    fmt::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;

use self::{
    child::{Child, Trouble},
    sequence::{Access, Target},
};
use crate::{
    cli::{
        Failure,
        check::{self, print},
        qtest,
    },
    devices::custom::Kinds,
    hal::Arch,
    machine::{Model, Plan},
};

/// How many accesses a sequence has, from a fresh device on, or from one that its driver has set up.
const LENGTH: usize = 100;
/// How long a device may take for a sequence, which should take it no time at all.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same, to tell one that hangs from a machine that is busy with other things.
const MUCH_PATIENCE: Duration = Duration::from_secs(20);
/// The same, where it is known to hang and tried again and again.
const LESS_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub struct FuzzArgs {
    /// A kind of device that this program brings along, or the name of a device of the board's
    name: String,
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Where chance begins: the same seed makes the same accesses. Default: another one each time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Keys of the device, as they would stand in its table of guest.toml, such as tick_us=1000; may
    /// be repeated
    #[arg(long = "key", value_name = "KEY=VALUE")]
    keys: Vec<String>,
    /// The machine's architecture, where it is not this host's
    #[arg(long, value_parser = check::arch)]
    arch: Option<Arch>,
    /// What else the machine has, as of a guest's configuration: disks are written to
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Looks for trouble; fails if there is any, having shown it.
pub fn fuzz(args: &FuzzArgs, kinds: &Kinds) -> Result<(), Failure> {
    let is_kind = kinds.iter().any(|about| about.kind == args.name);
    let mut sets = Vec::new();
    if is_kind {
        let keys: Vec<_> = args.keys.iter().map(|key| format!(", {key}")).collect();
        let row = format!("{{kind = {:?}, name = \"fuzzed\"{}}}", args.name, keys.concat());
        sets.push(format!("devices.custom+={row}"));
    } else if !args.keys.is_empty() {
        return Err(Failure::usage(format!(
            "--key is for kinds of one's own: {} is none",
            args.name
        )));
    }
    let target = target(args, if is_kind { "fuzzed" } else { &args.name }, &sets, kinds)?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut options: Vec<_> =
        sets.iter().flat_map(|set| ["--set".to_owned(), set.clone()]).collect();
    options.extend(["--arch".to_owned(), arch(args).name().to_owned()]);
    let start = || Child::start(args.config.as_deref(), &options, target.irq);
    let mut child = start()?;
    let begun = Instant::now();
    let mut sequences = 0_u64;
    while begun.elapsed() < Duration::from_secs(args.seconds) {
        let sequence = target.sequence(&mut random, LENGTH);
        sequences += 1;
        let Err((trouble, made)) = look(&mut child, &target, sequence)? else { continue };
        if trouble == Trouble::Hangs {
            child.restart()?;
            if child.run(&target, &made, MUCH_PATIENCE)?.is_ok() {
                log::debug!("{}: sequence {sequences} took long, and did not again", args.name);
                continue;
            }
        }
        // Others cannot have what it has.
        drop(child);
        let found = Found { name: &args.name, keys: &args.keys, seed, sequences, trouble };
        let fewest = sequence::shrink(made, |fewer| {
            let mut child = start()?;
            let trouble = match child.run(&target, fewer, LESS_PATIENCE)? {
                Err(trouble) => Some(trouble),
                Ok(()) if found.trouble != Trouble::StaysUp => None,
                Ok(()) => quiet(&mut child, &target, LESS_PATIENCE)?.err().map(|it| it.0),
            };
            Ok(trouble.is_some_and(|it| it.is_like(&found.trouble)))
        })?;
        print(&found.tell(&target, &fewest))?;
        return Err(Failure::failed(format!("{}: {}", args.name, found.trouble.what())));
    }
    print(&format!(
        "{}: {} accesses in {} s (seed {seed}): no panic, no hang, no interrupt that stays\n",
        args.name,
        child.made(),
        args.seconds
    ))
}

/// Makes these accesses, and looks whether the device is well after them. If it is not: what it has,
/// and all accesses that were made.
fn look(
    child: &mut Child,
    target: &Target,
    mut sequence: Vec<Access>,
) -> Result<Result<(), (Trouble, Vec<Access>)>, Failure> {
    if let Err(trouble) = child.run(target, &sequence, PATIENCE)? {
        return Ok(Err((trouble, sequence)));
    }
    Ok(quiet(child, target, PATIENCE)?.map_err(|(trouble, made)| {
        // Those that were to take back the interrupt have done something else.
        if trouble != Trouble::StaysUp {
            sequence.extend(made);
        }
        (trouble, sequence)
    }))
}

/// Takes back the device's interrupt, if it is up. If that cannot be: what the device has, and the
/// accesses that were made.
fn quiet(
    child: &mut Child,
    target: &Target,
    patience: Duration,
) -> Result<Result<(), (Trouble, Vec<Access>)>, Failure> {
    let mut made = Vec::new();
    // Zeros twice: the first may do no more than to leave a mode in which registers are others.
    for value in [u64::MAX, 0, 0, u64::MAX] {
        if !child.is_up() {
            return Ok(Ok(()));
        }
        let quiet = target.quiet(value);
        let well = child.go_on(target, &quiet, patience)?;
        made.extend(quiet);
        if let Err(trouble) = well {
            return Ok(Err((trouble, made)));
        }
    }
    Ok(if child.is_up() { Err((Trouble::StaysUp, made)) } else { Ok(()) })
}

fn arch(args: &FuzzArgs) -> Arch {
    args.arch.or(Arch::host()).unwrap_or(Arch::X86_64)
}

/// The device that is meant.
fn target(args: &FuzzArgs, name: &str, sets: &[String], kinds: &Kinds) -> Result<Target, Failure> {
    let config = qtest::config(args.config.as_deref(), None, sets, kinds)?;
    let plan = Plan::without_guest(&config, &qtest::platform(arch(args)))?;
    let is_it = |device: &&crate::machine::DevicePlan| device.name == name;
    let device = plan.devices.iter().filter(|it| it.model.is_device()).find(is_it);
    device.and_then(|device| Target::of(device, &plan.ram)).ok_or_else(|| {
        let devices = plan.devices.iter().filter(|it| it.model.is_device());
        let names = kinds.iter().map(|about| about.kind.to_owned());
        let names: Vec<_> = names.chain(devices.map(|it| it.name.clone())).collect();
        Failure::usage(format!("there is no device {name:?}; there are {}", names.join(", ")))
    })
}

/// What was found.
struct Found<'a> {
    name: &'a str,
    keys: &'a [String],
    seed: u64,
    sequences: u64,
    trouble: Trouble,
}

impl Found<'_> {
    fn tell(&self, target: &Target, fewest: &[Access]) -> String {
        let Self { name, keys, seed, sequences, trouble } = self;
        let mut text = format!(
            "{name}: {} (seed {seed}, sequence {sequences}). {} are enough, as qtest has them:\n",
            trouble.what(),
            fewest.len()
        );
        for access in fewest {
            let _ = writeln!(text, "    {}", target.command(access));
        }
        if let Model::Custom(about) = target.model {
            let _ = writeln!(text, "As a test:");
            let name = (about.type_name)();
            let name = name.rsplit("::").next().unwrap_or(name);
            let keys = keys.join("\n");
            let _ = writeln!(text, "    let bench = Bench::<{name}>::new({keys:?}).unwrap();");
            for access in fewest {
                let _ = writeln!(text, "    {}", target.test(access));
            }
            if let Trouble::StaysUp = trouble {
                let _ = writeln!(text, "    assert!(!bench.interrupt());");
            }
        }
        let said = trouble.said();
        if !said.is_empty() {
            let _ = writeln!(text, "What it said:");
            for line in said.lines() {
                let _ = writeln!(text, "    {line}");
            }
        }
        text
    }
}
