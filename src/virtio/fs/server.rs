//! The protocol's server: requests in, replies out, and a file system behind it.
//!
//! A request's every number and name is the guest's to make up. What is no request gets an error as
//! its reply, or none if there is no room for one.
//!
//! - `body`: what comes behind a request's header.
//! - `reply`: what goes back.
//! - `listing`: directories.

mod body;
mod listing;
mod reply;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustix::io::Errno;
use zerocopy::FromZeros;

use self::{
    body::Body,
    reply::{HEADER, Reply, attributes_reply, entry, payload},
};
use super::{
    filesystem::{Caller, FileSystem, New, Result, Synced},
    wire::{self, InHeader, feature, opcode, setattr},
};
use crate::addrspace::GuestBuffer;

/// Bytes that one request reads or writes at most.
const MOST_BYTES: u32 = 1 << 20;
const MOST_PAGES: u16 = (MOST_BYTES / 4096) as u16;

/// Bytes of a request without a file's data: the longest has the text of a symbolic link.
const LONGEST_BODY: usize = 8 << 10;

/// How many requests the driver has in work on its own account (reading ahead), and from which
/// number on it lets that be.
const MOST_IN_BACKGROUND: u16 = 64;
const CONGESTION: u16 = 48;

/// What we can do; the driver does what both can.
const FEATURES: u32 = feature::ASYNC_READ
    | feature::ATOMIC_O_TRUNC
    | feature::BIG_WRITES
    | feature::AUTO_INVAL_DATA
    | feature::DO_READDIRPLUS
    | feature::READDIRPLUS_AUTO
    | feature::ASYNC_DIO
    | feature::PARALLEL_DIROPS
    | feature::MAX_PAGES;

/// A server of one file system. Any thread may have it answer, several at once.
pub struct Server {
    files: Arc<dyn FileSystem>,
    readonly: bool,
}

impl Server {
    /// With `readonly`, whatever would change anything gets EROFS.
    pub fn new(files: Arc<dyn FileSystem>, readonly: bool) -> Self {
        Self { files, readonly }
    }

    /// What is served.
    pub fn files(&self) -> &dyn FileSystem {
        &*self.files
    }

    /// Answers a request, and says how many bytes of `writable` are the reply: 0 for none.
    pub fn answer(&self, readable: GuestBuffer, writable: GuestBuffer) -> u32 {
        let Some(header) = readable.read_obj_at::<InHeader>(0) else { return 0 };
        let reply = match self.act(&header, readable, &writable) {
            Ok(reply) => reply,
            Err(errno) => Reply::Error(errno),
        };
        reply.put(header.unique, &writable)
    }

    fn act(
        &self,
        header: &InHeader,
        readable: GuestBuffer,
        writable: &GuestBuffer,
    ) -> Result<Reply> {
        let len = header.len.get() as usize;
        if len > readable.len() {
            return Err(Errno::IO);
        }
        let len = len.checked_sub(size_of::<InHeader>()).ok_or(Errno::IO)?;
        let opcode = header.opcode.get();
        if opcode == opcode::WRITE {
            return self.write(readable, len);
        }
        if len > LONGEST_BODY {
            return Err(Errno::TOOBIG);
        }
        let mut bytes = vec![0; len];
        readable.read_at(size_of::<InHeader>(), &mut bytes).ok_or(Errno::IO)?;
        let mut body = Body::new(&bytes);
        if self.readonly && changes_something(opcode, body)? {
            return Err(Errno::ROFS);
        }
        let node = header.nodeid.get();
        match opcode {
            opcode::READ => self.read(body.take()?, writable),
            opcode::READDIR | opcode::READDIRPLUS => {
                let room = writable.len().saturating_sub(HEADER);
                let plus = opcode == opcode::READDIRPLUS;
                listing::list(&*self.files, node, &body.take()?, room, plus)
            }
            _ => self.dispatch(opcode, node, header, body),
        }
    }

