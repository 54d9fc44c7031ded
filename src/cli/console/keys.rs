//! The keys that the console keeps for itself: Ctrl-A and one more.

/// Begins a command.
const CTRL_A: u8 = 0x01;

/// What `Ctrl-A h` shows.
pub const HELP: &str = "
axvmm: keys on the console
  Ctrl-A x       ends the guest and axvmm
  Ctrl-A d       presses Ctrl-Alt-Del (x86_64) or the power button (aarch64)
  Ctrl-A Ctrl-A  sends Ctrl-A to the guest, as Ctrl-A a does
  Ctrl-A h       this text
";

/// What a user asks of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Quit,
    Help,
    Button,
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
    }
}
