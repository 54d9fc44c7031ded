//! A program that ends when we do, however that comes.

use std::{io, os::unix::process::CommandExt, process::Command};

use nix::{
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::{Pid, getppid},
};

/// Has the kernel end what `command` starts when the thread that starts it has ended.
pub fn end_with_us(command: &mut Command) {
    let us = Pid::this();
    let ask_kernel = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // We may be gone already: then nobody would end it.
        if getppid() == us { Ok(()) } else { Err(io::ErrorKind::NotConnected.into()) }
    };
    // SAFETY: between fork and exec this makes two system calls, and allocates nothing.
    unsafe { command.pre_exec(ask_kernel) };
}
