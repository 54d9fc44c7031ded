//! One run of a test: a process of its own with `axvmm run`, from its start to its end.

mod process;

use std::{
    collections::VecDeque,
    fs,
    os::{fd::AsFd, unix::process::ExitStatusExt},
    path::Path,
    time::{Duration, Instant},
};

use nix::sys::eventfd::EventFd;
use serde_json::Value;

use self::process::{Event, Process};
use super::{
    judge::{Act, Cut, End, Judge, Verdict},
    lines::{Heard, Lines},
    log::Log,
    plan::Test,
};
use crate::cli::Failure;

/// The files of a run.
pub const CONSOLE: &str = "console.log";
pub const MESSAGES: &str = "messages.log";
pub const RESULT: &str = "result.json";

/// Lines kept of a console's end, and of axvmm's messages.
const KEPT: usize = 64;
/// How long a guest goes on that has failed: what it says of that comes then.
const AFTERMATH: Duration = Duration::from_secs(1);
/// How long axvmm may take to end a guest.
const GRACE: Duration = Duration::from_secs(10);

/// What a run was.
#[derive(Clone, Debug)]
pub struct Ran {
    pub verdict: Verdict,
    pub end: End,
    pub time: Duration,
    /// How often the guest reset itself.
    pub reboots: u64,
    /// The console's last lines, and axvmm's.
    pub console: Vec<String>,
    pub messages: Vec<String>,
}

/// The last lines of a text.
#[derive(Debug, Default)]
struct Last(VecDeque<String>);

impl Last {
    fn put(&mut self, line: String) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(line);
    }
}

/// A stream of the process: to its file, and as lines.
struct Stream {
    lines: Lines,
    log: Log,
    last: Last,
}

impl Stream {
    fn new(path: &Path, log_size: u64) -> Self {
        Self { lines: Lines::default(), log: Log::create(path, log_size), last: Last::default() }
    }

    fn take(&mut self, bytes: &[u8], mut hear: impl FnMut(&Heard)) {
        self.log.put(bytes);
        self.lines.take(bytes, |heard| {
            hear(&heard);
            if let Heard::Line(line) = heard {
                self.last.put(line);
            }
        });
    }

    /// The last lines; that the file lacks something is one of them.
    fn finish(mut self, mut hear: impl FnMut(&Heard)) -> Vec<String> {
        if let Some(rest) = self.lines.finish() {
            hear(&Heard::Line(rest.clone()));
            self.last.put(rest);
        }
        if let Err(error) = self.log.finish() {
            self.last.put(format!("[axvmm: the log is not complete: {error}]"));
        }
        self.last.0.into()
    }
}

/// When the process is to be ended by force if nothing happens before, and why.
struct Deadline {
    at: Instant,
    cut: Cut,
    /// It has been asked to end, and is killed then.
    kills: bool,
}

/// Runs a test once, with its files in `dir`, logs of which have so many bytes and the end, until it has ended or `stop` can be read.
pub fn run(test: &Test, dir: &Path, log_size: u64, stop: &EventFd) -> Result<Ran, Failure> {
    let result = dir.join(RESULT);
    // One of an earlier run would be taken for this one's.
    let _ = fs::remove_file(&result);
    let started = Instant::now();
    let mut process = Process::start(test, &result)?;
    let mut judge = Judge::new(&test.config);
    let mut console = Stream::new(&dir.join(CONSOLE), log_size);
    let mut messages = Stream::new(&dir.join(MESSAGES), log_size);
    let hung = started + test.config.timeout + GRACE;
    let mut deadline = Deadline { at: hung, cut: Cut::Hung, kills: true };
    let mut cut = None;
    let mut stop = Some(stop.as_fd());
    loop {
        match process.wait(stop, deadline.at)? {
            Event::Console(bytes) => {
                let mut acts = Vec::new();
                console.take(&bytes, |heard| acts.extend(judge.hear(heard)));
                for act in acts {
                    let now = Instant::now();
                    match act {
                        Act::Type(keys) => process.type_in(&keys),
                        Act::Stop if cut.is_none() => {
                            deadline = Deadline { at: now, cut: Cut::Enough, kills: false };
                        }
                        Act::Fail if cut.is_none() => {
                            let at = (now + AFTERMATH).min(deadline.at);
                            deadline = Deadline { at, cut: Cut::Enough, kills: false };
                        }
                        Act::Stop | Act::Fail => {}
                    }
                }
            }
            Event::Message(bytes) => messages.take(&bytes, |_| {}),
            Event::Stop => {
                stop = None;
                deadline = Deadline { at: Instant::now(), cut: Cut::Cancelled, kills: false };
            }
            Event::Time if deadline.kills => {
                cut = cut.or(Some(deadline.cut));
                process.kill();
                // A process that is killed ends, if late.
                deadline.at += GRACE;
            }
            Event::Time => {
                cut = cut.or(Some(deadline.cut));
                process.ask_to_end();
                deadline = Deadline { at: Instant::now() + GRACE, cut: Cut::Hung, kills: true };
            }
            Event::Ended => break,
        }
    }
    let time = started.elapsed();
    let status = process.finish()?;
    let status = status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(1);
    let console = console.finish(|heard| _ = judge.hear(heard));
    let messages = messages.finish(|_| {});
    let result = fs::read(&result).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let result: Value = result.unwrap_or_default();
    let said = result["message"].as_str().or(messages.last().map(String::as_str));
    let message = said.and_then(|said| said.lines().next()).unwrap_or_default().to_owned();
    let reason = result["reason"].as_str().unwrap_or_default().to_owned();
    let end = End { status, reason, message, cut };
    let reboots = result["reboots"].as_u64().unwrap_or(0);
    Ok(Ran { verdict: judge.verdict(&end), end, time, reboots, console, messages })
}
