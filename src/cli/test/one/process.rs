//! The process that a guest runs in, and what comes of it.

use std::{
    collections::VecDeque,
    env,
    io::{ErrorKind, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    time::Instant,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::{
    cli::{Failure, test::plan::Test},
    vfio_user::spawn,
};

/// Bytes read at once.
const CHUNK: usize = 64 << 10;
/// Bytes read at most of what is left when the process has ended: a pipe holds no more, but somebody
/// else may write to it.
const LEFT: usize = 1 << 20;

/// What happens to a process.
pub enum Event {
    /// Its guest has printed.
    Console(Vec<u8>),
    /// It has said something itself.
    Message(Vec<u8>),
    /// Somebody wants it to stop.
    Stop,
    /// The time is up.
    Time,
    /// It has ended, and all that it has said was heard.
    Ended,
}

/// A process of this program's as `axvmm run`. Dropping it ends it.
pub struct Process {
    child: Child,
    pidfd: OwnedFd,
    stdin: Option<ChildStdin>,
    /// What is still to be typed.
    keys: VecDeque<u8>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    has_ended: bool,
    /// Bytes that may still be read after its end.
    left: usize,
}

impl Process {
    pub fn start(test: &Test, result: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::call("start this program once more", error);
        let mut command = Command::new(env::current_exe().map_err(failed)?);
        let timeout = format!("{}ms", test.config.timeout.as_millis().max(1));
        command.arg("run").arg("--config").arg(&test.file);
        test.sets.iter().for_each(|set| _ = command.args(["--set", set]));
        command.args(["--timeout", &timeout]).arg("--result-file").arg(result);
        command.args(["--reboots", &test.config.reboots.to_string()]);
        let types = !test.config.answers.is_empty();
        command.stdin(if types { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // The terminal's signals are for us, who tell the guests.
        command.process_group(0);
        spawn::end_with_us(&mut command);
        let mut child = command.spawn().map_err(failed)?;
        let pidfd = match open_pidfd(&child) {
            Ok(pidfd) => pidfd,
            Err(failure) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failure);
            }
        };
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (keys, has_ended, left) = (VecDeque::new(), false, LEFT);
        let process = Self { child, pidfd, stdin, keys, stdout, stderr, has_ended, left };
        process.stdin.iter().try_for_each(|it| do_not_wait(it.as_fd()))?;
        process.stdout.iter().try_for_each(|it| do_not_wait(it.as_fd()))?;
        process.stderr.iter().try_for_each(|it| do_not_wait(it.as_fd()))?;
        Ok(process)
    }

    /// Waits until something happens; that `stop` can be read is before all else.
    pub fn wait(&mut self, stop: Option<BorrowedFd<'_>>, until: Instant) -> Result<Event, Failure> {
        loop {
            // What was said before the end comes first, so that it is looked at in this order.
            if self.has_ended {
                return Ok(self.heard().unwrap_or(Event::Ended));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Event::Time);
            }
            // Rounded up, or the last millisecond would be spent without waiting.
            let left = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
            let is_ready =
                self.poll(stop, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX))?;
            self.has_ended = is_ready.ended;
            if is_ready.stop {
                return Ok(Event::Stop);
            }
            self.go_on_typing();
            if let Some(event) = self.heard() {
                return Ok(event);
            }
        }
    }

    fn poll(&self, stop: Option<BorrowedFd<'_>>, timeout: PollTimeout) -> Result<Ready, Failure> {
        let on = |fd, flags| PollFd::new(fd, flags);
        let mut fds = vec![on(self.pidfd.as_fd(), PollFlags::POLLIN)];
        fds.extend(stop.map(|stop| on(stop, PollFlags::POLLIN)));
        fds.extend(self.stdout.as_ref().map(|it| on(it.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.stderr.as_ref().map(|it| on(it.as_fd(), PollFlags::POLLIN)));
        let stdin = self.stdin.as_ref().filter(|_| !self.keys.is_empty());
        fds.extend(stdin.map(|it| on(it.as_fd(), PollFlags::POLLOUT)));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Failure::call("wait for a guest", errno)),
        }
        let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        Ok(Ready { ended: is_ready(&fds[0]), stop: stop.is_some() && is_ready(&fds[1]) })
    }

    /// What can be read now, if there is something.
    fn heard(&mut self) -> Option<Event> {
        let most = if self.has_ended { CHUNK.min(self.left) } else { CHUNK };
        let event = read(&mut self.stderr, most)
            .map(Event::Message)
            .or_else(|| read(&mut self.stdout, most).map(Event::Console));
        if let (true, Some(Event::Console(bytes) | Event::Message(bytes))) =
            (self.has_ended, &event)
        {
            self.left = self.left.saturating_sub(bytes.len());
        }
        event
    }

    /// Types, when the guest takes it.
    pub fn type_in(&mut self, keys: &str) {
        self.keys.extend(keys.as_bytes());
        self.go_on_typing();
    }

    fn go_on_typing(&mut self) {
        while let (Some(stdin), false) = (&mut self.stdin, self.keys.is_empty()) {
            match stdin.write(self.keys.make_contiguous()) {
                Ok(written) => drop(self.keys.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Nobody reads any more.
                Err(_) => self.stdin = None,
            }
        }
    }

    pub fn ask_to_end(&self) {
        // Whom this does not reach has ended.
        let _ = pidfd_send_signal(&self.pidfd, Signal::TERM);
    }

    pub fn kill(&self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// How it has ended.
    pub fn finish(mut self) -> Result<ExitStatus, Failure> {
        self.child.wait().map_err(|error| Failure::call("wait for a guest", error))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What need not be waited for.
struct Ready {
    ended: bool,
    stop: bool,
}

fn open_pidfd(child: &Child) -> Result<OwnedFd, Failure> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let opened = pid.ok_or(rustix::io::Errno::SRCH);
    let opened = opened.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
    opened.map_err(|errno| Failure::call("watch a guest (pidfd_open)", errno))
}

fn do_not_wait(fd: BorrowedFd<'_>) -> Result<(), Failure> {
    let set = fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    set.map(drop).map_err(|errno| Failure::call("set up a pipe", errno))
}

/// What there is to read, at most so much; a file at its end is closed.
fn read(from: &mut Option<impl Read>, most: usize) -> Option<Vec<u8>> {
    let file = from.as_mut()?;
    let mut bytes = vec![0; most];
    match file.read(&mut bytes) {
        Ok(0) => *from = None,
        Ok(n) => {
            bytes.truncate(n);
            return Some(bytes);
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
        Err(_) => *from = None,
    }
    None
}
