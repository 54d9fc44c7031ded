//! `axvmm check`: the plan of a machine, for a person or as JSON.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;

use super::{Failure, GuestArgs, host};
use crate::{
    config::Problem,
    hal::{Arch, Platform},
    machine::{self, Plan, RequestOutcome},
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
        Ok(config) => plan(&config, args.arch),
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
fn plan(config: &AxVMConfig, arch: Option<Arch>) -> Result<Plan, (Failure, Vec<Problem>)> {
    let planned = |platform: &Platform| Plan::new(config, platform).map_err(wrong);
    if let Some(arch) = arch {
        return planned(&Platform::usual(arch));
    }
    match host::open() {
        Ok((_, platform)) => planned(&platform),
        Err(failure) => {
            let usual = host::usual().map_err(|failure| (failure, Vec::new()))?;
            let mut plan = planned(&usual)?;
            let why = failure.message.lines().next().unwrap_or_default();
            plan.notes.push(format!("made for a usual {} host: {why}", plan.arch));
            Ok(plan)
        }
    }
}

/// A machine that cannot be, with a problem for each row that keeps it from being.
fn wrong(error: machine::Error) -> (Failure, Vec<Problem>) {
    let rows = match &error {
        machine::Error::Requests(rows) => &rows[..],
        _ => &[],
    };
    let problem = |row: &RequestOutcome| Problem {
        origin: row.at.origin.clone(),
        line: row.at.line,
        column: row.at.column,
        message: row.message(),
        ..Problem::default()
    };
    let problems = rows.iter().map(problem).collect();
    (error.into(), problems)
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
