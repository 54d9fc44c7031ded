//! Operations done by threads: what every image and every host can do.

use std::{
    collections::VecDeque,
    io, mem,
    os::fd::{AsRawFd, RawFd},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::{
    image::Image,
    op::{Done, Op},
};

/// The most threads of a queue; they come as there is work for them.
const MOST_THREADS: usize = 8;

/// Threads for one queue.
pub struct Pool {
    name: String,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// What is pushed and not submitted yet.
    batch: Vec<(u16, Op)>,
}

struct Shared {
    image: Arc<dyn Image>,
    state: Mutex<State>,
    work: Condvar,
    /// Readable while there is something done.
    done: EventFd,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<(u16, Op)>,
    done: Vec<Done>,
    /// How many threads wait for work.
    idle: usize,
    is_over: bool,
}

impl Pool {
    /// No thread yet. The name shows in lists of threads.
    pub fn new(name: &str, image: Arc<dyn Image>) -> io::Result<Self> {
        let done = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        let shared = Shared { image, state: Mutex::default(), work: Condvar::new(), done };
        let (threads, batch) = (Vec::new(), Vec::new());
        Ok(Self { name: name.to_owned(), shared: Arc::new(shared), threads, batch })
    }

    pub fn push(&mut self, slot: u16, op: Op) {
        self.extend([(slot, op)]);
    }

    pub fn extend(&mut self, ops: impl IntoIterator<Item = (u16, Op)>) {
        self.batch.extend(ops);
    }

    pub fn submit(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let (waiting, idle) = {
            let mut state = self.shared.lock();
            state.jobs.extend(self.batch.drain(..));
            (state.jobs.len(), state.idle)
        };
        (0..waiting.min(idle)).for_each(|_| {
            self.shared.work.notify_one();
        });
        let room = MOST_THREADS - self.threads.len();
        for _ in 0..waiting.saturating_sub(idle).min(room) {
            let shared = self.shared.clone();
            let thread = thread::Builder::new().name(self.name.clone());
            match thread.spawn(move || shared.work()) {
                Ok(thread) => self.threads.push(thread),
                Err(error) => {
                    log::debug!("{}: no thread: {error}", self.name);
                    break;
                }
            }
        }
        // A host without threads gets it done all the same.
        while self.threads.is_empty() && self.shared.work_once() {}
    }

    pub fn reap(&mut self, done: &mut Vec<Done>) {
        let mut state = self.shared.lock();
        if !state.done.is_empty() {
            let _ = self.shared.done.read();
            done.append(&mut state.done);
        }
    }

    pub fn source(&self) -> RawFd {
        self.shared.done.as_raw_fd()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// A thread's life.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if state.is_over {
                return;
            }
            let Some((slot, op)) = state.jobs.pop_front() else {
                state.idle += 1;
                self.work.wait(&mut state);
                state.idle -= 1;
                continue;
            };
            drop(state);
            let result = self.run(op);
            state = self.lock();
            self.finish(&mut state, (slot, result));
        }
    }

    /// Whether there was a job to be done.
    fn work_once(&self) -> bool {
        let job = self.lock().jobs.pop_front();
        let Some((slot, op)) = job else { return false };
        let result = self.run(op);
        self.finish(&mut self.lock(), (slot, result));
        true
    }

    fn run(&self, op: Op) -> io::Result<()> {
        // A guest must not wait for ever for what a bug has ended; the panic has been told.
        let run = AssertUnwindSafe(|| op.run(&*self.image));
        catch_unwind(run).unwrap_or_else(|_| Err(io::Error::other("a panic")))
    }

    fn finish(&self, state: &mut State, done: Done) {
        state.done.push(done);
        if state.done.len() == 1 {
            // The counter cannot overflow: it is read whenever this is emptied.
            let _ = self.done.write(1);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let dropped = {
            let mut state = self.shared.lock();
            state.is_over = true;
            mem::take(&mut state.jobs)
        };
        drop(dropped);
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
