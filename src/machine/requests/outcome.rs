//! What became of a row, as a value.

use std::fmt;

use serde::Serialize;

use crate::vm::config::WrittenAt;

/// A row of an AxVisor file, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestOutcome {
    /// The key that the row stands under.
    pub kind: RequestKind,
    /// The row's name, path or addresses; empty for a key that is no list.
    pub name: String,
    /// Where it is written.
    pub at: WrittenAt,
    /// What became of it.
    pub outcome: Outcome,
    /// What the guest finds, for a user to read.
    pub sentence: String,
}

/// A key of AxVisor's that asks a board for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestKind {
    /// `memory_regions`.
    MemoryRegions,
    /// `emu_devices`.
    EmuDevices,
    /// `passthrough_devices`.
    PassthroughDevices,
    /// `passthrough_addresses`.
    PassthroughAddresses,
    /// `excluded_devices`.
    ExcludedDevices,
    /// `interrupt_mode`.
    InterruptMode,
}

impl fmt::Display for RequestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MemoryRegions => "memory_regions",
            Self::EmuDevices => "emu_devices",
            Self::PassthroughDevices => "passthrough_devices",
            Self::PassthroughAddresses => "passthrough_addresses",
            Self::ExcludedDevices => "excluded_devices",
            Self::InterruptMode => "interrupt_mode",
        })
    }
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The guest has just that.
    AsAsked,
    /// It has something that does the same, or nearly so.
    Instead,
    /// It has nothing there.
    LeftOut,
    /// It cannot be; a plan has none of these.
    Refused,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsAsked => "as asked",
            Self::Instead => "instead",
            Self::LeftOut => "left out",
            Self::Refused => "cannot be",
        })
    }
}

impl RequestOutcome {
    /// What the user is told at the start: only of what is not as asked.
    pub fn note(&self) -> Option<String> {
        (self.outcome != Outcome::AsAsked).then(|| self.to_string())
    }

    /// What is said of it, without its place.
    pub fn message(&self) -> String {
        let Self { kind, name, outcome, sentence, .. } = self;
        // A name from a file may hold what steers a terminal.
        let name = if name.is_empty() { String::new() } else { format!(" {name:?}") };
        format!("{kind}{name}: {outcome}: {sentence}")
    }
}

impl fmt::Display for RequestOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message())
    }
}

/// What a board says to a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What became of it.
    pub outcome: Outcome,
    pub sentence: String,
}

impl Answer {
    pub fn as_asked(sentence: impl Into<String>) -> Self {
        Self { outcome: Outcome::AsAsked, sentence: sentence.into() }
    }

    pub fn instead(sentence: impl Into<String>) -> Self {
        Self { outcome: Outcome::Instead, sentence: sentence.into() }
    }

    pub fn left_out(sentence: impl Into<String>) -> Self {
        Self { outcome: Outcome::LeftOut, sentence: sentence.into() }
    }

    pub fn refuse(sentence: impl Into<String>) -> Self {
        Self { outcome: Outcome::Refused, sentence: sentence.into() }
    }
}
