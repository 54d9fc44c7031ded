//! The keys that the console keeps for itself: Ctrl-A and one more.

/// Begins a command.
const CTRL_A: u8 = 0x01;
/// Guests that have a key: 1 to 9.
const DIGITS: usize = 9;

/// What `Ctrl-A h` shows, with the labels of the guests and which of them gets the keys.
pub fn help(guests: &[String], selected: usize) -> String {
    let several = guests.len() > 1;
    let ends = if several { "all guests" } else { "the guest" };
    let mut text = format!(
        "
axvmm: keys on the console
  Ctrl-A x       ends {ends} and axvmm
  Ctrl-A d       presses Ctrl-Alt-Del (x86_64) or the power button (aarch64)
  Ctrl-A Ctrl-A  sends Ctrl-A to the guest, as Ctrl-A a does
  Ctrl-A h       this text
"
    );
    for (number, guest) in guests.iter().enumerate().take(DIGITS).filter(|_| several) {
        let guest = guest.trim_end();
        let now = if number == selected { ", where they go now" } else { "" };
        text += &format!("  Ctrl-A {}       the keys go to {guest}{now}\n", number + 1);
    }
    text
}

/// What a user asks of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Quit,
    Help,
    Button,
    /// The console of the guest with this number, counted from 0.
    Select(usize),
}

/// What becomes of a byte that was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed {
    /// It goes to the guest.
    Byte(u8),
    Command(Command),
    /// It begins a command, or is none.
    Nothing,
}

/// Tells commands from what is for the guest; they may come in pieces.
#[derive(Debug, Default)]
pub struct Keys {
    begun: bool,
}

impl Keys {
    pub fn typed(&mut self, byte: u8) -> Typed {
        if !std::mem::take(&mut self.begun) {
            self.begun = byte == CTRL_A;
            return if self.begun { Typed::Nothing } else { Typed::Byte(byte) };
        }
        match byte {
            b'x' | b'X' => Typed::Command(Command::Quit),
            b'h' | b'H' | b'?' => Typed::Command(Command::Help),
            b'd' | b'D' => Typed::Command(Command::Button),
            b'1'..=b'9' => Typed::Command(Command::Select(usize::from(byte - b'1'))),
            CTRL_A | b'a' | b'A' => Typed::Byte(CTRL_A),
            _ => Typed::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(typed: &[u8], guest_gets: &[u8], commands: &[Command]) {
        let mut keys = Keys::default();
        let (mut bytes, mut asked) = (Vec::new(), Vec::new());
        for byte in typed {
            match keys.typed(*byte) {
                Typed::Byte(byte) => bytes.push(byte),
                Typed::Command(command) => asked.push(command),
                Typed::Nothing => {}
            }
        }
        assert_eq!((bytes.as_slice(), asked.as_slice()), (guest_gets, commands));
    }

    #[test]
    fn everything_but_ctrl_a_goes_to_the_guest() {
        let all: Vec<u8> = (0..=255).filter(|byte| *byte != CTRL_A).collect();
        check(&all, &all, &[]);
    }

    #[test]
    fn ctrl_a_begins_a_command_of_one_key() {
        check(b"a\x01hb\x01dx\x01x", b"abx", &[Command::Help, Command::Button, Command::Quit]);
        check(b"\x01\x01x\x01ax", b"\x01x\x01x", &[]);
        check(b"\x01zx", b"x", &[]);
        check(b"a1\x011b\x0190\x010", b"a1b0", &[Command::Select(0), Command::Select(8)]);
    }

    #[test]
    fn the_help_has_a_key_for_each_guest_where_there_are_several() {
        assert!(!help(&["[a] ".to_owned()], 0).contains("Ctrl-A 1"));
        let labels: Vec<_> = (1..=12).map(|n| format!("[g{n}] ")).collect();
        let text = help(&labels, 1);
        assert!(text.contains("Ctrl-A 2       the keys go to [g2], where they go now\n"), "{text}");
        assert!(text.contains("Ctrl-A 9") && !text.contains("g10"), "{text}");
    }
}
