//! Output that never blocks its writers for long: a bounded ring, and a thread that empties it into
//! a file descriptor. The thread is made at the first byte.
//!
//! A guest prints byte by byte. So that not each of them wakes the thread, it lingers for a moment
//! after a write and takes what has come meanwhile in one go; the first byte after a pause goes out
//! at once.

mod thread;

use std::{collections::VecDeque, io, os::fd::AsFd, sync::Arc, time::Duration};

use nix::sys::eventfd::EventFd;
use parking_lot::{Condvar, Mutex, MutexGuard};

use self::thread::Thread;

/// Bytes that wait at most.
const RING: usize = 64 << 10;

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
    line: Line,
    /// How many writers wait for room.
    waiting: usize,
    /// How many bytes the thread has in hand.
    in_hand: usize,
    written: u64,
    dropped: u64,
    /// Of the dropped bytes, those not told yet.
    untold: u64,
    /// Signalled when all is written.
    drained: Option<Arc<EventFd>>,
}

/// The line that the next byte goes on with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    /// None: it begins one.
    #[default]
    Fresh,
    /// Of somebody.
    Begun,
    /// Of one of those that write pieces.
    BegunBy(usize),
}

impl Sink {
    /// A sink before `file`, which is never closed.
    pub fn new(file: impl AsFd + Send + 'static, settings: Settings) -> Self {
        let state = Mutex::new(State { file: Some(Box::new(file)), ..State::default() });
        let (work, room) = Default::default();
        Self { shared: Arc::new(Shared { settings, state, work, room }) }
    }

    /// Takes the bytes in order. Waits for room as long as the settings say, then drops and counts;
    /// how many were dropped.
    pub fn put(&self, bytes: &[u8]) -> usize {
        self.put_at(bytes, false)
    }

    /// As [`Self::put`], but on a line of its own: what somebody else has begun is ended first.
    pub fn put_line(&self, bytes: &[u8]) {
        self.put_at(bytes, true);
    }

    fn put_at(&self, bytes: &[u8], fresh_line: bool) -> usize {
        let shared = &self.shared;
        let mut state = shared.ready();
        if fresh_line && state.line != Line::Fresh && !state.is_full() {
            state.ring.push_back(b'\n');
        }
        state.line = match bytes.last() {
            Some(b'\n') => Line::Fresh,
            Some(_) => Line::Begun,
            None => state.line,
        };
        let mut rest = bytes;
        while !rest.is_empty() && state.thread != Thread::Gone {
            state = shared.wait_for_room(state, 1);
            if state.is_full() {
                break;
            }
            let (now, later) = rest.split_at(rest.len().min(state.room()));
            state.ring.extend(now);
            rest = later;
            shared.wake_for_bytes(&mut state);
        }
        state.drop_bytes(rest.len());
        rest.len()
    }

    /// Takes a piece of a line, as a whole or not at all. It goes on with the line that `author` has
    /// begun, if nobody has put anything since, and else is on a line of its own after `prefix`.
    /// Waits for room as [`Self::put`] does; whether the piece was taken.
    pub fn put_piece(&self, author: usize, prefix: &[u8], piece: &[u8]) -> bool {
        let shared = &self.shared;
        let mut state = shared.ready();
        if state.thread != Thread::Gone {
            // With what ends somebody else's line.
            state = shared.wait_for_room(state, 1 + prefix.len() + piece.len());
        }
        if state.thread == Thread::Gone || state.room() <= prefix.len() + piece.len() {
            state.drop_bytes(piece.len());
            return false;
        }
        if state.line != Line::BegunBy(author) {
            if state.line != Line::Fresh {
                state.ring.push_back(b'\n');
            }
            state.ring.extend(prefix);
        }
        state.ring.extend(piece);
        state.line = match piece.last() {
            Some(b'\n') => Line::Fresh,
            _ => Line::BegunBy(author),
        };
        shared.wake_for_bytes(&mut state);
        true
    }

    /// Whether the next piece of `author` would go on with a line.
    pub fn is_amid_line_of(&self, author: usize) -> bool {
        self.shared.lock().line == Line::BegunBy(author)
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
    fn room(&self) -> usize {
        RING.saturating_sub(self.ring.len())
    }

    fn is_full(&self) -> bool {
        self.room() == 0
    }

    fn drop_bytes(&mut self, bytes: usize) {
        self.dropped += bytes as u64;
        self.untold += bytes as u64;
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
        self.state.lock()
    }

    /// Lets the thread look at the state.
    fn wake(&self, state: &mut State) {
        if matches!(state.thread, Thread::Sleeps | Thread::Lingers) {
            state.thread = Thread::Busy;
            self.work.notify_one();
        }
    }

    /// The state, with a thread that writes, if there can be one.
    fn ready(self: &Arc<Self>) -> MutexGuard<'_, State> {
        let state = self.lock();
        if state.thread == Thread::NotYet { self.start_thread(state) } else { state }
    }

    /// There are new bytes.
    fn wake_for_bytes(&self, state: &mut State) {
        if state.thread == Thread::Sleeps || state.ring.len() >= RING / 2 {
            self.wake(state);
        }
    }

    /// Waits until so many bytes have room. If it was in vain, the next one need not try.
    fn wait_for_room<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        bytes: usize,
    ) -> MutexGuard<'a, State> {
        if state.room() >= bytes {
            return state;
        }
        let patience = self.settings.patience;
        let must_wait = |state: &mut State| state.room() < bytes && !state.hurry && !state.stuck;
        state.waiting += 1;
        self.room.wait_while_for(&mut state, must_wait, patience);
        state.waiting -= 1;
        state.stuck |= state.room() < bytes;
        state
    }
}

#[cfg(test)]
mod tests;
