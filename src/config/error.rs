//! What is wrong with a configuration, told so that a person finds the spot and the remedy.

use std::fmt;

use serde::Serialize;

/// All that is wrong with a configuration; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Error {
    problems: Vec<Problem>,
    /// How many more there are.
    more: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file's name, `--set #2`, or a flag's name.
    pub origin: String,
    /// Counted from 1; `None` outside a file, or where the file as a whole is meant.
    pub line: Option<usize>,
    /// In characters, counted from 1.
    pub column: Option<usize>,
    /// What is wrong, and what to do about it.
    pub message: String,
    /// Where it is written.
    pub excerpt: Option<Excerpt>,
    /// What to do about it.
    pub help: Option<String>,
}

/// The line that a problem stands in, fit for a terminal, and what is marked in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Excerpt {
    /// The line.
    pub text: String,
    /// How many characters of `text` come before the mark.
    pub before: usize,
    /// How many characters are marked; at least 1.
    pub marked: usize,
}

/// Characters shown of a long line.
const WIDTH: usize = 100;
/// Of these, characters before the mark.
const LEAD: usize = 40;
/// Problems shown of a file that has many.
const SHOWN: usize = 20;

impl Error {
    pub(super) fn new(problems: Vec<Problem>, more: usize) -> Self {
        debug_assert!(!problems.is_empty());
        Self { problems, more }
    }

    /// All that several files have wrong, each thing told once; `None` if there is none.
    pub fn all_of(errors: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut all = Self { problems: Vec::new(), more: 0 };
        for error in errors {
            all.more += error.more;
            for problem in error.problems {
                // A wrong `--set` is found anew with each file.
                if !all.problems.contains(&problem) {
                    all.problems.push(problem);
                }
            }
        }
        (!all.problems.is_empty()).then_some(all)
    }

    /// Each problem, in the order of the text; of more than a hundred, a hundred.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::new(vec![problem], 0)
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().take(SHOWN).enumerate() {
            if index > 0 {
                writeln!(f, "\n")?;
            }
            problem.fmt(f)?;
        }
        match self.problems.len().saturating_sub(SHOWN) + self.more {
            0 => Ok(()),
            more => write!(f, "\n\nand {more} more"),
        }
    }
}

impl Problem {
    /// A problem with no place; the rest is filled in by who knows it.
    pub(super) fn new(message: impl Into<String>) -> Self {
        // A path from a file may hold what steers a terminal.
        let message = message.into().chars().map(printable).collect();
        Self { origin: String::new(), line: None, column: None, message, excerpt: None, help: None }
    }

    /// A problem of a whole file.
    pub(super) fn of_file(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self { origin: name.into(), ..Self::new(message) }
    }

    /// Says what to do about it.
    pub(crate) fn help(&mut self, help: impl Into<String>) {
        self.help = Some(help.into());
    }

    pub(super) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help(help);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(excerpt) = &self.excerpt {
            let number = self.line.map(|line| line.to_string()).unwrap_or_default();
            let margin = " ".repeat(number.len());
            write!(f, "\n  {number} | {}", excerpt.text)?;
            write!(f, "\n  {margin} | {}", " ".repeat(excerpt.before))?;
            f.write_str(&"^".repeat(excerpt.marked))?;
        }
        match &self.help {
            Some(help) => write!(f, "\n  {help}"),
            None => Ok(()),
        }
    }
}

impl Excerpt {
    /// Cuts the line to what fits a terminal, marking `length` characters from `column` (counted
    /// from 1). What a terminal would not print as one cell is replaced.
    pub(super) fn new(line: &str, column: usize, length: usize) -> Self {
        let mark = column - 1;
        let skip = if line.chars().count() <= WIDTH { 0 } else { mark.saturating_sub(LEAD) };
        let mut text: String = if skip > 0 { "…".into() } else { String::new() };
        let mut rest = line.chars().skip(skip + usize::from(skip > 0));
        text.extend(rest.by_ref().take(WIDTH).map(printable));
        if rest.next().is_some() {
            text.push('…');
        }
        // The mark may be on what ends the line, which is not shown.
        let width = text.chars().count();
        let before = (mark - skip).min(width);
        let room = width - before;
        Self { text, before, marked: length.min(room).max(1) }
    }
}

fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        // These two ranges change the direction of what follows.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_cut_around_the_mark() {
        let line = format!("{}memroy{}", "x".repeat(5000), "y".repeat(5000));
        let excerpt = Excerpt::new(&line, 5001, 6);
        let marked: String =
            excerpt.text.chars().skip(excerpt.before).take(excerpt.marked).collect();
        assert_eq!(marked, "memroy");
        assert!(excerpt.text.chars().count() <= WIDTH + 2);
    }

    #[test]
    fn a_mark_on_the_end_of_a_line_stands_right_behind_it() {
        for (line, column) in [("", 1), ("", 3), ("ab", 3), ("ab", 4)] {
            let excerpt = Excerpt::new(line, column, 0);
            assert_eq!((excerpt.before, excerpt.marked), (line.len(), 1), "{line:?}");
        }
    }

    #[test]
    fn nothing_in_an_excerpt_can_steer_the_terminal() {
        let excerpt = Excerpt::new("a\t\u{1b}[2J\u{202e}", 2, 100);
        assert_eq!(excerpt.text, "a \u{fffd}[2J\u{fffd}");
        assert_eq!((excerpt.before, excerpt.marked), (1, 6));
    }
}
