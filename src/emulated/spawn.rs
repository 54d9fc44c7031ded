//! How processes begin: the script of a host, and the commands in one.

use std::{
    io,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::process::CommandExt,
    },
    process::Command,
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    libc,
    sys::{
        prctl,
        signal::{SigSet, Signal},
    },
    unistd::setsid,
};

/// It hears all signals, whichever are blocked here.
pub fn hearing_signals(command: &mut Command) {
    // SAFETY: all that is done before it is another program is a system call.
    unsafe { command.pre_exec(|| Ok(SigSet::empty().thread_set_mask()?)) };
}

/// It is asked to end when the thread ends that starts it.
pub fn ending_with_us(command: &mut Command) {
    // SAFETY: as above.
    unsafe { command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGTERM)?)) };
}

/// It is a session of its own, and has the file `held` open, which stays open here until it has
/// started.
pub fn apart(command: &mut Command, held: &impl AsRawFd) {
    let held = held.as_raw_fd();
    let begin = move || {
        setsid()?;
        // SAFETY: it is open, as this function's callers see to.
        let held = unsafe { BorrowedFd::borrow_raw(held) };
        fcntl(held, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(())
    };
    // SAFETY: as above.
    unsafe { command.pre_exec(begin) };
}

/// It is a session of its own, whose terminal is its stdin if that is one.
pub fn in_session(command: &mut Command, has_terminal: bool) {
    let begin = move || {
        setsid()?;
        // SAFETY: the call takes a number.
        if has_terminal && unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: as above.
    unsafe { command.pre_exec(begin) };
}
