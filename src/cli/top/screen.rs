//! Rates on a terminal, until the guests have ended or the user has seen enough.

use std::{
    io::{self, Read},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{signal::Signal, signalfd::SignalFd},
};
use ratatui::{Terminal, TerminalOptions, Viewport, backend::CrosstermBackend, layout::Rect};

use super::{
    draw::{Shown, draw},
    how_it_ended,
    keys::Keys,
    link::{Heard, Link},
    rates::Rates,
    sample::Sample,
    view::{View, Wish},
};
use crate::cli::{
    Failure,
    console::terminal,
    control::Request,
    log_output::{colourful, tell},
    signals,
};

/// A run that owes an answer for so long is said to.
const SILENT: Duration = Duration::from_secs(3);
/// Where the terminal does not say how large it is.
const USUAL: (u16, u16) = (80, 24);

struct Screen {
    /// Puts the terminal back at the end.
    terminal: terminal::Terminal,
    /// Whether it is this process's now.
    is_ours: bool,
    drawn: Terminal<CrosstermBackend<io::Stdout>>,
    keys: Keys,
    view: View,
    sample: Option<Sample>,
    rates: Option<Rates>,
    /// When the answer was asked for that has not come.
    asked: Option<Instant>,
}

/// Why it ends.
enum End {
    Quit,
    Signal(Signal),
    /// The guests have ended so.
    Over(String),
    Gone,
}

/// Shows rates; the result is the exit status.
pub fn show(mut link: Link, interval: Duration) -> Result<u8, Failure> {
    let signals =
        signals::block().map_err(|errno| Failure::call("receive signals (signalfd)", errno))?;
    let mut screen = Screen::open()?;
    let end = screen.run(&mut link, &signals, interval);
    drop(screen);
    terminal::restore();
    match end? {
        End::Quit => Ok(0),
        End::Signal(signal) => Ok(128 + signal as u8),
        End::Over(told) => {
            tell(&told);
            Ok(0)
        }
        End::Gone => Err(link.is_gone()),
    }
}

fn size() -> Rect {
    let (width, height) = terminal::size().unwrap_or(USUAL);
    Rect { x: 0, y: 0, width, height }
}

fn failed(error: io::Error) -> Failure {
    Failure::call("draw on the terminal", error)
}

impl Screen {
    fn open() -> Result<Self, Failure> {
        let opened = terminal::Terminal::open()
            .map_err(|errno| Failure::call("ask the terminal for its settings", errno))?;
        let terminal = opened.ok_or_else(|| Failure::failed("stdin is no terminal"))?;
        let options = TerminalOptions { viewport: Viewport::Fixed(size()) };
        let drawn = Terminal::with_options(CrosstermBackend::new(io::stdout()), options);
        let mut screen = Self {
            terminal,
            is_ours: false,
            drawn: drawn.map_err(failed)?,
            keys: Keys::default(),
            view: View::default(),
            sample: None,
            rates: None,
            asked: None,
        };
        screen.take_terminal()?;
        Ok(screen)
    }

    /// Takes the terminal, if this is no job in the background.
    fn take_terminal(&mut self) -> Result<(), Failure> {
        self.is_ours = self.terminal.enter();
        if self.is_ours {
            terminal::enter_screen();
            self.resize()?;
        }
        Ok(())
    }

    /// Takes the size that there is now, and has all of it drawn again.
    fn resize(&mut self) -> Result<(), Failure> {
        self.drawn.resize(size()).map_err(failed)
    }

    fn suspend(&mut self) -> Result<(), Failure> {
        signals::stop_self();
        self.take_terminal()
    }

