//! `--result-file`: how a run ended, for a program to read.

use std::{path::Path, time::Duration};

use serde::Serialize;

use super::tally::Tally;
use crate::{
    cli::{Failure, atomic_file, check::json},
    hal::VCpuId,
    vm::StopReason,
};

#[derive(Serialize)]
struct RunResult<'a> {
    /// `shutdown`, `reset`, `panic`, `fault`, `test-exit`, `timeout`, `quit`, `signal`; or what kept
    /// the guest from running on: `config`, `host`, `failed`.
    reason: &'a str,
    /// The process's exit status.
    status: u8,
    /// For a person.
    message: String,
    /// Where it happened, if it happened on a vCPU.
    vcpu: Option<VCpuId>,
    /// From the start of axvmm, in seconds.
    time: f64,
    #[serde(flatten)]
    tally: &'a Tally,
}

/// Says so before the guest runs if the file cannot be written.
pub fn check(path: &Path) -> Result<(), Failure> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let problem = if path.is_dir() || path.file_name().is_none() {
        "it is a directory".to_owned()
    } else if !directory.is_dir() {
        format!("there is no directory {}", directory.display())
    } else {
        return Ok(());
    };
    Err(Failure::usage(format!("--result-file {}: {problem}", path.display())))
}

/// Writes the file.
pub fn write(
    path: &Path,
    ended: &Result<StopReason, Failure>,
    tally: &Tally,
    time: Duration,
) -> Result<(), Failure> {
    let (reason, status, message, vcpu) = match ended {
        Ok(end) => (end.keyword(), end.exit_status(), end.to_string(), end.vcpu_id()),
        Err(failure) => (failure.keyword(), failure.status, failure.message.clone(), None),
    };
    let result = RunResult { reason, status, message, vcpu, time: time.as_secs_f64(), tally };
    atomic_file::replace(path, json(&result)?.as_bytes())
        .map_err(|error| Failure::call(&format!("write --result-file {}", path.display()), error))
}