    /// All requests but those with much data.
    fn dispatch(
        &self,
        opcode: u32,
        node: u64,
        header: &InHeader,
        mut body: Body<'_>,
    ) -> Result<Reply> {
        let files = &self.files;
        let caller = Caller { uid: header.uid.get(), gid: header.gid.get() };
        match opcode {
            opcode::INIT => self.init(&body.take()?),
            opcode::LOOKUP => files.lookup(node, body.name()?).map(entry),
            opcode::FORGET => {
                let wire::ForgetIn { nlookup } = body.take()?;
                files.forget(node, nlookup.get());
                Ok(Reply::None)
            }
            opcode::BATCH_FORGET => self.forget_several(body),
            // No request waits for long, so none is interrupted.
            opcode::INTERRUPT => Ok(Reply::None),
            opcode::GETATTR => {
                let wire::GetattrIn { flags, fh, .. } = body.take()?;
                let handle = (flags.get() & wire::GETATTR_FH != 0).then(|| fh.get());
                files.attributes(node, handle).map(attributes_reply)
            }
            opcode::SETATTR => {
                let wanted: wire::SetattrIn = body.take()?;
                let handle = (wanted.valid.get() & setattr::FH != 0).then(|| wanted.fh.get());
                let changes = body::changes(&wanted);
                files.set_attributes(node, handle, &changes).map(attributes_reply)
            }
            opcode::READLINK => files.read_link(node).map(Reply::from_vec),
            opcode::SYMLINK => {
                let (name, target) = (body.name()?, body.text()?);
                let new = New { caller, mode: libc::S_IFLNK | 0o777, rdev: 0 };
                files.make_link(node, name, &new, target).map(entry)
            }
            opcode::MKNOD => {
                let wire::MknodIn { mode, rdev, .. } = body.take()?;
                let new = New { caller, mode: mode.get(), rdev: rdev.get() };
                files.make_node(node, body.name()?, &new).map(entry)
            }
            opcode::MKDIR => {
                let wire::MkdirIn { mode, .. } = body.take()?;
                let mode = libc::S_IFDIR | mode.get() & 0o7777;
                let new = New { caller, mode, rdev: 0 };
                files.make_dir(node, body.name()?, &new).map(entry)
            }
            opcode::UNLINK => files.unlink(node, body.name()?).map(Reply::empty),
            opcode::RMDIR => files.remove_dir(node, body.name()?).map(Reply::empty),
            opcode::RENAME => {
                let wire::RenameIn { newdir } = body.take()?;
                self.rename(node, newdir.get(), 0, body)
            }
            opcode::RENAME2 => {
                let wire::Rename2In { newdir, flags, .. } = body.take()?;
                self.rename(node, newdir.get(), flags.get(), body)
            }
            opcode::LINK => {
                let wire::LinkIn { oldnodeid } = body.take()?;
                files.link(oldnodeid.get(), node, body.name()?).map(entry)
            }
            opcode::OPEN => {
                let wire::OpenIn { flags, .. } = body.take()?;
                files.open(node, flags.get()).map(|opened| payload(&reply::opened(opened)))
            }
            opcode::CREATE => {
                let wire::CreateIn { flags, mode, .. } = body.take()?;
                let mode = libc::S_IFREG | mode.get() & 0o7777;
                let new = New { caller, mode, rdev: 0 };
                let made = files.create(node, body.name()?, &new, flags.get());
                made.map(|(entry, opened)| reply::created(entry, opened))
            }
            opcode::RELEASE => handle(&mut body).map(|fh| files.close(fh)).map(Reply::empty),
            opcode::OPENDIR => {
                let handle = files.open_dir(node)?;
                Ok(payload(&wire::OpenOut { fh: handle.into(), ..FromZeros::new_zeroed() }))
            }
            opcode::RELEASEDIR => handle(&mut body).map(|fh| files.close_dir(fh)).map(Reply::empty),
            opcode::FSYNC | opcode::FSYNCDIR => {
                let wire::FsyncIn { fh, fsync_flags, .. } = body.take()?;
                let of = match opcode {
                    opcode::FSYNCDIR => Synced::Dir,
                    _ if fsync_flags.get() & wire::FSYNC_FDATASYNC != 0 => Synced::Data,
                    _ => Synced::All,
                };
                files.sync(fh.get(), of).map(Reply::empty)
            }
            opcode::SYNCFS => files.sync_all().map(Reply::empty),
            opcode::STATFS => files.statistics().map(|it| payload(&reply::statistics(&it))),
            opcode::FALLOCATE => {
                let wanted: wire::FallocateIn = body.take()?;
                let (offset, len) = (wanted.offset.get(), wanted.length.get());
                files.allocate(wanted.fh.get(), offset, len, wanted.mode.get()).map(Reply::empty)
            }
            opcode::LSEEK => {
                let wire::LseekIn { fh, offset, whence, .. } = body.take()?;
                let found = files.seek(fh.get(), offset.get(), whence.get())?;
                Ok(payload(&wire::LseekOut { offset: found.into() }))
            }
            opcode::COPY_FILE_RANGE => self.copy_range(&body.take()?),
            opcode::DESTROY => Ok(Reply::empty(())),
            // Among them FLUSH, ACCESS and extended attributes: the driver stops asking.
            _ => Err(Errno::NOSYS),
        }
    }

