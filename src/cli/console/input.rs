//! From stdin to the guests: no more is read than the guest takes, so that a gigabyte that it never
//! reads costs nothing. A terminal is the exception, for its commands must be seen: it is read ahead
//! of the guest, up to a limit. What is no terminal is for the first guest.

use std::{collections::VecDeque, io};

use nix::{errno::Errno, unistd::read};

use super::{
    Command,
    keys::{Keys, Typed},
    terminal::{self, Terminal},
};
use crate::devices::console::ConsoleIn;

/// Bytes read at once from what is no terminal.
const CHUNK: usize = 256;
/// Bytes that may wait which were typed or pasted; what is beyond is lost, as on a real line.
const TYPED_AHEAD: usize = 64 << 10;

/// How the event loop is to watch stdin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    Not,
    /// For as long as there is something to read.
    Level,
    /// Only when something comes: a terminal whose input is for somebody else now.
    Edge,
}

#[derive(Debug)]
enum Source {
    Terminal(Terminal, Keys),
    /// A pipe or a socket.
    Stream,
    /// What can be read at any time, and not be waited for.
    File,
    /// Nothing more will come.
    Ended,
}

/// Standard input, and what of it each guest has not taken yet.
#[derive(Debug)]
pub struct Input {
    source: Source,
    /// Whose the next key is.
    selected: usize,
    waiting: Vec<VecDeque<u8>>,
    /// The terminal's columns and rows.
    size: Option<(u16, u16)>,
}

impl Input {
    /// Standard input as it is, for so many guests, at least one; a terminal becomes raw if it is
    /// ours.
    pub fn open(guests: usize) -> Self {
        let source = match Terminal::open() {
            Ok(Some(terminal)) => {
                terminal.enter();
                Source::Terminal(terminal, Keys::default())
            }
            Ok(None) => Source::Stream,
            Err(errno) => {
                log::warn!("the terminal's settings cannot be read ({errno}): no input");
                Source::Ended
            }
        };
        let mut input =
            Self { source, selected: 0, waiting: vec![VecDeque::new(); guests], size: None };
        input.resized();
        input
    }

    /// The terminal may have another size now.
    pub fn resized(&mut self) {
        self.size = self.is_terminal().then(terminal::size).flatten();
    }

    /// No input at all.
    pub fn none(guests: usize) -> Self {
        Self {
            source: Source::Ended,
            selected: 0,
            waiting: vec![VecDeque::new(); guests],
            size: None,
        }
    }

    /// Stdin is something that cannot be waited for.
    pub fn is_a_file(&mut self) {
        if let Source::Stream = self.source {
            self.source = Source::File;
        }
    }

    /// Keys come from a terminal.
    pub fn is_terminal(&self) -> bool {
        matches!(self.source, Source::Terminal(..))
    }

    /// How stdin is to be watched now.
    pub fn watch(&self) -> Watch {
        match self.source {
            Source::Terminal(..) if terminal::in_foreground() => Watch::Level,
            Source::Terminal(..) => Watch::Edge,
            Source::Stream if self.waiting[0].is_empty() => Watch::Level,
            _ => Watch::Not,
        }
    }

    /// The process goes on after a stop, perhaps in the foreground.
    pub fn resume(&self) {
        if let Source::Terminal(terminal, _) = &self.source {
            terminal.enter();
        }
    }

    /// Reads what is there: once, for it can be waited for again. Returns what the user asks for.
    pub fn readable(&mut self, hung_up: bool) -> Vec<Command> {
        match &self.source {
            Source::Terminal(terminal, _) => {
                if !terminal.is_ours() {
                    if hung_up {
                        self.source = Source::Ended;
                    }
                    return Vec::new();
                }
                self.read_terminal(hung_up)
            }
            Source::Stream if self.waiting[0].is_empty() => {
                self.read_chunk();
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// From now on the keys are for that guest.
    pub fn select(&mut self, number: usize) {
        if number < self.waiting.len() {
            self.selected = number;
        }
    }

    /// Gives the guest of that number what it takes, and tells it of the terminal's size.
    pub fn deliver(&mut self, number: usize, guest: &dyn ConsoleIn) {
        if let Some((columns, rows)) = self.size {
            guest.resize(columns, rows);
        }
        loop {
            if number == 0 && self.waiting[0].is_empty() && matches!(self.source, Source::File) {
                self.read_chunk();
            }
            let waiting = &mut self.waiting[number];
            if waiting.is_empty() {
                return;
            }
            let bytes = waiting.make_contiguous();
            let offered = bytes.len();
            let taken = guest.feed(bytes).min(offered);
            waiting.drain(..taken);
            if taken < offered {
                return;
            }
        }
    }

    fn read_terminal(&mut self, hung_up: bool) -> Vec<Command> {
        let mut buffer = [0; 4096];
        let mut commands = Vec::new();
        let Source::Terminal(_, keys) = &mut self.source else { return commands };
        match read(io::stdin(), &mut buffer) {
            // With a terminal that never lets a read wait, 0 bytes are no end.
            Ok(0) if !hung_up => {}
            Ok(0) => self.source = Source::Ended,
            Ok(n) => {
                for byte in &buffer[..n] {
                    let waiting = &mut self.waiting[self.selected];
                    match keys.typed(*byte) {
                        Typed::Byte(byte) if waiting.len() < TYPED_AHEAD => waiting.push_back(byte),
                        Typed::Byte(_) | Typed::Nothing => {}
                        Typed::Command(command) => {
                            // The keys that follow are for the other one already.
                            if let Command::Select(number) = command {
                                let known = number < self.waiting.len();
                                self.selected = if known { number } else { self.selected };
                            }
                            commands.push(command);
                        }
                    }
                }
            }
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // Moved to the background just now.
            Err(Errno::EIO) if !hung_up && !terminal::in_foreground() => {}
            Err(_) => self.source = Source::Ended,
        }
        commands
    }

    fn read_chunk(&mut self) {
        let mut buffer = [0; CHUNK];
        match read(io::stdin(), &mut buffer) {
            Ok(0) => self.source = Source::Ended,
            Ok(n) => self.waiting[0].extend(&buffer[..n]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => {
                // Closed for reading, for example: there is no input then.
                log::debug!("cannot read stdin: {errno}");
                self.source = Source::Ended;
            }
        }
    }
}
