//! A host that runs: brought up by its script, found by a directory, ended by its script's end.

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use rustix::{fs::FlockOperation, io::Errno};

use super::{Error, Session, program, scripts, spawn};

/// How long a host takes to end at most.
const ENDING: Duration = Duration::from_secs(20);
/// How often it is looked at.
const OFTEN: Duration = Duration::from_millis(50);
/// How often a host that is up is asked for a session.
const TRIES: u32 = 5;
/// What a Unix socket's path may have, in bytes (unix(7), with the end).
const LONGEST_SOCKET: usize = 107;

/// Which host is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// One of [`super::hosts`].
    pub host: String,
    /// How many CPUs it has.
    pub cpus: u32,
    /// Its memory, in bytes.
    pub memory: u64,
    /// The axvmm that goes into it, if not one that is found.
    pub axvmm: Option<PathBuf>,
}

/// A host that was brought up.
#[derive(Debug)]
pub struct Up {
    dir: PathBuf,
    /// Its script, if it ends with this value.
    child: Option<Child>,
    /// The directory goes with this value.
    is_brief: bool,
}

impl Up {
    /// Brings up a host that ends when this is dropped, or this process ends; `is_unwanted` is asked
    /// now and then whether that is to be left.
    ///
    /// # Errors
    /// What is missing, or why it did not come up; progress and the scripts' own messages are on
    /// stderr.
    pub fn for_now(wish: &Wish, mut is_unwanted: impl FnMut() -> bool) -> Result<Self, Error> {
        let name = format!("axvmm-host.{:08x}{:08x}", std::process::id(), fastrand::u32(..));
        let dir = env::temp_dir().join(name);
        // Not one that somebody else has made.
        let made = DirBuilder::new().mode(0o700).create(&dir);
        made.map_err(Error::call(format!("make {}", dir.display())))?;
        let mut up = Self { child: None, dir, is_brief: true };
        let mut command = up.script(wish, &mut is_unwanted)?;
        spawn::ending_with_us(&mut command);
        let child = command.spawn().map_err(Error::call("start the host's script (bash)"))?;
        up.child = Some(child);
        up.wait(None, is_unwanted)?;
        Ok(up)
    }

    /// Brings up a host that stays until [`Up::end`] is called for it, by whomever; else as
    /// [`Self::for_now`].
    ///
    /// # Errors
    /// As [`Self::for_now`]; and one of its name that is up already.
    pub fn to_stay(wish: &Wish, mut is_unwanted: impl FnMut() -> bool) -> Result<(), Error> {
        let dir = dir_of(&wish.host)?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(Error::call(format!("make {}", dir.display())))?;
        let lock = lock(&dir)?.ok_or_else(|| {
            Error::Usage(format!(
                "the {0} host is up; end it first: axvmm host down {0}",
                wish.host
            ))
        })?;
        let mut up = Self { child: None, dir, is_brief: false };
        let log = up.dir.join("log");
        let log_file = File::create(&log).map_err(Error::call("write its log"))?;
        let mut command = up.script(wish, &mut is_unwanted)?;
        command.stderr(log_file);
        // The lock is held as long as a process of the host's has it open.
        spawn::apart(&mut command, &lock);
        let child = command.spawn().map_err(Error::call("start the host's script (bash)"))?;
        let pid = up.dir.join("pid");
        fs::write(&pid, child.id().to_string()).map_err(Error::call("write its process id"))?;
        up.child = Some(child);
        // It is ended if it does not come up.
        up.wait(Some(&log), is_unwanted)?;
        up.child = None;
        Ok(())
    }

    /// One that is up to stay.
    ///
    /// # Errors
    /// If there is no place where one can be.
    pub fn found(host: &str) -> Result<Option<Self>, Error> {
        let dir = dir_of(host)?;
        Ok((dir.exists() && lock(&dir)?.is_none()).then_some(Self {
            dir,
            child: None,
            is_brief: false,
        }))
    }

    /// Ends one that is up to stay; whether there was one.
    ///
    /// # Errors
    /// If it does not end.
    pub fn end(host: &str) -> Result<bool, Error> {
        let Some(up) = Self::found(host)? else { return Ok(false) };
        let dir = &up.dir;
        let pid = fs::read_to_string(dir.join("pid")).unwrap_or_default();
        let pid: i32 = pid.trim().parse().ok().filter(|pid| *pid > 1).ok_or_else(|| {
            Error::Host(format!("{} does not say which process the host is", dir.display()))
        })?;
        // Its script tidies up, and is not to be interrupted in that.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let since = Instant::now();
        while lock(dir)?.is_none() {
            if since.elapsed() > ENDING {
                let text = format!("the {host} host does not end; its process is {pid}");
                return Err(Error::Host(text));
            }
            thread::sleep(OFTEN);
        }
        let _ = fs::remove_dir_all(dir);
        Ok(true)
    }

