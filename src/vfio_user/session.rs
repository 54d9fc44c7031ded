//! The conversation with a server, which may be slow, wrong or hostile: whoever asks waits so long
//! and no longer, and a server that breaks the protocol is not listened to any more.

use std::{
    fmt, io,
    net::Shutdown,
    os::{fd::RawFd, unix::net::UnixStream},
    sync::{Arc, OnceLock},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sys::eventfd::EventFd;
use parking_lot::{Condvar, Mutex};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{
    dma::Dma,
    limits::Limits,
    relay::eventfd,
    socket,
    wire::{self, Command, FAILED, HEADER, Header, KIND, MOST_MESSAGE, NO_REPLY, REPLY},
};

/// How long a server may take for an answer.
pub const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 500 } else { 3000 });

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The server says that it cannot: with this errno.
    Refused(i32),
    /// There is no server any more: why.
    Ended(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(errno) => {
                write!(f, "refuses: {}", io::Error::from_raw_os_error(*errno))
            }
            Self::Ended(why) => f.write_str(why),
        }
    }
}

/// A server that is listened to.
pub struct Session {
    talk: Arc<Talk>,
    limits: OnceLock<Limits>,
    reader: Option<JoinHandle<()>>,
}

/// What those who ask and the one who listens have in common.
struct Talk {
    stream: UnixStream,
    /// The number of the last request; held for as long as one is asked.
    asked: Mutex<u16>,
    state: Mutex<State>,
    changed: Condvar,
    dma: Dma,
    /// Signalled when the session has ended.
    end: EventFd,
}

#[derive(Default)]
struct State {
    /// The answer that is waited for.
    expected: Option<(u16, Command)>,
    answer: Option<Result<Vec<u8>, Trouble>>,
    /// Somebody sends a message just now.
    is_writing: bool,
    /// Why nobody is there any more.
    ended: Option<String>,
}

