//! A server's process, from its start to its end.

use std::{
    fs::{self, DirBuilder},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            fs::DirBuilderExt,
            net::UnixStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, killpg},
        socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket},
    },
    unistd::Pid,
};
use rustix::process::{PidfdFlags, pidfd_open};

use super::spawn;

/// How long a server may take until it listens.
const START: Duration = Duration::from_secs(20);
/// How long it may take to end by itself, once it is told to.
const END: Duration = Duration::from_millis(500);
/// How long it is between two looks at a socket that nobody listens at yet: between its coming and
/// `listen` there is nothing to wait for.
const LOOK: Duration = Duration::from_millis(10);
/// What stands for the socket in a command.
pub const SOCKET: &str = "{socket}";

/// A process in a group of its own, with what it starts itself.
pub struct Process {
    child: Child,
    pidfd: OwnedFd,
    dir: PathBuf,
}

impl Process {
    /// Starts `words` in `dir`, and connects to the socket that it makes.
    ///
    /// # Errors
    /// What became of that; and when `stop` can be read.
    pub fn start(
        words: &[String],
        dir: &Path,
        stop: BorrowedFd<'_>,
    ) -> Result<(Self, UnixStream), String> {
        let at =
            SocketDir::new().map_err(|error| format!("has no place for its socket: {error}"))?;
        let path = at.0.join("s");
        let mut process = Self::spawn(words, dir, &path, at)?;
        let stream = process.connect(&path, stop)?;
        // Nobody else is to come: a server that sees this can end with its only client.
        process.remove_socket();
        Ok((process, stream))
    }

    fn spawn(words: &[String], dir: &Path, socket: &Path, at: SocketDir) -> Result<Self, String> {
        let text = socket.display().to_string();
        let (program, arguments) = words.split_first().ok_or("has no command")?;
        // A program in the directory, and not in that which we are in.
        let program = if program.contains('/') { dir.join(program) } else { program.into() };
        let mut command = Command::new(&program);
        command.args(arguments.iter().map(|word| word.replace(SOCKET, &text)));
        if !arguments.iter().any(|word| word.contains(SOCKET)) {
            command.args(["--socket", &text]);
        }
        command.current_dir(dir).process_group(0).stdin(Stdio::null());
        // What it prints is for whoever watches, and no output of the guest's.
        let errors = io::stderr().as_fd().try_clone_to_owned();
        command.stdout(errors.map_or_else(|_| Stdio::null(), Stdio::from));
        spawn::end_with_us(&mut command);
        let failed = |error| format!("cannot be started: {}: {error}", program.display());
        let mut child = command.spawn().map_err(failed)?;
        let pid = rustix::process::Pid::from_child(&child);
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Self { child, pidfd, dir: at.keep() }),
            Err(errno) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(failed(errno.into()))
            }
        }
    }

    /// Connects as soon as somebody listens.
    fn connect(&mut self, path: &Path, stop: BorrowedFd<'_>) -> Result<UnixStream, String> {
        let deadline = Instant::now() + START;
        loop {
            match connect_to(path) {
                Ok(stream) => return Ok(stream),
                Err(Errno::ENOENT | Errno::ECONNREFUSED) => {}
                Err(errno) => return Err(format!("cannot be connected to: {errno}")),
            }
            if wait_for(&[self.pidfd.as_fd(), stop], Some(LOOK)).is_some() {
                return Err(match self.child.try_wait() {
                    Ok(Some(status)) => {
                        let how = match (status.code(), status.signal()) {
                            (Some(code), _) => format!("with status {code}"),
                            (_, Some(signal)) => format!("by signal {signal}"),
                            _ => String::new(),
                        };
                        format!("has ended before it listened, {how}")
                    }
                    _ => "is not waited for any more".to_owned(),
                });
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "does not listen at the socket that it is given ({SOCKET} in its command, or \
                     --socket PATH) within {} s",
                    START.as_secs()
                ));
            }
        }
    }

    fn remove_socket(&self) {
        let _ = fs::remove_dir_all(&self.dir);
    }

    fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.child.id()).map(Pid::from_raw);
        if let Ok(group) = group {
            let _ = killpg(group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Until somebody waits for it, nobody else has its number.
        self.signal(Signal::SIGTERM);
        wait_for(&[self.pidfd.as_fd()], Some(END));
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
        self.remove_socket();
    }
}

/// A directory of our own for a socket.
struct SocketDir(PathBuf);

impl SocketDir {
    fn new() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("axvmm-{}-{number}", process::id());
            let path = std::env::temp_dir().join(name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| Self(path)),
            }
        }
    }

    /// Somebody else removes it.
    fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Connects to whoever listens at `path`, without waiting for anybody.
pub fn connect_to(path: &Path) -> Result<UnixStream, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(fd);
    stream.set_nonblocking(false).map_err(|error| Errno::try_from(error).unwrap_or(Errno::EIO))?;
    Ok(stream)
}

/// Waits until one of these can be read, and tells which; `None`: none within the time.
pub fn wait_for(fds: &[BorrowedFd<'_>], time: Option<Duration>) -> Option<usize> {
    let deadline = time.map(|time| Instant::now() + time);
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        match poll(&mut polled, timeout) {
            Ok(0) | Err(Errno::EINTR) if left.is_some_and(|left| left.is_zero()) => return None,
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return polled.iter().position(|fd| fd.any().unwrap_or(true)),
            Err(_) => return None,
        }
    }
}
