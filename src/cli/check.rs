//! `axvmm check`: the plan of a machine, for a person or as JSON.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;

use super::{Failure, GuestArgs, host};
use crate::{
    config::Problem,
    hal::{Arch, Platform},
    machine::Plan,
    vm::AxVMConfig,
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
struct Wrong<'a> {
    message: &'a str,
    /// Each problem with its place, where the configuration itself is wrong.
    problems: &'a [Problem],
}

/// Prints what the guest would get.
pub fn check(args: &CheckArgs) -> Result<u8, Failure> {
    let planned = match args.guest.load() {
        Ok(config) => plan(&config, args.arch).map_err(|failure| (failure, Vec::new())),
        Err(error) => {
            let problems = error.problems().to_vec();
            Err((error.into(), problems))
        }
    };
    match planned {
        Ok(plan) if args.json => print(&json(&plan)?)?,
        Ok(plan) => print(&plan.to_string())?,
        Err((failure, problems)) => {
            if args.json {
                print(&json(&Wrong { message: &failure.message, problems: &problems })?)?;
            }
            return Err(failure);
        }
    }
    Ok(0)
}

/// The plan for an architecture, or for this host: a usual one of its kind if KVM cannot be asked.
fn plan(config: &AxVMConfig, arch: Option<Arch>) -> Result<Plan, Failure> {
    if let Some(arch) = arch {
        return Ok(Plan::new(config, &Platform::usual(arch))?);
    }
    match host::open() {
        Ok((_, platform)) => Ok(Plan::new(config, &platform)?),
        Err(failure) => {
            let mut plan = Plan::new(config, &host::usual()?)?;
            let why = failure.message.lines().next().unwrap_or_default();
            plan.notes.push(format!("made for a usual {} host: {why}", plan.arch));
            Ok(plan)
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
