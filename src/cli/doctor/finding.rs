//! What the doctor finds, and how it is shown.

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// Guests run, with something to know.
    Warn,
    /// No guest can run.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub subject: &'static str,
    pub level: Level,
    /// What is the case.
    pub what: String,
    /// More about it, each a line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// What to do about it, unless all is well.
    pub remedy: Option<String>,
}

impl Finding {
    pub fn ok(subject: &'static str, what: impl Into<String>) -> Self {
        Self { subject, level: Level::Ok, what: what.into(), details: vec![], remedy: None }
    }

    pub fn warn(subject: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { subject, level: Level::Warn, what: what.into(), details: vec![], remedy }
    }

    pub fn fail(subject: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Fail, ..Self::warn(subject, what, remedy) }
    }

    /// A line or two for a person.
    pub fn to_text(&self, colours: bool) -> String {
        let (word, colour) = match self.level {
            Level::Ok => ("ok", 32),
            Level::Warn => ("warn", 33),
            Level::Fail => ("fail", 31),
        };
        let (on, off) = match colours {
            true => (format!("\x1b[{colour}m"), "\x1b[0m"),
            false => (String::new(), ""),
        };
        let mut text = format!("{on}{word:<4}{off}  {:<16} {}\n", self.subject, self.what);
        for detail in &self.details {
            text.push_str(&format!("{:23}{detail}\n", ""));
        }
        if let Some(remedy) = &self.remedy {
            text.push_str(&format!("{:23}-> {remedy}\n", ""));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        let finding = Finding::warn("KVM", "slow", "wait");
        assert_eq!(
            finding.to_text(false),
            "warn  KVM              slow\n                       -> wait\n"
        );
        assert!(finding.to_text(true).starts_with("\x1b[33mwarn\x1b[0m  KVM"));
    }
}
