//! `axvmm check`: the plan of a machine, or of several, for a person or as JSON.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;

use super::{
    Failure, GuestArgs, host,
    plans::{Wrong, plan},
};
use crate::{
    config::Problem,
    devices::custom::Kinds,
    hal::{Arch, Platform},
    machine::Plan,
};

#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    guest: GuestArgs,
    /// Plans for a usual host of this architecture instead of this host
    #[arg(long, value_parser = arch)]
    arch: Option<Arch>,
    /// Prints the plan as JSON; if the configuration is wrong, what is wrong with it
    #[arg(long)]
    json: bool,
}

/// What is wrong, for machines to read.
#[derive(Serialize)]
struct Told<'a> {
    message: &'a str,
    /// Each problem with its place, where the configuration itself is wrong.
    problems: &'a [Problem],
}

/// Prints what each guest would get.
pub fn check(args: &CheckArgs, kinds: &Kinds) -> Result<u8, Failure> {
    match plan_for(args, kinds) {
        Ok(plans) if args.json => print(&match plans.as_slice() {
            [plan] => json(plan)?,
            plans => json(&plans)?,
        })?,
        Ok(plans) => print(&match plans.as_slice() {
            [plan] => plan.to_string(),
            plans => {
                let texts = plans.iter().map(|plan| format!("VM        {}\n{plan}", plan.id));
                texts.collect::<Vec<_>>().join("\n")
            }
        })?,
        Err(Wrong { failure, problems }) => {
            if args.json {
                print(&json(&Told { message: &failure.message, problems: &problems })?)?;
            }
            return Err(failure);
        }
    }
    Ok(0)
}

/// The plans for an architecture, or for this host: a usual one of its kind if KVM cannot be asked.
fn plan_for(args: &CheckArgs, kinds: &Kinds) -> Result<Vec<Plan>, Wrong> {
    if let Some(arch) = args.arch {
        return plan(&args.guest, kinds, Ok(Platform::usual(arch)));
    }
    match host::open() {
        Ok((_, platform)) => plan(&args.guest, kinds, Ok(platform)),
        Err(failure) => {
            let mut plans = plan(&args.guest, kinds, host::usual())?;
            let why = failure.message.lines().next().unwrap_or_default();
            for plan in &mut plans {
                plan.notes.push(format!("made for a usual {} host: {why}", plan.arch));
            }
            Ok(plans)
        }
    }
}

/// The architecture of this name.
pub fn arch(name: &str) -> Result<Arch, String> {
    Arch::from_name(name).ok_or_else(|| {
        let known = Arch::ALL.map(Arch::name).join(", ");
        format!("there are boards for {known}")
    })
}

/// A value as JSON, with a new line at the end.
pub fn json(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|error| Failure::failed(error.to_string()))
}

/// Puts a text on stdout. That nobody reads on is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::call("write to stdout", error))
        }
        _ => Ok(()),
    }
}
