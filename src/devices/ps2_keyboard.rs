//! An AT keyboard (IBM Personal System/2 Technical Reference, "Keyboards"), as far as a driver asks
//! one before it believes in it, with the keys that the host can press.

/// Commands from the host.
mod command {
    pub const SET_LEDS: u8 = 0xed;
    pub const ECHO: u8 = 0xee;
    pub const SCAN_CODE_SET: u8 = 0xf0;
    pub const IDENTIFY: u8 = 0xf2;
    pub const SET_REPEAT: u8 = 0xf3;
    pub const ENABLE: u8 = 0xf4;
    pub const DISABLE: u8 = 0xf5;
    pub const DEFAULTS: u8 = 0xf6;
    pub const RESET: u8 = 0xff;
}

const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const SELF_TEST_PASSED: u8 = 0xaa;
/// The only set there is.
const SET_2: u8 = 2;
const QUERY_SET: u8 = 0;

/// A keyboard that is silent until a driver enables it. A real one scans from the start, but keys
/// before there is a driver would be lost, or in the way of its probe.
#[derive(Debug, Default)]
pub struct Keyboard {
    scanning: bool,
    /// The command whose parameter comes next.
    wants_parameter: Option<u8>,
}

impl Keyboard {
    /// Whether keys that are pressed are sent.
    pub fn scanning(&self) -> bool {
        self.scanning
    }

    /// Takes a byte from the host; gives what the keyboard says to it. `translated`: behind a
    /// controller that turns set 2 into set 1, which it does to the identification as well.
    pub fn command(&mut self, byte: u8, translated: bool) -> Vec<u8> {
        match self.wants_parameter.take() {
            Some(command::SCAN_CODE_SET) if byte == QUERY_SET => return vec![ACK, SET_2],
            Some(command::SCAN_CODE_SET) if byte != SET_2 => return vec![RESEND],
            Some(_) => return vec![ACK],
            None => {}
        }
        match byte {
            command::SET_LEDS | command::SCAN_CODE_SET | command::SET_REPEAT => {
                self.wants_parameter = Some(byte);
            }
            command::ECHO => return vec![command::ECHO],
            command::IDENTIFY => return vec![ACK, 0xab, if translated { 0x41 } else { 0x83 }],
            command::DEFAULTS => {}
            command::ENABLE => self.scanning = true,
            command::DISABLE => self.scanning = false,
            command::RESET => {
                *self = Self::default();
                return vec![ACK, SELF_TEST_PASSED];
            }
            _ => return vec![RESEND],
        }
        vec![ACK]
    }
}

/// A key by its codes in both sets.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Behind the prefix 0xe0.
    extended: bool,
    set1: u8,
    set2: u8,
}

pub const CTRL_ALT_DEL: [Key; 3] = [
    Key { extended: false, set1: 0x1d, set2: 0x14 },
    Key { extended: false, set1: 0x38, set2: 0x11 },
    Key { extended: true, set1: 0x53, set2: 0x71 },
];

const EXTENDED: u8 = 0xe0;
const SET1_RELEASED: u8 = 0x80;
const SET2_RELEASED: u8 = 0xf0;

/// What the keys send when they are pressed one after the other and released in reverse.
pub fn chord(keys: &[Key], translated: bool) -> Vec<u8> {
    let mut codes = Vec::new();
    let pressed = keys.iter().map(|key| (key, false));
    for (key, released) in pressed.chain(keys.iter().rev().map(|key| (key, true))) {
        codes.extend(key.extended.then_some(EXTENDED));
        match (translated, released) {
            (true, false) => codes.push(key.set1),
            (true, true) => codes.push(key.set1 | SET1_RELEASED),
            (false, false) => codes.push(key.set2),
            (false, true) => codes.extend([SET2_RELEASED, key.set2]),
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_answered() {
        let mut keyboard = Keyboard::default();
        for byte in (0..=0xff).chain(0..=0xff) {
            assert!(!keyboard.command(byte, false).is_empty(), "{byte:#x}");
        }
    }

    #[test]
    fn it_knows_set_2_only_and_says_so() {
        let mut keyboard = Keyboard::default();
        let mut tell = |bytes: [u8; 2]| bytes.map(|byte| keyboard.command(byte, false)).concat();
        assert_eq!(tell([0xf0, 0]), [ACK, ACK, 2]);
        assert_eq!(tell([0xf0, 2]), [ACK, ACK]);
        assert_eq!(tell([0xf0, 3]), [ACK, RESEND]);
        assert_eq!(tell([0x99, 0xee]), [RESEND, 0xee]);
    }

    #[test]
    fn untranslated_keys_are_set_2() {
        let codes = chord(&CTRL_ALT_DEL, false);
        assert_eq!(codes, [0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14]);
    }
}
