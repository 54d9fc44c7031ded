//! `axvmm cargo-test`: kernels that cargo builds, run by cargo.

use std::{ffi::OsString, path::PathBuf, time::Instant};

use clap::{Args, Parser};

use super::{
    Failure,
    emulated::{Along, HostWish, run_inside},
    run,
};
use crate::{boot, config::parse_size, devices::custom::Kinds, vm::config::MemoryConfig};

/// How long a kernel has, unless told otherwise. Cargo shows nothing of a test that hangs.
const TIMEOUT: &str = "60s";

/// The command line of `axvmm cargo-test`.
#[derive(Args, Debug)]
pub struct CargoTestArgs {
    /// Runs it in an emulated KVM host (emulated[:HOST][,cpus=N][,memory=SIZE][,axvmm=FILE]), as of
    /// `axvmm run`
    #[arg(long, value_name = "emulated[:HOST]")]
    host: Option<HostWish>,
    /// How much memory the guest has
    #[arg(short, long, value_name = "SIZE", default_value = "64M")]
    memory: OsString,
    /// How many vCPUs it has
    #[arg(short = 'n', long, value_name = "N", default_value = "1")]
    cpus: OsString,
    /// Ends it with status 124 after this time
    #[arg(long, value_name = "TIME", default_value = TIMEOUT)]
    timeout: OsString,
    /// A status of the guest's test-exit device that means success, and no other end does, such as 33
    /// for a kernel that writes 0x10 to isa-debug-exit; may be given more than once
    #[arg(long, value_name = "STATUS")]
    success: Vec<u8>,
    /// The kernel, as cargo gives it
    kernel: PathBuf,
    /// What follows in cargo's call, which is the kernel's command line
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// What the guest is, as if asked of `axvmm run`.
#[derive(Parser)]
struct Run {
    #[command(flatten)]
    args: run::RunArgs,
}

/// Runs the kernel to its end: 0 is cargo's sign of success.
pub fn cargo_test(args: &CargoTestArgs, kinds: &Kinds, started: Instant) -> Result<u8, Failure> {
    if let Some(wish) = &args.host {
        let reads = vec![args.kernel.clone()];
        let arch = boot::arch_of(&args.kernel).map(|arch| arch.to_string());
        // More than guests have that are not told.
        let memory = parse_size(&args.memory.to_string_lossy()).unwrap_or(MemoryConfig::DEFAULT);
        return run_inside(wish, &Along { reads, arch, memory, ..Along::default() });
    }
    let cmdline = args.arguments.join(" ");
    let words: [OsString; 13] = [
        "run".into(),
        "--no-reboot".into(),
        "--control".into(),
        "none".into(),
        "--timeout".into(),
        args.timeout.clone(),
        "--memory".into(),
        args.memory.clone(),
        "--cpus".into(),
        args.cpus.clone(),
        "--kernel".into(),
        args.kernel.clone().into(),
        format!("--cmdline={cmdline}").into(),
    ];
    let Run { args: of_run } = Run::try_parse_from(words).map_err(|error| {
        let text = error.render().to_string();
        Failure::usage(text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned())
    })?;
    let (status, chosen) = run::run_one(&of_run, kinds, started)?;
    // A crash is none, whatever its status.
    let is_success = match args.success.as_slice() {
        [] => status == 0,
        wanted => chosen.is_some_and(|chosen| wanted.contains(&chosen)),
    };
    Ok(match (is_success, status) {
        (true, _) => 0,
        (false, 0) => {
            log::error!("{}: ended well, but not as --success has it", args.kernel.display());
            1
        }
        (false, status) => status,
    })
}
