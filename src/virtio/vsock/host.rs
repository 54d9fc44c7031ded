//! The host's side: the Unix socket that programs connect to, and those that the guest reaches.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

/// The longest path of a Unix socket, in bytes.
const LONGEST: usize = 107;

/// The most bytes of a path: `_` and a port's number come behind it.
pub const LONGEST_PATH: usize = LONGEST - 11;

/// The socket that host programs connect to. Its file goes when this does.
#[derive(Debug)]
pub struct HostSocket {
    listener: UnixListener,
    path: PathBuf,
    /// The file's device and inode.
    file: (u64, u64),
}

impl HostSocket {
    /// Listens at `path`, in the place of a socket there that nobody listens at any more.
    ///
    /// # Errors
    /// Something else stands there, or the host refuses; the message has the path and what to do.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let told = |error: io::Error, what: &str| {
            io::Error::new(error.kind(), format!("{}: {what}", path.display()))
        };
        if path.as_os_str().len() > LONGEST_PATH {
            let what =
                format!("a vsock's path has at most {LONGEST_PATH} bytes: choose a shorter one");
            return Err(told(io::ErrorKind::InvalidInput.into(), &what));
        }
        let listener = UnixListener::bind(path).or_else(|error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                make_way(path)?;
                UnixListener::bind(path)
            }
            _ => Err(error),
        });
        let listener = listener.map_err(|error| {
            let why = format!("cannot listen there: {error}");
            told(error, &why)
        })?;
        listener.set_nonblocking(true)?;
        let file = fs::metadata(path)?;
        Ok(Self { listener, path: path.into(), file: (file.dev(), file.ino()) })
    }

    /// What connections come in by.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Connects to whoever listens for the guest's connections to `port`, without waiting.
    pub fn connect(&self, port: u32) -> io::Result<UnixStream> {
        let mut path = OsString::from(&self.path);
        path.push(format!("_{port}"));
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        connect(fd.as_raw_fd(), &UnixAddr::new(Path::new(&path))?)?;
        Ok(fd.into())
    }
}

/// Takes a socket away that nobody listens at any more: what is left of a program that was killed.
fn make_way(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        let why = "there is something that is no socket: remove it, or choose another path";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => {
            let why = "a running program listens there, perhaps another guest: end it, or choose \
                       another path";
            Err(io::Error::new(io::ErrorKind::AddrInUse, why))
        }
    }
}

impl Drop for HostSocket {
    fn drop(&mut self) {
        let ours = |file: &fs::Metadata| (file.dev(), file.ino()) == self.file;
        if fs::symlink_metadata(&self.path).is_ok_and(|file| ours(&file)) {
            // Who took it away meanwhile has done the work.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_way_is_told_and_what_is_left_over_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.sock");
        // As a killed program leaves it.
        drop(UnixListener::bind(&path).unwrap());
        let first = HostSocket::bind(&path).unwrap();
        let told = HostSocket::bind(&path).unwrap_err().to_string();
        assert!(told.contains("v.sock") && told.contains("choose another path"), "{told}");
        assert!(UnixStream::connect(&path).is_ok(), "the first still listens");
        drop(first);
        assert!(!path.exists(), "the file goes with its socket");

        fs::write(&path, "precious").unwrap();
        let told = HostSocket::bind(&path).unwrap_err().to_string();
        assert!(told.contains("no socket"), "{told}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn somebody_elses_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.sock");
        let socket = HostSocket::bind(&path).unwrap();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
        drop(other);
    }

    #[test]
    fn a_path_is_as_long_as_ports_behind_it_allow() {
        let dir = tempfile::tempdir().unwrap();
        let len = dir.path().as_os_str().len() + 1;
        let path = |bytes: usize| dir.path().join("x".repeat(bytes - len));
        let told = HostSocket::bind(&path(LONGEST_PATH + 1)).unwrap_err().to_string();
        assert!(told.contains("96 bytes"), "{told}");
        let socket = HostSocket::bind(&path(LONGEST_PATH)).unwrap();
        let refused = socket.connect(u32::MAX).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound, "it fits, and is not there");
    }
}
