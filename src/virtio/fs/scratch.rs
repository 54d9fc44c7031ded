//! A directory of the host's under a layer that takes all changes: the guest may do what it likes,
//! and nothing of it reaches the directory, or outlives the run.
//!
//! What has changed is known in memory, node by node; the contents of files that were written are
//! files in a temporary directory. Owners, modes and devices are only noted, so that a guest's root
//! may set them whoever runs this. The directory itself is taken to stay as it is meanwhile.
//!
//! - `tree`: which nodes have changed, and how.
//! - `contents`: the files' new contents.
//! - `listing`: what is in a directory, of both layers.

mod contents;
mod listing;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use rustix::{fs, io::Errno};

use self::{
    contents::Contents,
    tree::{Kept, OWN, Tree, now},
};
use super::{
    filesystem::{
        Attributes, Changes, Entry, FileSystem, HandleId, Listed, Name, New, NewTime, NodeId,
        Opened, Result, Statistics, Synced, errno,
    },
    handles::Handles,
    passthrough::Passthrough,
};
use crate::addrspace::GuestBuffer;

/// Directories that are open at a time at most; each is listed when it is opened.
const MOST_DIRS: usize = 256;

/// A directory of the host's that does not change.
pub struct Scratch {
    lower: Passthrough,
    contents: Contents,
    tree: Mutex<Tree>,
    files: Handles<OwnedFd>,
    dirs: Handles<Vec<(CString, u64, u32)>>,
}

/// A node whose number is not for the guest.
struct Peeked<'a> {
    node: NodeId,
    given_by: Option<&'a Passthrough>,
}

impl Drop for Peeked<'_> {
    fn drop(&mut self) {
        if let Some(lower) = self.given_by {
            lower.forget(self.node, 1);
        }
    }
}

impl Scratch {
    /// What is at `path`.
    ///
    /// # Errors
    /// It is no directory that can be read, or there is no room for temporary files.
    pub fn new(path: &Path) -> io::Result<Self> {
        let lower = Passthrough::new(path)?;
        let most = lower.file_budget();
        Ok(Self {
            lower,
            contents: Contents::new()?,
            tree: Mutex::default(),
            files: Handles::new(most),
            dirs: Handles::new(MOST_DIRS),
        })
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock()
    }

    /// What a node is now.
    fn view(&self, tree: &Tree, node: NodeId) -> Result<Attributes> {
        let Some(kept) = tree.nodes.get(&node) else {
            return if node & OWN == 0 {
                self.lower.attributes(node, None)
            } else {
                Err(Errno::STALE)
            };
        };
        if !kept.has_contents {
            return Ok(kept.attributes);
        }
        self.contents.attributes(node, kept.attributes)
    }

