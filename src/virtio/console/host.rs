//! What a port is connected to on the host.

mod pty;
mod socket;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::Arc,
};

use self::{pty::Pty, socket::Socket};
use super::{StdioIn, Target};
use crate::{addrspace::GuestBuffer, devices::console::ConsoleOut};

/// A port's other end. Nothing here waits, but for a file's disk, and [`ConsoleOut`] for as long as
/// it does.
pub enum Host {
    Stdio(Arc<dyn ConsoleOut>, Arc<StdioIn>),
    Pty(Pty),
    Socket(Socket),
    File(File),
    Null,
}

impl Host {
    /// Opens what a user has named; `device` is for messages.
    ///
    /// # Errors
    /// What cannot be opened, with its path.
    pub fn open(
        device: &str,
        target: &Target,
        out: &Arc<dyn ConsoleOut>,
        input: &Arc<StdioIn>,
    ) -> io::Result<Self> {
        Ok(match target {
            Target::Stdio => Self::Stdio(out.clone(), input.clone()),
            Target::Pty(link) => Self::Pty(Pty::open(device, link.as_deref())?),
            Target::Unix(path) => Self::Socket(Socket::open(path)?),
            Target::File(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                Self::File(file.map_err(|error| at_path(path, &error))?)
            }
            Target::Null => Self::Null,
        })
    }

    /// Gives bytes to the other end; how many it has taken. What nobody is there to take is taken
    /// as well.
    ///
    /// # Errors
    /// `WouldBlock`: it takes nothing now. Others: it cannot take these.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdio(out, _) => out.put(bytes),
            Self::Pty(pty) => return pty.master().write(bytes),
            Self::Socket(socket) => {
                return socket.client().map_or(Ok(bytes.len()), |client| (&*client).write(bytes));
            }
            Self::File(file) => return { file }.write(bytes),
            Self::Null => {}
        }
        Ok(bytes.len())
    }

    /// Fills a buffer that is not empty with what the other end has; 0: it will have no more.
    ///
    /// # Errors
    /// `WouldBlock`: it has nothing now, or never.
    pub fn read(&self, buffer: &GuestBuffer) -> io::Result<usize> {
        let nothing = || io::Error::from(io::ErrorKind::WouldBlock);
        match self {
            Self::Stdio(_, input) => {
                let bytes = input.take(buffer.len());
                if bytes.is_empty() {
                    return Err(nothing());
                }
                // It is no longer than the buffer.
                let _ = buffer.write_at(0, &bytes);
                Ok(bytes.len())
            }
            Self::Pty(pty) => buffer.read_from(pty.master().as_fd(), None),
            Self::Socket(socket) => {
                let client = socket.client().ok_or_else(nothing)?;
                buffer.read_from(client.as_fd(), None)
            }
            Self::File(_) | Self::Null => Err(nothing()),
        }
    }

    /// Whether somebody is at the other end.
    pub fn is_connected(&self) -> bool {
        match self {
            Self::Socket(socket) => socket.client().is_some(),
            _ => true,
        }
    }

    /// What tells that bytes can come or go; at its edges, as they are tried first.
    pub fn with_stream(&self, act: impl FnOnce(BorrowedFd<'_>)) {
        match self {
            Self::Pty(pty) => act(pty.master().as_fd()),
            Self::Socket(socket) => {
                if let Some(client) = socket.client() {
                    act(client.as_fd());
                }
            }
            _ => {}
        }
    }

    /// The socket, if it is one.
    pub fn socket(&self) -> Option<&Socket> {
        match self {
            Self::Socket(socket) => Some(socket),
            _ => None,
        }
    }
}

/// An error that says where.
fn at_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
