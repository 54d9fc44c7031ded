//! Eventfds whose signals become interrupts in this process: where an interrupt controller is no part
//! of the host's kernel, or a fault is to be had.

use std::{
    io,
    os::fd::AsFd,
    sync::Arc,
    thread::{self, JoinHandle},
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::process::wait_for;

/// A thread that waits for signals, as long as this value is there.
pub struct Relay {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// From now on `deliver` is called when one of `signals` comes, with its index.
    ///
    /// # Errors
    /// The host has nothing left for it.
    pub fn new(
        signals: Vec<Arc<EventFd>>,
        deliver: impl Fn(usize) + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(eventfd()?);
        let until = stop.clone();
        let relay = move || {
            let fds: Vec<_> = [&until].into_iter().chain(&signals).map(AsFd::as_fd).collect();
            while let Some(at @ 1..) = wait_for(&fds, None) {
                if signals[at - 1].read().is_ok() {
                    deliver(at - 1);
                }
            }
        };
        let thread = thread::Builder::new().name("vfio-user irq".into()).spawn(relay)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

/// An eventfd, for a signal.
pub fn eventfd() -> io::Result<EventFd> {
    Ok(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?)
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
