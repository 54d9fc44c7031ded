//! Operations done by io_uring: directly between the guest's memory and a file whose bytes are the
//! disk's, a batch by one system call.
//!
//! Discards, zeroes and what the kernel wants to be tried again go to threads, which can also do what
//! takes several steps.

use std::{
    io, mem,
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
    thread,
    time::Duration,
};

use io_uring::{IoUring, opcode, squeue, types};

use super::{
    image::Image,
    op::{Done, Op},
    pool::Pool,
    raw,
};
use crate::addrspace::GuestBuffer;

/// The image's file among those that are registered with the ring.
const FILE: types::Fixed = types::Fixed(0);

/// A ring for one queue.
pub struct Uring {
    ring: IoUring,
    /// By slot: what the kernel has, and so must neither move nor go.
    running: Box<[Option<Op>]>,
    count: usize,
    /// Room for completions that are being looked at.
    seen: Vec<(u16, i32)>,
    /// For what the ring does not do.
    others: Pool,
    /// Keeps the file open.
    _image: Arc<dyn Image>,
}

impl Uring {
    /// A ring on the image's file.
    ///
    /// # Errors
    /// This host has no io_uring, or does not give it to us; or the image has no such file.
    pub fn new(name: &str, image: Arc<dyn Image>, slots: u16) -> io::Result<Self> {
        let file = image.file().ok_or(io::ErrorKind::Unsupported)?.as_raw_fd();
        let entries = u32::from(slots).next_power_of_two();
        // Kernels before 5.19 know no such flag.
        let ring = IoUring::builder().setup_coop_taskrun().build(entries);
        let ring = ring.or_else(|_| IoUring::new(entries))?;
        ring.submitter().register_files(&[file])?;
        let others = Pool::new(name, image.clone())?;
        let running = (0..slots).map(|_| None).collect();
        let seen = Vec::with_capacity(usize::from(slots));
        Ok(Self { ring, running, count: 0, seen, others, _image: image })
    }

    pub fn push(&mut self, slot: u16, op: Op) {
        let Some(place) = self.running.get_mut(usize::from(slot)) else { return };
        // In its place first: the list of a buffer's pieces may lie in the operation itself.
        match entry(place.insert(op)) {
            Some(entry) => {
                self.count += 1;
                self.start(entry.user_data(slot.into()));
            }
            None => self.others.extend(place.take().map(|op| (slot, op))),
        }
    }

    fn start(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: the entry's buffers and the list of their pieces belong to an operation in
            // `running`, which is not changed before the kernel is done with it; the file is
            // registered.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            match pushed {
                Ok(()) => return,
                // The ring has as many places as there are slots, so those left belong to entries
                // that wait to be submitted.
                Err(_) => self.submit_ring(),
            }
        }
    }

    pub fn submit(&mut self) {
        self.others.submit();
        if !self.ring.submission().is_empty() {
            self.submit_ring();
        }
    }

    fn submit_ring(&mut self) {
        while let Err(error) = self.ring.submit() {
            // Out of memory, which passes; there is nothing to wait for.
            if error.kind() != io::ErrorKind::Interrupted {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    pub fn reap(&mut self, done: &mut Vec<Done>) {
        self.others.reap(done);
        let mut again = false;
        let mut seen = mem::take(&mut self.seen);
        let completions = self.ring.completion();
        seen.extend(completions.map(|it| (it.user_data() as u16, it.result())));
        for (slot, result) in seen.drain(..) {
            let running = self.running.get_mut(usize::from(slot)).and_then(Option::take);
            let Some(op) = running else { continue };
            self.count -= 1;
            match after(op, result) {
                After::Done(result) => done.push((slot, result)),
                After::Rest(op) => {
                    again = true;
                    self.push(slot, op);
                }
                After::Threads(op) => {
                    again = true;
                    self.others.push(slot, op);
                }
            }
        }
        self.seen = seen;
        if again {
            self.submit();
        }
    }

    /// The ring is readable while there are completions.
    pub fn sources(&self) -> [RawFd; 2] {
        [self.ring.as_raw_fd(), self.others.source()]
    }
}

/// How the kernel is told of an operation; `None`: it is not.
fn entry(op: &Op) -> Option<squeue::Entry> {
    Some(match op {
        Op::Read { offset, to } => match to.iovecs() {
            [one] => {
                let len = u32::try_from(one.iov_len).ok()?;
                opcode::Read::new(FILE, one.iov_base.cast(), len).offset(*offset).build()
            }
            pieces => {
                opcode::Readv::new(FILE, pieces.as_ptr(), count(pieces)?).offset(*offset).build()
            }
        },
        Op::Write { offset, from, durable } => {
            let flags = if *durable { libc::RWF_DSYNC } else { 0 };
            match from.iovecs() {
                [one] => {
                    let len = u32::try_from(one.iov_len).ok()?;
                    let write = opcode::Write::new(FILE, one.iov_base.cast(), len);
                    write.offset(*offset).rw_flags(flags).build()
                }
                pieces => {
                    let write = opcode::Writev::new(FILE, pieces.as_ptr(), count(pieces)?);
                    write.offset(*offset).rw_flags(flags).build()
                }
            }
        }
        Op::Flush => opcode::Fsync::new(FILE).flags(types::FsyncFlags::DATASYNC).build(),
        Op::Discard { .. } | Op::WriteZeroes { .. } => return None,
    })
}

/// How many pieces, as far as the kernel takes so many.
fn count(pieces: &[libc::iovec]) -> Option<u32> {
    u32::try_from(pieces.len()).ok().filter(|count| *count <= libc::UIO_MAXIOV as u32)
}

/// What becomes of an operation.
enum After {
    Done(io::Result<()>),
    /// The kernel has done a part.
    Rest(Op),
    /// The kernel wants it to be tried again.
    Threads(Op),
}

fn after(op: Op, result: i32) -> After {
    let Ok(moved) = usize::try_from(result) else {
        let error = io::Error::from_raw_os_error(-result);
        return match -result {
            libc::EAGAIN | libc::EINTR => After::Threads(op),
            _ => After::Done(Err(error)),
        };
    };
    match op {
        Op::Read { to, .. } if moved == 0 && !to.is_empty() => After::Done(Err(raw::truncated())),
        Op::Write { from, .. } if moved == 0 && !from.is_empty() => {
            After::Done(Err(io::ErrorKind::WriteZero.into()))
        }
        Op::Read { offset, to } => match behind(to, moved) {
            Some(to) => After::Rest(Op::Read { offset: offset + moved as u64, to }),
            None => After::Done(Ok(())),
        },
        Op::Write { offset, from, durable } => match behind(from, moved) {
            Some(from) => After::Rest(Op::Write { offset: offset + moved as u64, from, durable }),
            None => After::Done(Ok(())),
        },
        _ => After::Done(Ok(())),
    }
}

/// What is left of a buffer, if anything.
fn behind(buffer: GuestBuffer, moved: usize) -> Option<GuestBuffer> {
    if moved >= buffer.len() {
        return None;
    }
    buffer.split_at(moved).map(|(_, rest)| rest)
}

impl Drop for Uring {
    fn drop(&mut self) {
        // What has not been submitted yet is in the ring as well.
        while self.count > 0 {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    // The kernel may still write: its buffers are never to be given back.
                    log::error!("a disk's operations cannot be waited for: {error}");
                    return mem::forget(mem::take(&mut self.running));
                }
            }
            self.count -= self.ring.completion().count();
        }
        // The ring itself goes some time later, and would keep the file open until then.
        let _ = self.ring.submitter().unregister_files();
    }
}
