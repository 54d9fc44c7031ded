//! Where a configuration's text comes from, and places in it.

use std::path::PathBuf;

use super::error::{Excerpt, Problem};
use crate::vm::config::WrittenAt;

/// A text that configuration is read from.
#[derive(Debug)]
pub(crate) struct Source {
    pub origin: Origin,
    pub text: String,
    /// What relative paths in it are relative to.
    pub base_dir: PathBuf,
    /// Where each line begins.
    lines: Vec<usize>,
}

#[derive(Debug)]
pub(crate) enum Origin {
    /// A file, by the name that the user gave it.
    File(String),
    /// A file of another program's, likewise: it does not have our keys.
    Foreign(String),
    /// The n-th `--set`, counted from 1.
    Set(usize),
    /// Another option of the command line, as messages name it.
    Flag(String),
}

/// A stretch of a source: the source's number and the bytes from `start` up to `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub(crate) source: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    /// What is written.
    pub value: T,
    /// Where it is written.
    pub place: Place,
}

impl Source {
    pub fn new(origin: Origin, text: String, base_dir: PathBuf) -> Self {
        let after_newlines = text.match_indices('\n').map(|(newline, _)| newline + 1);
        let lines = std::iter::once(0).chain(after_newlines).collect();
        Self { origin, text, base_dir, lines }
    }

    /// A problem at `place`, which is one of this source.
    pub fn problem(&self, place: Place, message: String) -> Problem {
        let (line, column, text) = self.line_at(place.start);
        let marked = self.text.get(place.start..place.end).unwrap_or("");
        let length = marked.lines().next().unwrap_or("").chars().count();
        let excerpt = Excerpt::new(text, column, length);
        match &self.origin {
            Origin::File(name) | Origin::Foreign(name) => Problem {
                origin: name.clone(),
                line: Some(line),
                column: Some(column),
                excerpt: Some(excerpt),
                ..Problem::new(message)
            },
            Origin::Set(number) => Problem {
                origin: format!("--set #{number}"),
                excerpt: Some(excerpt),
                ..Problem::new(message)
            },
            Origin::Flag(name) => Problem { origin: name.clone(), ..Problem::new(message) },
        }
    }

    /// The place for those that know no sources.
    pub fn written_at(&self, place: Place) -> WrittenAt {
        let (line, column, _) = self.line_at(place.start);
        let (origin, in_file) = match &self.origin {
            Origin::File(name) | Origin::Foreign(name) => (name.clone(), true),
            Origin::Set(number) => (format!("--set #{number}"), false),
            Origin::Flag(name) => (name.clone(), false),
        };
        WrittenAt { origin, line: in_file.then_some(line), column: in_file.then_some(column) }
    }

    /// The number, counted from 1, of the line that a byte lies in.
    pub fn line(&self, byte: usize) -> usize {
        self.lines.partition_point(|start| *start <= byte)
    }

    /// The line and column, both counted from 1, of a byte, and the line's text.
    fn line_at(&self, byte: usize) -> (usize, usize, &str) {
        let mut byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        let line = self.line(byte);
        let start = self.lines[line - 1];
        let end = self.lines.get(line).map_or(self.text.len(), |next| next - 1);
        let column = self.text[start..byte].chars().count() + 1;
        (line, column, self.text[start..end].trim_end_matches('\r'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        let origin = Origin::File("guest.toml".into());
        Source::new(origin, text.into(), PathBuf::new())
    }

    #[test]
    fn lines_and_columns_count_characters_from_1() {
        let source = source("a\r\nbä = 1\n\nend");
        assert_eq!(source.line_at(0), (1, 1, "a"));
        assert_eq!(source.line_at(6), (2, 3, "bä = 1"));
        assert_eq!(source.line_at(5), (2, 2, "bä = 1")); // inside the two bytes of ä
        assert_eq!(source.line_at(11), (3, 1, ""));
        assert_eq!(source.line_at(usize::MAX), (4, 4, "end"));
    }
}
