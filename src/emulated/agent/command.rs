//! A command of a session: its streams and its end, as frames.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    mem,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::{self, Child, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::{Winsize, openpty},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    super::{
        Start,
        frames::{self, Kind, LONGEST},
        spawn,
    },
    Out,
};

/// The statuses of shells for a command that is not there or cannot be started.
const NOT_FOUND: u8 = 127;
const NOT_STARTED: u8 = 126;
/// How long the streams of a command are read that has ended and left somebody behind who has them.
const AFTER: Duration = Duration::from_millis(500);
/// How often a stream is looked at where nothing comes.
const OFTEN: u16 = 100;

/// A command that runs; its processes end with this.
#[derive(Debug)]
pub struct Command {
    group: Pid,
    has_ended: Arc<AtomicBool>,
    /// Never more than a window's bytes are in it.
    input: Sender<Vec<u8>>,
    terminal: Option<File>,
}

impl Command {
    /// Starts it. `None`: it could not be started, which is told as a shell does.
    pub fn start(start: &Start, out: &Out) -> io::Result<Option<Self>> {
        let [program, arguments @ ..] = &start.command[..] else {
            return Err(io::Error::other("no command"));
        };
        let made = start.directories.iter().chain([&start.directory]);
        made.into_iter().try_for_each(fs::create_dir_all)?;
        let mut command = process::Command::new(program);
        command.args(arguments).current_dir(&start.directory);
        let terminal = match &start.tty {
            Some(tty) => {
                command.env("TERM", &tty.term);
                let size =
                    Winsize { ws_row: tty.rows, ws_col: tty.columns, ws_xpixel: 0, ws_ypixel: 0 };
                let pty = openpty(&size, None)?;
                command.stdin(pty.slave.try_clone()?).stdout(pty.slave.try_clone()?);
                match tty.errors_apart {
                    true => command.stderr(Stdio::piped()),
                    false => command.stderr(pty.slave),
                };
                Some(File::from(pty.master))
            }
            None => {
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                None
            }
        };
        let has_terminal = terminal.is_some();
        spawn::in_session(&mut command, has_terminal);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let is_missing = error.kind() == io::ErrorKind::NotFound;
                let status = if is_missing { NOT_FOUND } else { NOT_STARTED };
                let text = format!("axvmm: {program}: {error}\n");
                let out = &mut *out.lock();
                frames::write(out, Kind::Errors, text.as_bytes())?;
                frames::write(out, Kind::Exit, &[status])?;
                return Ok(None);
            }
        };
        // The terminal's other end, of which the command alone is to have copies.
        drop(command);
        Self::follow(child, terminal, out).map(Some)
    }

    /// From now on its streams are frames.
    fn follow(mut child: Child, terminal: Option<File>, out: &Out) -> io::Result<Self> {
        let group = Pid::from_raw(child.id() as i32);
        let has_ended = Arc::new(AtomicBool::new(false));
        let (input, pieces) = mpsc::channel();
        let stdin: Option<OwnedFd> = match (&terminal, child.stdin.take()) {
            (Some(terminal), _) => Some(terminal.try_clone()?.into()),
            (None, stdin) => stdin.map(OwnedFd::from),
        };
        let stdout: Option<OwnedFd> = match &terminal {
            Some(terminal) => Some(terminal.try_clone()?.into()),
            None => child.stdout.take().map(OwnedFd::from),
        };
        let mut streams = Vec::new();
        let stderr = child.stderr.take().map(OwnedFd::from);
        for (kind, stream) in [(Kind::Output, stdout), (Kind::Errors, stderr)] {
            let Some(stream) = stream else { continue };
            let (out, has_ended) = (out.clone(), has_ended.clone());
            streams.push(thread::spawn(move || relay(&File::from(stream), kind, &out, &has_ended)));
        }
        let is_terminal = terminal.is_some();
        let for_input = out.clone();
        thread::spawn(move || feed(stdin.map(File::from), is_terminal, &pieces, &for_input));
        let (out, ended) = (out.clone(), has_ended.clone());
        thread::spawn(move || {
            let status = child.wait();
            ended.store(true, Ordering::SeqCst);
            streams.into_iter().map(JoinHandle::join).for_each(drop);
            let _ = frames::write(&mut *out.lock(), Kind::Exit, &[status_of(status)]);
        });
        Ok(Self { group, has_ended, input, terminal })
    }

    /// Bytes for its stdin; none is the end.
    pub fn input(&self, bytes: Vec<u8>) {
        let _ = self.input.send(bytes);
    }

    /// Another size of its terminal: columns and rows.
    pub fn resize(&self, bytes: &[u8]) {
        let (Some(terminal), [c0, c1, r0, r1]) = (&self.terminal, bytes) else { return };
        let size = rustix::termios::Winsize {
            ws_col: u16::from_le_bytes([*c0, *c1]),
            ws_row: u16::from_le_bytes([*r0, *r1]),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // A terminal that is gone has no size.
        let _ = rustix::termios::tcsetwinsize(terminal, size);
    }

    /// A signal for all its processes.
    pub fn signal(&self, bytes: &[u8]) {
        let signal = bytes.first().and_then(|it| Signal::try_from(i32::from(*it)).ok());
        if let Some(signal) = signal {
            self.kill(signal);
        }
    }

    fn kill(&self, signal: Signal) {
        // Once it has been waited for, its number may be another's.
        if !self.has_ended.load(Ordering::SeqCst) {
            let _ = kill(Pid::from_raw(-self.group.as_raw()), signal);
        }
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        self.kill(Signal::SIGKILL);
    }
}

fn status_of(status: io::Result<ExitStatus>) -> u8 {
    let Ok(status) = status else { return NOT_STARTED };
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// Sends what comes of a stream, to its end; or to when nothing comes any more, once the command has
/// ended.
fn relay(stream: &File, kind: Kind, out: &Out, has_ended: &AtomicBool) {
    let mut bytes = vec![0; LONGEST];
    let mut quiet = Instant::now();
    loop {
        let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(OFTEN)) {
            Ok(0) if has_ended.load(Ordering::SeqCst) && quiet.elapsed() > AFTER => return,
            Ok(0) | Err(_) => continue,
            Ok(_) => {}
        }
        quiet = Instant::now();
        // A terminal that nobody has open any more fails (EIO).
        let Ok(count @ 1..) = (&mut &*stream).read(&mut bytes) else { return };
        if frames::write(&mut *out.lock(), kind, &bytes[..count]).is_err() {
            return;
        }
    }
}

/// Gives the command its input, and tells what it has taken: also what nobody reads any more.
fn feed(mut stdin: Option<File>, is_terminal: bool, pieces: &Receiver<Vec<u8>>, out: &Out) {
    for piece in pieces {
        if piece.is_empty() {
            // A terminal has no end.
            stdin = stdin.filter(|_| is_terminal);
            continue;
        }
        if stdin.as_mut().is_some_and(|stdin| stdin.write_all(&piece).is_err()) {
            drop(mem::take(&mut stdin));
        }
        let taken = (piece.len() as u32).to_le_bytes();
        if frames::write(&mut *out.lock(), Kind::Taken, &taken).is_err() {
            return;
        }
    }
}
