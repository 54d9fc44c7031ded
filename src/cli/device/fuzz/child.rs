//! A process with the device in it.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::sequence::{Access, Target};
use crate::cli::{Failure, panics::INTERNAL, qtest::NO_RESET};

/// How many commands are said before their answers are waited for: a pipe has room for them and for
/// what is answered, so that nobody waits for who does not come back.
const AT_ONCE: usize = 200;

/// After so many accesses a device with queues has a moment for what its own threads do.
const BEFORE_A_MOMENT: usize = 16;
const MOMENT: Duration = Duration::from_micros(300);

/// What is wrong with a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It has ended its process; what that said.
    Panics(String),
    /// It does not come back.
    Hangs,
    /// Its interrupt is up, and no register takes it back.
    StaysUp,
}

impl Trouble {
    pub fn what(&self) -> &'static str {
        match self {
            Self::Panics(_) => "it panics",
            Self::Hangs => "it hangs",
            Self::StaysUp => "its interrupt stays up",
        }
    }

    /// What it has said of itself.
    pub fn said(&self) -> &str {
        match self {
            Self::Panics(said) => said.trim(),
            _ => "",
        }
    }

    /// Whether it is trouble of the same kind.
    pub fn is_like(&self, other: &Self) -> bool {
        self.what() == other.what()
    }
}

/// A process of this program's as `axvmm qtest`.
pub struct Child {
    process: process::Child,
    answers: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
    config: Option<PathBuf>,
    options: Vec<String>,
    irq: Option<u32>,
    is_up: bool,
    /// Its machine is there; before, its end is no matter of accesses.
    has_begun: bool,
    /// How many accesses it has answered, and those that were in its place before.
    made: u64,
}

impl Child {
    /// Starts one, with these options; `irq` is the device's.
    pub fn start(
        config: Option<&Path>,
        options: &[String],
        irq: Option<u32>,
    ) -> Result<Self, Failure> {
        let failed = |error| Failure::call("start this program once more", error);
        let mut command = Command::new(env::current_exe().map_err(failed)?);
        command.arg("qtest").args(options);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().map_err(failed)?;
        let (sender, answers) = channel();
        if let Some(stdout) = process.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let stderr = process.stderr.take().map(|mut stderr| {
            thread::spawn(move || {
                let mut said = Vec::new();
                let _ = stderr.read_to_end(&mut said);
                String::from_utf8_lossy(&said).into_owned()
            })
        });
        let (config, options) = (config.map(Path::to_owned), options.to_owned());
        let (is_up, has_begun) = (false, false);
        let mut child =
            Self { process, answers, stderr, config, options, irq, is_up, has_begun, made: 0 };
        let _ = child.say("irq_intercept_in controller\n");
        child.listen(1, Duration::from_secs(30))?.map_err(|trouble| {
            Failure::failed(format!("axvmm qtest does not begin: {}", trouble.said()))
        })?;
        child.has_begun = true;
        Ok(child)
    }

    /// Starts another in its place, once it is gone.
    pub fn restart(&mut self) -> Result<(), Failure> {
        self.end();
        let made = self.made;
        *self = Self::start(self.config.as_deref(), &self.options, self.irq)?;
        self.made = made;
        Ok(())
    }

    /// Makes accesses to a fresh device.
    pub fn run(
        &mut self,
        target: &Target,
        sequence: &[Access],
        patience: Duration,
    ) -> Result<Result<(), Trouble>, Failure> {
        if let Err(trouble) = self.commands(&["reset".to_owned()], patience)? {
            return Ok(Err(trouble));
        }
        self.is_up = false;
        self.go_on(target, sequence, patience)
    }

    /// Makes more accesses, to the device as it is.
    pub fn go_on(
        &mut self,
        target: &Target,
        sequence: &[Access],
        patience: Duration,
    ) -> Result<Result<(), Trouble>, Failure> {
        let commands: Vec<_> = sequence.iter().map(|access| target.command(access)).collect();
        let (at_once, moment) = match target.has_queues() {
            true => (BEFORE_A_MOMENT, MOMENT),
            false => (AT_ONCE, Duration::ZERO),
        };
        for commands in commands.chunks(at_once) {
            let answered = match self.commands(commands, patience)? {
                Ok(answered) => answered,
                Err(trouble) => return Ok(Err(trouble)),
            };
            self.made += answered as u64;
            if answered < commands.len() {
                break;
            }
            thread::sleep(moment);
        }
        Ok(Ok(()))
    }

    /// How many accesses have been made.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Whether the device's interrupt is up.
    pub fn is_up(&self) -> bool {
        self.is_up
    }

    /// Says up to `AT_ONCE` commands; how many are answered.
    fn commands(
        &mut self,
        commands: &[String],
        patience: Duration,
    ) -> Result<Result<usize, Trouble>, Failure> {
        // What cannot be written is told by what does not come.
        let _ = self.say(&(commands.join("\n") + "\n"));
        self.listen(commands.len(), patience)
    }

    fn say(&mut self, text: &str) -> std::io::Result<()> {
        match &mut self.process.stdin {
            Some(stdin) => stdin.write_all(text.as_bytes()),
            None => Ok(()),
        }
    }

    /// Waits for so many answers, and takes note of interrupts on the way. How many came: fewer if a
    /// device has ended the guest.
    fn listen(
        &mut self,
        answers: usize,
        patience: Duration,
    ) -> Result<Result<usize, Trouble>, Failure> {
        let until = Instant::now() + patience;
        let mut answered = 0;
        while answered < answers {
            match self.answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => match line.strip_prefix("IRQ ").and_then(|it| it.split_once(' ')) {
                    Some((what, irq)) if irq.parse().ok() == self.irq => {
                        self.is_up = what == "raise"
                    }
                    Some(_) => {}
                    None => answered += 1,
                },
                Err(RecvTimeoutError::Timeout) => return Ok(Err(Trouble::Hangs)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(self.ended()?.map(|()| answered));
                }
            }
        }
        Ok(Ok(answered))
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Its process is gone.
    fn ended(&mut self) -> Result<Result<(), Trouble>, Failure> {
        let status = self.process.wait().map_err(|error| Failure::call("wait", error))?;
        let said = self.stderr.take().and_then(|it| it.join().ok()).unwrap_or_default();
        if !self.has_begun {
            let said = said.trim();
            return Err(Failure::usage(said.strip_prefix("axvmm: ").unwrap_or(said)));
        }
        if said.contains(NO_RESET) {
            return Err(Failure::failed(said.trim().trim_start_matches("axvmm: ")));
        }
        // A device may end the guest; then there is no more of the sequence.
        if status.code().is_some() && !said.contains(INTERNAL) {
            self.restart()?;
            return Ok(Ok(()));
        }
        Ok(Err(Trouble::Panics(said)))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}
