//! Emulated KVM hosts: machines of each architecture that QEMU emulates together with their
//! virtualization extensions, so that `/dev/kvm` works in them wherever they run.
//!
//! - `scripts`: what brings such a host up, written out of this program.
//! - `program`: the axvmm that goes into it.
//! - `bring_up`: one that runs, and where others find it.
//! - `frames`: what is said between here and there, over the ports of a virtio-serial device.
//! - `session`: this side of it; a command and its files.
//! - `spawn`: how processes begin.
//! - `agent`: that side of it, an axvmm in the host.
//! - `files`: files that are brought there and back.

pub mod agent;
mod bring_up;
mod files;
pub mod frames;
mod program;
mod scripts;
mod session;
mod spawn;

pub use bring_up::{Up, Wish};
pub use files::{Item, MOST};
pub use scripts::hosts;
pub use session::{Said, Sender, Session, Start, Tty};

/// Sessions that a host has at once, each a port; `host` makes as many.
pub const SESSIONS: u32 = 8;

/// Why there is no host, or no session in one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for cannot be.
    #[error("{0}")]
    Usage(String),
    /// The host did not come up, or is gone.
    #[error("{0}")]
    Host(String),
    /// Somebody wanted it no more while it came up.
    #[error("the host was not waited for")]
    Unwanted,
    /// A call that should not have failed: what continues "Failed to".
    #[error("Failed to {0}: {1}")]
    Call(String, std::io::Error),
}

impl Error {
    fn call(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::Call(what.into(), error)
    }
}
