//! A session in a host, from this side: files, a command, and files that it has made.

use std::{
    fs::OpenOptions,
    io,
    net::Shutdown,
    os::unix::{fs::OpenOptionsExt, net::UnixStream},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Error, Item, SESSIONS, bring_up, files,
    frames::{self, Frame, Kind},
};

/// How long an agent takes to see that somebody is there, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long it takes to see that nobody is there any more.
const GONE: Duration = Duration::from_millis(400);

/// A command for a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its working directory, which is made if it is not there.
    pub directory: PathBuf,
    /// Directories that are made as well.
    pub directories: Vec<PathBuf>,
    /// A terminal for it, if it is to have one.
    pub tty: Option<Tty>,
}

/// A terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tty {
    /// Its size.
    pub columns: u16,
    /// Its size.
    pub rows: u16,
    /// What kind it is, as `TERM` has it.
    pub term: String,
    /// The command's stderr is no part of it.
    pub errors_apart: bool,
}

/// What came of a command so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Of its stdout, or its terminal.
    Output(Vec<u8>),
    /// Of its stderr.
    Errors(Vec<u8>),
    /// It has taken so many bytes of its input.
    Taken(usize),
    /// It has ended, with this status (128 + N after signal N).
    Exit(u8),
}

/// A session in a host.
#[derive(Debug)]
pub struct Session {
    socket: UnixStream,
    /// Held while the session lasts, so that no two are at one port.
    _held: std::fs::File,
}

impl Session {
    /// The first session that is free in the host of this directory; `None` if nobody answers (yet).
    ///
    /// # Errors
    /// If there is none that is free.
    pub(super) fn open(dir: &Path) -> Result<Option<Self>, Error> {
        for number in 0..SESSIONS {
            let path = dir.join(format!("{number}.lock"));
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600);
            let held = options.open(&path).map_err(Error::call("lock a session"))?;
            if bring_up::hold(&held).map_err(Error::call("lock a session"))? {
                let socket = connect(&dir.join(number.to_string()))?;
                return Ok(socket.map(|socket| Self { socket, _held: held }));
            }
        }
        Err(Error::Host(format!("all {SESSIONS} sessions of the host are in use")))
    }

    /// Brings files into the host.
    ///
    /// # Errors
    /// What cannot be read here or written there.
    pub fn send(&mut self, items: &[Item]) -> Result<(), Error> {
        if items.is_empty() {
            return Ok(());
        }
        files::send(items, &self.socket).map_err(|error| match self.problem() {
            Some(problem) => problem,
            None => Error::Call("bring files into the host".into(), error),
        })
    }

    /// Starts a command. What it says comes by [`Self::hear`].
    ///
    /// # Errors
    /// If the host is gone.
    pub fn start(&mut self, start: &Start) -> Result<Sender, Error> {
        let text = serde_json::to_vec(start).map_err(|error| gone(error.into()))?;
        if text.len() > frames::LONGEST {
            return Err(Error::Usage("the command is too long".into()));
        }
        frames::write(&mut self.socket, Kind::Start, &text).map_err(gone)?;
        self.socket.try_clone().map(Sender).map_err(gone)
    }

    /// What comes next of the command.
    ///
    /// # Errors
    /// If the host is gone.
    pub fn hear(&mut self) -> Result<Said, Error> {
        let Frame { kind, bytes } = self.next()?;
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_le_bytes);
        Ok(match (kind, &*bytes) {
            (Kind::Output, _) => Said::Output(bytes),
            (Kind::Errors, _) => Said::Errors(bytes),
            (Kind::Taken, bytes) => Said::Taken(number(bytes).unwrap_or(0) as usize),
            (Kind::Exit, [status]) => Said::Exit(*status),
            _ => return Err(strange(kind)),
        })
    }

    /// Gets what is there of these files and directories, each to where it is in the host.
    ///
    /// # Errors
    /// What cannot be read there or written here.
    pub fn fetch(&mut self, paths: &[PathBuf]) -> Result<(), Error> {
        if paths.is_empty() {
            return Ok(());
        }
        let text = serde_json::to_vec(paths).map_err(|error| gone(error.into()))?;
        frames::write(&mut self.socket, Kind::Fetch, &text).map_err(gone)?;
        files::receive(&self.socket, None, Path::new("/"), Some(paths))
            .map_err(Error::call("get files out of the host"))
    }

    fn next(&mut self) -> Result<Frame, Error> {
        match frames::read(&mut self.socket) {
            Ok(Some(Frame { kind: Kind::Problem, bytes })) => Err(told(&bytes)),
            Ok(Some(frame)) => Ok(frame),
            Ok(None) => Err(gone(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(gone(error)),
        }
    }

    /// What the agent has said against what it was sent.
    fn problem(&mut self) -> Option<Error> {
        self.socket.set_read_timeout(Some(PATIENCE)).ok()?;
        match frames::read(&mut self.socket) {
            Ok(Some(Frame { kind: Kind::Problem, bytes })) => Some(told(&bytes)),
            _ => None,
        }
    }
}

/// What is said to a command that runs.
#[derive(Debug)]
pub struct Sender(UnixStream);

impl Sender {
    /// Bytes for its stdin, at most [`frames::LONGEST`]; none is the end.
    ///
    /// # Errors
    /// If the host is gone.
    pub fn input(&mut self, bytes: &[u8]) -> Result<(), Error> {
        frames::write(&mut self.0, Kind::Input, bytes).map_err(gone)
    }

    /// Its terminal has another size now.
    ///
    /// # Errors
    /// If the host is gone.
    pub fn size(&mut self, columns: u16, rows: u16) -> Result<(), Error> {
        let bytes = [columns.to_le_bytes(), rows.to_le_bytes()].concat();
        frames::write(&mut self.0, Kind::Size, &bytes).map_err(gone)
    }

    /// A signal, by its number.
    ///
    /// # Errors
    /// If the host is gone.
    pub fn signal(&mut self, number: u8) -> Result<(), Error> {
        frames::write(&mut self.0, Kind::Signal, &[number]).map_err(gone)
    }

    /// Ends the session, whatever the command does: who hears it hears no more.
    pub fn hang_up(&self) {
        // One that has ended needs no end.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// The socket of a session whose agent waits for one.
fn connect(path: &Path) -> Result<Option<UnixStream>, Error> {
    // No host, or none yet.
    let Ok(mut socket) = UnixStream::connect(path) else { return Ok(None) };
    socket.set_read_timeout(Some(PATIENCE)).map_err(gone)?;
    match frames::read(&mut socket) {
        Ok(Some(Frame { kind: Kind::Ready, .. })) => {
            socket.set_read_timeout(None).map_err(gone)?;
            return Ok(Some(socket));
        }
        // The host has ended.
        Ok(None) => {}
        // The end of an earlier session, or nothing: it has not seen that this one is another, and
        // will before the next.
        _ => {
            drop(socket);
            thread::sleep(GONE);
        }
    }
    Ok(None)
}

fn told(bytes: &[u8]) -> Error {
    Error::Host(format!("the host: {}", String::from_utf8_lossy(bytes)))
}

fn gone(error: io::Error) -> Error {
    Error::Host(format!("the host is gone: {error}"))
}

fn strange(kind: Kind) -> Error {
    Error::Host(format!("the host said something strange ({kind:?})"))
}
