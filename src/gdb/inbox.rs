//! What the server is told by other threads.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Weak,
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use parking_lot::{Mutex, MutexGuard};

use crate::{
    hal::{AxVMHal, VCpuId},
    vm::{AxVM, GuestStop, Watcher},
};

/// What has happened.
pub enum Event<H: AxVMHal> {
    /// The guest has a machine, which waits to be booted; any earlier one is gone.
    Machine(Weak<AxVM<H>>),
    /// A vCPU has stopped.
    Stopped(VCpuId, GuestStop),
    /// The guest has ended for good, with this status.
    Ended(u8),
}

/// Events in order. There are never more than a few: a vCPU that has stopped waits.
pub struct Inbox<H: AxVMHal> {
    events: Mutex<VecDeque<Event<H>>>,
    signal: EventFd,
}

impl<H: AxVMHal> Inbox<H> {
    pub fn new() -> io::Result<Self> {
        let signal = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self { events: Mutex::default(), signal })
    }

    pub fn put(&self, event: Event<H>) {
        self.lock().push_back(event);
        // The counter cannot overflow: it is read with each event.
        let _ = self.signal.write(1);
    }

    pub fn take(&self) -> Option<Event<H>> {
        let mut events = self.lock();
        let event = events.pop_front();
        if events.is_empty() {
            let _ = self.signal.read();
        }
        event
    }

    /// Forgets what vCPUs have stopped for.
    pub fn forget_stops(&self) {
        self.lock().retain(|event| !matches!(event, Event::Stopped(..)));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Event<H>>> {
        self.events.lock()
    }
}

impl<H: AxVMHal> AsFd for Inbox<H> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signal.as_fd()
    }
}

impl<H: AxVMHal> Watcher for Inbox<H> {
    fn stopped(&self, vcpu_id: VCpuId, why: GuestStop) {
        self.put(Event::Stopped(vcpu_id, why));
    }
}
