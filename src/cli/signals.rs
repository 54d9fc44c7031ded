//! Signals as events: blocked in every thread, read from a file descriptor.

use std::mem::MaybeUninit;

use nix::{
    libc,
    sys::{
        signal::{SigSet, Signal, raise},
        signalfd::{SfdFlags, SignalFd},
    },
};

use crate::cli::console::terminal;

/// Signals that end the process: it tidies up first.
const ENDING: [Signal; 8] = [
    Signal::SIGALRM,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGPWR,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR2,
    Signal::SIGXCPU,
];

/// Signals that mean nothing here: a job in the background may write to the terminal and finds out
/// by itself that it may not read, and a file that grows too large is an error of the write.
const UNWANTED: [Signal; 3] = [Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGXFSZ];

/// Blocks the signals that are events in the calling thread and in those that it makes.
///
/// What whoever started us has ignored (`nohup`, a shell's background job) stays so.
pub fn block() -> nix::Result<SignalFd> {
    let mut events = SigSet::empty();
    for signal in ENDING.into_iter().filter(|signal| !is_ignored(*signal)) {
        events.add(signal);
    }
    for signal in [Signal::SIGTSTP, Signal::SIGCONT, Signal::SIGWINCH, Signal::SIGUSR1] {
        if !is_ignored(signal) {
            events.add(signal);
        }
    }
    let mut blocked = events;
    for signal in UNWANTED {
        blocked.add(signal);
    }
    blocked.thread_block()?;
    SignalFd::with_flags(&events, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

/// Whether a signal ends the process.
pub fn is_ending(signal: &Signal) -> bool {
    ENDING.contains(signal)
}

/// The next signal that has come.
pub fn next(signals: &SignalFd) -> Option<Signal> {
    let info = signals.read_signal().ok().flatten()?;
    Signal::try_from(info.ssi_signo as i32).ok()
}

/// Stops the process, as Ctrl-Z would without us, with the terminal as it was; returns when it goes
/// on.
pub fn stop_self() {
    terminal::restore();
    // SIGSTOP cannot be refused, so there is nothing to do about an error.
    let _ = raise(Signal::SIGSTOP);
}

fn is_ignored(signal: Signal) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: with no new action, sigaction only fills in the old one; all-zero is a valid one.
    let action = unsafe {
        libc::sigaction(signal as libc::c_int, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}
