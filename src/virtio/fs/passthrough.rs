//! A directory of the host's as it is: what the guest does there happens there.
//!
//! Nothing outside of the directory can be reached: each step from a directory to an entry is of one
//! name and follows no symbolic link (those are the guest's to follow, in its own tree), and there is
//! no step upwards. Of what is no file and no directory (devices, pipes, sockets) the host's side is
//! never opened; new device nodes are refused.
//!
//! Run by root, files belong to whom the guest says. Run by anyone else, all that is made belongs to
//! that user; in the guest what is theirs appears as root's.
//!
//! - `host`: the system calls.
//! - `nodes`: which node is which file.
//! - `changing`: what makes, renames and removes.

mod changing;
mod host;
mod nodes;
#[cfg(test)]
mod tests;

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use parking_lot::Mutex;
use rustix::{
    fs::{self, OFlags, RawDir, SeekFrom},
    io::Errno,
};

pub use self::host::{attributes_at, statistics};
use self::{
    host::{Host, Owners},
    nodes::{Nodes, Version},
};
use super::{
    filesystem::{
        Attributes, Changes, Entry, FileSystem, HandleId, Listed, Name, New, NodeId, Opened,
        Result, Statistics, Synced, errno,
    },
    handles::Handles,
    wire::FOPEN_KEEP_CACHE,
};
use crate::addrspace::GuestBuffer;

/// What an opening may ask for beside reading and writing.
const OPENING: i32 = libc::O_ACCMODE | libc::O_TRUNC | libc::O_SYNC;
/// Bytes of a copy at once, so that no request takes long.
const MOST_COPIED: u64 = 64 << 20;
/// Bytes of a directory that are fetched at once.
const LISTING: std::ops::RangeInclusive<usize> = 1024..=32768;

/// A directory of the host's.
pub struct Passthrough {
    host: Host,
    nodes: Nodes,
    files: Handles<OwnedFd>,
    dirs: Handles<Mutex<OwnedFd>>,
}

impl Passthrough {
    /// What is at `path`.
    ///
    /// # Errors
    /// It is no directory that can be read, or the host has no `/proc`.
    pub fn new(path: &Path) -> io::Result<Self> {
        let most = host::file_budget();
        let host = Host::new()?;
        let root = host::open_root(path)?;
        let nodes = Nodes::new(root, most)?;
        Ok(Self { host, nodes, files: Handles::new(most), dirs: Handles::new(most) })
    }

    /// How many files it may know, and how many it may have open.
    pub fn file_budget(&self) -> usize {
        self.files.most()
    }

    /// As if the guest had looked a node up once more.
    pub fn remember(&self, node: NodeId) -> Result {
        self.nodes.remember(node)
    }

    /// A regular file, to be read.
    pub fn open_to_read(&self, node: NodeId) -> Result<OwnedFd> {
        self.open_file(node, libc::O_RDONLY as u32).map(|(file, _)| file)
    }

    /// What a handle stands for.
    pub fn opened(&self, handle: HandleId) -> Result<Arc<OwnedFd>> {
        self.files.get(handle)
    }

    fn owners(&self) -> &Owners {
        &self.host.owners
    }

    /// What the statx structure says, as the guest is to see it.
    fn seen(&self, stat: &fs::Statx) -> Attributes {
        host::attributes(stat, self.owners(), self.nodes.device())
    }

    /// A file in `dir` becomes a node, or is one already.
    fn enter(&self, dir: NodeId, name: Name<'_>, file: OwnedFd) -> Result<Entry> {
        let stat = host::stat(&file)?;
        let attributes = self.seen(&stat);
        let node = self.nodes.enter(dir, name, file, &stat)?;
        Ok(Entry { node, attributes })
    }

