//! The commands, one file each, and what they share: how a guest is named ([`GuestArgs`]), how a
//! failure becomes a message and an exit status ([`Failure`]), and output that never blocks
//! (`sink`).

mod about;
mod atomic_file;
mod bare;
mod cargo_test;
mod check;
mod columns;
mod console;
mod control;
mod device;
mod doctor;
mod emulated;
mod failure;
mod guest_args;
mod host;
mod import;
mod in_root;
mod init;
mod log_output;
mod mapped_files;
mod packaging;
mod panics;
mod plans;
mod qtest;
mod replay;
mod report;
mod run;
mod schema;
mod signals;
mod sink;
mod test;
mod top;
mod trace;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{CommandFactory, Parser, Subcommand};

pub use failure::Failure;
pub use guest_args::GuestArgs;

use crate::devices::custom::Kinds;

const AFTER_HELP: &str = "\
Exit status of `run`: 0 the guest shut down, 32 it reset itself (--no-reboot), 33 it crashed, 34 it
reported a panic, 124 timeout, 128+N ended by signal N; or what the guest's test-exit device says,
or the command in its root (--root).
Of several guests the worst one's: 128+N, 1, 37, 35, 33, 34, 124, another, 32, 0, in this order.
Of all commands: 1 axvmm failed, or `test`, `replay` or `device fuzz` found something, 35 usage or
configuration wrong, 37 this host cannot run guests.";

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
    Run(Box<run::RunArgs>),
    /// Runs a kernel that cargo has built: `runner = "axvmm cargo-test"` in .cargo/config.toml
    CargoTest(cargo_test::CargoTestArgs),
    /// Runs guests as tests, and tells which do not do what their [test] says
    Test(test::TestArgs),
    /// Shows what a guest would get, and where; runs nothing
    Check(check::CheckArgs),
    /// Emulated KVM hosts, of any architecture, in which all else works as here
    Host(emulated::HostArgs),
    /// Finds out whether this host can run guests, and what to do if not
    Doctor(doctor::DoctorArgs),
    /// Writes a guest.toml to begin with
    Init(init::InitArgs),
    /// Writes the guest.toml of a guest that another VMM is configured for
    Import(import::ImportArgs),
    /// Prints the keys of guest.toml as a JSON Schema, for editors
    Schema,
    /// Shows live what the guests of a run do to their devices, and how long that takes
    Top(top::TopArgs),
    /// Reads a recording of a run's exits
    Trace(trace::TraceArgs),
    /// Makes a page of a recording, to be looked at in a browser
    Report(report::ReportArgs),
    /// Gives devices, without a guest, the accesses of a recording, and compares their answers
    Replay(replay::ReplayArgs),
    /// Drives a machine's devices, without a guest, by the commands of QEMU's qtest
    Qtest(qtest::QtestArgs),
    /// Devices of one's own
    Device(device::DeviceArgs),
    /// Prints what a shell needs to complete command lines
    Completions(packaging::CompletionsArgs),
    /// Writes the manual's pages
    Man(packaging::ManArgs),
}

/// The whole program: reads the command line, does what it says, and tells how it went.
pub fn main() -> ExitCode {
    main_with(&Kinds::new())
}

/// [`main`] with devices of these kinds, which guests have as `[[devices.custom]]`.
pub fn main_with(kinds: &Kinds) -> ExitCode {
    let started = Instant::now();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    panics::install_hook(kinds.iter().next().is_some());
    mapped_files::install_handler();
    cli.log.install();
    if let Some(problem) = kinds.problem() {
        log_output::tell(&problem);
        log_output::flush(PATIENCE);
        return ExitCode::from(failure::FAILED);
    }
    let result = match cli.command {
        Command::Run(args) => run::run(&args, kinds, started),
        Command::CargoTest(args) => cargo_test::cargo_test(&args, kinds, started),
        Command::Test(args) => test::test(&args, kinds),
        Command::Check(args) => check::check(&args, kinds),
        Command::Host(args) => emulated::host_command(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Init(args) => init::init(&args),
        Command::Import(args) => import::import(&args, kinds),
        Command::Schema => schema::schema(),
        Command::Top(args) => top::top(&args),
        Command::Trace(args) => trace::trace(&args),
        Command::Report(args) => report::report(&args),
        Command::Replay(args) => replay::replay(&args, kinds),
        Command::Qtest(args) => qtest::qtest(&args, kinds),
        Command::Device(args) => device::device(&args, kinds),
        Command::Completions(args) => packaging::completions(&args, Cli::command()),
        Command::Man(args) => packaging::man(&args, Cli::command()),
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
