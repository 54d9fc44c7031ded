//! A VMM as a process: what it prints and when, and what it costs.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::fd::{AsRawFd, OwnedFd},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::openpty,
    sys::{
        resource::{UsageWho, getrusage},
        time::TimeVal,
    },
};

use crate::{
    Result,
    contender::{Contender, Guest},
};

/// Nothing that is waited for takes this long, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// Which part of a second the kernel counts processes' times in, as it shows them (`USER_HZ`).
const TICKS: f64 = 100.0;

/// CPU time, in seconds.
#[derive(Clone, Copy)]
pub struct CpuTime {
    /// The VMM's own, in user mode.
    pub user: f64,
    /// That, the kernel's on its behalf, and the guest's.
    pub all: f64,
}

/// A VMM that runs. Dropping it ends it.
pub struct Running {
    child: Child,
    stdout: ChildStdout,
    name: &'static str,
    started: Instant,
    /// What came, and for each byte when.
    text: Vec<u8>,
    times: Vec<Instant>,
    stderr: File,
    /// The other end of its stdin.
    _terminal: OwnedFd,
}

impl Running {
    pub fn start(contender: &Contender, guest: &Guest) -> Result<Self> {
        let mut command = contender.command(guest);
        Self::spawn(&mut command, contender.name())
            .map_err(|error| format!("{}: {command:?}: {error}", contender.name()).into())
    }

    fn spawn(command: &mut Command, name: &'static str) -> std::io::Result<Self> {
        let stderr = tempfile::tempfile()?;
        // A terminal at which nobody types: alioth wants one.
        let terminal = openpty(None, None)?;
        command.stdin(terminal.slave).stdout(Stdio::piped()).stderr(stderr.try_clone()?);
        let started = Instant::now();
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
        let (text, times) = (Vec::new(), Vec::new());
        let _terminal = terminal.master;
        Ok(Self { child, stdout, name, started, text, times, stderr, _terminal })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `text` has been printed. When its first and its last byte came, after the exec.
    pub fn wait_for(&mut self, text: &str) -> Result<(Duration, Duration)> {
        loop {
            let mut windows = self.text.windows(text.len());
            if let Some(first) = windows.position(|window| window == text.as_bytes()) {
                let last = first + text.len() - 1;
                return Ok((self.times[first] - self.started, self.times[last] - self.started));
            }
            let left = LIMIT.saturating_sub(self.started.elapsed());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(&self.stdout), PollFlags::POLLIN)];
            let mut buffer = [0; 4096];
            let n = match poll(&mut fds, timeout)? {
                0 => 0,
                _ => self.stdout.read(&mut buffer)?,
            };
            if n == 0 {
                return Err(self.never_printed(text));
            }
            let now = Instant::now();
            self.text.extend(&buffer[..n]);
            self.times.resize(self.text.len(), now);
        }
    }

    fn never_printed(&self, text: &str) -> Box<dyn std::error::Error> {
        let path = format!("/proc/self/fd/{}", self.stderr.as_raw_fd());
        let errors = fs::read(path).unwrap_or_default();
        let (name, printed) = (self.name, String::from_utf8_lossy(&self.text));
        let errors = String::from_utf8_lossy(&errors);
        format!("{name} never printed {text:?}; its stdout:\n{printed}\nits stderr:\n{errors}")
            .into()
    }

    /// CPU time in the guest itself, which counts as the process's user time.
    fn guest_time(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        // Field 43; the first one after the name is number 3.
        let ticks = after_name.split_whitespace().nth(43 - 3).and_then(|field| field.parse().ok());
        ticks.unwrap_or(0.0) / TICKS
    }

    /// Ends it, and tells what CPU time it took.
    pub fn end(mut self) -> Result<CpuTime> {
        let guest = self.guest_time();
        let before = children_time()?;
        self.child.kill()?;
        self.child.wait()?;
        let after = children_time()?;
        Ok(CpuTime { user: after.user - before.user - guest, all: after.all - before.all })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits a little: a machine that has just ended something is still busy with it.
pub fn settle() {
    let _ = std::io::stdout().flush();
    thread::sleep(Duration::from_millis(20));
}

fn children_time() -> Result<CpuTime> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let (user, system) = (seconds(usage.user_time()), seconds(usage.system_time()));
    Ok(CpuTime { user, all: user + system })
}
