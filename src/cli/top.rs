//! `axvmm top`: what the guests of a run do to their devices, live.
//!
//! - `find`: which run is meant; `link`: the connection to it; `sample`: what comes from there.
//! - `rates`: what happened between two samples.
//! - `table`: the same as rows and columns, for people.
//! - `plain`: as text or JSON, for pipes.
//! - `screen`: on a terminal, with `keys`, what they change (`view`) and `draw`.

mod draw;
mod find;
mod keys;
mod link;
mod plain;
mod rates;
mod sample;
mod screen;
mod table;
mod view;

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use clap::Args;

use self::sample::{Ended, Sample};
use super::Failure;
use crate::config::parse_duration;

/// More often is more work than news.
const LEAST: Duration = Duration::from_millis(100);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub struct TopArgs {
    /// Which run, where there are several: its process id, the name of one of its guests, which is
    /// then the only one shown, or the file of `run --control`
    #[arg(value_name = "PID|NAME|FILE")]
    which: Option<String>,
    /// How often it is looked, such as 500ms, 2s
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Prints the rates of one interval, and ends
    #[arg(long)]
    once: bool,
    /// Prints lines on a terminal as well, as into a pipe
    #[arg(long)]
    plain: bool,
    /// Prints a line of JSON for each interval
    #[arg(long)]
    json: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        short if short < LEAST => Err(format!("at least {LEAST:?}")),
        interval => Ok(interval),
    }
}

/// Shows what happens until it is over, or nobody looks any more.
pub fn top(args: &TopArgs) -> Result<u8, Failure> {
    let link = find::find(args.which.as_deref())?;
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let has_terminal = io::stdin().is_terminal() && io::stdout().is_terminal() && !is_dumb;
    if has_terminal && !(args.once || args.plain || args.json) {
        screen::show(link, args.interval)
    } else {
        plain::show(link, args)
    }
}

/// Tells how the guests that are looked at have ended, if all have.
fn how_it_ended(sample: &Sample) -> Option<String> {
    let told = |vm: &sample::Vm| {
        let Ended { message, status, .. } = vm.ended.as_ref()?;
        Some(format!("{} has ended: {message} (status {status})", vm.name))
    };
    let all: Option<Vec<_>> = sample.vms.iter().map(told).collect();
    all.map(|it| it.join("\naxvmm: "))
}