    /// A node that is to change; from now on it is known here.
    fn change<'a>(&self, tree: &'a mut Tree, node: NodeId) -> Result<&'a mut Kept> {
        if !tree.nodes.contains_key(&node) {
            let attributes = self.view(tree, node)?;
            tree.has_room()?;
            self.lower.remember(node)?;
            tree.nodes.insert(node, Kept::new(attributes));
        }
        tree.nodes.get_mut(&node).ok_or(Errno::STALE)
    }

    /// The node of a name; if that is below, its number has been given once more.
    fn find(&self, tree: &Tree, dir: NodeId, name: Name<'_>) -> Result<NodeId> {
        match tree.child(dir, name)? {
            Some(known) => known.ok_or(Errno::NOENT),
            None => Ok(self.lower.lookup(dir, name)?.node),
        }
    }

    /// As [`Self::find`], of a node that is given back.
    fn peek(&self, tree: &Tree, dir: NodeId, name: Name<'_>) -> Result<Peeked<'_>> {
        let is_lower = tree.child(dir, name)?.is_none();
        let node = self.find(tree, dir, name)?;
        Ok(Peeked { node, given_by: is_lower.then_some(&self.lower) })
    }

    /// A name leads to a node, or with `None` nowhere, from now on.
    fn set_child(
        &self,
        tree: &mut Tree,
        dir: NodeId,
        name: Name<'_>,
        node: Option<NodeId>,
    ) -> Result {
        let is_below = dir & OWN == 0
            && self.lower.lookup(dir, name).map(|it| self.lower.forget(it.node, 1)).is_ok();
        let kept = self.change(tree, dir)?;
        if !kept.attributes_are(libc::S_IFDIR) {
            return Err(Errno::NOTDIR);
        }
        (kept.attributes.mtime, kept.attributes.ctime) = (now(), now());
        match node {
            None if !is_below => _ = kept.children.remove(name.as_c_str()),
            node => _ = kept.children.insert(name.as_c_str().to_owned(), node),
        }
        Ok(())
    }

    /// Something new, which the guest gets the number of.
    fn make(&self, dir: NodeId, name: Name<'_>, new: &New, target: &[u8]) -> Result<Entry> {
        let mut tree = self.tree();
        match self.peek(&tree, dir, name) {
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
            Ok(_) => return Err(Errno::EXIST),
        }
        let parent = self.view(&tree, dir)?;
        let mut kept = Kept::made(new, &parent, target);
        tree.has_room()?;
        let node = tree.next();
        kept.attributes.ino = node;
        if new.mode & libc::S_IFMT == libc::S_IFREG {
            self.contents.make(node)?;
            kept.has_contents = true;
        }
        tree.nodes.insert(node, kept);
        if let Err(errno) = self.set_child(&mut tree, dir, name, Some(node)) {
            tree.nodes.remove(&node);
            self.contents.remove(node);
            return Err(errno);
        }
        Ok(Entry { node, attributes: self.view(&tree, node)? })
    }

    /// A file's contents become its own, so that they can be written; with `empty` it has none.
    fn detach(&self, tree: &mut Tree, node: NodeId, empty: bool) -> Result {
        let kept = self.change(tree, node)?;
        if !kept.attributes_are(libc::S_IFREG) {
            return Err(if kept.attributes_are(libc::S_IFDIR) {
                Errno::ISDIR
            } else {
                Errno::NXIO
            });
        }
        if kept.has_contents {
            return Ok(());
        }
        let (atime, mtime) = (kept.attributes.atime, kept.attributes.mtime);
        let from = if empty { None } else { Some(self.lower.open_to_read(node)?) };
        self.contents.copy(node, from.as_ref(), (atime, mtime))?;
        kept.has_contents = true;
        Ok(())
    }

    /// One name of a node less. What has none any more stays as long as the guest has its number.
    fn drop_name(&self, tree: &mut Tree, node: NodeId) -> Result {
        let kept = self.change(tree, node)?;
        let less = if kept.attributes_are(libc::S_IFDIR) { 2 } else { 1 };
        kept.attributes.nlink = kept.attributes.nlink.saturating_sub(less);
        kept.attributes.ctime = now();
        self.tidy(tree, node);
        Ok(())
    }

    /// Lets a new node go that has no name, and that the guest has no number of.
    fn tidy(&self, tree: &mut Tree, node: NodeId) {
        let is_gone = |kept: &Kept| kept.attributes.nlink == 0 && kept.lookups == 0;
        if node & OWN != 0 && tree.nodes.get(&node).is_some_and(is_gone) {
            tree.nodes.remove(&node);
            self.contents.remove(node);
        }
    }

    fn remove(&self, dir: NodeId, name: Name<'_>, is_dir: bool) -> Result {
        let mut tree = self.tree();
        let peeked = self.peek(&tree, dir, name)?;
        let node = peeked.node;
        let there = self.view(&tree, node)?;
        match (is_dir, there.mode & libc::S_IFMT == libc::S_IFDIR) {
            (true, false) => return Err(Errno::NOTDIR),
            (false, true) => return Err(Errno::ISDIR),
            (true, true) if !self.entries(&tree, node)?.is_empty() => return Err(Errno::NOTEMPTY),
            _ => {}
        }
        // First, as it may find no room.
        self.change(&mut tree, node)?;
        self.set_child(&mut tree, dir, name, None)?;
        self.drop_name(&mut tree, node)
    }
}

impl FileSystem for Scratch {
    fn lookup(&self, dir: NodeId, name: Name<'_>) -> Result<Entry> {
        let mut tree = self.tree();
        let is_lower = tree.child(dir, name)?.is_none();
        let node = self.find(&tree, dir, name)?;
        let attributes = self.view(&tree, node)?;
        match tree.nodes.get_mut(&node) {
            Some(kept) if node & OWN != 0 => kept.lookups += 1,
            _ if is_lower => {}
            _ => self.lower.remember(node)?,
        }
        Ok(Entry { node, attributes })
    }

    fn forget(&self, node: NodeId, times: u64) {
        if node & OWN == 0 {
            // What has changed is remembered once more than the guest knows.
            return self.lower.forget(node, times);
        }
        let mut tree = self.tree();
        if let Some(kept) = tree.nodes.get_mut(&node) {
            kept.lookups = kept.lookups.saturating_sub(times);
            self.tidy(&mut tree, node);
        }
    }

