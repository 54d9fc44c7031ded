//! What became of a test in all its runs.

use std::time::Duration;

use super::{
    judge::{Reason, Verdict},
    one::Ran,
    plan::Test,
};
use crate::cli::Failure;

/// A test, and what became of its runs so far.
#[derive(Clone, Debug)]
pub struct Outcome<'a> {
    pub test: &'a Test,
    pub passed: u32,
    pub failed: u32,
    /// Runs that were begun, and ended with the others.
    pub cancelled: u32,
    /// Of all its runs.
    pub time: Duration,
    /// The first run that failed, and its number, counted from 1.
    pub failure: Option<(u32, Box<Ran>)>,
}

impl<'a> Outcome<'a> {
    pub fn new(test: &'a Test) -> Self {
        let (passed, failed, cancelled, time) = Default::default();
        Self { test, passed, failed, cancelled, time, failure: None }
    }

    /// Takes note of a run.
    pub fn add(&mut self, number: u32, ran: Ran) {
        self.time += ran.time;
        match ran.verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Cancelled => self.cancelled += 1,
            Verdict::Failed(_) => {
                self.failed += 1;
                self.failure.get_or_insert((number, Box::new(ran)));
            }
        }
    }

    pub fn has_failed(&self) -> bool {
        self.failed > 0
    }

    /// All its runs that have an end passed, and there is one.
    pub fn has_passed(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// Why it failed; empty if it did not.
    pub fn reasons(&self) -> &[Reason] {
        match self.failure.as_ref().map(|(_, ran)| &ran.verdict) {
            Some(Verdict::Failed(reasons)) => reasons,
            _ => &[],
        }
    }

    /// Where failing is not the rule, how often it failed; `None` if it was one run or none failed.
    pub fn how_often(&self) -> Option<String> {
        let runs = self.passed + self.failed;
        let flaky = if self.passed > 0 { ": it is flaky" } else { "" };
        (self.failed > 0 && runs > 1)
            .then(|| format!("failed {} of {runs} times{flaky}", self.failed))
    }
}

/// The run of a test that could not be.
pub fn not_started(failure: &Failure) -> Ran {
    let reason = Reason { kind: "axvmm", text: failure.message.clone() };
    Ran {
        verdict: Verdict::Failed(vec![reason]),
        end: Default::default(),
        time: Duration::ZERO,
        reboots: 0,
        console: Vec::new(),
        messages: Vec::new(),
    }
}
