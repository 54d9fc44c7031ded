//! The thread that empties a sink's ring into its file.

use std::{io, os::fd::AsFd, sync::Arc, thread, time::Duration};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::write,
};
use parking_lot::MutexGuard;

use super::{RING, Shared, State, Trouble};

/// Bytes given to the kernel at once.
const CHUNK: usize = 8 << 10;
/// The thread's stack: it holds a chunk, and formats a log line at most.
const STACK: usize = 128 << 10;
/// How long the thread lets bytes gather after a write, unless the ring is half full.
const LINGER: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thread {
    #[default]
    NotYet,
    /// There can be none, or the reader has gone.
    Gone,
    /// Writes, or is about to look.
    Busy,
    /// Wakes by itself soon.
    Lingers,
    /// Must be woken.
    Sleeps,
}

impl Shared {
    /// Makes the thread.
    pub fn start_thread<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State>,
    ) -> MutexGuard<'a, State> {
        let Some(file) = state.file.take() else { return state };
        let shared = self.clone();
        let name = self.settings.name.to_owned();
        let builder = thread::Builder::new().name(name).stack_size(STACK);
        match builder.spawn(move || shared.write_out(&*file)) {
            Ok(_) => state.thread = Thread::Busy,
            Err(error) => {
                state.thread = Thread::Gone;
                drop(state);
                (self.settings.report)(Trouble::NoThread(error));
                state = self.lock();
            }
        }
        state
    }

    /// The thread: takes a chunk, writes it, lingers, and sleeps when there is nothing.
    fn write_out(&self, file: &dyn AsFd) {
        // Not from the heap, of which each thread that uses it has a part of its own.
        let mut buffer = [0; CHUNK];
        let mut failing = false;
        loop {
            let (taken, untold) = self.next_chunk(&mut buffer);
            let chunk = &buffer[..taken];
            if untold > 0 {
                (self.settings.report)(Trouble::Dropped(untold));
            }
            let (written, result) = write_all(file, chunk);
            let mut state = self.lock();
            state.written += written as u64;
            state.dropped += (chunk.len() - written) as u64;
            state.in_hand = 0;
            drop(state);
            match result {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    (self.settings.report)(Trouble::Failed(error));
                }
                Err(_) => {}
            }
            self.linger();
        }
    }

    /// Waits for bytes and takes as many as the chunk holds: how many, and how many before them were
    /// dropped and not told.
    fn next_chunk(&self, chunk: &mut [u8; CHUNK]) -> (usize, u64) {
        let mut state = self.lock();
        while state.ring.is_empty() {
            state.tell_drained();
            state.thread = Thread::Sleeps;
            let asleep = |state: &mut State| state.thread == Thread::Sleeps;
            self.work.wait_while(&mut state, asleep);
        }
        let mut taken = 0;
        while taken < CHUNK && !state.ring.is_empty() {
            let (front, _) = state.ring.as_slices();
            let len = front.len().min(CHUNK - taken);
            chunk[taken..taken + len].copy_from_slice(&front[..len]);
            // An empty ring begins at its beginning again, so that few pages are ever touched.
            state.ring.drain(..len);
            taken += len;
        }
        if state.waiting > 0 {
            self.room.notify_all();
        }
        state.in_hand = taken;
        state.stuck = false;
        (taken, std::mem::take(&mut state.untold))
    }

    /// Lets bytes gather for a moment.
    fn linger(&self) {
        let mut state = self.lock();
        if state.hurry || state.ring.len() >= RING / 2 {
            return;
        }
        state.thread = Thread::Lingers;
        let lingers = |state: &mut State| state.thread == Thread::Lingers;
        self.work.wait_while_for(&mut state, lingers, LINGER);
        state.thread = Thread::Busy;
    }
}

/// Writes all bytes, or as many as go before an error; how many went.
fn write_all(file: &dyn AsFd, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match write(file.as_fd(), &bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(Errno::EINTR) => {}
            // Whoever shares the file with us has made it non-blocking. If it cannot be waited for,
            // the next write tells why.
            Err(Errno::EAGAIN) => {
                let _ =
                    poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE);
            }
            Err(errno) => return (written, Err(errno.into())),
        }
    }
    (written, Ok(()))
}
