//! A file that a program finds open.

use std::{
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Beyond what a program opens itself, so that it is the last that is closed when the program ends.
const LAST: i32 = 900;

/// Has `command` find `file` open: gives the file, to be closed once the command has been started,
/// and the number that it has there.
pub fn pass(command: &mut Command, file: OwnedFd) -> io::Result<(OwnedFd, String)> {
    let moved =
        [LAST, 3].into_iter().find_map(|least| fcntl(&file, FcntlArg::F_DUPFD_CLOEXEC(least)).ok());
    let number = moved.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: it has been made just now, and nobody else knows of it.
    let moved = unsafe { OwnedFd::from_raw_fd(number) };
    let number = moved.as_raw_fd();
    let keep_open = move || {
        // SAFETY: the caller keeps the file open until the command has been started.
        let file = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl(file, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(())
    };
    // SAFETY: between fork and exec this makes one system call, and allocates nothing.
    unsafe { command.pre_exec(keep_open) };
    Ok((moved, number.to_string()))
}