    /// Opens a node that is a regular file.
    fn open_file(&self, node: NodeId, flags: u32) -> Result<(OwnedFd, fs::Statx)> {
        let file = self.nodes.file(node)?;
        let stat = host::stat(&*file)?;
        match host::kind(&stat) {
            libc::S_IFREG => {}
            libc::S_IFDIR => return Err(Errno::ISDIR),
            libc::S_IFLNK => return Err(Errno::LOOP),
            // The guest's own kernel opens these, and asks nobody.
            _ => return Err(Errno::NXIO),
        }
        let flags = OFlags::from_bits_retain((flags as i32 & OPENING) as u32);
        Ok((self.host.reopen(&*file, flags)?, stat))
    }
}

impl FileSystem for Passthrough {
    fn lookup(&self, dir: NodeId, name: Name<'_>) -> Result<Entry> {
        let parent = self.nodes.file(dir)?;
        self.enter(dir, name, host::look(&*parent, name)?)
    }

    fn forget(&self, node: NodeId, times: u64) {
        self.nodes.forget(node, times);
    }

    fn forget_all(&self) {
        self.files.clear();
        self.dirs.clear();
        self.nodes.forget_all();
    }

    fn attributes(&self, node: NodeId, handle: Option<HandleId>) -> Result<Attributes> {
        let stat = match handle.and_then(|handle| self.files.get(handle).ok()) {
            Some(open) => host::stat(&*open)?,
            None => host::stat(&*self.nodes.file(node)?)?,
        };
        Ok(self.seen(&stat))
    }

    fn read_link(&self, node: NodeId) -> Result<Vec<u8>> {
        let link = self.nodes.file(node)?;
        Ok(fs::readlinkat(&*link, c"", Vec::new())?.into_bytes())
    }

    fn open(&self, node: NodeId, flags: u32) -> Result<Opened> {
        let (file, stat) = self.open_file(node, flags)?;
        let is_same = self.nodes.is_unchanged(node, Version::of(&stat));
        let keep = is_same && flags as i32 & libc::O_TRUNC == 0;
        Ok(Opened { handle: self.files.add(file)?, flags: if keep { FOPEN_KEEP_CACHE } else { 0 } })
    }

    fn read(&self, handle: HandleId, offset: u64, into: &GuestBuffer) -> Result<usize> {
        let file = self.files.get(handle)?;
        into.read_from(file.as_fd(), Some(offset)).map_err(|error| errno(&error))
    }

    fn write(&self, handle: HandleId, offset: u64, from: &GuestBuffer) -> Result<usize> {
        let file = self.files.get(handle)?;
        from.write_to(file.as_fd(), Some(offset)).map_err(|error| errno(&error))
    }

    fn close(&self, handle: HandleId) {
        self.files.remove(handle);
    }

    fn open_dir(&self, node: NodeId) -> Result<HandleId> {
        let dir = self.nodes.file(node)?;
        let dir = self.host.reopen(&*dir, OFlags::DIRECTORY)?;
        self.dirs.add(Mutex::new(dir))
    }

    fn read_dir(
        &self,
        handle: HandleId,
        offset: u64,
        room: usize,
        take: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> Result {
        let dir = self.dirs.get(handle)?;
        let dir = dir.lock();
        fs::seek(&*dir, SeekFrom::Start(offset))?;
        let mut room = vec![MaybeUninit::uninit(); room.clamp(*LISTING.start(), *LISTING.end())];
        let mut entries = RawDir::new(&*dir, &mut room);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let listed = Listed {
                ino: entry.ino(),
                kind: host::listed_kind(entry.file_type()),
                next: entry.next_entry_cookie(),
                name: entry.file_name(),
            };
            if !take(&listed) {
                break;
            }
        }
        Ok(())
    }

    fn close_dir(&self, handle: HandleId) {
        self.dirs.remove(handle);
    }

    fn statistics(&self) -> Result<Statistics> {
        host::statistics(&*self.nodes.file(super::wire::ROOT)?)
    }

