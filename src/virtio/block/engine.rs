//! What does a queue's operations while the queue goes on.

use std::{io, os::fd::RawFd, sync::Arc};

use super::{
    image::Image,
    op::{Done, Op},
    pool::Pool,
    uring::Uring,
};

/// Does a queue's operations. Dropping it waits for those that have begun, and does no other: no
/// buffer is touched afterwards.
pub enum Engine {
    /// By the host's asynchronous interface: on files whose bytes are the disk's.
    Uring(Box<Uring>),
    /// By threads: on anything.
    Pool(Pool),
}

impl Engine {
    /// An engine for `slots` operations at a time.
    ///
    /// # Errors
    /// The host has no file descriptors left.
    pub fn new(name: &str, image: &Arc<dyn Image>, slots: u16) -> io::Result<Self> {
        if image.file().is_some() {
            match Uring::new(name, image.clone(), slots) {
                Ok(uring) => return Ok(Self::Uring(Box::new(uring))),
                // An old kernel, a sandbox, or what an administrator has forbidden.
                Err(error) => log::debug!("{name}: no io_uring ({error}); threads do the same"),
            }
        }
        Ok(Self::Pool(Pool::new(name, image.clone())?))
    }

    /// Takes an operation; it may begin before [`Self::submit`]. A slot has one at a time.
    pub fn push(&mut self, slot: u16, op: Op) {
        match self {
            Self::Uring(uring) => uring.push(slot, op),
            Self::Pool(pool) => pool.push(slot, op),
        }
    }

    /// Begins what has been pushed.
    pub fn submit(&mut self) {
        match self {
            Self::Uring(uring) => uring.submit(),
            Self::Pool(pool) => pool.submit(),
        }
    }

    /// Adds what is over to `done`.
    pub fn reap(&mut self, done: &mut Vec<Done>) {
        match self {
            Self::Uring(uring) => uring.reap(done),
            Self::Pool(pool) => pool.reap(done),
        }
    }

    /// What becomes readable when there is something to reap, and is not any more once that is done.
    pub fn sources(&self) -> Vec<RawFd> {
        match self {
            Self::Uring(uring) => uring.sources().to_vec(),
            Self::Pool(pool) => vec![pool.source()],
        }
    }
}
