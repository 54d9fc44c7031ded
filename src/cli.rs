//! The commands, one file each, and what they share: how a guest is named ([`GuestArgs`]), how a
//! failure becomes a message and an exit status ([`Failure`]), and output that never blocks
//! (`sink`).

mod about;
mod atomic_file;
mod check;
mod console;
mod doctor;
mod duration;
mod failure;
mod guest_args;
mod host;
mod init;
mod log_output;
mod panics;
mod plans;
mod run;
mod sink;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};

pub use failure::Failure;
pub use guest_args::GuestArgs;

const AFTER_HELP: &str = "\
Exit status of `run`: 0 the guest shut down, 32 it reset itself (--no-reboot), 33 it crashed, 34 it
reported a panic, 124 timeout, 128+N ended by signal N; or what the guest's test-exit device says.
Of several guests the worst one's: 128+N, 1, 37, 35, 33, 34, 124, another, 32, 0, in this order.
Of all commands: 1 axvmm failed, 35 usage or configuration wrong, 37 this host cannot run guests.";

/// How long the end waits for a stderr that takes nothing.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_IN_A_HURRY: Duration = Duration::from_millis(200);

/// Runs guests on KVM, for when the guest kernel, or the device, is what you are testing
#[derive(Debug, Parser)]
#[command(name = "axvmm", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    log: log_output::LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a guest, or several in one process
    Run(run::RunArgs),
    /// Shows what a guest would get, and where; runs nothing
    Check(check::CheckArgs),
    /// Finds out whether this host can run guests, and what to do if not
    Doctor(doctor::DoctorArgs),
    /// Writes a guest.toml to begin with
    Init(init::InitArgs),
}

/// The whole program: reads the command line, does what it says, and tells how it went.
pub fn main() -> ExitCode {
    let started = Instant::now();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    panics::install_hook();
    cli.log.install();
    let result = match cli.command {
        Command::Run(args) => run::run(&args, started),
        Command::Check(args) => check::check(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Init(args) => init::init(&args),
    };
    let status = result.unwrap_or_else(|failure| {
        log_output::tell(&failure.message);
        failure.status
    });
    // From 124 on, somebody waits for the end.
    log_output::flush(if status < 124 { PATIENCE } else { PATIENCE_IN_A_HURRY });
    ExitCode::from(status)
}

/// What clap has to say: help and version as they are, errors in the form of all our messages.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Nobody is there to be told that nobody reads.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    log_output::tell(text.strip_prefix("error: ").unwrap_or(&text).trim_end());
    log_output::flush(PATIENCE);
    ExitCode::from(failure::USAGE)
}
