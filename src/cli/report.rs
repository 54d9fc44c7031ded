//! `axvmm report`: a recording as a page to look at.
//!
//! - `gather`: all that the page tells, in one pass; `timeline`, `lines` and `story` are parts of it.
//! - `page`: the page, of `sections` with `charts`; `units` has how numbers are written.

mod charts;
mod gather;
mod lines;
mod page;
mod sections;
mod story;
mod timeline;
mod units;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    Failure, atomic_file,
    check::print,
    trace::{Recording, names::Names},
};

/// To stdout.
const STDOUT: &str = "-";

#[derive(Debug, Args)]
pub struct ReportArgs {
    #[command(flatten)]
    recording: Recording,
    /// Where the page goes, `-` for stdout; what is there is replaced. Default: beside the
    /// recording, with `.html` in the place of what its name ends with
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes the page.
pub fn report(args: &ReportArgs) -> Result<u8, Failure> {
    let file = &args.recording.file;
    let output = args.output.clone().unwrap_or_else(|| file.with_extension("html"));
    let same = |path: &Path| path.canonicalize().ok();
    if same(&output).is_some_and(|it| Some(it) == same(file)) {
        return Err(Failure::usage("--output: this is the recording that is read"));
    }
    let reader = args.recording.open()?;
    let names = Names::of(reader.about());
    let gathered = gather::gather(&args.recording, &reader, &names)?;
    let name = file.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    let page = page::page(&gathered, &name, &args.recording.filter.words());
    if output.as_os_str() == STDOUT {
        return print(&page).map(|()| 0);
    }
    atomic_file::replace(&output, page.as_bytes())
        .map_err(|error| Failure::call(&format!("write {}", output.display()), error))?;
    Ok(0)
}

#[cfg(test)]
mod tests;
