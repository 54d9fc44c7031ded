//! Which node is which file of the host's.
//!
//! A node keeps its file known (`O_PATH`), so that it stays the same file whatever becomes of its
//! name; but only so many at a time. What has been let go is found again by its name, and checked to
//! be the same.

use std::{
    collections::{HashMap, VecDeque},
    ffi::CString,
    io,
    os::fd::OwnedFd,
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use rustix::{
    fs::{Mode, OFlags, Statx, openat},
    io::Errno,
};

use super::host;
use crate::virtio::fs::{
    filesystem::{Name, NodeId, Result, Time},
    wire::ROOT,
};

/// Nodes at most; a guest has as many if it has a gibibyte of memory for them.
const MOST: usize = 1 << 20;
/// How deep a directory may be that is found again by names.
const DEEPEST: usize = 1024;

/// What makes two files the same: also that they were made at the same time, as a deleted file's
/// inode number is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FileId {
    device: (u32, u32),
    ino: u64,
    born: Time,
}

impl FileId {
    fn of(stat: &Statx) -> Self {
        let born = Time { seconds: stat.stx_btime.tv_sec, nanoseconds: stat.stx_btime.tv_nsec };
        Self { device: host::device(stat), ino: stat.stx_ino, born }
    }
}

/// What changes whenever a file's contents do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    size: u64,
    mtime: (i64, u32),
    ctime: (i64, u32),
}

impl Version {
    pub fn of(stat: &Statx) -> Self {
        Self {
            size: stat.stx_size,
            mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        }
    }
}

struct Node {
    id: FileId,
    /// How often the guest has got its number and not forgotten it.
    lookups: u64,
    /// The directory where it was seen last, and its name there.
    place: (NodeId, CString),
    file: Option<Arc<OwnedFd>>,
    /// Whether `file` was of use since the last round of letting go.
    is_used: bool,
    /// When it was opened last.
    version: Option<Version>,
}

#[derive(Default)]
struct Table {
    nodes: HashMap<NodeId, Node>,
    by_file: HashMap<FileId, NodeId>,
    last: NodeId,
    /// How many nodes have their file.
    known: usize,
    /// These nodes, in the order in which they are asked to let it go; also some that are gone.
    round: VecDeque<NodeId>,
}

/// All nodes that the guest has.
pub struct Nodes {
    root: Arc<OwnedFd>,
    device: (u32, u32),
    most_files: usize,
    table: Mutex<Table>,
}

impl Nodes {
    /// None but the root.
    pub fn new(root: OwnedFd, most_files: usize) -> io::Result<Self> {
        let device = host::device(&host::stat(&root)?);
        let table = Mutex::new(Table { last: ROOT, ..Table::default() });
        Ok(Self { root: Arc::new(root), device, most_files, table })
    }

    /// The device that the root is on.
    pub fn device(&self) -> (u32, u32) {
        self.device
    }

    /// The node of a file that has been seen; the guest gets its number once more. ENFILE: it has
    /// too many.
    pub fn enter(
        &self,
        dir: NodeId,
        name: Name<'_>,
        file: OwnedFd,
        stat: &Statx,
    ) -> Result<NodeId> {
        let (id, place) = (FileId::of(stat), (dir, name.as_c_str().to_owned()));
        let mut table = self.lock();
        if let Some(node) = table.by_file.get(&id).copied() {
            if let Some(known) = table.nodes.get_mut(&node) {
                known.lookups += 1;
                known.place = place;
                known.is_used = true;
                if known.file.is_none() {
                    table.keep(node, Arc::new(file), self.most_files);
                }
                return Ok(node);
            }
        }
        if table.nodes.len() >= MOST {
            return Err(Errno::NFILE);
        }
        table.last += 1;
        let node = table.last;
        let (lookups, is_used, version) = (1, true, None);
        table.nodes.insert(node, Node { id, lookups, place, file: None, is_used, version });
        table.by_file.insert(id, node);
        table.keep(node, Arc::new(file), self.most_files);
        Ok(node)
    }

