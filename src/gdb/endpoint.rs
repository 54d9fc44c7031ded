//! Where the server listens: a TCP port of this machine's, or a socket in a directory.

use std::{
    fmt, fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            fs::FileTypeExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use gdbstub::conn::Connection;

/// A client that takes nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// An address to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A host and a port, as `HOST:PORT`.
    Tcp(String),
    /// A socket's path.
    Unix(PathBuf),
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").or(text.contains('/').then_some(text)) {
            return match path {
                "" => Err("it names no socket: write unix:PATH".to_owned()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let port: u16 = port
            .parse()
            .map_err(|_| "write a port, HOST:PORT, or a socket's path with a / in it".to_owned())?;
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        Ok(Self::Tcp(format!("{host}:{port}")))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Endpoint {
    /// Listens there. A socket that a dead server has left is taken away first.
    pub fn listen(&self) -> io::Result<Listener> {
        Ok(match self {
            Self::Tcp(address) => Listener::Tcp(TcpListener::bind(address.as_str())?),
            Self::Unix(path) => {
                let is_socket = fs::metadata(path).is_ok_and(|it| it.file_type().is_socket());
                if is_socket && UnixStream::connect(path).is_err() {
                    fs::remove_file(path)?;
                }
                Listener::Unix(UnixListener::bind(path)?, path.clone())
            }
        })
    }
}

/// A place that is listened at. Dropping it removes the socket.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// The next client, which must have knocked.
    pub fn accept(&self) -> io::Result<Stream> {
        let stream = match self {
            Self::Tcp(listener) => {
                let stream = listener.accept()?.0;
                // Packets are small, and each is waited for.
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Stream::Tcp(stream)
            }
            Self::Unix(listener, _) => {
                let stream = listener.accept()?.0;
                stream.set_write_timeout(Some(PATIENCE))?;
                Stream::Unix(stream)
            }
        };
        Ok(stream)
    }

    /// What a client writes behind `target remote`.
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => {
                listener.local_addr().map(|it| it.to_string()).unwrap_or_default()
            }
            Self::Unix(_, path) => path.display().to_string(),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // Somebody may have been faster.
            let _ = fs::remove_file(path);
        }
    }
}

/// A client.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => Write::write(stream, bytes),
            Self::Unix(stream) => Write::write(stream, bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The way to a client: a packet at a time.
pub struct Outgoing {
    stream: Stream,
    packet: Vec<u8>,
}

/// So much is kept before it is sent on.
const PACKET: usize = 4096;

impl Outgoing {
    pub fn new(stream: Stream) -> Self {
        Self { stream, packet: Vec::with_capacity(PACKET) }
    }
}

impl Connection for Outgoing {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.packet.push(byte);
        if self.packet.len() < PACKET { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> io::Result<()> {
        let sent = self.stream.write_all(&self.packet);
        self.packet.clear();
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_ports_hosts_and_paths() {
        let tcp = |text: &str| Ok(Endpoint::Tcp(text.to_owned()));
        let unix = |text: &str| Ok(Endpoint::Unix(text.into()));
        for (text, endpoint) in [
            ("1234", tcp("127.0.0.1:1234")),
            (":1234", tcp("127.0.0.1:1234")),
            ("0.0.0.0:1", tcp("0.0.0.0:1")),
            ("[::1]:1234", tcp("[::1]:1234")),
            ("/tmp/s", unix("/tmp/s")),
            ("./s:1", unix("./s:1")),
            ("unix:s", unix("s")),
        ] {
            assert_eq!(text.parse(), endpoint, "{text}");
        }
        for wrong in ["", "unix:", "port", "host:", "65536", "-1", "1234,run"] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_socket_that_somebody_listens_at_is_not_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::Unix(dir.path().join("s"));
        let first = endpoint.listen().unwrap();
        endpoint.listen().unwrap_err();
        // As one that is killed leaves it.
        std::mem::forget(first);
        let path = dir.path().join("dead");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Endpoint::Unix(path.clone()).listen().unwrap());
        assert!(!path.exists());
    }
}
