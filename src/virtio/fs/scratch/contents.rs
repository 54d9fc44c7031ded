//! The contents of files that were written: files in a temporary directory, by their nodes.

use std::{env, io, os::fd::OwnedFd, path::PathBuf};

use rustix::{
    fs::{self, AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT},
    io::Errno,
};

use crate::virtio::fs::{
    filesystem::{Attributes, NodeId, Result, Statistics, Time},
    passthrough,
};

/// Which flags of an opening count.
const OPENING: i32 = libc::O_ACCMODE | libc::O_TRUNC;

/// A temporary directory, which goes with this.
#[derive(Debug)]
pub struct Contents {
    path: PathBuf,
    dir: OwnedFd,
}

impl Contents {
    /// An empty one, in `$TMPDIR` or `/tmp`.
    pub fn new() -> io::Result<Self> {
        let path = nix::unistd::mkdtemp(&env::temp_dir().join("axvmm-XXXXXX"))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match fs::openat(CWD, &path, flags, Mode::empty()) {
            Ok(dir) => Ok(Self { path, dir }),
            Err(errno) => {
                let _ = std::fs::remove_dir(&path);
                Err(errno.into())
            }
        }
    }

    /// Where it is.
    #[cfg(test)]
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// A new file with nothing in it.
    pub fn make(&self, node: NodeId) -> Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        fs::openat(&self.dir, name(node), flags, Mode::RUSR | Mode::WUSR)
    }

    /// A new file with all that is in another one, and its times.
    pub fn copy(&self, node: NodeId, from: Option<&OwnedFd>, times: (Time, Time)) -> Result {
        let file = self.make(node)?;
        let copied = from.map_or(Ok(()), |from| copy_all(from, file));
        let copied = copied.and_then(|()| self.set_times(node, Some(times.0), Some(times.1)));
        copied.inspect_err(|_| self.remove(node))
    }

    pub fn open(&self, node: NodeId, flags: u32) -> Result<OwnedFd> {
        let flags = OFlags::from_bits_retain((flags as i32 & OPENING) as u32) | OFlags::CLOEXEC;
        fs::openat(&self.dir, name(node), flags, Mode::empty())
    }

    /// What a node is, with the size and the times of its contents.
    pub fn attributes(&self, node: NodeId, kept: Attributes) -> Result<Attributes> {
        let it = passthrough::attributes_at(&self.dir, &name(node))?;
        let Attributes { size, blocks, atime, mtime, ctime, .. } = it;
        let ctime =
            if (kept.ctime.seconds, kept.ctime.nanoseconds) > (ctime.seconds, ctime.nanoseconds) {
                kept.ctime
            } else {
                ctime
            };
        Ok(Attributes { size, blocks, atime, mtime, ctime, ..kept })
    }

    pub fn set_times(&self, node: NodeId, atime: Option<Time>, mtime: Option<Time>) -> Result {
        let time = |time: Option<Time>| match time {
            None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            Some(it) => Timespec { tv_sec: it.seconds, tv_nsec: it.nanoseconds.into() },
        };
        let times = Timestamps { last_access: time(atime), last_modification: time(mtime) };
        fs::utimensat(&self.dir, name(node), &times, AtFlags::empty())
    }

    /// If there is any; what is open stays until it is closed.
    pub fn remove(&self, node: NodeId) {
        let _ = fs::unlinkat(&self.dir, name(node), AtFlags::empty());
    }

    pub fn statistics(&self) -> Result<Statistics> {
        passthrough::statistics(&self.dir)
    }
}

impl Drop for Contents {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

fn name(node: NodeId) -> String {
    format!("{node:x}")
}

fn copy_all(from: &OwnedFd, to: OwnedFd) -> Result {
    let (from, mut to) = (from.try_clone(), std::fs::File::from(to));
    let mut from = std::fs::File::from(from.map_err(|_| Errno::MFILE)?);
    let copied = io::copy(&mut from, &mut to);
    copied.map(|_| ()).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
