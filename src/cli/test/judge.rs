//! Whether a run is what the test wants: from the lines of its console and from its end to a verdict.

use std::time::Duration;

use super::lines::Heard;
use crate::config::{Pattern, TestConfig};

/// Characters shown of a line.
const SHOWN: usize = 200;

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// The exit status, 128 + N after signal N.
    pub status: i32,
    /// The result file's word for it: `shutdown`, `fault`, `timeout`, …; empty if there is none.
    pub reason: String,
    /// The first line of what it says.
    pub message: String,
    /// Why it was ended from outside, if it was.
    pub cut: Option<Cut>,
}

/// Why a run was ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The judge has seen enough.
    Enough,
    /// The others are ended as well.
    Cancelled,
    /// axvmm itself has not ended in time.
    Hung,
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    /// For these reasons; at least one.
    Failed(Vec<Reason>),
    /// It was not run to its end.
    Cancelled,
}

/// Why a run has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// For programs: `forbidden-line`, `missing-line`, `no-prompt`, `status`, `timeout`, `axvmm`.
    pub kind: &'static str,
    /// For people.
    pub text: String,
}

/// What is to be done about what was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Type this.
    Type(String),
    /// The run need not go on: all that is wanted has come.
    Stop,
    /// The run has failed, and need not go on for long.
    Fail,
}

/// A test that listens to its guest.
#[derive(Debug)]
pub struct Judge<'a> {
    test: &'a TestConfig,
    /// How many of the lines wanted have come, and whether the latest is the line that goes on.
    seen: usize,
    seen_here: bool,
    answered: usize,
    /// Up to where in the line that goes on a prompt was found.
    looked: usize,
    /// The line that must not come, its number, and what is against it.
    forbidden: Option<(u64, String, &'a Pattern)>,
    lines: u64,
}

impl<'a> Judge<'a> {
    pub fn new(test: &'a TestConfig) -> Self {
        let (seen, answered, looked, lines) = Default::default();
        Self { test, seen, seen_here: false, answered, looked, forbidden: None, lines }
    }

    /// Takes note of what the guest has printed.
    pub fn hear(&mut self, heard: &Heard) -> Vec<Act> {
        let mut acts = Vec::new();
        let (text, is_whole) = match heard {
            Heard::Line(text) => (text, true),
            Heard::Begun(text) => (text, false),
        };
        self.answer(text, &mut acts);
        if let Some(wanted) = self.test.expect.get(self.seen).filter(|_| !self.seen_here) {
            let found = if is_whole { wanted.0.is_match(text) } else { stays_found(wanted, text) };
            self.seen += usize::from(found);
            self.seen_here = found;
        }
        if is_whole {
            self.lines += 1;
            (self.looked, self.seen_here) = (0, false);
            if self.forbidden.is_none() {
                let pattern = self.test.forbid.iter().find(|pattern| pattern.0.is_match(text));
                self.forbidden = pattern.map(|it| (self.lines, shown(text), it));
                acts.extend(self.forbidden.is_some().then_some(Act::Fail));
            }
        }
        // The rest of the line might still be one that must not come.
        let has_typed = self.answered == self.test.answers.len();
        if self.test.status.is_none() && self.has_all() && has_typed && self.forbidden.is_none() {
            acts.push(Act::Stop);
        }
        acts
    }

    fn answer(&mut self, text: &str, acts: &mut Vec<Act>) {
        while let Some(answer) = self.test.answers.get(self.answered) {
            if !text.is_char_boundary(self.looked) {
                return;
            }
            let Some(found) = answer.prompt.0.find_at(text, self.looked) else { return };
            // What is found nowhere in particular is not to be found there for ever.
            self.looked = found.end().max(self.looked + usize::from(found.is_empty()));
            self.answered += 1;
            acts.push(Act::Type(answer.keys.clone()));
        }
    }

    fn has_all(&self) -> bool {
        self.seen == self.test.expect.len()
    }

    /// What is to be said of a run that ended so.
    pub fn verdict(&self, end: &End) -> Verdict {
        let mut reasons = Vec::new();
        if let Some((number, line, pattern)) = &self.forbidden {
            reasons.push(Reason {
                kind: "forbidden-line",
                text: format!("line {number} has {pattern}, which must not come: {line}"),
            });
        } else if end.cut == Some(Cut::Cancelled) {
            return Verdict::Cancelled;
        }
        reasons.extend(self.judge_end(end));
        let expect = &self.test.expect;
        if let Some(missing) = expect.get(self.seen) {
            let which = match expect.len() {
                1 => String::new(),
                all => format!(" ({} of {all})", self.seen + 1),
            };
            let after = match self.seen.checked_sub(1).and_then(|it| expect.get(it)) {
                Some(before) => format!(" after that with {before}"),
                None => String::new(),
            };
            let text = format!("no line with {missing}{which} came{after}");
            reasons.push(Reason { kind: "missing-line", text });
        }
        if let Some(answer) = self.test.answers.get(self.answered) {
            let text = format!("the prompt {} did not come", answer.prompt);
            reasons.push(Reason { kind: "no-prompt", text });
        }
        if reasons.is_empty() { Verdict::Passed } else { Verdict::Failed(reasons) }
    }

    fn judge_end(&self, end: &End) -> Option<Reason> {
        let message = match end.message.as_str() {
            // It says no more than the status.
            _ if end.reason == "test-exit" => String::new(),
            "" => String::new(),
            message => format!(": {}", shown(message)),
        };
        if end.cut == Some(Cut::Hung) {
            let text = "axvmm did not end the guest in time, and was killed".to_owned();
            return Some(Reason { kind: "axvmm", text });
        }
        if ["config", "host", "failed", ""].contains(&end.reason.as_str()) && end.cut.is_none() {
            let text = format!("axvmm could not run it (status {}){message}", end.status);
            return Some(Reason { kind: "axvmm", text });
        }
        if end.cut == Some(Cut::Enough) {
            return None;
        }
        match self.test.status {
            Some(wanted) if i32::from(wanted) == end.status => None,
            None if self.has_all() => None,
            _ if end.reason == "timeout" => {
                let text = format!("it did not end within {}", time(self.test.timeout));
                Some(Reason { kind: "timeout", text })
            }
            Some(wanted) => {
                let text = format!("it ended with status {}, not {wanted}{message}", end.status);
                Some(Reason { kind: "status", text })
            }
            None => {
                let text = format!("it ended with status {}, too early{message}", end.status);
                Some(Reason { kind: "status", text })
            }
        }
    }
}

/// A time as people write it.
fn time(time: Duration) -> String {
    format!("{time:?}")
}

/// Whether the pattern is found in what has come of a line, and will be in all of it: neither what
/// goes on with a word nor what does not takes it back.
fn stays_found(pattern: &Pattern, begun: &str) -> bool {
    ["a", "\u{1}"].iter().all(|next| pattern.0.is_match(&format!("{begun}{next}")))
}

/// As much of a line as a person reads.
fn shown(line: &str) -> String {
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests;
