//! What makes, renames and removes entries of the host's directories.

use std::{
    ffi::CStr,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{self, FileType, OFlags, RenameFlags},
    io::Errno,
};

use super::{
    OPENING, Passthrough,
    host::{self, mode},
};
use crate::virtio::fs::filesystem::{Entry, FileSystem, Name, New, NodeId, Opened, Result};

impl Passthrough {
    /// Opens the file of this name, and makes it if there is none.
    pub(super) fn create_file(
        &self,
        dir: NodeId,
        name: Name<'_>,
        new: &New,
        flags: u32,
    ) -> Result<(Entry, Opened)> {
        let parent = self.nodes.file(dir)?;
        let wanted = OFlags::from_bits_retain((flags as i32 & OPENING) as u32);
        // Exclusive, as what is there already may be something that must not be opened.
        let making = wanted | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match fs::openat(&*parent, name.as_c_str(), making, mode(new.mode)) {
            Ok(file) => {
                let known = self.host.reopen(&file, OFlags::PATH)?;
                let entry = self.made(&parent, dir, name, new, known)?;
                Ok((entry, Opened { handle: self.files.add(file)?, flags: 0 }))
            }
            Err(Errno::EXIST) if flags as i32 & libc::O_EXCL == 0 => {
                let entry = self.lookup(dir, name)?;
                let opened = self.open(entry.node, flags);
                let opened = opened.inspect_err(|_| self.nodes.forget(entry.node, 1))?;
                Ok((entry, opened))
            }
            Err(errno) => Err(errno),
        }
    }

    /// Makes what is no regular file, or an empty one.
    pub(super) fn make(
        &self,
        dir: NodeId,
        name: Name<'_>,
        new: &New,
        target: Option<&CStr>,
    ) -> Result<Entry> {
        let parent = self.nodes.file(dir)?;
        let (at, text) = (&*parent, name.as_c_str());
        match (new.mode & libc::S_IFMT, target) {
            (libc::S_IFLNK, Some(target)) => fs::symlinkat(target, at, text)?,
            (libc::S_IFDIR, None) => fs::mkdirat(at, text, mode(new.mode))?,
            (libc::S_IFREG | libc::S_IFIFO | libc::S_IFSOCK, None) => {
                let kind = FileType::from_raw_mode(new.mode);
                fs::mknodat(at, text, kind, mode(new.mode), 0)?;
            }
            (libc::S_IFCHR | libc::S_IFBLK, None) => return Err(Errno::PERM),
            _ => return Err(Errno::INVAL),
        }
        self.made(at, dir, name, new, host::look(at, name)?)
    }

    /// What has just been made gets its owner.
    fn made(
        &self,
        parent: &OwnedFd,
        dir: NodeId,
        name: Name<'_>,
        new: &New,
        file: OwnedFd,
    ) -> Result<Entry> {
        self.host.give(&file, parent.as_fd(), new)?;
        self.enter(dir, name, file)
    }

    pub(super) fn rename_entry(
        &self,
        from: (NodeId, Name<'_>),
        to: (NodeId, Name<'_>),
        flags: u32,
    ) -> Result {
        let flags = RenameFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        let (old_dir, new_dir) = (self.nodes.file(from.0)?, self.nodes.file(to.0)?);
        let (old, new) = (from.1.as_c_str(), to.1.as_c_str());
        fs::renameat_with(&*old_dir, old, &*new_dir, new, flags)?;
        for (dir, parent, name) in [(&*new_dir, to.0, to.1), (&*old_dir, from.0, from.1)] {
            // In its old place there is something only after an exchange.
            if let Ok(stat) = host::look(dir, name).and_then(|file| host::stat(&file)) {
                self.nodes.moved(&stat, parent, name);
            }
        }
        Ok(())
    }
}
