//! What is told of the tests: to people as it happens and at the end, and to programs.

mod github;
mod json;
pub mod junit;
mod people;

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    path::Path,
    time::{Duration, Instant},
};

use self::json::Lines;
use super::{judge::Verdict, one::Ran, plan::Test, suite::Ended};
use crate::cli::{
    Failure,
    console::terminal,
    log_output,
    sink::{Settings, Sink},
};

/// How long a pipe that nobody reads holds up the tests.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long it may hold up the end.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// Tells of each run as it ends, and of all at the end.
pub struct Reporter {
    /// Where people read: stdout, or stderr if that is for a program.
    to: Sink,
    json: Option<Lines>,
    github: bool,
    repeat: u32,
    /// On a terminal the last line says what runs.
    has_terminal: bool,
    begun: Instant,
    all: usize,
    done: usize,
    running: BTreeMap<String, Instant>,
}

impl Reporter {
    pub fn new(json: Option<&Path>, github: bool, repeat: u32) -> Result<Self, Failure> {
        let settings = Settings { name: "tests", patience: PATIENCE, report: |_| {} };
        let is_stdout = json.is_some_and(|path| path.as_os_str() == "-");
        let (to, is_terminal) = if is_stdout {
            (Sink::new(io::stderr(), settings), io::stderr().is_terminal())
        } else {
            (Sink::new(io::stdout(), settings), io::stdout().is_terminal())
        };
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Ok(Self {
            to,
            json: json.map(Lines::to).transpose()?,
            github,
            repeat,
            has_terminal: is_terminal && !is_dumb,
            begun: Instant::now(),
            all: 0,
            done: 0,
            running: BTreeMap::new(),
        })
    }

    pub fn shows_progress(&self) -> bool {
        self.has_terminal
    }

    /// So many runs there are to be.
    pub fn begin(&mut self, runs: usize) {
        (self.begun, self.all) = (Instant::now(), runs);
    }

    pub fn started(&mut self, name: &str) {
        self.running.insert(name.to_owned(), Instant::now());
        self.tick();
    }

    pub fn ended(&mut self, test: &Test, number: u32, ran: &Ran) {
        self.running.remove(&test.name);
        self.done += 1;
        let which = (self.repeat > 1).then_some(number);
        self.tell(&people::line(test, which, ran, log_output::colourful(&io::stdout())));
        if let Some(json) = &mut self.json {
            json.run(test, which, ran);
        }
        self.tick();
    }

    /// Shows on a terminal what runs now.
    pub fn tick(&self) {
        if self.has_terminal {
            let width = terminal::size().map_or(80, |(columns, _)| usize::from(columns));
            let running = self.running.iter().map(|(name, since)| (&name[..], since.elapsed()));
            let line = people::progress(self.done, self.all, running, self.begun.elapsed(), width);
            self.to.put(format!("\r\x1b[2K{line}").as_bytes());
        }
    }

    /// Tells people, in the place of the line that says what runs.
    fn tell(&self, text: &str) {
        let clear = if self.has_terminal { "\r\x1b[2K" } else { "" };
        self.to.put(format!("{clear}{text}").as_bytes());
    }

    /// Tells what became of all.
    pub fn finish(mut self, ended: &Ended<'_>, output: &Path) -> Result<(), Failure> {
        self.tell(&people::summary(ended, output));
        if self.github {
            self.tell(&github::annotations(ended));
        }
        flush(&self.to);
        self.json.take().map_or(Ok(()), |json| json.finish(ended))
    }
}

/// Waits until all is written, but not for ever.
fn flush(sink: &Sink) {
    log_output::flush_one(sink, LAST_PATIENCE);
}

/// A word for a verdict.
fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed(_) => "failed",
        Verdict::Cancelled => "cancelled",
    }
}
