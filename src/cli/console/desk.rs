//! The consoles of all guests of the process, and which of them the user is at.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
};

use clap::ValueEnum;
use nix::sys::timerfd::TimerFd;

use super::{keys, prefixed::Prefixes, switched::Switchboard};
use crate::{
    cli::{Failure, about::label, log_output, sink::Sink},
    devices::console::ConsoleOut,
};

/// How the consoles of several guests share one stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Style {
    /// Each line has its guest's name before it
    Prefix,
    /// One guest is shown at a time
    Switch,
}

impl Style {
    /// What suits stdin and stdout as they are: to switch takes keys.
    pub fn usual() -> Self {
        match io::stdin().is_terminal() && io::stdout().is_terminal() {
            true => Self::Switch,
            false => Self::Prefix,
        }
    }
}

/// A console for each guest.
pub struct Desk {
    /// In the order of their numbers, from 0; a user counts from 1.
    labels: Vec<String>,
    /// Who gets the keys.
    selected: usize,
    kind: Kind,
}

enum Kind {
    Alone(Arc<Sink>),
    Prefixed(Prefixes),
    Switched(Arc<Switchboard>),
}

impl Desk {
    /// Consoles on `out` for guests of these names. A guest that is alone has it to itself.
    pub fn new<'a>(
        out: &Arc<Sink>,
        names: impl Iterator<Item = &'a str>,
        style: Style,
    ) -> Result<Self, Failure> {
        let labels: Vec<_> = names.map(label).collect();
        let kind = match style {
            _ if labels.len() < 2 => Kind::Alone(out.clone()),
            Style::Switch => Kind::Switched(Arc::new(Switchboard::new(out.clone(), labels.len()))),
            Style::Prefix => Kind::Prefixed(
                Prefixes::new(out, labels.iter().cloned())
                    .map_err(|errno| Failure::call("make a timerfd", errno))?,
            ),
        };
        Ok(Self { labels, selected: 0, kind })
    }

    /// Where that guest prints.
    pub fn console(&self, number: usize) -> Arc<dyn ConsoleOut> {
        match &self.kind {
            Kind::Alone(out) => out.clone(),
            Kind::Prefixed(prefixes) => prefixes.of(number).clone(),
            Kind::Switched(board) => Arc::new(board.of(number)),
        }
    }

    /// Whose console the user is at.
    pub fn selected(&self) -> usize {
        self.selected
    }

    /// Tells who is shown to begin with.
    pub fn begin(&self) {
        if let Kind::Switched(board) = &self.kind {
            let more = "Ctrl-A 2 shows the next one, Ctrl-A h has all keys";
            board.show(0, &format!("{}: {more}\n", self.showing(0)));
        }
    }

    /// Takes the user to that guest's console.
    pub fn select(&mut self, number: usize, has_ended: bool) {
        if number >= self.labels.len() {
            let last = self.labels.len();
            return log_output::tell(&format!(
                "there is no guest {}: {last} is the last",
                number + 1
            ));
        }
        self.selected = number;
        let state = if has_ended { ", which has ended" } else { "" };
        match &self.kind {
            Kind::Alone(_) => {}
            Kind::Prefixed(_) => {
                let guest = self.labels[number].trim_end();
                log_output::tell(&format!("the keys go to {guest}{state}"));
            }
            Kind::Switched(board) => {
                board.show(number, &format!("{}{state}\n", self.showing(number)))
            }
        }
    }

    fn showing(&self, number: usize) -> String {
        let (guest, last) = (self.labels[number].trim_end(), self.labels.len());
        format!("axvmm: showing {guest}, {} of {last}", number + 1)
    }

    /// What `Ctrl-A h` shows.
    pub fn help(&self) -> String {
        keys::help(&self.labels, self.selected)
    }

    /// Readable when it is time for [`Self::flush_quiet`].
    pub fn timer(&self) -> Option<&TimerFd> {
        match &self.kind {
            Kind::Prefixed(prefixes) => Some(prefixes.timer()),
            _ => None,
        }
    }

    /// Puts out the prompts that guests wait after.
    pub fn flush_quiet(&self) {
        if let Kind::Prefixed(prefixes) = &self.kind {
            prefixes.flush_quiet();
        }
    }

    /// That guest has ended and prints no more.
    pub fn flush(&self, number: usize) {
        if let Kind::Prefixed(prefixes) = &self.kind {
            prefixes.of(number).flush();
        }
    }

    /// Shows what has never been shown: nobody will ask for it any more.
    pub fn flush_kept(&self) {
        if let Kind::Switched(board) = &self.kind {
            for (number, label) in self.labels.iter().enumerate() {
                if board.keeps(number) {
                    let guest = label.trim_end();
                    board.show(number, &format!("axvmm: what {guest} has printed unseen:\n"));
                }
            }
        }
    }

    /// Bytes of that guest that were dropped, where it is one of several.
    pub fn dropped(&self, number: usize) -> u64 {
        match &self.kind {
            Kind::Alone(_) => 0,
            Kind::Prefixed(prefixes) => prefixes.of(number).dropped(),
            Kind::Switched(board) => board.dropped(number),
        }
    }
}