    /// The first request of a driver: nothing that an earlier one knew counts any more.
    fn init(&self, driver: &wire::InitIn) -> Result<Reply> {
        let major = driver.major.get();
        if major < wire::MAJOR || major == wire::MAJOR && driver.minor.get() < wire::OLDEST_MINOR {
            return Err(Errno::PROTO);
        }
        self.files.forget_all();
        Ok(payload(&wire::InitOut {
            major: wire::MAJOR.into(),
            minor: wire::MINOR.into(),
            max_readahead: driver.max_readahead,
            flags: (driver.flags.get() & FEATURES).into(),
            max_background: MOST_IN_BACKGROUND.into(),
            congestion_threshold: CONGESTION.into(),
            max_write: MOST_BYTES.into(),
            time_gran: 1.into(),
            max_pages: MOST_PAGES.into(),
            ..FromZeros::new_zeroed()
        }))
    }

    fn forget_several(&self, mut body: Body<'_>) -> Result<Reply> {
        let wire::BatchForgetIn { count, .. } = body.take()?;
        for _ in 0..count.get() {
            let Ok(wire::ForgetOne { nodeid, nlookup }) = body.take() else { break };
            self.files.forget(nodeid.get(), nlookup.get());
        }
        Ok(Reply::None)
    }

    fn rename(&self, dir: u64, new_dir: u64, flags: u32, mut body: Body<'_>) -> Result<Reply> {
        let (name, new_name) = (body.name()?, body.name()?);
        if flags & !(libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE) != 0 {
            return Err(Errno::INVAL);
        }
        self.files.rename((dir, name), (new_dir, new_name), flags).map(Reply::empty)
    }

    fn copy_range(&self, wanted: &wire::CopyFileRangeIn) -> Result<Reply> {
        let from = (wanted.fh_in.get(), wanted.off_in.get());
        let to = (wanted.fh_out.get(), wanted.off_out.get());
        let copied = self.files.copy_range(from, to, wanted.len.get())?;
        Ok(payload(&wire::WriteOut { size: (copied as u32).into(), padding: 0.into() }))
    }

    /// Straight into the guest's memory, behind where the reply's header goes.
    fn read(&self, wanted: wire::ReadIn, writable: &GuestBuffer) -> Result<Reply> {
        let room = writable.len().checked_sub(HEADER).ok_or(Errno::INVAL)?;
        let len = room.min(wanted.size.get() as usize);
        let into = writable.part(HEADER, len).ok_or(Errno::INVAL)?;
        self.files.read(wanted.fh.get(), wanted.offset.get(), &into).map(Reply::InPlace)
    }

    /// Straight from the guest's memory; `len` bytes come behind the header.
    fn write(&self, readable: GuestBuffer, len: usize) -> Result<Reply> {
        const DATA: usize = size_of::<InHeader>() + size_of::<wire::WriteIn>();
        if self.readonly {
            return Err(Errno::ROFS);
        }
        let wanted: wire::WriteIn =
            readable.read_obj_at(size_of::<InHeader>()).ok_or(Errno::INVAL)?;
        let given = len.checked_sub(size_of::<wire::WriteIn>()).ok_or(Errno::INVAL)?;
        if wanted.size.get() as usize > given {
            return Err(Errno::INVAL);
        }
        let from = readable.part(DATA, wanted.size.get() as usize).ok_or(Errno::INVAL)?;
        let written = self.files.write(wanted.fh.get(), wanted.offset.get(), &from)?;
        Ok(payload(&wire::WriteOut { size: (written as u32).into(), padding: 0.into() }))
    }
}

fn handle(body: &mut Body<'_>) -> Result<u64> {
    body.take().map(|wire::ReleaseIn { fh, .. }| fh.get())
}

/// Whether a request is none of a share that may only be read.
fn changes_something(opcode: u32, mut body: Body<'_>) -> Result<bool> {
    Ok(match opcode {
        opcode::SETATTR | opcode::SYMLINK | opcode::MKNOD | opcode::MKDIR | opcode::UNLINK => true,
        opcode::RMDIR | opcode::RENAME | opcode::RENAME2 | opcode::LINK | opcode::CREATE => true,
        opcode::FALLOCATE | opcode::COPY_FILE_RANGE => true,
        opcode::OPEN => {
            let wire::OpenIn { flags, .. } = body.take()?;
            let flags = flags.get() as i32;
            flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0
        }
        _ => false,
    })
}