    fn run(
        &mut self,
        link: &mut Link,
        signals: &SignalFd,
        interval: Duration,
    ) -> Result<End, Failure> {
        let mut next = Instant::now();
        loop {
            let now = Instant::now();
            if now >= next {
                next = now + interval;
                if !self.view.is_paused && self.asked.is_none() {
                    link.ask(Request::Times);
                    self.asked = Some(now);
                }
            }
            self.draw()?;
            let until = next.saturating_duration_since(Instant::now());
            let [typed, signalled, heard] = self.wait(link, signals, until)?;
            if signalled.contains(PollFlags::POLLIN) {
                if let Some(end) = self.signals(signals)? {
                    return Ok(end);
                }
            }
            if typed.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) {
                return Ok(End::Signal(Signal::SIGHUP));
            }
            if typed.contains(PollFlags::POLLIN) {
                if let Some(end) = self.typed()? {
                    return Ok(end);
                }
            }
            if !heard.is_empty() {
                if let Some(end) = self.hear(link)? {
                    return Ok(end);
                }
            }
        }
    }

    fn draw(&mut self) -> Result<(), Failure> {
        if !self.is_ours {
            return Ok(());
        }
        let silent = self.asked.map(|since| since.elapsed()).filter(|it| *it >= SILENT);
        let has_colours = colourful(&io::stdout());
        let shown = Shown { rates: self.rates.as_ref(), silent, has_colours };
        let view = &mut self.view;
        self.drawn.draw(|frame| draw(frame, view, &shown)).map(|_| ()).map_err(failed)
    }

    /// Waits for keys, signals and the run, but not longer than this; what has come of each.
    fn wait(
        &self,
        link: &Link,
        signals: &SignalFd,
        until: Duration,
    ) -> Result<[PollFlags; 3], Failure> {
        let (stdin, nothing) = (io::stdin(), PollFlags::empty());
        // One in the background may not read.
        let keys = if self.is_ours { PollFlags::POLLIN } else { nothing };
        let mut fds = [
            PollFd::new(stdin.as_fd(), keys),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(link.as_fd(), PollFlags::POLLIN),
        ];
        let millis = until.as_millis() + 1;
        match poll(&mut fds, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)) {
            Ok(_) => Ok(fds.map(|fd| fd.revents().unwrap_or(nothing))),
            Err(Errno::EINTR) => Ok([nothing; 3]),
            Err(errno) => Err(Failure::call("wait for keys", errno)),
        }
    }

    fn signals(&mut self, signals: &SignalFd) -> Result<Option<End>, Failure> {
        while let Some(signal) = signals::next(signals) {
            match signal {
                Signal::SIGTSTP => self.suspend()?,
                Signal::SIGCONT => self.take_terminal()?,
                Signal::SIGWINCH => self.resize()?,
                Signal::SIGUSR1 => {}
                signal => return Ok(Some(End::Signal(signal))),
            }
        }
        Ok(None)
    }

    fn typed(&mut self) -> Result<Option<End>, Failure> {
        let mut bytes = [0; 64];
        let n = match io::stdin().lock().read(&mut bytes) {
            Ok(n) => n,
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                return Ok(Some(End::Signal(Signal::SIGHUP)));
            }
            Err(error) => return Err(Failure::call("read keys", error)),
        };
        for byte in &bytes[..n] {
            let Some(key) = self.keys.typed(*byte) else { continue };
            match self.view.typed(key) {
                Wish::Nothing => {}
                Wish::Clear => self.resize()?,
                Wish::Suspend => self.suspend()?,
                Wish::Quit => return Ok(Some(End::Quit)),
            }
        }
        Ok(None)
    }

    fn hear(&mut self, link: &mut Link) -> Result<Option<End>, Failure> {
        loop {
            let new = match link.hear()? {
                Heard::Nothing => return Ok(None),
                Heard::End => return Ok(Some(End::Gone)),
                Heard::Sample(sample) => sample,
            };
            self.asked = None;
            if let Some(told) = how_it_ended(&new) {
                return Ok(Some(End::Over(told)));
            }
            if let Some(old) = &self.sample {
                let rates = Rates::between(old, &new);
                self.view.remember(&rates);
                self.rates = Some(rates);
            }
            self.sample = Some(new);
        }
    }
}
