//! Keys, from the bytes that a terminal sends for them.

/// One that means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    CtrlC,
    CtrlL,
    CtrlZ,
}

const ESC: u8 = 0x1b;

/// Puts keys together whose bytes may come in pieces (ECMA-48, 5.4, and what xterm sends).
#[derive(Debug, Default)]
pub struct Keys {
    begun: Begun,
    /// The number in a sequence.
    number: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Begun {
    #[default]
    Nothing,
    Escape,
    Sequence,
}

impl Keys {
    /// The key that this byte is the last of.
    pub fn typed(&mut self, byte: u8) -> Option<Key> {
        let begun = self.begun;
        self.begun = match (begun, byte) {
            (_, ESC) => Begun::Escape,
            (Begun::Escape, b'[' | b'O') => {
                self.number = 0;
                Begun::Sequence
            }
            (Begun::Sequence, 0x20..=0x3f) => {
                if byte.is_ascii_digit() {
                    self.number = self.number.saturating_mul(10).saturating_add(byte - b'0');
                }
                Begun::Sequence
            }
            _ => Begun::Nothing,
        };
        match begun {
            _ if self.begun != Begun::Nothing => None,
            Begun::Sequence => sequence(byte, self.number),
            _ => single(byte),
        }
    }
}

fn single(byte: u8) -> Option<Key> {
    match byte {
        0x03 => Some(Key::CtrlC),
        0x0c => Some(Key::CtrlL),
        0x1a => Some(Key::CtrlZ),
        0x20..=0x7e => Some(Key::Char(byte.into())),
        _ => None,
    }
}

fn sequence(end: u8, number: u8) -> Option<Key> {
    match (end, number) {
        (b'A', _) => Some(Key::Up),
        (b'B', _) => Some(Key::Down),
        (b'H', _) | (b'~', 1 | 7) => Some(Key::Home),
        (b'F', _) | (b'~', 4 | 8) => Some(Key::End),
        (b'~', 5) => Some(Key::PageUp),
        (b'~', 6) => Some(Key::PageDown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(typed: &[u8], expect: &[Key]) {
        let mut keys = Keys::default();
        let found: Vec<_> = typed.iter().filter_map(|byte| keys.typed(*byte)).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn keys_are_letters_and_sequences() {
        check(b"q \x03\x1a", &[Key::Char('q'), Key::Char(' '), Key::CtrlC, Key::CtrlZ]);
        check(b"\x1b[A\x1bOB\x1b[5~\x1b[6~", &[Key::Up, Key::Down, Key::PageUp, Key::PageDown]);
        check(b"\x1b[H\x1b[4~x", &[Key::Home, Key::End, Key::Char('x')]);
    }

    #[test]
    fn what_is_no_key_is_left_out_and_the_next_is_one() {
        check(
            b"\x1b[1;5Dq\x1b[200~s\x00\xff\x1bp",
            &[Key::Char('q'), Key::Char('s'), Key::Char('p')],
        );
        check(b"\x1b\x1b[A\x1b[99999999999~q", &[Key::Up, Key::Char('q')]);
    }
}
