//! For GitHub: what failed, as annotations of the files (GitHub's "Workflow commands for GitHub
//! Actions").

use super::super::suite::Ended;

/// A line for each test that failed.
pub fn annotations(ended: &Ended<'_>) -> String {
    let failed = ended.outcomes.iter().filter(|outcome| outcome.has_failed());
    let line = failed.map(|outcome| {
        let at = outcome.test.config.at.as_ref().and_then(|at| at.line);
        let line = at.map(|line| format!(",line={line}")).unwrap_or_default();
        let reasons = outcome.reasons().iter().map(|reason| reason.text.clone());
        let message: Vec<_> = outcome.how_often().into_iter().chain(reasons).collect();
        format!(
            "::error file={}{line},title={}::{}\n",
            property(&outcome.test.file.display().to_string()),
            property(&outcome.test.name),
            data(&message.join("\n")),
        )
    });
    line.collect()
}

/// As the text of a command is written.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// As a value before the text is written.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_command_is_escaped() {
        assert_eq!(data("50%\r\n::error::"), "50%25%0D%0A::error::");
        assert_eq!(property("a,b:c\n"), "a%2Cb%3Ac%0A");
    }
}
