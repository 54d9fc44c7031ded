//! Collecting problems and notes while a configuration is read.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    error::{Error, Problem},
    source::{Origin, Place, Source},
};
use crate::vm::config::WrittenAt;

/// Problems that are kept; the rest of a file that has more is much the same.
const KEPT: usize = 100;

/// The sources of a configuration and all that was found in them so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    sources: Vec<Source>,
    problems: Vec<(Place, Problem)>,
    /// How many problems there are beyond those that are kept, and the last of them.
    more: usize,
    dropped: Problem,
    notes: Vec<(Place, String)>,
    /// Files and directories that are named.
    files: BTreeSet<PathBuf>,
    /// The key that is being read, e.g. `kernel.memory_regions[1].size`.
    path: Vec<String>,
    /// Keys whose values could not be read.
    bad: BTreeSet<String>,
    elsewhere: Option<Elsewhere>,
}

/// Says of a table and the name of a key that it does not have where that key would be right.
type Elsewhere = fn(&str, &str) -> Option<String>;

impl Report {
    /// Adds a source and gives its number.
    pub fn add_source(&mut self, source: Source) -> usize {
        self.sources.push(source);
        self.sources.len() - 1
    }

    /// Unknown keys are looked for by this.
    pub fn look_elsewhere(&mut self, by: Elsewhere) {
        self.elsewhere = Some(by);
    }

    /// Where a key that `table` does not have would be right.
    pub fn elsewhere(&self, table: &str, name: &str) -> Option<String> {
        self.elsewhere.and_then(|by| by(table, name))
    }

    pub fn source_of(&self, place: Place) -> &Source {
        &self.sources[place.source]
    }

    pub fn written_at(&self, place: Place) -> WrittenAt {
        self.source_of(place).written_at(place)
    }

    /// Something is wrong at `place`.
    pub fn problem(&mut self, place: Place, message: impl Into<String>) -> &mut Problem {
        if self.problems.len() == KEPT {
            self.more += 1;
            return &mut self.dropped;
        }
        let problem = self.source_of(place).problem(place, message.into());
        self.problems.push((place, problem));
        &mut self.problems.last_mut().expect("one was just pushed").1
    }

    /// Something is wrong with what `key` says at `place`.
    pub fn problem_of(
        &mut self,
        key: &str,
        place: Place,
        message: impl AsRef<str>,
    ) -> &mut Problem {
        let message = message.as_ref();
        // Who gave an option of the command line, or another program's file, need not know which key
        // it stands for.
        match self.source_of(place).origin {
            Origin::Flag(_) | Origin::Foreign(_) => self.problem(place, message),
            _ => self.problem(place, format!("{key}: {message}")),
        }
    }

    /// The value of the key being read is wrong.
    pub fn bad_value(&mut self, place: Place, message: impl AsRef<str>) -> &mut Problem {
        let path = self.path();
        self.bad.insert(path.clone());
        self.problem_of(&path, place, message)
    }

    /// Whether the value of `key` was wrong: what it says together with others means nothing then.
    pub fn is_bad(&self, key: &str) -> bool {
        self.bad.contains(key)
    }

    /// Something is wrong with the first source as a whole.
    pub fn whole(&mut self, message: &str) -> &mut Problem {
        let problem = self.problem(Place::default(), message);
        (problem.line, problem.column, problem.excerpt) = (None, None, None);
        problem
    }

    /// Something is done in another way than the text at `place` asks for.
    pub fn note(&mut self, place: Place, text: impl AsRef<str>) {
        let note = format!("{}: {}", self.written_at(place), text.as_ref());
        self.notes.push((place, note));
    }

    /// Reads on one level down: `.key`.
    pub fn in_key<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.inside(format!("{dot}{key}"), read)
    }

    /// Reads on one level down: `[index]`.
    pub fn in_element<T>(&mut self, index: usize, read: impl FnOnce(&mut Self) -> T) -> T {
        self.inside(format!("[{index}]"), read)
    }

    fn inside<T>(&mut self, step: String, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step);
        let value = read(self);
        self.path.pop();
        value
    }

    /// The key that is being read.
    pub fn path(&self) -> String {
        self.path.concat()
    }

    pub fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// This file or directory is named.
    pub fn names_file(&mut self, path: &Path) {
        self.files.insert(path.to_owned());
    }

    /// All files and directories that were named so far.
    pub fn files(&self) -> Vec<PathBuf> {
        self.files.iter().cloned().collect()
    }

    /// All notes, in the order of the text.
    pub fn into_notes(mut self) -> Vec<String> {
        self.notes.sort_by_key(|(place, _)| *place);
        self.notes.into_iter().map(|(_, note)| note).collect()
    }

    /// All problems, in the order of the text.
    pub fn into_error(mut self) -> Error {
        self.problems.sort_by_key(|(place, _)| *place);
        let problems = self.problems.into_iter().map(|(_, problem)| problem);
        Error::new(problems.collect(), self.more)
    }
}
