//! What goes back to the driver.

use rustix::io::Errno;
use zerocopy::{FromZeros, Immutable, IntoBytes, little_endian::U64};

use crate::{
    addrspace::GuestBuffer,
    virtio::fs::{
        filesystem::{Attributes, Entry, Opened, Statistics},
        wire::{AttrOut, AttrWire, EntryOut, OpenOut, OutHeader, StatfsOut},
    },
};

/// Bytes before a reply's own.
pub const HEADER: usize = size_of::<OutHeader>();

/// How long the driver may rely on a name or on attributes, in seconds: so long it may miss what the
/// host changes. A file's contents it asks about at each opening.
const VALID: u64 = 1;

/// A reply.
pub enum Reply {
    /// None is wanted.
    None,
    /// It failed.
    Error(Errno),
    /// Bytes to be put behind the header.
    Bytes(Vec<u8>),
    /// So many bytes are there already.
    InPlace(usize),
}

impl Reply {
    /// Done, and nothing to tell.
    pub fn empty(_: ()) -> Self {
        Self::Bytes(Vec::new())
    }

    /// These bytes.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }

    /// Writes it, and says how long it is. What does not fit becomes an error.
    pub fn put(self, unique: U64, writable: &GuestBuffer) -> u32 {
        let (len, error) = match self {
            Self::None => return 0,
            Self::Error(errno) => (0, errno.raw_os_error()),
            Self::InPlace(len) => (len, 0),
            Self::Bytes(bytes) => match writable.write_at(HEADER, &bytes) {
                Some(()) => (bytes.len(), 0),
                None => (0, libc::EOVERFLOW),
            },
        };
        // No reply comes near 2^32 bytes: a chain has fewer.
        let len = (HEADER + len) as u32;
        let header = OutHeader { len: len.into(), error: (-error).into(), unique };
        writable.write_obj_at(0, &header).map_or(0, |()| len)
    }
}

/// A value alone.
pub fn payload(value: &(impl IntoBytes + Immutable)) -> Reply {
    Reply::Bytes(value.as_bytes().to_vec())
}

/// A node.
pub fn entry(entry: Entry) -> Reply {
    payload(&entry_out(&entry))
}

pub fn entry_out(entry: &Entry) -> EntryOut {
    EntryOut {
        nodeid: entry.node.into(),
        entry_valid: VALID.into(),
        attr_valid: VALID.into(),
        attr: attributes(&entry.attributes),
        ..FromZeros::new_zeroed()
    }
}

/// What a node is.
pub fn attributes_reply(it: Attributes) -> Reply {
    payload(&AttrOut { attr_valid: VALID.into(), attr: attributes(&it), ..FromZeros::new_zeroed() })
}

pub fn opened(opened: Opened) -> OpenOut {
    OpenOut { fh: opened.handle.into(), open_flags: opened.flags.into(), backing_id: 0.into() }
}

/// A node that is open as well.
pub fn created(entry: Entry, file: Opened) -> Reply {
    let mut bytes = entry_out(&entry).as_bytes().to_vec();
    bytes.extend_from_slice(opened(file).as_bytes());
    Reply::Bytes(bytes)
}

fn attributes(it: &Attributes) -> AttrWire {
    AttrWire {
        ino: it.ino.into(),
        size: it.size.into(),
        blocks: it.blocks.into(),
        atime: (it.atime.seconds as u64).into(),
        mtime: (it.mtime.seconds as u64).into(),
        ctime: (it.ctime.seconds as u64).into(),
        atimensec: it.atime.nanoseconds.into(),
        mtimensec: it.mtime.nanoseconds.into(),
        ctimensec: it.ctime.nanoseconds.into(),
        mode: it.mode.into(),
        nlink: it.nlink.into(),
        uid: it.uid.into(),
        gid: it.gid.into(),
        rdev: it.rdev.into(),
        blksize: it.blksize.into(),
        flags: 0.into(),
    }
}

pub fn statistics(it: &Statistics) -> StatfsOut {
    StatfsOut {
        blocks: it.blocks.into(),
        bfree: it.bfree.into(),
        bavail: it.bavail.into(),
        files: it.files.into(),
        ffree: it.ffree.into(),
        bsize: it.bsize.into(),
        namelen: it.namelen.into(),
        frsize: it.frsize.into(),
        ..FromZeros::new_zeroed()
    }
}
