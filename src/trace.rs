//! Recordings of exits: each with its time, vCPU, program counter, address, value and how long it
//! took to handle.
//!
//! - `format`: what stands in a file.
//! - `recorder`: writes one while guests run.
//! - `reader`: reads one, in the order of time.

mod format;
mod reader;
mod recorder;
#[cfg(test)]
mod tests;

use std::{io, path::PathBuf};

pub use format::{About, AboutVm, Reason, Record};
pub use reader::{Event, Reader};
pub use recorder::{Recorder, VmRecorder};

/// What is wrong with a recording.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what each is")]
pub enum Error {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is no recording of axvmm's (`axvmm run --record` makes one)", path.display())]
    NoRecording { path: PathBuf },
    #[error(
        "{} is a recording of version {found}, and this axvmm reads version {}", path.display(),
        format::VERSION
    )]
    Version { path: PathBuf, found: u32 },
    #[error("{} is damaged: {what}", path.display())]
    Damaged { path: PathBuf, what: String },
}
