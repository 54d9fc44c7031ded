//! What a file server serves: files and directories by number, in the protocol's own terms.

use std::ffi::CStr;

use rustix::io::Errno;

use super::wire::NAME_MAX;
use crate::addrspace::GuestBuffer;

/// An operation's result; the error is what the guest gets.
pub type Result<T = ()> = std::result::Result<T, Errno>;

/// A file or directory that the guest has looked up, by the number it was given for it.
pub type NodeId = u64;

/// An open file or directory.
pub type HandleId = u64;

/// A name in a directory: not empty, of one component, and neither `.` nor `..`, so that it never
/// leads out of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a>(&'a CStr);

impl<'a> Name<'a> {
    /// The name, if it is one.
    ///
    /// # Errors
    /// EINVAL, or ENAMETOOLONG.
    pub fn new(name: &'a CStr) -> Result<Self> {
        match name.to_bytes() {
            b"" | b"." | b".." => Err(Errno::INVAL),
            bytes if bytes.contains(&b'/') => Err(Errno::INVAL),
            bytes if bytes.len() > NAME_MAX => Err(Errno::NAMETOOLONG),
            _ => Ok(Self(name)),
        }
    }

    /// As system calls take it.
    pub fn as_c_str(self) -> &'a CStr {
        self.0
    }
}

/// A point in time: seconds since 1970 and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Time {
    /// Seconds.
    pub seconds: i64,
    /// Below 10^9.
    pub nanoseconds: u32,
}

/// All that `stat` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in stat(2)")]
pub struct Attributes {
    pub ino: u64,
    pub size: u64,
    pub blocks: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    /// With the file's kind.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    /// As Linux's `new_encode_dev` puts it.
    pub rdev: u32,
    pub blksize: u32,
}

/// A node with what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number; the guest must forget it as often as it got it.
    pub node: NodeId,
    /// What it is.
    pub attributes: Attributes,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewTime {
    /// The server's.
    Now,
    /// This one.
    At(Time),
}

/// What is to change about a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in stat(2)")]
pub struct Changes {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<NewTime>,
    pub mtime: Option<NewTime>,
}

/// Who in the guest asks for something new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in stat(2)")]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
}

/// What a new file is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct New {
    /// Whose.
    pub caller: Caller,
    /// With the kind, and with the guest's umask already applied.
    pub mode: u32,
    /// The device that a node stands for.
    pub rdev: u32,
}

/// A file that has been opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its number, to be closed once.
    pub handle: HandleId,
    /// `FOPEN_` flags.
    pub flags: u32,
}

/// An entry of a directory's listing.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// The inode's number, as `stat` tells it.
    pub ino: u64,
    /// `DT_REG` …
    pub kind: u32,
    /// Where the listing goes on behind it.
    pub next: u64,
    /// Also `.` and `..`.
    pub name: &'a CStr,
}

/// What `statfs` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in statvfs(3)")]
pub struct Statistics {
    pub blocks: u64,
    pub bfree: u64,
    pub bavail: u64,
    pub files: u64,
    pub ffree: u64,
    pub bsize: u32,
    pub namelen: u32,
    pub frsize: u32,
}

