//! `axvmm trace`: what is in a recording of `axvmm run --record`.
//!
//! - `filter`: which of its exits.
//! - `names`: what registers are called.
//! - `totals`: how much there is of each kind.
//! - `show`, `stats`: for a person.
//! - `export`: for other programs.

mod export;
mod filter;
pub mod names;
mod show;
mod stats;
pub mod totals;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use self::filter::Filter;
use super::Failure;
use crate::trace::{self, Event, Reader};

#[derive(Debug, Args)]
pub struct TraceArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Prints exits, one a line
    Show(show::ShowArgs),
    /// Tells how many there are of each kind, and how long they took
    Stats(Recording),
    /// Writes some of the exits to a recording of their own
    Filter(filter::FilterArgs),
    /// Writes exits for other programs: Perfetto and chrome://tracing, or a table
    Export(export::ExportArgs),
}

/// A recording, and which of its exits.
#[derive(Debug, Args)]
pub struct Recording {
    /// The file that `axvmm run --record` wrote
    pub file: PathBuf,
    #[command(flatten)]
    pub filter: Filter,
}

impl Recording {
    /// Opens it.
    ///
    /// # Errors
    /// It cannot be read or is none; it has not what the filter names.
    pub fn open(&self) -> Result<Reader, Failure> {
        let reader = Reader::open(&self.file)?;
        self.filter.check(reader.about())?;
        Ok(reader)
    }

    /// The exits that are wanted, in the order of time.
    pub fn events<'a>(
        &'a self,
        reader: &'a Reader,
    ) -> impl Iterator<Item = Result<Event, trace::Error>> + 'a {
        let about = reader.about();
        let wanted = |event: &Result<Event, _>| match event {
            Ok(event) => self.filter.takes(about, event),
            Err(_) => true,
        };
        reader.events().filter(wanted)
    }
}

/// Does what is wanted with a recording.
pub fn trace(args: &TraceArgs) -> Result<u8, Failure> {
    match &args.what {
        What::Show(args) => show::show(args),
        What::Stats(recording) => stats::stats(recording),
        What::Filter(args) => filter::filter(args),
        What::Export(args) => export::export(args),
    }
    .map(|()| 0)
}

impl From<trace::Error> for Failure {
    fn from(error: trace::Error) -> Self {
        match error {
            trace::Error::Io { ref source, .. }
                if source.kind() != std::io::ErrorKind::NotFound =>
            {
                Self::failed(error.to_string())
            }
            _ => Self::usage(error.to_string()),
        }
    }
}
