//! From an error to a message and an exit status.

use std::io;

use super::about::label;
use crate::{
    config,
    hal::{HalError, HalErrorKind},
    machine::{self, Blame},
    vm,
};

/// axvmm failed.
pub const FAILED: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 35;
/// This host cannot run guests, or not this one.
pub const HOST: u8 = 37;

/// Why a command did not do what it was to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The process's exit status.
    pub status: u8,
    /// For the user: what, where, what to do.
    pub message: String,
}

impl Failure {
    /// axvmm, or a call that it made, failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { status: FAILED, message: message.into() }
    }

    /// The user asked for what cannot be.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { status: USAGE, message: message.into() }
    }

    /// A call that should not have failed: `what` continues "Failed to".
    pub fn call(what: &str, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        let hint = match error.raw_os_error() {
            Some(libc::EMFILE) => "\n  Raise this session's limit of open files: ulimit -n 1024",
            Some(libc::ENFILE) => "\n  Raise the host's limit of open files: sysctl fs.file-max",
            Some(libc::EAGAIN) => "\n  This session's limit of processes may be too low: ulimit -u",
            _ => "",
        };
        Self::failed(format!("Failed to {what}: {error}{hint}"))
    }

    /// Several as one, which tells each; `None` if there is none. What is wrong with a configuration
    /// comes before what is wrong with the host.
    pub fn all_of(failures: Vec<Self>) -> Option<Self> {
        let wrong = |status| failures.iter().any(|failure| failure.status == status);
        let status = [USAGE, HOST].into_iter().find(|status| wrong(*status)).unwrap_or(FAILED);
        let messages: Vec<_> = failures.iter().map(|failure| failure.message.as_str()).collect();
        (!messages.is_empty()).then(|| Self { status, message: messages.join("\n\n") })
    }

    /// The same, of one guest among several.
    pub fn of(self, guest: &str) -> Self {
        Self { message: format!("{}{}", label(guest), self.message), ..self }
    }

    /// A word for machines to read.
    pub fn keyword(&self) -> &'static str {
        match self.status {
            USAGE => "config",
            HOST => "host",
            _ => "failed",
        }
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<machine::Error> for Failure {
    fn from(error: machine::Error) -> Self {
        let status = match error.blame() {
            Blame::Configuration => USAGE,
            Blame::Host => HOST,
            Blame::Failure => FAILED,
        };
        Self { status, message: error.to_string() }
    }
}

impl From<vm::Error> for Failure {
    fn from(error: vm::Error) -> Self {
        machine::Error::from(error).into()
    }
}

impl From<HalError> for Failure {
    fn from(error: HalError) -> Self {
        let status = match error.kind {
            HalErrorKind::HostCannot => HOST,
            HalErrorKind::Failed => FAILED,
        };
        Self { status, message: error.to_string() }
    }
}
