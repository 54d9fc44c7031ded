//! The commands of QEMU's qtest protocol (QEMU, `docs/devel/testing/qtest.rst`): a line each, answered
//! by a line, before which interrupts may be told.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    addr::{AccessWidth, GuestPhysAddr, MappingFlags, Port},
    cli::{Failure, bare::Bare},
    devices::Effect,
    scripted::Call,
};

/// The most that one command reads or writes, in bytes.
const MOST: u64 = 64 << 20;

/// How it is said that the machine is gone, since it could not be made once more.
pub const NO_RESET: &str = "the machine cannot be reset";

/// What a command is answered.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Lines, each with its end.
    pub text: String,
    /// The guest would have ended: with this status.
    pub ends: Option<u8>,
}

/// A machine that is driven by commands.
pub struct Server<F> {
    bare: Bare,
    /// Makes it anew.
    build: F,
    tells_interrupts: bool,
    levels: BTreeMap<u32, bool>,
}

impl<F: FnMut() -> Result<Bare, Failure>> Server<F> {
    /// A machine that `build` makes, also after each of its resets.
    pub fn new(mut build: F) -> Result<Self, Failure> {
        let bare = build()?;
        drop(bare.calls());
        Ok(Self { bare, build, tells_interrupts: false, levels: BTreeMap::new() })
    }

    /// Does what a line says.
    pub fn command(mut self, line: &str) -> Result<(Self, Answer), Failure> {
        let words: Vec<_> = line.split_whitespace().collect();
        let Some((&command, args)) = words.split_first() else {
            return Ok((self, Answer::default()));
        };
        let mut ends = None;
        let result = match self.execute(command, args) {
            Ok(Done::Value(value)) if value.is_empty() => "OK".to_owned(),
            Ok(Done::Value(value)) => format!("OK {value}"),
            Ok(Done::Effect(effect)) => {
                (self, ends) = self.apply(effect)?;
                "OK".to_owned()
            }
            Err(problem) => format!("FAIL {problem}"),
        };
        let mut text = self.interrupts();
        text.push_str(&result);
        text.push('\n');
        Ok((self, Answer { text, ends }))
    }

    fn execute(&mut self, command: &str, args: &[&str]) -> Result<Done, String> {
        let number = |at: usize| number(args, at);
        let width = |letter: &str| match letter {
            "b" => Some(AccessWidth::Byte),
            "w" => Some(AccessWidth::Word),
            "l" => Some(AccessWidth::Dword),
            "q" => Some(AccessWidth::Qword),
            _ => None,
        };
        let access = |prefix| command.strip_prefix(prefix).and_then(width);
        let port = |at| {
            let port = number(at)?;
            u16::try_from(port).map(Port).map_err(|_| format!("{port:#x} is no port"))
        };
        match command {
            "clock_step" if args.is_empty() => self.pass(self.bare.due_in().unwrap_or_default()),
            "clock_step" => self.pass(Duration::from_nanos(number(0)?)),
            "clock_set" => {
                self.pass(Duration::from_nanos(number(0)?).saturating_sub(self.bare.now()))
            }
            // A board has one interrupt controller, whatever its path is called.
            "irq_intercept_in" | "irq_intercept_out" => {
                args.first().ok_or("the device's path is missing")?;
                self.tells_interrupts = true;
                Done::ok()
            }
            "set_irq_in" => {
                let irq = u32::try_from(number(2)?).map_err(|error| error.to_string())?;
                self.bare.set_line(irq, number(3)? != 0);
                Done::ok()
            }
            "endianness" => Done::value("little"),
            // Ours: QEMU has it in another protocol.
            "reset" => Ok(Done::Effect(Effect::Reset)),
            "read" => Done::value(hex(&self.read(number(0)?, number(1)?)?)),
            "b64read" => Done::value(BASE64_STANDARD.encode(self.read(number(0)?, number(1)?)?)),
            "write" => {
                let data = args.get(2).and_then(|data| from_hex(data));
                self.write(number(0)?, number(1)?, data.ok_or("the data is no hex number")?)
            }
            "b64write" => {
                let data = args.get(2).and_then(|data| BASE64_STANDARD.decode(data).ok());
                self.write(number(0)?, number(1)?, data.ok_or("the data is no base64")?)
            }
            "memset" => {
                let (size, value) = (number(1)?, number(2)?);
                let bytes = vec![value as u8; length(size)?];
                self.write(number(0)?, size, bytes)
            }
            _ => {
                let (devices, qword) = (self.bare.devices(), AccessWidth::Qword);
                if let Some(width) = access("in").filter(|width| *width != qword) {
                    Done::value(format!("{:#06x}", devices.handle_port_read(port(0)?, width)))
                } else if let Some(width) = access("out").filter(|width| *width != qword) {
                    let value = number(1)? & width.mask();
                    Ok(Done::Effect(devices.handle_port_write(port(0)?, width, value)))
                } else if let Some(width) = access("read") {
                    Done::value(format!("{:#018x}", self.load(number(0)?, width)))
                } else if let Some(width) = access("write") {
                    let value = number(1)? & width.mask();
                    Ok(Done::Effect(self.store(number(0)?, width, value)))
                } else {
                    Err(format!("Unknown command '{command}'"))
                }
            }
        }
    }

    fn is_memory(&self, addr: u64, len: u64) -> bool {
        self.bare.memory().allows(GuestPhysAddr(addr), len, MappingFlags::READ)
    }