    fn set_attributes(
        &self,
        node: NodeId,
        handle: Option<HandleId>,
        changes: &Changes,
    ) -> Result<Attributes> {
        let file = self.nodes.file(node)?;
        self.host.change(&*file, changes)?;
        if let Some(size) = changes.size {
            match handle {
                Some(handle) => fs::ftruncate(&*self.files.get(handle)?, size)?,
                None => fs::ftruncate(self.open_file(node, libc::O_WRONLY as u32)?.0, size)?,
            }
        }
        // Last, as a change of size sets them too.
        self.host.set_times(&*file, changes)?;
        Ok(self.seen(&host::stat(&*file)?))
    }

    fn create(
        &self,
        dir: NodeId,
        name: Name<'_>,
        new: &New,
        flags: u32,
    ) -> Result<(Entry, Opened)> {
        self.create_file(dir, name, new, flags)
    }

    fn make_node(&self, dir: NodeId, name: Name<'_>, new: &New) -> Result<Entry> {
        self.make(dir, name, new, None)
    }

    fn make_dir(&self, dir: NodeId, name: Name<'_>, new: &New) -> Result<Entry> {
        self.make(dir, name, new, None)
    }

    fn make_link(
        &self,
        dir: NodeId,
        name: Name<'_>,
        new: &New,
        target: &std::ffi::CStr,
    ) -> Result<Entry> {
        self.make(dir, name, new, Some(target))
    }

    fn link(&self, node: NodeId, dir: NodeId, name: Name<'_>) -> Result<Entry> {
        let parent = self.nodes.file(dir)?;
        self.host.link(&*self.nodes.file(node)?, &*parent, name)?;
        self.lookup(dir, name)
    }

    fn unlink(&self, dir: NodeId, name: Name<'_>) -> Result {
        let dir = self.nodes.file(dir)?;
        fs::unlinkat(&*dir, name.as_c_str(), fs::AtFlags::empty())
    }

    fn remove_dir(&self, dir: NodeId, name: Name<'_>) -> Result {
        let dir = self.nodes.file(dir)?;
        fs::unlinkat(&*dir, name.as_c_str(), fs::AtFlags::REMOVEDIR)
    }

    fn rename(&self, from: (NodeId, Name<'_>), to: (NodeId, Name<'_>), flags: u32) -> Result {
        self.rename_entry(from, to, flags)
    }

    fn sync(&self, handle: HandleId, of: Synced) -> Result {
        match of {
            Synced::All => fs::fsync(&*self.files.get(handle)?),
            Synced::Data => fs::fdatasync(&*self.files.get(handle)?),
            Synced::Dir => {
                let dir = self.dirs.get(handle)?;
                fs::fsync(&*dir.lock())
            }
        }
    }

    fn sync_all(&self) -> Result {
        let root = self.nodes.file(super::wire::ROOT)?;
        fs::syncfs(self.host.reopen(&*root, OFlags::DIRECTORY)?)
    }

    fn allocate(&self, handle: HandleId, offset: u64, len: u64, mode: u32) -> Result {
        let mode = fs::FallocateFlags::from_bits(mode).ok_or(Errno::OPNOTSUPP)?;
        fs::fallocate(&*self.files.get(handle)?, mode, offset, len)
    }

    fn seek(&self, handle: HandleId, offset: u64, whence: u32) -> Result<u64> {
        let to = match whence as i32 {
            libc::SEEK_DATA => SeekFrom::Data(offset),
            libc::SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        fs::seek(&*self.files.get(handle)?, to)
    }

    fn copy_range(&self, from: (HandleId, u64), to: (HandleId, u64), len: u64) -> Result<usize> {
        let (source, target) = (self.files.get(from.0)?, self.files.get(to.0)?);
        let (mut at, mut to) = (from.1, to.1);
        let len = len.min(MOST_COPIED) as usize;
        fs::copy_file_range(&*source, Some(&mut at), &*target, Some(&mut to), len)
    }
}
