//! The agent in a host: at each port one session after the other, each with one command at a time.

mod command;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;

use self::command::Command;
use super::{
    Item, SESSIONS, Start, files,
    frames::{self, Frame, Kind},
};

/// Where Linux has the ports of virtio-serial devices.
const PORTS: &str = "/sys/class/virtio-ports";
/// How often a port is looked at where nobody is.
const OFTEN: Duration = Duration::from_millis(100);

/// A port's way out, for all that say something in a session.
type Out = Arc<Mutex<File>>;

/// Serves all sessions, for ever.
///
/// # Errors
/// If this is no host with ports for sessions.
pub fn serve() -> io::Result<()> {
    let ports = (0..SESSIONS).map(|number| port(&format!("session{number}")));
    let ports = ports.collect::<io::Result<Vec<_>>>()?;
    thread::scope(|scope| {
        for port in &ports {
            scope.spawn(|| {
                loop {
                    if let Err(error) = at_port(port) {
                        log::warn!("a session at {}: {error}", port.display());
                        thread::sleep(OFTEN);
                    }
                }
            });
        }
    });
    Ok(())
}

/// The device of the port of this name.
fn port(name: &str) -> io::Result<PathBuf> {
    for entry in fs::read_dir(PORTS)? {
        let entry = entry?;
        let found = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if found.trim_end() == name {
            return Ok(Path::new("/dev").join(entry.file_name()));
        }
    }
    let text = format!("no port {name} in {PORTS}: this is to run in an emulated host");
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}

/// One session, from when somebody is there to when nobody is. Between sessions the port is closed, so
/// that nothing is left of one for the next.
fn at_port(path: &Path) -> io::Result<()> {
    let port = OpenOptions::new().read(true).write(true).open(path)?;
    while hung_up(&port)? {
        thread::sleep(OFTEN);
    }
    let out = Arc::new(Mutex::new(port.try_clone()?));
    let result = session(&mut &port, &out);
    if let Err(error) = &result {
        let _ = frames::write(&mut *out.lock(), Kind::Problem, error.to_string().as_bytes());
    }
    let mut rest = [0; 4096];
    while matches!((&port).read(&mut rest), Ok(count) if count > 0) {}
    result
}

fn hung_up(port: &File) -> io::Result<bool> {
    let mut fds = [PollFd::new(port.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO)?;
    Ok(fds[0].revents().is_some_and(|it| it.contains(PollFlags::POLLHUP)))
}

fn session(from: &mut impl Read, out: &Out) -> io::Result<()> {
    frames::write(&mut *out.lock(), Kind::Ready, &[])?;
    // Ended when it is dropped.
    let mut command: Option<Command> = None;
    while let Some(frame) = frames::read(from)? {
        match (frame.kind, &mut command) {
            (Kind::Files, _) => receive(from, frame)?,
            (Kind::Start, _) => {
                let start: Start = serde_json::from_slice(&frame.bytes)?;
                command = Command::start(&start, out)?;
            }
            (Kind::Input, Some(command)) => command.input(frame.bytes),
            (Kind::Size, Some(command)) => command.resize(&frame.bytes),
            (Kind::Signal, Some(command)) => command.signal(&frame.bytes),
            (Kind::Fetch, _) => send(&serde_json::from_slice::<Vec<PathBuf>>(&frame.bytes)?, out)?,
            // Said before it was known that there is no command any more.
            (Kind::Input | Kind::Size | Kind::Signal, None) => {}
            (kind, _) => return Err(io::Error::other(format!("{kind:?} is not for the agent"))),
        }
    }
    Ok(())
}

fn receive(from: &mut impl Read, first: Frame) -> io::Result<()> {
    files::receive(from, Some(first), Path::new("/"), None).map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull => {
            let text = format!("{error}: its memory is too small for these files (memory=SIZE)");
            io::Error::other(text)
        }
        _ => error,
    })
}

fn send(paths: &[PathBuf], out: &Out) -> io::Result<()> {
    let there = paths.iter().filter(|path| path.exists()).cloned().map(Item::same);
    files::send(&there.collect::<Vec<_>>(), &mut *out.lock())
}
