//! For programs: a line of JSON for each run, and one for all.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    super::{judge::Verdict, one::Ran, outcome::Outcome, plan::Test, suite::Ended},
    LAST_PATIENCE, flush, word,
};
use crate::cli::{
    Failure,
    sink::{Settings, Sink},
};

/// Where the lines go.
pub struct Lines {
    path: PathBuf,
    /// Nothing may make a run wait but a file.
    to: Result<File, Sink>,
    failed: Option<io::Error>,
}

/// One run.
#[derive(Serialize)]
struct Run<'a> {
    event: &'static str,
    name: &'a str,
    file: &'a Path,
    /// Which of its runs, if there are to be several.
    run: Option<u32>,
    /// `passed`, `failed` or `cancelled`.
    verdict: &'static str,
    why: Vec<Why<'a>>,
    /// As the result file has them.
    status: i32,
    reason: &'a str,
    reboots: u64,
    /// In seconds.
    time: f64,
}

#[derive(Serialize)]
struct Why<'a> {
    kind: &'static str,
    text: &'a str,
}

/// All tests.
#[derive(Serialize)]
struct Summary<'a> {
    event: &'static str,
    passed: usize,
    failed: usize,
    /// Those that were not run to their ends.
    cancelled: usize,
    signal: Option<i32>,
    time: f64,
    /// Those that failed, and how often.
    failures: Vec<FailedTest<'a>>,
}

#[derive(Serialize)]
struct FailedTest<'a> {
    name: &'a str,
    failed: u32,
    runs: u32,
}

/// Opens a file for writing, empty. A pipe that nobody reads is an error.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).custom_flags(libc::O_NONBLOCK).open(path)
}

impl Lines {
    /// To this file, or with `-` to stdout.
    pub fn to(path: &Path) -> Result<Self, Failure> {
        let settings = Settings { name: "json", patience: LAST_PATIENCE, report: |_| {} };
        let to = if path.as_os_str() == "-" {
            Err(Sink::new(io::stdout(), settings))
        } else {
            let wrong = |error| Failure::usage(format!("--json {}: {error}", path.display()));
            let file = create(path).map_err(wrong)?;
            let is_file = file.metadata().map_err(wrong)?.is_file();
            if is_file { Ok(file) } else { Err(Sink::new(file, settings)) }
        };
        Ok(Self { path: path.to_owned(), to, failed: None })
    }

    pub fn run(&mut self, test: &Test, run: Option<u32>, ran: &Ran) {
        let reasons = match &ran.verdict {
            Verdict::Failed(reasons) => &reasons[..],
            _ => &[],
        };
        self.put(&Run {
            event: "run",
            name: &test.name,
            file: &test.file,
            run,
            verdict: word(&ran.verdict),
            why: reasons.iter().map(|it| Why { kind: it.kind, text: &it.text }).collect(),
            status: ran.end.status,
            reason: &ran.end.reason,
            reboots: ran.reboots,
            time: ran.time.as_secs_f64(),
        });
    }

    pub fn finish(mut self, ended: &Ended<'_>) -> Result<(), Failure> {
        let count = |is_so: fn(&Outcome<'_>) -> bool| {
            ended.outcomes.iter().filter(|outcome| is_so(outcome)).count()
        };
        let failures = ended.outcomes.iter().filter(|it| it.has_failed()).map(|it| FailedTest {
            name: &it.test.name,
            failed: it.failed,
            runs: it.failed + it.passed,
        });
        self.put(&Summary {
            event: "summary",
            passed: count(|it| it.has_passed()),
            failed: count(|it| it.has_failed()),
            cancelled: count(|it| !it.has_passed() && !it.has_failed()),
            signal: ended.signal,
            time: ended.took.as_secs_f64(),
            failures: failures.collect(),
        });
        if let Err(sink) = &self.to {
            flush(sink);
            let lost = sink.dropped() + sink.waiting();
            if lost > 0 {
                let error = io::Error::other(format!("{lost} bytes were not taken"));
                self.failed.get_or_insert(error);
            }
        }
        let what = format!("write --json {}", self.path.display());
        self.failed.map_or(Ok(()), |error| Err(Failure::call(&what, error)))
    }

    fn put(&mut self, value: &impl Serialize) {
        let line = match serde_json::to_string(value) {
            Ok(line) => line + "\n",
            Err(error) => {
                self.failed.get_or_insert(error.into());
                return;
            }
        };
        match &mut self.to {
            Ok(file) => {
                if let Err(error) = file.write_all(line.as_bytes()) {
                    self.failed.get_or_insert(error);
                }
            }
            Err(sink) => _ = sink.put(line.as_bytes()),
        }
    }
}