    /// The file of a node. ESTALE: there is no such node, or the file is not to be found any more.
    pub fn file(&self, node: NodeId) -> Result<Arc<OwnedFd>> {
        if node == ROOT {
            return Ok(self.root.clone());
        }
        let mut table = self.lock();
        let known = table.nodes.get_mut(&node).ok_or(Errno::STALE)?;
        known.is_used = true;
        if let Some(file) = &known.file {
            return Ok(file.clone());
        }
        let wanted = known.id;
        let (from, names) = self.way_to(&table, node)?;
        drop(table);
        let file = Arc::new(walk(from, &names)?);
        if FileId::of(&host::stat(&*file)?) != wanted {
            return Err(Errno::STALE);
        }
        self.lock().keep(node, file.clone(), self.most_files);
        Ok(file)
    }

    /// The nearest directory above whose file is known, and the names from there on, last first.
    fn way_to(&self, table: &Table, node: NodeId) -> Result<(Arc<OwnedFd>, Vec<CString>)> {
        let (mut at, mut names) = (node, Vec::new());
        while at != ROOT {
            let node = table.nodes.get(&at).ok_or(Errno::STALE)?;
            if let Some(file) = &node.file {
                return Ok((file.clone(), names));
            }
            if names.len() == DEEPEST {
                return Err(Errno::STALE);
            }
            names.push(node.place.1.clone());
            at = node.place.0;
        }
        Ok((self.root.clone(), names))
    }

    /// A file is in another place now.
    pub fn moved(&self, stat: &Statx, dir: NodeId, name: Name<'_>) {
        let mut table = self.lock();
        let Some(node) = table.by_file.get(&FileId::of(stat)).copied() else { return };
        if let Some(node) = table.nodes.get_mut(&node) {
            node.place = (dir, name.as_c_str().to_owned());
        }
    }

    /// Whether a file's contents are those of when this was last asked.
    pub fn is_unchanged(&self, node: NodeId, version: Version) -> bool {
        let mut table = self.lock();
        let Some(node) = table.nodes.get_mut(&node) else { return false };
        node.version.replace(version) == Some(version)
    }

    /// The guest has its number once more.
    pub fn remember(&self, node: NodeId) -> Result {
        if node != ROOT {
            self.lock().nodes.get_mut(&node).ok_or(Errno::STALE)?.lookups += 1;
        }
        Ok(())
    }

    /// The guest gives its number back so many times.
    pub fn forget(&self, node: NodeId, times: u64) {
        let mut table = self.lock();
        let Some(known) = table.nodes.get_mut(&node) else { return };
        known.lookups = known.lookups.saturating_sub(times);
        if known.lookups > 0 {
            return;
        }
        if let Some(gone) = table.nodes.remove(&node) {
            table.by_file.remove(&gone.id);
            table.known -= usize::from(gone.file.is_some());
        }
    }

    /// All numbers are given back.
    pub fn forget_all(&self) {
        let mut table = self.lock();
        // Numbers go on: an old one must not mean another file.
        *table = Table { last: table.last, ..Table::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }
}

impl Table {
    /// A node keeps its file; another may have to let its own go.
    fn keep(&mut self, node: NodeId, file: Arc<OwnedFd>, most: usize) {
        let Some(keeper) = self.nodes.get_mut(&node) else { return };
        if keeper.file.replace(file).is_none() {
            self.known += 1;
            self.round.push_back(node);
        }
        while self.known > most {
            let Some(node) = self.round.pop_front() else { break };
            let Some(keeper) = self.nodes.get_mut(&node) else { continue };
            if std::mem::take(&mut keeper.is_used) {
                self.round.push_back(node);
            } else if keeper.file.take().is_some() {
                self.known -= 1;
            }
        }
        if self.round.len() > 2 * self.known + 64 {
            let nodes = &self.nodes;
            self.round.retain(|node| nodes.get(node).is_some_and(|node| node.file.is_some()));
        }
    }
}

/// Goes from a directory by names, last first, following no symbolic link.
fn walk(from: Arc<OwnedFd>, names: &[CString]) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = None;
    for name in names.iter().rev() {
        let dir = at.as_ref().unwrap_or(&*from);
        let next = openat(dir, name.as_c_str(), flags, Mode::empty());
        at = Some(next.map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => Errno::STALE,
            other => other,
        })?);
    }
    at.ok_or(Errno::STALE)
}