    /// A driver that begins anew finds the directory as it was.
    fn forget_all(&self) {
        let mut tree = self.tree();
        self.files.clear();
        self.dirs.clear();
        let gone = std::mem::take(&mut tree.nodes);
        gone.keys().for_each(|node| self.contents.remove(*node));
        self.lower.forget_all();
    }

    fn attributes(&self, node: NodeId, _: Option<HandleId>) -> Result<Attributes> {
        self.view(&self.tree(), node)
    }

    fn read_link(&self, node: NodeId) -> Result<Vec<u8>> {
        if node & OWN == 0 {
            return self.lower.read_link(node);
        }
        let tree = self.tree();
        let kept = tree.nodes.get(&node).ok_or(Errno::STALE)?;
        if kept.attributes_are(libc::S_IFLNK) { Ok(kept.target.clone()) } else { Err(Errno::INVAL) }
    }

    fn open(&self, node: NodeId, flags: u32) -> Result<Opened> {
        let mut tree = self.tree();
        let truncates = flags as i32 & libc::O_TRUNC != 0;
        if flags as i32 & libc::O_ACCMODE != libc::O_RDONLY || truncates {
            self.detach(&mut tree, node, truncates)?;
        }
        if !tree.nodes.get(&node).is_some_and(|kept| kept.has_contents) {
            return match node & OWN {
                0 => self.lower.open(node, 0),
                _ if tree.nodes.contains_key(&node) => Err(Errno::NXIO),
                _ => Err(Errno::STALE),
            };
        }
        let file = self.contents.open(node, flags)?;
        Ok(Opened { handle: OWN | self.files.add(file)?, flags: 0 })
    }

    fn create(
        &self,
        dir: NodeId,
        name: Name<'_>,
        new: &New,
        flags: u32,
    ) -> Result<(Entry, Opened)> {
        let entry = match self.make(dir, name, new, &[]) {
            Err(Errno::EXIST) if flags as i32 & libc::O_EXCL == 0 => self.lookup(dir, name)?,
            made => made?,
        };
        let opened = self.open(entry.node, flags).inspect_err(|_| self.forget(entry.node, 1))?;
        Ok((entry, opened))
    }

    fn read(&self, handle: HandleId, offset: u64, into: &GuestBuffer) -> Result<usize> {
        let file = self.file(handle)?;
        into.read_from(file.as_fd(), Some(offset)).map_err(|error| errno(&error))
    }

    fn write(&self, handle: HandleId, offset: u64, from: &GuestBuffer) -> Result<usize> {
        let file = self.own_file(handle)?;
        from.write_to(file.as_fd(), Some(offset)).map_err(|error| errno(&error))
    }

    fn close(&self, handle: HandleId) {
        match handle & OWN {
            0 => self.lower.close(handle),
            _ => self.files.remove(handle & !OWN),
        }
    }

    fn open_dir(&self, node: NodeId) -> Result<HandleId> {
        let tree = self.tree();
        if self.view(&tree, node)?.mode & libc::S_IFMT != libc::S_IFDIR {
            return Err(Errno::NOTDIR);
        }
        let mut all = vec![
            (c".".to_owned(), node, libc::DT_DIR.into()),
            (c"..".to_owned(), node, libc::DT_DIR.into()),
        ];
        all.extend(self.entries(&tree, node)?);
        self.dirs.add(all)
    }

