//! From the bytes of a console to lines of text.

/// A longer line comes in pieces of this many bytes.
const LONGEST: usize = 4096;

/// The line that the next byte goes on with.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
}

/// A line, or what has come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// All of it.
    Line(String),
    /// It may go on.
    Begun(String),
}

impl Lines {
    /// Gives what has come with these bytes: whole lines, and what has begun after the last.
    pub fn take(&mut self, bytes: &[u8], mut give: impl FnMut(Heard)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut rest = piece;
            while self.begun.len() + rest.len() > LONGEST {
                let (now, later) = rest.split_at(LONGEST - self.begun.len());
                self.begun.extend(now);
                rest = later;
                give(Heard::Line(self.end()));
            }
            self.begun.extend(rest);
            if rest.last() == Some(&b'\n') {
                give(Heard::Line(self.end()));
            }
        }
        if !self.begun.is_empty() {
            give(Heard::Begun(text(&self.begun)));
        }
    }

    /// The line that nothing more comes of.
    pub fn finish(mut self) -> Option<String> {
        (!self.begun.is_empty()).then(|| self.end())
    }

    fn end(&mut self) -> String {
        let line = text(&self.begun);
        self.begun.clear();
        line
    }
}

/// Without colours and what else steers a terminal, and without the line's end.
fn text(bytes: &[u8]) -> String {
    // Tabs are text here.
    let parts: Vec<_> = bytes.split(|byte| *byte == b'\t').map(strip_ansi_escapes::strip).collect();
    let text = parts.join(&b'\t');
    String::from_utf8_lossy(text.strip_suffix(b"\n").unwrap_or(&text)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(pieces: &[&[u8]]) -> (Vec<Heard>, Option<String>) {
        let (mut lines, mut heard) = (Lines::default(), Vec::new());
        pieces.iter().for_each(|piece| lines.take(piece, |it| heard.push(it)));
        (heard, lines.finish())
    }

    #[test]
    fn lines_come_whole_whatever_the_pieces() {
        let line = |text: &str| Heard::Line(text.into());
        let begun = |text: &str| Heard::Begun(text.into());
        let (found, rest) = heard(&[b"a\r\nb", b"c\n", b"lo", b"gin: "]);
        assert_eq!(found, [line("a"), begun("b"), line("bc"), begun("lo"), begun("login: ")]);
        assert_eq!(rest.as_deref(), Some("login: "));
    }

    #[test]
    fn colours_are_left_out_and_tabs_are_not() {
        let (found, _) = heard(&[b"\x1b[1;32mok\x1b[0m\tx \xff\n"]);
        assert_eq!(found, [Heard::Line("ok\tx \u{fffd}".into())]);
    }

    #[test]
    fn a_line_without_an_end_comes_in_pieces() {
        let (found, rest) = heard(&[&[b'x'; 3 * LONGEST + 1]]);
        assert_eq!(found.len(), 4);
        assert_eq!(found[0], Heard::Line("x".repeat(LONGEST)));
        assert_eq!(rest.as_deref(), Some("x"));
    }
}