/// Files and directories. Any thread may call it, several at once; node and handle numbers are the
/// guest's to make up, so unknown ones are an error (EBADF for handles, ESTALE for nodes).
#[allow(missing_docs, reason = "named as the system calls, with their errors")]
pub trait FileSystem: Send + Sync {
    fn lookup(&self, dir: NodeId, name: Name<'_>) -> Result<Entry>;
    /// The guest forgets the node so many times.
    fn forget(&self, node: NodeId, times: u64);
    /// It forgets all nodes, and has nothing open any more.
    fn forget_all(&self);
    fn attributes(&self, node: NodeId, handle: Option<HandleId>) -> Result<Attributes>;
    fn open(&self, node: NodeId, flags: u32) -> Result<Opened>;
    /// Fills `into` from the file; the result is short only at its end.
    fn read(&self, handle: HandleId, offset: u64, into: &GuestBuffer) -> Result<usize>;
    fn close(&self, handle: HandleId);
    fn open_dir(&self, node: NodeId) -> Result<HandleId>;
    /// Gives the entries from `offset` (0, or an entry's `next`) on, about `room` bytes of names,
    /// until `take` answers `false`: the entry is then not taken.
    fn read_dir(
        &self,
        handle: HandleId,
        offset: u64,
        room: usize,
        take: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> Result;
    fn close_dir(&self, handle: HandleId);
    fn statistics(&self) -> Result<Statistics>;

    /// While this is on, what would wait for somebody outside fails with EINTR instead, also if it
    /// waits already: the server's threads are to end.
    fn hurry(&self, _on: bool) {}
    /// The text of a symbolic link, which is the guest's to follow.
    fn read_link(&self, _node: NodeId) -> Result<Vec<u8>> {
        Err(Errno::INVAL)
    }
    fn set_attributes(
        &self,
        _node: NodeId,
        _handle: Option<HandleId>,
        _changes: &Changes,
    ) -> Result<Attributes> {
        Err(Errno::ROFS)
    }
    fn create(
        &self,
        _dir: NodeId,
        _name: Name<'_>,
        _new: &New,
        _flags: u32,
    ) -> Result<(Entry, Opened)> {
        Err(Errno::ROFS)
    }
    /// Writes all of `from` to the file, or fails, or says how much of it.
    fn write(&self, _handle: HandleId, _offset: u64, _from: &GuestBuffer) -> Result<usize> {
        Err(Errno::BADF)
    }
    fn make_node(&self, _dir: NodeId, _name: Name<'_>, _new: &New) -> Result<Entry> {
        Err(Errno::ROFS)
    }
    fn make_dir(&self, _dir: NodeId, _name: Name<'_>, _new: &New) -> Result<Entry> {
        Err(Errno::ROFS)
    }
    fn make_link(
        &self,
        _dir: NodeId,
        _name: Name<'_>,
        _new: &New,
        _target: &CStr,
    ) -> Result<Entry> {
        Err(Errno::ROFS)
    }
    /// Another name for a file.
    fn link(&self, _node: NodeId, _dir: NodeId, _name: Name<'_>) -> Result<Entry> {
        Err(Errno::ROFS)
    }
    fn unlink(&self, _dir: NodeId, _name: Name<'_>) -> Result {
        Err(Errno::ROFS)
    }
    fn remove_dir(&self, _dir: NodeId, _name: Name<'_>) -> Result {
        Err(Errno::ROFS)
    }
    /// With the flags of renameat2(2).
    fn rename(&self, _from: (NodeId, Name<'_>), _to: (NodeId, Name<'_>), _flags: u32) -> Result {
        Err(Errno::ROFS)
    }
    /// Of a file, or of a directory.
    fn sync(&self, _handle: HandleId, _of: Synced) -> Result {
        Ok(())
    }
    fn sync_all(&self) -> Result {
        Ok(())
    }
    fn allocate(&self, _handle: HandleId, _offset: u64, _len: u64, _mode: u32) -> Result {
        Err(Errno::OPNOTSUPP)
    }
    /// The next data or hole (`SEEK_DATA`, `SEEK_HOLE`).
    fn seek(&self, _handle: HandleId, _offset: u64, _whence: u32) -> Result<u64> {
        Err(Errno::NOSYS)
    }
    fn copy_range(&self, _from: (HandleId, u64), _to: (HandleId, u64), _len: u64) -> Result<usize> {
        Err(Errno::OPNOTSUPP)
    }
}

/// What a `sync` is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synced {
    /// A file and all about it.
    All,
    /// A file's data.
    Data,
    /// A directory.
    Dir,
}

/// The error of a transfer.
pub fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_leads_anywhere_else() {
        for bad in [c"", c".", c"..", c"a/b", c"/", c"../x", c"x/"] {
            assert_eq!(Name::new(bad), Err(Errno::INVAL), "{bad:?}");
        }
        let of_length = |len| std::ffi::CString::new(vec![b'x'; len]).unwrap();
        assert_eq!(Name::new(&of_length(NAME_MAX + 1)), Err(Errno::NAMETOOLONG));
        for good in [c"a", c"...", c".a", c"..a", c"a b\n\xff", &of_length(NAME_MAX)] {
            assert_eq!(Name::new(good).unwrap().as_c_str(), good);
        }
    }
}
