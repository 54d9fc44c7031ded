//! `axvmm test`: guests as tests.
//!
//! - `plan`: which tests the files make, each a guest that can be, or what is wrong with them.
//! - `suite`: all of them, side by side as far as there is `room`.
//! - `one`: one run of a test, a process of its own, so that what becomes of a guest is its own
//!   matter; its console goes through `lines` to the `judge` and to a `log`.
//! - `outcome`: what became of a test in all its runs.
//! - `report`: the same for people and programs.

mod judge;
mod lines;
mod log;
mod one;
mod outcome;
mod plan;
mod report;
mod room;
mod suite;

use std::{env, path::PathBuf};

use clap::Args;
use regex::Regex;

use self::{
    outcome::Outcome,
    report::{Reporter, junit},
    room::Room,
    suite::Suite,
};
use super::{
    Failure, atomic_file,
    check::print,
    emulated::{Along, HostWish, run_inside},
    failure::FAILED,
    log_output::tell,
    run::result_file,
    signals,
};
use crate::{config::parse_size, devices::custom::Kinds};

/// Where logs go if nothing is said.
const OUTPUT: &str = "axvmm-test";
/// Runs that one call makes at most.
const MAX_RUNS: usize = 100_000;

#[derive(Debug, Args)]
pub struct TestArgs {
    /// The guests' configurations, whose [test] says what is to be seen
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Runs the tests in an emulated KVM host (emulated[:HOST][,cpus=N][,memory=SIZE][,axvmm=FILE]),
    /// which sees copies of the files that they name; HOST is x86_64, aarch64 or riscv64 [default:
    /// that of the first kernel]
    #[arg(long, value_name = "emulated[:HOST]")]
    host: Option<HostWish>,
    /// Runs the tests in whose names this regular expression is found; may be repeated
    #[arg(long, value_name = "REGEX")]
    filter: Vec<Regex>,
    /// Prints the tests' names, and runs none
    #[arg(long)]
    list: bool,
    /// Sets a key of every configuration, such as kernel.kernel_path="new"; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// How many guests run at once at most [default: as many as have CPUs and memory]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    jobs: Option<u32>,
    /// Runs each test so often, and tells how often it failed
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Ends with the first failure
    #[arg(long)]
    fail_fast: bool,
    /// Writes the results to this file, as JUnit's XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Writes a line of JSON for each run and one for all to this file, - is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Tells what failed as annotations for GitHub as well [default: if GITHUB_ACTIONS is "true"]
    #[arg(long)]
    github: bool,
    /// Where each test's console log, messages and result go
    #[arg(long, value_name = "DIR", default_value = OUTPUT)]
    output: PathBuf,
    /// How much of a console's beginning its log has; of the rest it has the end
    #[arg(long, value_name = "SIZE", default_value = "8M", value_parser = parse_size)]
    log_size: u64,
}

/// What the tests name, and what is written of them.
fn along(args: &TestArgs, kinds: &Kinds) -> Result<Along, Failure> {
    let mut along = Along { reads: args.files.clone(), ..Along::default() };
    for guest in plan::guests(&args.files, &args.sets, kinds)? {
        // As many run at once as have memory.
        let most = along.memory;
        along.memory = 0;
        along.add(&guest);
        along.memory = along.memory.max(most);
    }
    along.memory = along.memory.saturating_mul(2);
    along.writes.push(args.output.clone());
    let files = [&args.junit, &args.json].into_iter().flatten();
    along.writes.extend(files.filter(|it| it.as_os_str() != "-").cloned());
    Ok(along)
}

/// Runs the tests; the result is the process's exit status.
pub fn test(args: &TestArgs, kinds: &Kinds) -> Result<u8, Failure> {
    if let Some(wish) = &args.host {
        return run_inside(wish, &along(args, kinds)?);
    }
    for (option, path) in [("--junit", &args.junit), ("--json", &args.json)] {
        let file = path.as_ref().filter(|path| path.as_os_str() != "-");
        file.map_or(Ok(()), |path| result_file::check(option, path))?;
    }
    let tests = plan::plan(&args.files, &args.sets, kinds)?;
    let tests = plan::filtered(tests, &args.filter)?;
    if args.list {
        print(&tests.iter().map(|test| format!("{}\n", test.name)).collect::<String>())?;
        return Ok(0);
    }
    if tests.len().saturating_mul(args.repeat as usize) > MAX_RUNS {
        let runs = tests.len() as u64 * u64::from(args.repeat);
        return Err(Failure::usage(format!("{runs} runs; {MAX_RUNS} are the most")));
    }
    plan::make_output(&args.output, &tests)?;
    let github = args.github || env::var_os("GITHUB_ACTIONS").is_some_and(|it| it == "true");
    let mut reporter = Reporter::new(args.json.as_deref(), github, args.repeat)?;
    let signals =
        signals::block().map_err(|errno| Failure::call("receive signals (signalfd)", errno))?;
    let suite = Suite {
        outcomes: tests.iter().map(Outcome::new).collect(),
        repeat: args.repeat,
        room: Room::of_host(args.jobs),
        fail_fast: args.fail_fast,
        output: &args.output,
        log_size: args.log_size,
        signals,
    };
    let ended = suite.run(&mut reporter)?;
    let failed = ended.outcomes.iter().any(Outcome::has_failed);
    let junit = args.junit.as_ref().map(|path| {
        let text = junit::xml(&ended)?;
        atomic_file::replace(path, text.as_bytes())
            .map_err(|error| Failure::call(&format!("write --junit {}", path.display()), error))
    });
    let told = reporter.finish(&ended, &args.output);
    let mut status = match ended.signal {
        Some(signal) => 128 + signal as u8,
        None => u8::from(failed),
    };
    for failure in [junit, Some(told)].into_iter().flatten().filter_map(Result::err) {
        tell(&failure.message);
        status = if status == 0 { FAILED } else { status };
    }
    Ok(status)
}