    /// A session in it.
    ///
    /// # Errors
    /// If all are taken, or nobody answers.
    pub fn session(&self) -> Result<Session, Error> {
        for _ in 0..TRIES {
            if let Some(session) = Session::open(&self.dir)? {
                return Ok(session);
            }
        }
        Err(Error::Host("nobody answers in the host".into()))
    }

    /// The script with what it is to do; what it needs is there.
    fn script(&self, wish: &Wish, mut is_unwanted: impl FnMut() -> bool) -> Result<Command, Error> {
        let arch = scripts::architecture_of(&wish.host);
        if !scripts::hosts().any(|it| it == wish.host) {
            let all: Vec<_> = scripts::hosts().collect();
            let text = format!("there is no host {:?}; there are {}", wish.host, all.join(", "));
            return Err(Error::Usage(text));
        }
        if self.dir.join("0").as_os_str().len() > LONGEST_SOCKET {
            let text = format!("{}: this path is too long for sockets", self.dir.display());
            return Err(Error::Usage(text));
        }
        let axvmm = program::find(arch, wish.axvmm.as_deref())?;
        let scripts = scripts::write()?;
        let setup = bash(&scripts.join("setup")).args([&wish.host, "host"]).status();
        let setup = setup.map_err(Error::call("start the host's set-up (bash)"))?;
        if !setup.success() {
            if is_unwanted() {
                return Err(Error::Unwanted);
            }
            let text = format!("what the emulated {} host needs cannot be had", wish.host);
            return Err(Error::Host(text));
        }
        let mut command = bash(&scripts.join("host"));
        command.arg(&wish.host).arg("--sessions").arg(&self.dir);
        command.arg("--cpus").arg(wish.cpus.to_string());
        command.arg("--memory").arg(format!("{}M", wish.memory >> 20));
        command.args(["--", "axvmm", "host", "serve"]).env("AXVMM", axvmm).stdout(Stdio::null());
        Ok(command)
    }

    /// Waits until somebody answers in it.
    fn wait(
        &mut self,
        log: Option<&Path>,
        mut is_unwanted: impl FnMut() -> bool,
    ) -> Result<(), Error> {
        loop {
            if is_unwanted() {
                return Err(Error::Unwanted);
            }
            if Session::open(&self.dir)?.is_some() {
                return Ok(());
            }
            let ended = self.child.as_mut().map_or(Ok(None), Child::try_wait);
            if ended.map_err(Error::call("wait for the host"))?.is_some() {
                self.child = None;
                // It may have heard of it first.
                if is_unwanted() {
                    return Err(Error::Unwanted);
                }
                let said = log.map(tail).unwrap_or_default();
                return Err(Error::Host(format!("the host did not come up{said}")));
            }
            thread::sleep(OFTEN);
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let since = Instant::now();
            // Its script tidies up, and is not to be interrupted in that.
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
            while matches!(child.try_wait(), Ok(None)) {
                if since.elapsed() > ENDING {
                    let _ = child.kill();
                }
                thread::sleep(OFTEN);
            }
        }
        if self.is_brief {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Where others find a host that stays: a directory for its user alone, since a session's socket gives
/// all there is in the host.
fn dir_of(host: &str) -> Result<PathBuf, Error> {
    let name = format!("host-{host}");
    Ok(match env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|it| it.is_dir()) {
        Some(dir) => dir.join("axvmm").join(name),
        None => scripts::cache()?.join(format!("up-{}", geteuid())).join(name),
    })
}

/// Takes a lock that lasts until all have closed the file; whether it was free.
pub(super) fn hold(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The lock of a host's directory; `None` while the host is up.
fn lock(dir: &Path) -> Result<Option<File>, Error> {
    let path = dir.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(Error::call(format!("open {}", path.display())))?;
    hold(&file).map(|is_ours| is_ours.then_some(file)).map_err(Error::call("lock it"))
}

fn bash(script: &Path) -> Command {
    let mut command = Command::new("bash");
    spawn::hearing_signals(&mut command);
    command.env_remove("AXVMM").arg(script).stdin(Stdio::null());
    command
}

/// What a log says, to be told after something else.
fn tail(log: &Path) -> String {
    let mut text = String::new();
    let read = File::open(log).and_then(|file| file.take(64 << 10).read_to_string(&mut text));
    match read {
        Ok(_) if !text.trim().is_empty() => format!(":\n{}", text.trim_end()),
        _ => String::new(),
    }
}
