//! The server's thread, and how the rest of the process talks to it.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{
    Endpoint,
    debuggee::Debuggee,
    endpoint::Listener,
    inbox::{Event, Inbox},
    session,
};
use crate::{hal::AxVMHal, vm::AxVMRef};

/// A client hears of the guest's end in this time, or not at all.
const FAREWELL: Duration = Duration::from_millis(500);

/// A server for one guest, with all machines that it has one after the other.
pub struct Server<H: AxVMHal> {
    inbox: Arc<Inbox<H>>,
    address: String,
    /// Closed when the thread ends.
    over: mpsc::Receiver<()>,
}

impl<H: AxVMHal> Server<H> {
    /// Listens, and serves whoever comes. With `waits` the first machine does not run before a client
    /// says so.
    ///
    /// # Errors
    /// There is no listening at this address.
    pub fn start(endpoint: &Endpoint, waits: bool) -> io::Result<Self> {
        let listener = endpoint.listen()?;
        let address = listener.address();
        let inbox = Arc::new(Inbox::new()?);
        let debuggee = Debuggee::new(inbox.clone());
        let mut serving = Serving { listener, inbox: inbox.clone(), debuggee, waits };
        let (ends, over) = mpsc::channel();
        thread::Builder::new().name("gdb".to_owned()).spawn(move || {
            let _ends: mpsc::Sender<()> = ends;
            serving.run();
        })?;
        Ok(Self { inbox, address, over })
    }

    /// Where it listens: what stands behind GDB's `target remote`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The guest has this machine from now on, which is ready to boot and which the server boots.
    pub fn debug(&self, vm: &AxVMRef<H>) {
        self.inbox.put(Event::Machine(Arc::downgrade(vm)));
    }

    /// The guest has ended, with this status; tells the client, if there is one and it listens.
    pub fn finish(self, status: u8) {
        self.inbox.put(Event::Ended(status));
        // Nothing is sent: it is the end that is waited for.
        let _ = self.over.recv_timeout(FAREWELL);
    }
}

/// What the thread has.
struct Serving<H: AxVMHal> {
    listener: Listener,
    inbox: Arc<Inbox<H>>,
    debuggee: Debuggee<H>,
    /// The next machine waits for a client.
    waits: bool,
}

impl<H: AxVMHal> Serving<H> {
    /// Serves clients until the guest has ended.
    fn run(&mut self) {
        loop {
            if let Some(event) = self.inbox.take() {
                match event {
                    Event::Ended(_) => return,
                    Event::Machine(vm) => {
                        self.debuggee.replace(vm);
                        if !self.waits {
                            self.debuggee.go_on_alone();
                        }
                        self.waits = false;
                    }
                    // For a client that is gone, and so are its breakpoints.
                    Event::Stopped(..) => {}
                }
                continue;
            }
            if !self.debuggee.has_machine() {
                // A client finds one.
                wait([self.inbox.as_fd()]);
                continue;
            }
            let [knocks, _] = wait([self.listener.as_fd(), self.inbox.as_fd()]);
            if !knocks {
                continue;
            }
            match self.listener.accept() {
                Ok(stream) => {
                    log::info!("gdb is attached");
                    if session::serve(&mut self.debuggee, &self.inbox, stream) {
                        return;
                    }
                }
                // It is gone again.
                Err(error) => {
                    log::debug!("gdb: {error}");
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }
}

/// Waits until one of them can be read; which can.
pub fn wait<const N: usize>(fds: [BorrowedFd<'_>; N]) -> [bool; N] {
    let mut fds = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            _ => return fds.map(|fd| fd.any().unwrap_or(false)),
        }
    }
}
