//! The control socket of a run: where it is, and what is said there. `run` serves it, `top` asks.
//!
//! A request is a line, an answer a line of JSON. The usual socket has a name that is no file
//! (unix(7), abstract sockets): nothing stays behind, however the process ends, and making it takes
//! three calls. Such a name has no permissions, so that both sides look at who is there.

use std::{
    ffi::OsStr,
    fmt, io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
};

use nix::{
    sys::socket::{
        AddressFamily, SockFlag, SockType, UnixAddr, UnixCredentials, connect, getsockopt, socket,
        sockopt::PeerCredentials,
    },
    unistd::geteuid,
};

/// Of what is said. It changes when an answer no longer means what it did; fields may be added.
pub const VERSION: u32 = 1;
/// The longest request, in bytes, with its end.
pub const LONGEST_REQUEST: usize = 256;

/// How the names of all usual sockets begin; the process's id follows.
pub const NAMES: &str = "axvmm/";

/// What may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// What was counted so far.
    Counts,
    /// The same, and how long exits took; that is counted from now on until whoever asked hangs up.
    Times,
}

impl Request {
    const ALL: [(&str, Self); 2] = [("counts", Self::Counts), ("times", Self::Times)];

    /// What a line asks, or what is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(word, _)| word.as_bytes() == line.trim_ascii());
        known.map(|(_, request)| *request).ok_or_else(|| {
            let words: Vec<_> = Self::ALL.iter().map(|(word, _)| *word).collect();
            format!("no such request; there are: {}", words.join(", "))
        })
    }

    /// The line that asks it.
    pub const fn line(self) -> &'static [u8] {
        match self {
            Self::Counts => b"counts\n",
            Self::Times => b"times\n",
        }
    }
}

/// Where a control socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The usual one of the process with this id.
    OfProcess(u32),
    /// A file.
    File(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfProcess(pid) => write!(f, "process {pid}"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl Address {
    /// A connection that never waits, not even to be made.
    pub fn connect(&self) -> io::Result<UnixStream> {
        let address = match self {
            Self::OfProcess(pid) => UnixAddr::new_abstract(format!("{NAMES}{pid}").as_bytes()),
            Self::File(path) => UnixAddr::new(path),
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let made = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        connect(made.as_raw_fd(), &address?)?;
        Ok(made.into())
    }
}

/// Where `--control` has the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nowhere.
    Nowhere,
    /// In a file.
    At(PathBuf),
}

impl From<&OsStr> for Wanted {
    fn from(text: &OsStr) -> Self {
        if text == "none" { Self::Nowhere } else { Self::At(Path::new(text).to_owned()) }
    }
}

/// Who is at the other end.
pub fn peer(stream: &UnixStream) -> io::Result<UnixCredentials> {
    Ok(getsockopt(&stream.as_fd(), PeerCredentials)?)
}

/// Whether this process's user has to do with one of that user's processes: its own, or any if it is
/// root.
pub fn may_ask(user: libc::uid_t) -> bool {
    let own = geteuid();
    own.is_root() || own.as_raw() == user
}

/// Whether that user may ask this process: its own, or root.
pub fn may_be_told(user: libc::uid_t) -> bool {
    user == 0 || user == geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_words() {
        for (_, request) in Request::ALL {
            assert_eq!(Request::parse(request.line()), Ok(request));
        }
        assert_eq!(Request::parse(b" counts\r\n"), Ok(Request::Counts));
        for wrong in [&b""[..], b"count", b"counts x", b"\xff\x00", b"COUNTS"] {
            assert!(Request::parse(wrong).unwrap_err().contains("counts, times"));
        }
    }

    #[test]
    fn only_a_user_itself_and_root_have_to_do_with_its_processes() {
        let own = geteuid().as_raw();
        assert!(may_ask(own) && may_be_told(own) && may_be_told(0));
        assert!(!may_be_told(own + 1));
        assert_eq!(may_ask(own + 1), own == 0);
    }
}
