//! What a guest printed, as far as it is in the recording: each byte was a write to a register.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    cli::trace::names::Names,
    trace::{Event, Reason},
};

/// Of so many registers that print; of others nothing is kept.
const MOST_CONSOLES: usize = 32;
/// Of a line so many bytes, and so many characters.
const LINE_BYTES: usize = 400;
const LINE_CHARS: usize = 100;
/// So many lines are kept of the first ones, and so many of the last.
const FIRST: usize = 200;
const LAST: usize = 100;

/// A line that was printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When its first byte came, in nanoseconds.
    pub time: u64,
    /// The VM's place.
    pub vm: usize,
    /// The window's place, of the device that printed it.
    pub window: usize,
    /// How it begins.
    pub text: String,
}

/// All that was printed.
#[derive(Debug, Default)]
pub struct Lines {
    consoles: BTreeMap<(usize, usize), Console>,
    /// The first ones, in the order in which they began to be printed whole.
    pub first: Vec<Line>,
    /// The last ones of the others.
    pub last: VecDeque<Line>,
    /// How many there were.
    pub count: u64,
}

#[derive(Debug, Default)]
struct Console {
    /// What is in the registers that decide whether a write prints.
    deciding: BTreeMap<u64, u64>,
    began: u64,
    line: Vec<u8>,
}

impl Lines {
    /// Whether something other than an end of a line was printed.
    pub fn add(&mut self, event: &Event, names: &Names) -> bool {
        let record = &event.record;
        let is_write =
            matches!(record.reason(), Some(it @ Reason::Exit(_)) if it.name().ends_with("Write"));
        let (Some(window), true) = (record.window(), is_write && record.width() > 0) else {
            return false;
        };
        let Some((prints, first)) = names.prints(event.vm, Some(window)) else { return false };
        let key = (event.vm, window);
        if self.consoles.len() >= MOST_CONSOLES && !self.consoles.contains_key(&key) {
            return false;
        }
        let console = self.consoles.entry(key).or_default();
        let offset = record.addr().wrapping_sub(first);
        if prints.unless.iter().any(|(at, _)| *at == offset) {
            console.deciding.insert(offset, record.value());
        }
        let value = |at| console.deciding.get(at).copied().unwrap_or(0);
        if offset != prints.offset || prints.unless.iter().any(|(at, bits)| value(at) & bits != 0) {
            return false;
        }
        match record.value() as u8 {
            b'\n' => {
                self.end(key);
                false
            }
            b'\r' => false,
            byte => {
                if console.line.is_empty() {
                    console.began = record.time();
                }
                if console.line.len() < LINE_BYTES {
                    console.line.push(byte);
                }
                true
            }
        }
    }

    fn end(&mut self, (vm, window): (usize, usize)) {
        let Some(console) = self.consoles.get_mut(&(vm, window)) else { return };
        let bytes = std::mem::take(&mut console.line);
        let text = readable(&bytes);
        if text.is_empty() {
            return;
        }
        self.count += 1;
        let line = Line { time: console.began, vm, window, text };
        if self.first.len() < FIRST {
            self.first.push(line);
            return;
        }
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// Nothing more comes: what has no end yet is a line as well.
    pub fn finish(&mut self) {
        let all: Vec<_> = self.consoles.keys().copied().collect();
        all.into_iter().for_each(|console| self.end(console));
    }
}

/// Without what steers a terminal, and without what would not stay in its line.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown = String::new();
    let mut chars = text.chars().peekable();
    let mut count = 0;
    while let Some(char) = chars.next() {
        match char {
            // ECMA-48: CSI, parameters, and one byte from @ to ~ that ends it; or two bytes.
            '\x1b' => {
                if chars.next() == Some('[') {
                    while chars.next().is_some_and(|it| !('@'..='~').contains(&it)) {}
                }
                continue;
            }
            '\t' => shown.push(' '),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => continue,
            it if it.is_control() => continue,
            it => shown.push(it),
        }
        count += 1;
        if count == LINE_CHARS && chars.peek().is_some() {
            shown.push('…');
            break;
        }
    }
    shown.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_without_what_steers_terminals() {
        for (bytes, shown) in [
            (&b"\x1b[1;31mred\x1b[0m  "[..], "red"),
            (b"\x1bc\x07a\tb", "a b"),
            (b"\x1b[", ""),
            (b"\xff<b>&", "\u{fffd}<b>&"),
            ("a\u{202e}b".as_bytes(), "ab"),
        ] {
            assert_eq!(readable(bytes), shown);
        }
        assert_eq!(readable(&[b'x'; 101]).chars().count(), 101);
        assert_eq!(readable(&[b'x'; 100]), "x".repeat(100));
    }
}