impl Session {
    /// Listens to whoever is at the other end.
    ///
    /// # Errors
    /// The host has no thread or file left.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        let talk = Arc::new(Talk {
            stream,
            asked: Mutex::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
            dma: Dma::default(),
            end: eventfd()?,
        });
        let listening = talk.clone();
        let reader = thread::Builder::new().name("vfio-user".into());
        let reader = reader.spawn(move || listening.listen())?;
        Ok(Self { talk, limits: OnceLock::new(), reader: Some(reader) })
    }

    /// Begins the conversation: agrees on a version and on limits.
    ///
    /// # Errors
    /// Somebody is there who does not understand, or does not answer.
    pub fn agree(&self) -> Result<(), Trouble> {
        let version = wire::Version { major: 0, minor: 1 };
        let text = Limits::ours();
        let answer = self.ask_with(Command::Version, &[version.as_bytes(), &text], &[])?;
        let (theirs, text) = wire::Version::read_from_prefix(&answer)
            .map_err(|_| self.broken("its version has no numbers"))?;
        if theirs.major != 0 {
            let told =
                format!("it speaks version {}.{}, and this is 0.1", theirs.major, theirs.minor);
            return Err(self.broken(&told));
        }
        let limits = Limits::read(text).map_err(|problem| self.broken(&problem))?;
        let _ = self.limits.set(limits);
        Ok(())
    }

    /// What the server can take.
    pub fn limits(&self) -> Limits {
        self.limits.get().copied().unwrap_or_default()
    }

    /// The guest's memory, as far as the server may use it by messages.
    pub fn dma(&self) -> &Dma {
        &self.talk.dma
    }

    /// Signalled when the session has ended, by itself or not.
    pub fn end(&self) -> &EventFd {
        &self.talk.end
    }

    /// Why the session has ended, if it has.
    pub fn ended(&self) -> Option<String> {
        self.talk.state.lock().ended.clone()
    }

    /// Ends the session, of which somebody has had enough.
    pub fn give_up(&self, why: &str) {
        self.talk.give_up(why);
    }

    /// Ends the session, as the server has broken the protocol.
    pub fn broken(&self, what: &str) -> Trouble {
        let why = format!("breaks the protocol: {what}");
        self.talk.give_up(&why);
        Trouble::Ended(why)
    }

    /// Asks by a structure and what comes behind it.
    ///
    /// # Errors
    /// The server refuses, or is gone.
    pub fn ask<T: IntoBytes + Immutable>(
        &self,
        command: Command,
        body: &T,
        data: &[u8],
    ) -> Result<Vec<u8>, Trouble> {
        self.ask_with(command, &[body.as_bytes(), data], &[])
    }

    /// As [`Self::ask`], with files that go along.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn ask_with(
        &self,
        command: Command,
        parts: &[&[u8]],
        files: &[RawFd],
    ) -> Result<Vec<u8>, Trouble> {
        self.talk.ask(command, parts, files)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.talk.give_up("is not needed any more");
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Talk {
    fn ask(&self, command: Command, parts: &[&[u8]], files: &[RawFd]) -> Result<Vec<u8>, Trouble> {
        let mut asked = self.asked.lock();
        *asked = asked.wrapping_add(1);
        let deadline = Instant::now() + PATIENCE;
        {
            let mut state = self.state.lock();
            if let Some(why) = &state.ended {
                return Err(Trouble::Ended(why.clone()));
            }
            state.expected = Some((*asked, command));
            state.answer = None;
        }
        self.send(*asked, command as u16, 0, 0, parts, files, deadline)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let waits = |state: &mut State| state.answer.is_none() && state.ended.is_none();
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, waits, left);
        state.expected = None;
        match (state.answer.take(), &state.ended) {
            (Some(answer), _) => answer,
            (None, Some(why)) => Err(Trouble::Ended(why.clone())),
            (None, None) => {
                drop(state);
                let why = format!("does not answer within {PATIENCE:?} ({command:?})");
                self.give_up(&why);
                Err(Trouble::Ended(why))
            }
        }
    }

    /// Sends a message, when nobody else does.
    #[allow(clippy::too_many_arguments, reason = "they are the message")]
    fn send(
        &self,
        id: u16,
        command: u16,
        flags: u32,
        error: u32,
        parts: &[&[u8]],
        files: &[RawFd],
        deadline: Instant,
    ) -> Result<(), Trouble> {
        let left = deadline.saturating_duration_since(Instant::now());
        let waits = |state: &mut State| state.is_writing && state.ended.is_none();
        let mut state = self.state.lock();
        let waited = self.changed.wait_while_for(&mut state, waits, left);
        if let Some(why) = &state.ended {
            return Err(Trouble::Ended(why.clone()));
        }
        let sent = match waited.timed_out() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => {
                state.is_writing = true;
                drop(state);
                let size = HEADER + parts.iter().map(|part| part.len()).sum::<usize>();
                let header = Header { id, command, size: size as u32, flags, error };
                let message = [&[header.as_bytes()], parts].concat().concat();
                let sent = socket::send(&self.stream, &message, files, deadline);
                state = self.state.lock();
                state.is_writing = false;
                self.changed.notify_all();
                sent
            }
        };
        drop(state);
        sent.map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::TimedOut => format!("does not read within {PATIENCE:?}"),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                    "has ended".to_owned()
                }
                _ => format!("cannot be written to: {error}"),
            };
            self.give_up(&why);
            Trouble::Ended(why)
        })
    }

    /// The first who gives up says why.
    fn give_up(&self, why: &str) {
        let mut state = self.state.lock();
        if state.ended.is_none() {
            state.ended = Some(why.to_owned());
            let _ = self.stream.shutdown(Shutdown::Both);
            let _ = self.end.write(1);
        }
        self.changed.notify_all();
    }

    /// Takes all that the server says, until there is nothing more.
    fn listen(&self) {
        loop {
            if let Err(why) = self.hear() {
                self.give_up(&why);
                return;
            }
        }
    }

    fn hear(&self) -> Result<(), String> {
        let mut bytes = [0; HEADER];
        let begun = socket::receive(&self.stream, &mut bytes);
        let header = match begun {
            Ok(()) => Header::read_from_bytes(&bytes).map_err(|_| "has ended".to_owned())?,
            // Reset: it has left something unread.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                ) =>
            {
                return Err("has ended".to_owned());
            }
            Err(error) => return Err(format!("cannot be heard: {error}")),
        };
        let size = header.size as usize;
        if !(HEADER..=MOST_MESSAGE).contains(&size) {
            return Err(format!("breaks the protocol: a message of {size} bytes"));
        }
        let mut body = vec![0; size - HEADER];
        socket::receive(&self.stream, &mut body)
            .map_err(|_| "has ended in the middle of a message".to_owned())?;
        match header.flags & KIND {
            REPLY => self.take_answer(&header, body),
            0 => self.serve(&header, &body),
            kind => Err(format!("breaks the protocol: a message of kind {kind}")),
        }
    }

    fn take_answer(&self, header: &Header, body: Vec<u8>) -> Result<(), String> {
        let mut state = self.state.lock();
        match state.expected.take() {
            Some((id, command)) if id == header.id && command as u16 == header.command => {
                state.answer = Some(match header.flags & FAILED {
                    0 => Ok(body),
                    _ => Err(Trouble::Refused(i32::try_from(header.error).unwrap_or(libc::EIO))),
                });
                self.changed.notify_all();
                Ok(())
            }
            _ => {
                let Header { id, command, .. } = header;
                Err(format!("breaks the protocol: answer {id} to command {command} is to nothing"))
            }
        }
    }

    /// The server asks: for memory, which is all that it can ask for.
    fn serve(&self, header: &Header, body: &[u8]) -> Result<(), String> {
        let answer = self.dma.serve(header.command, body);
        if header.flags & NO_REPLY != 0 {
            return Ok(());
        }
        let (flags, error, body) = match answer {
            Ok(body) => (REPLY, 0, body),
            Err(errno) => (REPLY | FAILED, errno as u32, Vec::new()),
        };
        let deadline = Instant::now() + PATIENCE;
        let sent = self.send(header.id, header.command, flags, error, &[&body], &[], deadline);
        sent.map_err(|trouble| trouble.to_string())
    }
}
