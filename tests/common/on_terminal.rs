//! A program on a terminal, as a person would have it.

use std::{fs, io::Write, os::fd::OwnedFd, process::Command};

use nix::{
    pty::openpty,
    sys::termios::{LocalFlags, Termios, tcgetattr},
};

use super::{Finished, Running, start, wait_until};

/// A guest whose stdin is a terminal, and that terminal.
pub struct OnTerminal {
    pub running: Running,
    pub keyboard: fs::File,
    pub terminal: OwnedFd,
    pub before: Termios,
}

impl OnTerminal {
    /// Starts it, and waits until the terminal is raw.
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let stdin = pty.slave.try_clone().unwrap();
        let running = start(command.stdin(stdin));
        let on = Self { running, keyboard: pty.master.into(), terminal: pty.slave, before };
        on.wait_until_raw(true);
        on
    }

    #[track_caller]
    pub fn wait_until_raw(&self, raw: bool) {
        wait_until("the terminal changes", || {
            let flags = tcgetattr(&self.terminal).unwrap().local_flags;
            flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG) != raw
        });
    }

    pub fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the end, at which the terminal must be as it was.
    #[track_caller]
    pub fn finish(self) -> Finished {
        let finished = self.running.finish();
        assert_eq!(tcgetattr(&self.terminal).unwrap(), self.before, "{finished:#?}");
        finished
    }
}