    fn load(&self, addr: u64, width: AccessWidth) -> u64 {
        let gpa = GuestPhysAddr(addr);
        let mut bytes = [0; 8];
        let in_memory = &mut bytes[..width.size()];
        match self.bare.memory().read(gpa, in_memory) {
            Ok(()) => u64::from_le_bytes(bytes),
            Err(_) => self.bare.devices().handle_mmio_read(gpa, width),
        }
    }

    fn store(&self, addr: u64, width: AccessWidth, value: u64) -> Effect {
        let gpa = GuestPhysAddr(addr);
        match self.bare.memory().write(gpa, &value.to_le_bytes()[..width.size()]) {
            Ok(()) => Effect::None,
            Err(_) => self.bare.devices().handle_mmio_write(gpa, width, value),
        }
    }

    fn read(&self, addr: u64, size: u64) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; length(size)?];
        if self.is_memory(addr, size) {
            let read = self.bare.memory().read(GuestPhysAddr(addr), &mut bytes);
            read.map_err(|error| error.to_string())?;
        } else {
            for (at, byte) in (0..).zip(&mut bytes) {
                *byte = self.load(addr.wrapping_add(at), AccessWidth::Byte) as u8;
            }
        }
        Ok(bytes)
    }

    /// Data that is shorter than `size` ends in zeros.
    fn write(&self, addr: u64, size: u64, mut data: Vec<u8>) -> Result<Done, String> {
        data.resize(length(size)?, 0);
        if self.is_memory(addr, size) {
            let written = self.bare.memory().write(GuestPhysAddr(addr), &data);
            written.map_err(|error| error.to_string())?;
            return Done::ok();
        }
        for (at, byte) in (0..).zip(data) {
            let effect = self.store(addr.wrapping_add(at), AccessWidth::Byte, byte.into());
            if effect != Effect::None {
                return Ok(Done::Effect(effect));
            }
        }
        Done::ok()
    }

    /// Lets time pass, with all that comes to be due meanwhile in its turn.
    fn pass(&self, time: Duration) -> Result<Done, String> {
        let end = self.bare.now().saturating_add(time);
        let mut left = 1_000_000;
        while let Some(due) = self.bare.due_in().filter(|due| self.bare.now() + *due <= end) {
            self.bare.set_time(self.bare.now() + due);
            left -= 1;
            if left == 0 {
                return Err("a device is due again and again".to_owned());
            }
        }
        self.bare.set_time(end);
        Done::value(end.as_nanos().to_string())
    }

    /// The lines that have changed since the last command.
    fn interrupts(&mut self) -> String {
        let mut text = String::new();
        for call in self.bare.calls() {
            let Call::Irq { irq, high } = call else { continue };
            if self.levels.insert(irq, high).unwrap_or_default() != high && self.tells_interrupts {
                let what = if high { "raise" } else { "lower" };
                text.push_str(&format!("IRQ {what} {irq}\n"));
            }
        }
        text
    }

    /// What a device asks the machine for, and the status that ends the guest, if that is it.
    fn apply(self, effect: Effect) -> Result<(Self, Option<u8>), Failure> {
        Ok(match effect {
            Effect::None | Effect::Hypercall(_) => (self, None),
            Effect::PowerOff => (self, Some(0)),
            Effect::Panicked => (self, Some(34)),
            Effect::Exit(status) => (self, Some(status)),
            Effect::Reset => (self.reset()?, None),
        })
    }

    /// The same with a machine that is as new. The old one has gone by then, since there are things
    /// that only one can have: the lock of a disk, the name of a socket.
    fn reset(self) -> Result<Self, Failure> {
        let Self { bare, mut build, tells_interrupts, levels } = self;
        let now = bare.now();
        drop(bare);
        let bare = build().map_err(|failure| Failure {
            message: format!("{NO_RESET}: {}", failure.message),
            ..failure
        })?;
        bare.set_time(now);
        Ok(Self { bare, build, tells_interrupts, levels })
    }
}

/// What has come of a command.
enum Done {
    Value(String),
    Effect(Effect),
}

impl Done {
    fn ok() -> Result<Self, String> {
        Self::value("")
    }

    fn value(value: impl Into<String>) -> Result<Self, String> {
        Ok(Self::Value(value.into()))
    }
}

/// As C's `strtoul` has it with base 0.
fn number(args: &[&str], at: usize) -> Result<u64, String> {
    let text = args.get(at).ok_or_else(|| format!("argument {} is missing", at + 1))?;
    let lower = text.to_ascii_lowercase();
    let number = match (lower.strip_prefix("0x"), lower.strip_prefix('0')) {
        (Some(digits), _) => u64::from_str_radix(digits, 16),
        (_, Some(digits)) if !digits.is_empty() => u64::from_str_radix(digits, 8),
        _ => lower.parse(),
    };
    number.map_err(|_| format!("{text:?} is no number"))
}

fn length(size: u64) -> Result<usize, String> {
    match size {
        0..=MOST => Ok(size as usize),
        _ => Err(format!("{size:#x} bytes are more than {MOST:#x}")),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x")?.as_bytes();
    let digit = |digit: &u8| (*digit as char).to_digit(16);
    digits
        .chunks(2)
        .map(|pair| Some((digit(&pair[0])? << 4 | pair.get(1).map_or(Some(0), digit)?) as u8))
        .collect()
}
