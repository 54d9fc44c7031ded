//! `axvmm check`: the plan of a machine, for a person or as JSON.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;

use super::{Failure, GuestArgs};
use crate::{config::Problem, machine::Plan};

#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    guest: GuestArgs,
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
        Ok(config) => Plan::new(&config).map_err(|error| (Failure::from(error), Vec::new())),
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
