//! Which nodes have changed, and how.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::CString,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::io::Errno;

use crate::virtio::fs::filesystem::{Attributes, Name, New, NodeId, Result, Time};

/// What the numbers of new nodes, and of what is open of them, have and the host's have not.
pub const OWN: u64 = 1 << 62;

/// Nodes at most that have changed.
const MOST: usize = 1 << 20;

/// A node that is new, or not as it was.
#[derive(Debug)]
pub struct Kept {
    /// All but what [`Self::has_contents`] means.
    pub attributes: Attributes,
    /// It has a file for its contents, whose size and times are its own.
    pub has_contents: bool,
    /// Of a directory: the names that lead elsewhere than below, or nowhere.
    pub children: BTreeMap<CString, Option<NodeId>>,
    /// Of a new symbolic link.
    pub target: Vec<u8>,
    /// Of a new node: how often the guest has its number.
    pub lookups: u64,
}

impl Kept {
    /// Something of the host's, as it is.
    pub fn new(attributes: Attributes) -> Self {
        Self {
            attributes,
            has_contents: false,
            children: BTreeMap::new(),
            target: Vec::new(),
            lookups: 0,
        }
    }

    /// Something new in a directory, of which the guest has the number once.
    pub fn made(new: &New, parent: &Attributes, target: &[u8]) -> Self {
        let inherits = parent.mode & libc::S_ISGID != 0;
        let is_dir = new.mode & libc::S_IFMT == libc::S_IFDIR;
        let set_gid = if inherits && is_dir { libc::S_ISGID } else { 0 };
        let time = now();
        let attributes = Attributes {
            size: target.len() as u64,
            mode: new.mode | set_gid,
            nlink: if is_dir { 2 } else { 1 },
            uid: new.caller.uid,
            gid: if inherits { parent.gid } else { new.caller.gid },
            rdev: new.rdev,
            blksize: 4096,
            atime: time,
            mtime: time,
            ctime: time,
            ..Attributes::default()
        };
        Self { target: target.to_vec(), lookups: 1, ..Self::new(attributes) }
    }

    /// Whether it is of this kind.
    pub fn attributes_are(&self, kind: u32) -> bool {
        self.attributes.mode & libc::S_IFMT == kind
    }
}

/// All nodes that are not as they were.
#[derive(Debug, Default)]
pub struct Tree {
    pub nodes: HashMap<NodeId, Kept>,
    last: NodeId,
}

impl Tree {
    /// ENOSPC: too much has changed.
    pub fn has_room(&self) -> Result {
        if self.nodes.len() < MOST { Ok(()) } else { Err(Errno::NOSPC) }
    }

    /// A number that no node had yet.
    pub fn next(&mut self) -> NodeId {
        self.last += 1;
        OWN | self.last
    }

    /// What a name leads to; `None`: whatever it leads to below.
    pub fn child(&self, dir: NodeId, name: Name<'_>) -> Result<Option<Option<NodeId>>> {
        let is_new = dir & OWN != 0;
        let Some(kept) = self.nodes.get(&dir) else {
            return if is_new { Err(Errno::STALE) } else { Ok(None) };
        };
        if !kept.attributes_are(libc::S_IFDIR) {
            return Err(Errno::NOTDIR);
        }
        match kept.children.get(name.as_c_str()) {
            Some(child) => Ok(Some(*child)),
            None if is_new => Ok(Some(None)),
            None => Ok(None),
        }
    }
}

pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time { seconds: since.as_secs() as i64, nanoseconds: since.subsec_nanos() }
}
