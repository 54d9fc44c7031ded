//! A command in a host, as if it ran here: its streams are ours, our signals and our terminal's keys are
//! its own, and so is its end.

use std::{
    env,
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        eventfd::{EfdFlags, EventFd},
        signal::Signal,
        signalfd::SignalFd,
    },
};

use crate::{
    cli::{
        Failure,
        console::terminal::{self, Terminal},
        signals,
    },
    emulated::{
        Error, Said, Sender, Session, Start, Tty,
        frames::{LONGEST, WINDOW},
    },
};

/// A signal that is not passed on because the one before it was, and nothing has come of that.
const TWICE: usize = 2;

/// The terminal for a command, if there is one here.
pub fn terminal() -> Option<Tty> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return None;
    }
    let (columns, rows) = terminal::size().unwrap_or((80, 24));
    let term = env::var("TERM").unwrap_or_else(|_| "linux".into());
    Some(Tty { columns, rows, term, errors_apart: !io::stderr().is_terminal() })
}

/// Runs a command to its end; the result is its status.
pub fn attend(session: &mut Session, start: &Start) -> Result<u8, Failure> {
    let signals =
        signals::block().map_err(|errno| Failure::call("receive signals (signalfd)", errno))?;
    let failed = |errno| Failure::call("make an event (eventfd)", errno);
    let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).map_err(failed)?);
    let over = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).map_err(failed)?);
    let waiting = Arc::new(AtomicUsize::new(0));
    let terminal = match &start.tty {
        Some(_) => Terminal::open().map_err(|errno| Failure::call("set up the terminal", errno))?,
        None => None,
    };
    let terminal = terminal.map(Terminal::with_raw_output);
    if let Some(terminal) = &terminal {
        terminal.enter();
    }
    let sender = session.start(start)?;
    let said = Speaker {
        sender,
        signals,
        wake: wake.clone(),
        over: over.clone(),
        waiting: waiting.clone(),
        has_ended: false,
        ending: 0,
    };
    let speaker = thread::spawn(move || said.run());
    let heard = hear(session, &wake, &waiting);
    let _ = over.write(1);
    let spoken = speaker.join().unwrap_or(Ok(None));
    drop(terminal);
    match (heard, spoken) {
        (Err(_), Ok(Some(signal))) => {
            let message =
                format!("{signal} came again: the command in the host was not waited for");
            Err(Failure { status: 128 + signal as u8, message })
        }
        (Ok(status), _) => Ok(status),
        (Err(failure), _) => Err(failure),
    }
}

/// What the command says, to its end.
fn hear(session: &mut Session, wake: &EventFd, waiting: &AtomicUsize) -> Result<u8, Failure> {
    loop {
        match session.hear()? {
            Said::Output(bytes) => put(io::stdout(), &bytes),
            Said::Errors(bytes) => put(io::stderr(), &bytes),
            Said::Taken(count) => {
                waiting.fetch_sub(count, Ordering::SeqCst);
                let _ = wake.write(1);
            }
            Said::Exit(status) => return Ok(status),
        }
    }
}

/// Whoever reads no more has no wish to see the rest.
fn put(mut to: impl Write, bytes: &[u8]) {
    let _ = to.write_all(bytes).and_then(|()| to.flush());
}

/// What is said to the command.
struct Speaker {
    sender: Sender,
    signals: SignalFd,
    /// Input was taken.
    wake: Arc<EventFd>,
    /// The command has ended.
    over: Arc<EventFd>,
    /// Bytes of input that it has not taken.
    waiting: Arc<AtomicUsize>,
    /// The input.
    has_ended: bool,
    /// How often it was asked to end.
    ending: usize,
}

impl Speaker {
    /// Until the command has ended; or the signal that came once too often.
    fn run(mut self) -> Result<Option<Signal>, Error> {
        loop {
            let room = WINDOW.saturating_sub(self.waiting.load(Ordering::SeqCst));
            let wants = !self.has_ended && room > 0;
            let stdin = io::stdin();
            let wanted = if wants { PollFlags::POLLIN } else { PollFlags::empty() };
            let mut fds = [
                PollFd::new(self.over.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
                PollFd::new(stdin.as_fd(), wanted),
            ];
            // What has ended is always ready.
            let count = if wants { 4 } else { 3 };
            if poll(&mut fds[..count], PollTimeout::NONE).is_err() {
                continue;
            }
            let is_ready = |at: usize| fds[at].any() == Some(true);
            let (over, signal, wake) = (is_ready(0), is_ready(1), is_ready(2));
            let input = wants && is_ready(3);
            if over {
                return Ok(None);
            }
            if wake {
                let _ = self.wake.read();
            }
            let ends = if signal { self.signal()? } else { None };
            if ends.is_some() {
                return Ok(ends);
            }
            if input {
                self.input(room)?;
            }
        }
    }

    /// Passes on what has come; a signal that ends this instead.
    fn signal(&mut self) -> Result<Option<Signal>, Error> {
        while let Some(signal) = signals::next(&self.signals) {
            match signal {
                Signal::SIGWINCH => {
                    if let Some((columns, rows)) = terminal::size() {
                        self.sender.size(columns, rows)?;
                    }
                }
                Signal::SIGTSTP => signals::stop_self(),
                Signal::SIGCONT => {}
                Signal::SIGUSR1 => self.sender.signal(signal as u8)?,
                _ if self.ending == TWICE => {
                    self.sender.hang_up();
                    return Ok(Some(signal));
                }
                _ => {
                    self.ending += 1;
                    self.sender.signal(signal as u8)?;
                }
            }
        }
        Ok(None)
    }

    fn input(&mut self, room: usize) -> Result<(), Error> {
        let mut bytes = vec![0; room.min(LONGEST)];
        // Not by the standard library's buffer, which poll knows nothing of.
        match nix::unistd::read(io::stdin(), &mut bytes) {
            Ok(count) => {
                // A terminal says nothing at times, and a closed one for ever.
                if count == 0 {
                    self.has_ended = true;
                }
                self.waiting.fetch_add(count, Ordering::SeqCst);
                self.sender.input(&bytes[..count])
            }
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(()),
            Err(_) => {
                self.has_ended = true;
                self.sender.input(&[])
            }
        }
    }
}