    fn read_dir(
        &self,
        handle: HandleId,
        offset: u64,
        _: usize,
        take: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> Result {
        let all = self.dirs.get(handle)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (next, (name, ino, kind)) in (1..).zip(all.iter()).skip(from) {
            if !take(&Listed { ino: *ino, kind: *kind, next, name }) {
                break;
            }
        }
        Ok(())
    }

    fn close_dir(&self, handle: HandleId) {
        self.dirs.remove(handle);
    }

    fn statistics(&self) -> Result<Statistics> {
        self.contents.statistics()
    }

    fn set_attributes(
        &self,
        node: NodeId,
        _: Option<HandleId>,
        changes: &Changes,
    ) -> Result<Attributes> {
        let mut tree = self.tree();
        if let Some(size) = changes.size {
            self.detach(&mut tree, node, size == 0)?;
            fs::ftruncate(self.contents.open(node, libc::O_WRONLY as u32)?, size)?;
        }
        let kept = self.change(&mut tree, node)?;
        let it = &mut kept.attributes;
        it.mode = changes.mode.map_or(it.mode, |mode| it.mode & libc::S_IFMT | mode);
        it.uid = changes.uid.unwrap_or(it.uid);
        it.gid = changes.gid.unwrap_or(it.gid);
        it.ctime = now();
        let time = |time| match time {
            NewTime::Now => now(),
            NewTime::At(time) => time,
        };
        it.atime = changes.atime.map_or(it.atime, time);
        it.mtime = changes.mtime.map_or(it.mtime, time);
        if kept.has_contents {
            self.contents.set_times(node, changes.atime.map(time), changes.mtime.map(time))?;
        }
        self.view(&tree, node)
    }

    fn make_node(&self, dir: NodeId, name: Name<'_>, new: &New) -> Result<Entry> {
        self.make(dir, name, new, &[])
    }

    fn make_dir(&self, dir: NodeId, name: Name<'_>, new: &New) -> Result<Entry> {
        self.make(dir, name, new, &[])
    }

    fn make_link(&self, dir: NodeId, name: Name<'_>, new: &New, to: &CStr) -> Result<Entry> {
        self.make(dir, name, new, to.to_bytes())
    }

    fn link(&self, node: NodeId, dir: NodeId, name: Name<'_>) -> Result<Entry> {
        let mut tree = self.tree();
        if self.peek(&tree, dir, name).is_ok() {
            return Err(Errno::EXIST);
        }
        if self.change(&mut tree, node)?.attributes_are(libc::S_IFDIR) {
            return Err(Errno::PERM);
        }
        self.set_child(&mut tree, dir, name, Some(node))?;
        let kept = self.change(&mut tree, node)?;
        kept.attributes.nlink += 1;
        kept.attributes.ctime = now();
        drop(tree);
        self.lookup(dir, name)
    }

    fn unlink(&self, dir: NodeId, name: Name<'_>) -> Result {
        self.remove(dir, name, false)
    }

    fn remove_dir(&self, dir: NodeId, name: Name<'_>) -> Result {
        self.remove(dir, name, true)
    }

    fn rename(&self, from: (NodeId, Name<'_>), to: (NodeId, Name<'_>), flags: u32) -> Result {
        let mut tree = self.tree();
        let peeked = self.peek(&tree, from.0, from.1)?;
        let peeked_there = match self.peek(&tree, to.0, to.1) {
            Ok(peeked) => Some(peeked),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno),
        };
        let (moved, there) = (peeked.node, peeked_there.as_ref().map(|peeked| peeked.node));
        let exchanges = flags & libc::RENAME_EXCHANGE != 0;
        if there.is_some() && flags & libc::RENAME_NOREPLACE != 0 {
            return Err(Errno::EXIST);
        }
        if there.is_none() && exchanges {
            return Err(Errno::NOENT);
        }
        let is_dir = self.change(&mut tree, moved)?.attributes_are(libc::S_IFDIR);
        if let Some(there) = there.filter(|there| *there != moved) {
            let is_dir_there = self.change(&mut tree, there)?.attributes_are(libc::S_IFDIR);
            match (is_dir, is_dir_there) {
                _ if exchanges => {}
                (true, false) => return Err(Errno::NOTDIR),
                (false, true) => return Err(Errno::ISDIR),
                (true, true) if !self.entries(&tree, there)?.is_empty() => {
                    return Err(Errno::NOTEMPTY);
                }
                _ => {}
            }
        }
        self.set_child(&mut tree, to.0, to.1, Some(moved))?;
        self.set_child(&mut tree, from.0, from.1, if exchanges { there } else { None })?;
        match there {
            Some(there) if !exchanges => self.drop_name(&mut tree, there),
            _ => Ok(()),
        }
    }

    fn sync(&self, _: HandleId, _: Synced) -> Result {
        // It is gone at the end anyway.
        Ok(())
    }

    fn allocate(&self, handle: HandleId, offset: u64, len: u64, mode: u32) -> Result {
        let mode = fs::FallocateFlags::from_bits(mode).ok_or(Errno::OPNOTSUPP)?;
        fs::fallocate(&*self.own_file(handle)?, mode, offset, len)
    }
}

impl Scratch {
    /// An open file, whichever it is.
    fn file(&self, handle: HandleId) -> Result<Arc<OwnedFd>> {
        if handle & OWN == 0 { self.lower.opened(handle) } else { self.own_file(handle) }
    }

    /// One that may be written.
    fn own_file(&self, handle: HandleId) -> Result<Arc<OwnedFd>> {
        if handle & OWN == 0 { Err(Errno::BADF) } else { self.files.get(handle & !OWN) }
    }
}
