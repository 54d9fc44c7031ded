//! Output that never blocks its writers for long: a bounded ring, and a thread that empties it into
//! a file descriptor. The thread is made at the first byte.
//!
//! A guest prints byte by byte. So that not each of them wakes the thread, it lingers for a moment
//! after a write and takes what has come meanwhile in one go; the first byte after a pause goes out
//! at once.

use std::{
    collections::VecDeque,
    io,
    os::fd::AsFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::EventFd,
    unistd::write,
};

/// Bytes that wait at most.
const RING: usize = 64 << 10;
/// Bytes given to the kernel at once.
const CHUNK: usize = 8 << 10;
/// The thread's stack: it holds a chunk, and formats a log line at most.
const STACK: usize = 128 << 10;
/// How long the thread lets bytes gather after a write, unless the ring is half full.
const LINGER: Duration = Duration::from_millis(1);

/// What may go wrong, as it is told.
#[derive(Debug)]
pub enum Trouble {
    /// So many bytes were dropped because nobody took them; now they are taken again.
    Dropped(u64),
    /// The file does not take bytes; it is told once until it takes some again.
    Failed(io::Error),
    /// There is no thread to write with, so all bytes are dropped.
    NoThread(io::Error),
}

/// Where the bytes go and how.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The thread's name.
    pub name: &'static str,
    /// How long a writer waits for room, once for as long as nothing is taken.
    pub patience: Duration,
    /// Called by the sink's thread, or by a writer.
    pub report: fn(Trouble),
}

/// A file descriptor with a ring before it.
pub struct Sink {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    state: Mutex<State>,
    /// There is something to write, or the sink is in a hurry.
    work: Condvar,
    /// There is room again, or nobody is to wait for it.
    room: Condvar,
}

#[derive(Default)]
struct State {
    ring: VecDeque<u8>,
    /// Where the bytes go, until the thread has it.
    file: Option<Box<dyn AsFd + Send>>,
    thread: Thread,
    /// The ring was full for all of a writer's patience, and nothing was taken since.
    stuck: bool,
    /// No more waiting, for whatever reason.
    hurry: bool,
    /// The last byte ended no line.
    mid_line: bool,
    /// How many bytes the thread has in hand.
    in_hand: usize,
    written: u64,
    dropped: u64,
    /// Of the dropped bytes, those not told yet.
    untold: u64,
    /// Signalled when all is written.
    drained: Option<Arc<EventFd>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Thread {
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

impl Sink {
    /// A sink before `file`, which is never closed.
    pub fn new(file: impl AsFd + Send + 'static, settings: Settings) -> Self {
        let state = Mutex::new(State { file: Some(Box::new(file)), ..State::default() });
        let (work, room) = Default::default();
        Self { shared: Arc::new(Shared { settings, state, work, room }) }
    }

    /// Takes the bytes in order. Waits for room as long as the settings say, then drops and counts.
    pub fn put(&self, bytes: &[u8]) {
        self.put_at(bytes, false);
    }

    /// As [`Self::put`], but on a line of its own: what somebody else has begun is ended first.
    pub fn put_line(&self, bytes: &[u8]) {
        self.put_at(bytes, true);
    }

    fn put_at(&self, bytes: &[u8], fresh_line: bool) {
        let shared = &self.shared;
        let mut state = shared.lock();
        if fresh_line && state.mid_line && !state.is_full() {
            state.ring.push_back(b'\n');
        }
        state.mid_line = bytes.last().map_or(state.mid_line, |last| *last != b'\n');
        if state.thread == Thread::NotYet {
            state = shared.start_thread(state);
        }
        let mut rest = bytes;
        while !rest.is_empty() && state.thread != Thread::Gone {
            if state.is_full() {
                state = shared.wait_for_room(state);
                if state.is_full() {
                    state.stuck = true;
                    break;
                }
            }
            let (now, later) = rest.split_at(rest.len().min(RING - state.ring.len()));
            state.ring.extend(now);
            rest = later;
            if state.thread == Thread::Sleeps || state.ring.len() >= RING / 2 {
                shared.wake(&mut state);
            }
        }
        state.dropped += rest.len() as u64;
        state.untold += rest.len() as u64;
    }

    /// From now on nobody waits for room.
    pub fn hurry(&self) {
        let mut state = self.shared.lock();
        state.hurry = true;
        self.shared.wake(&mut state);
        self.shared.room.notify_all();
    }

    /// Signals `drained` once all bytes are written, or cannot be.
    pub fn drain(&self, drained: Arc<EventFd>) {
        let mut state = self.shared.lock();
        state.drained = Some(drained);
        state.hurry = true;
        if state.is_drained() || matches!(state.thread, Thread::NotYet | Thread::Gone) {
            state.tell_drained();
        } else {
            self.shared.wake(&mut state);
        }
        self.shared.room.notify_all();
    }

    /// Bytes written so far, by which progress can be seen.
    pub fn written(&self) -> u64 {
        self.shared.lock().written
    }

    /// Bytes that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.shared.lock().dropped
    }

    /// Bytes that still wait.
    pub fn waiting(&self) -> u64 {
        let state = self.shared.lock();
        (state.ring.len() + state.in_hand) as u64
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.ring.len() >= RING
    }

    fn is_drained(&self) -> bool {
        self.ring.is_empty() && self.in_hand == 0
    }

    fn tell_drained(&mut self) {
        if let Some(drained) = self.drained.take() {
            // The counter of an eventfd that is written once cannot overflow.
            let _ = drained.write(1);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the thread look at the state.
    fn wake(&self, state: &mut State) {
        if matches!(state.thread, Thread::Sleeps | Thread::Lingers) {
            state.thread = Thread::Busy;
            self.work.notify_one();
        }
    }

    fn wait_for_room<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let patience = self.settings.patience;
        let must_wait = |state: &mut State| state.is_full() && !state.hurry && !state.stuck;
        let waited = self.room.wait_timeout_while(state, patience, must_wait);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn start_thread<'a>(
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
            state = self.work.wait_while(state, asleep).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_full() {
            self.room.notify_all();
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
        let waited = self.work.wait_timeout_while(state, LINGER, lingers);
        waited.unwrap_or_else(PoisonError::into_inner).0.thread = Thread::Busy;
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

#[cfg(test)]
mod tests;
