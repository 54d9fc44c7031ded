//! The threads that serve: several, so that a file that is slow keeps nobody else waiting.
//!
//! One at a time waits for requests. It takes one, has the next thread wait, and answers what it
//! took: a request changes threads nowhere.

use std::{
    io,
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use nix::sched::{CloneFlags, unshare};
use parking_lot::Mutex;
use rustix::{fs::Mode, process::umask};
use vmm_sys_util::{
    epoll::{ControlOperation, Epoll, EpollEvent, EventSet},
    eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd},
};

use super::server::Server;
use crate::virtio::{Chain, Virtqueue};

const THREADS: usize = 4;

/// The running threads; dropping this ends them, and waits until they have ended.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

struct Shared {
    server: Arc<Server>,
    queues: Vec<Mutex<Virtqueue>>,
    doorbells: Vec<EventFd>,
    /// The doorbells by their numbers, and the stop behind them.
    watched: Epoll,
    stop: EventFd,
    is_stopping: AtomicBool,
    /// Whoever waits for requests.
    waiting: Mutex<()>,
}

impl Pool {
    /// Starts threads that serve these queues.
    ///
    /// # Errors
    /// The host has no file descriptor or thread left.
    pub fn start(name: &str, server: Arc<Server>, queues: Vec<Virtqueue>) -> io::Result<Self> {
        let doorbells = queues.iter().map(|queue| queue.doorbell().try_clone());
        let doorbells: Vec<_> = doorbells.collect::<io::Result<_>>()?;
        let (watched, stop) = (Epoll::new()?, EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?);
        for (fd, number) in doorbells.iter().chain([&stop]).zip(0..) {
            let event = EpollEvent::new(EventSet::IN, number);
            watched.ctl(ControlOperation::Add, fd.as_raw_fd(), event)?;
        }
        let shared = Arc::new(Shared {
            server,
            queues: queues.into_iter().map(Mutex::new).collect(),
            doorbells,
            watched,
            stop,
            is_stopping: AtomicBool::new(false),
            waiting: Mutex::new(()),
        });
        shared.server.files().hurry(false);
        let mut pool = Self { shared, threads: Vec::new() };
        for _ in 0..THREADS {
            let shared = pool.shared.clone();
            let run = move || shared.serve();
            pool.threads.push(thread::Builder::new().name(name.to_owned()).spawn(run)?);
        }
        Ok(pool)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        // The counter cannot overflow: it is written once.
        let _ = self.shared.stop.write(1);
        self.shared.server.files().hurry(true);
        for thread in self.threads.drain(..) {
            // A panic has been told where it happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn serve(&self) {
        // The guest has applied its umask, and ours is for our own files. Threads share theirs
        // unless they part; if that fails, modes are just stricter.
        if unshare(CloneFlags::CLONE_FS).is_ok() {
            umask(Mode::empty());
        }
        while let Some((queue, chain)) = self.next() {
            let head = chain.head;
            let written = self.server.answer(chain.readable, chain.writable);
            let mut queue = queue.lock();
            queue.complete(head, written);
            queue.signal();
        }
    }

    /// The next request, when there is one. `None`: the end.
    fn next(&self) -> Option<(&Mutex<Virtqueue>, Chain)> {
        let _waiting = self.waiting.lock();
        loop {
            if self.is_stopping.load(Ordering::Acquire) {
                return None;
            }
            for queue in &self.queues {
                if let Some(chain) = queue.lock().pop() {
                    return Some((queue, chain));
                }
            }
            self.wait();
        }
    }

    /// Until a doorbell rings, or there is an end.
    fn wait(&self) {
        let mut events = [EpollEvent::default(); 4];
        // An interrupted wait is waited again; no other error is left to valid descriptors.
        let count = self.watched.wait(-1, &mut events).unwrap_or(0);
        for event in &events[..count] {
            if let Some(doorbell) = self.doorbells.get(event.data() as usize) {
                let _ = doorbell.read();
            }
        }
    }
}
