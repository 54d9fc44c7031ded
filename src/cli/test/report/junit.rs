//! For CI systems: JUnit's XML, a suite for each file.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::super::{outcome::Outcome, suite::Ended};
use crate::cli::Failure;

/// The report's text.
pub fn xml(ended: &Ended<'_>) -> Result<String, Failure> {
    let mut report = Report::new("axvmm");
    report.set_time(ended.took);
    for file in ended.outcomes.chunk_by(|a, b| a.test.file == b.test.file) {
        let name = file[0].test.file.display().to_string();
        let mut suite = TestSuite::new(name.as_str());
        suite.set_time(file.iter().map(|outcome| outcome.time).sum());
        suite.add_test_cases(file.iter().map(|outcome| case(&name, outcome)));
        report.add_test_suite(suite);
    }
    report.to_string().map_err(|error| Failure::failed(format!("Failed to write JUnit: {error}")))
}

fn case(file: &str, outcome: &Outcome<'_>) -> TestCase {
    let status = match &outcome.failure {
        Some((_, ran)) => {
            let kind = match outcome.reasons().first().map(|reason| reason.kind) {
                Some("axvmm") => NonSuccessKind::Error,
                _ => NonSuccessKind::Failure,
            };
            let mut status = TestCaseStatus::non_success(kind);
            let reasons: Vec<_> = outcome.reasons().iter().map(|it| it.text.as_str()).collect();
            let message: Vec<_> =
                outcome.how_often().into_iter().chain([reasons.join("; ")]).collect();
            status.set_message(message.join("; "));
            status.set_type(outcome.reasons().first().map_or("failed", |reason| reason.kind));
            let console = ran.console.join("\n");
            status.set_description(format!("{}\n\n{console}\n", reasons.join("\n")));
            status
        }
        None if outcome.has_passed() => TestCaseStatus::success(),
        None => TestCaseStatus::skipped(),
    };
    let mut case = TestCase::new(outcome.test.name.as_str(), status);
    case.set_classname(file).set_time(outcome.time);
    if let Some((_, ran)) = &outcome.failure {
        case.set_system_out(ran.console.join("\n")).set_system_err(ran.messages.join("\n"));
    }
    case
}
