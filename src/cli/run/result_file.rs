//! `--result-file`: how a run ended, for a program to read.

use std::{path::Path, time::Duration};

use serde::Serialize;

use super::{
    ends::{End, Ended, status, worst},
    tally::Tally,
};
use crate::{
    cli::{Failure, atomic_file, check::json},
    hal::{VCpuId, VMId},
};

/// How a guest ended.
#[derive(Serialize)]
pub struct Told<'a> {
    /// `shutdown`, `reset`, `panic`, `fault`, `test-exit`, `timeout`, `quit`, `signal`; or what kept
    /// the guest from running on: `config`, `host`, `failed`.
    reason: &'a str,
    /// The exit status that stands for it: where the guest is alone, the process's.
    status: u8,
    /// For a person.
    message: String,
    /// Where it happened, if it happened on a vCPU.
    vcpu: Option<VCpuId>,
}

/// The run of a guest that is alone, or of several that never ran.
#[derive(Serialize)]
struct One<'a> {
    #[serde(flatten)]
    told: Told<'a>,
    /// From the start of axvmm, in seconds.
    time: f64,
    #[serde(flatten)]
    tally: &'a Tally,
}

/// The run of several guests.
#[derive(Serialize)]
struct Several<'a> {
    /// The process's exit status.
    status: u8,
    /// From the start of axvmm, in seconds.
    time: f64,
    /// Each guest, in the order in which they were given.
    vms: Vec<OneOfSeveral<'a>>,
}

#[derive(Serialize)]
struct OneOfSeveral<'a> {
    id: VMId,
    name: &'a str,
    #[serde(flatten)]
    told: Told<'a>,
    #[serde(flatten)]
    tally: &'a Tally,
}

impl<'a> Told<'a> {
    /// For a program to read.
    pub fn new(ended: &'a Ended) -> Self {
        let status = status(ended);
        let (reason, message, vcpu) = match ended {
            Ok(end) => (end.keyword(), end.to_string(), end.vcpu_id()),
            Err(failure) => (failure.keyword(), failure.message.clone(), None),
        };
        Self { reason, status, message, vcpu }
    }
}

/// Says so before the guest runs if a file that `option` asks for cannot be written.
pub fn check(option: &str, path: &Path) -> Result<(), Failure> {
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
    Err(Failure::usage(format!("{option} {}: {problem}", path.display())))
}

/// Writes the file, with how each guest ended or what kept them from running.
pub fn write(path: &Path, ran: &Result<Vec<End>, Failure>, time: Duration) -> Result<(), Failure> {
    let time = time.as_secs_f64();
    let text = match ran.as_deref() {
        Ok([alone]) => json(&One { told: Told::new(&alone.ended), time, tally: &alone.tally })?,
        Ok(ends) => json(&Several {
            status: worst(ends.iter().map(|end| &end.ended)),
            time,
            vms: ends.iter().map(OneOfSeveral::new).collect(),
        })?,
        Err(failure) => {
            let tally = &Tally::default();
            json(&One { told: Told::new(&Err(failure.clone())), time, tally })?
        }
    };
    atomic_file::replace(path, text.as_bytes())
        .map_err(|error| Failure::call(&format!("write --result-file {}", path.display()), error))
}

impl<'a> OneOfSeveral<'a> {
    fn new(end: &'a End) -> Self {
        Self { id: end.id, name: &end.name, told: Told::new(&end.ended), tally: &end.tally }
    }
}
