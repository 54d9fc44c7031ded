//! Messages of the FUSE protocol, as Linux has them (`include/uapi/linux/fuse.h`, version 7.38), and
//! as virtio carries them (virtio 1.2, 5.11.6): little-endian on every machine of ours.

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{I32, U16, U32, U64},
};

/// The protocol's version; the driver's minor one may be lower, but not below `OLDEST_MINOR`.
pub const MAJOR: u32 = 7;
pub const MINOR: u32 = 38;
/// The first that virtio carried.
pub const OLDEST_MINOR: u32 = 31;

/// The share's own directory.
pub const ROOT: u64 = 1;

/// Bytes of a name in a directory, at most.
pub const NAME_MAX: usize = 255;

/// What a request asks for.
pub mod opcode {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const SYMLINK: u32 = 6;
    pub const MKNOD: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RMDIR: u32 = 11;
    pub const RENAME: u32 = 12;
    pub const LINK: u32 = 13;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const INIT: u32 = 26;
    pub const OPENDIR: u32 = 27;
    pub const READDIR: u32 = 28;
    pub const RELEASEDIR: u32 = 29;
    pub const FSYNCDIR: u32 = 30;
    pub const CREATE: u32 = 35;
    pub const INTERRUPT: u32 = 36;
    pub const DESTROY: u32 = 38;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const READDIRPLUS: u32 = 44;
    pub const RENAME2: u32 = 45;
    pub const LSEEK: u32 = 46;
    pub const COPY_FILE_RANGE: u32 = 47;
    pub const SYNCFS: u32 = 50;
}

/// What both sides can do (`FUSE_INIT`).
pub mod feature {
    pub const ASYNC_READ: u32 = 1 << 0;
    pub const ATOMIC_O_TRUNC: u32 = 1 << 3;
    pub const BIG_WRITES: u32 = 1 << 5;
    pub const AUTO_INVAL_DATA: u32 = 1 << 12;
    pub const DO_READDIRPLUS: u32 = 1 << 13;
    pub const READDIRPLUS_AUTO: u32 = 1 << 14;
    pub const ASYNC_DIO: u32 = 1 << 15;
    pub const PARALLEL_DIROPS: u32 = 1 << 18;
    pub const MAX_PAGES: u32 = 1 << 22;
}

/// What of a `SetattrIn` counts.
pub mod setattr {
    pub const MODE: u32 = 1 << 0;
    pub const UID: u32 = 1 << 1;
    pub const GID: u32 = 1 << 2;
    pub const SIZE: u32 = 1 << 3;
    pub const ATIME: u32 = 1 << 4;
    pub const MTIME: u32 = 1 << 5;
    pub const FH: u32 = 1 << 6;
    pub const ATIME_NOW: u32 = 1 << 7;
    pub const MTIME_NOW: u32 = 1 << 8;
}

/// `GetattrIn`: the file handle counts.
pub const GETATTR_FH: u32 = 1 << 0;
/// `FsyncIn`: the data, and no more of the metadata than it needs.
pub const FSYNC_FDATASYNC: u32 = 1 << 0;
/// `OpenOut`: the pages that the driver has of the file are still good.
pub const FOPEN_KEEP_CACHE: u32 = 1 << 1;

/// `OpenOut`: reads and writes pass the driver's cache by.
pub const FOPEN_DIRECT_IO: u32 = 1 << 0;
/// `OpenOut`: a stream, with no place in it.
pub const FOPEN_STREAM: u32 = 1 << 4;

/// Declares messages: plain bytes of fixed layout.
macro_rules! messages {
    ($($(#[$about:meta])* $name:ident { $($field:ident: $kind:ty),* $(,)? })*) => { $(
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[repr(C)]
        pub struct $name { $(pub $field: $kind),* }
    )* };
}

messages! {
    /// What every request begins with.
    InHeader {
        len: U32, opcode: U32, unique: U64, nodeid: U64, uid: U32, gid: U32, pid: U32,
        total_extlen: U16, padding: U16,
    }
    /// What every reply begins with.
    OutHeader { len: U32, error: I32, unique: U64 }
    InitIn { major: U32, minor: U32, max_readahead: U32, flags: U32 }
    InitOut {
        major: U32, minor: U32, max_readahead: U32, flags: U32, max_background: U16,
        congestion_threshold: U16, max_write: U32, time_gran: U32, max_pages: U16,
        map_alignment: U16, flags2: U32, unused: [U32; 7],
    }
    AttrWire {
        ino: U64, size: U64, blocks: U64, atime: U64, mtime: U64, ctime: U64, atimensec: U32,
        mtimensec: U32, ctimensec: U32, mode: U32, nlink: U32, uid: U32, gid: U32, rdev: U32,
        blksize: U32, flags: U32,
    }
    EntryOut {
        nodeid: U64, generation: U64, entry_valid: U64, attr_valid: U64, entry_valid_nsec: U32,
        attr_valid_nsec: U32, attr: AttrWire,
    }
    AttrOut { attr_valid: U64, attr_valid_nsec: U32, dummy: U32, attr: AttrWire }
    GetattrIn { flags: U32, dummy: U32, fh: U64 }
    SetattrIn {
        valid: U32, padding: U32, fh: U64, size: U64, lock_owner: U64, atime: U64, mtime: U64,
        ctime: U64, atimensec: U32, mtimensec: U32, ctimensec: U32, mode: U32, unused4: U32,
        uid: U32, gid: U32, unused5: U32,
    }
    MknodIn { mode: U32, rdev: U32, umask: U32, padding: U32 }
    MkdirIn { mode: U32, umask: U32 }
    RenameIn { newdir: U64 }
    Rename2In { newdir: U64, flags: U32, padding: U32 }
    LinkIn { oldnodeid: U64 }
    OpenIn { flags: U32, open_flags: U32 }
    CreateIn { flags: U32, mode: U32, umask: U32, open_flags: U32 }
    OpenOut { fh: U64, open_flags: U32, backing_id: I32 }
    ReleaseIn { fh: U64, flags: U32, release_flags: U32, lock_owner: U64 }
    /// Also of `READDIR` and `READDIRPLUS`.
    ReadIn {
        fh: U64, offset: U64, size: U32, read_flags: U32, lock_owner: U64, flags: U32,
        padding: U32,
    }
    WriteIn {
        fh: U64, offset: U64, size: U32, write_flags: U32, lock_owner: U64, flags: U32,
        padding: U32,
    }
    WriteOut { size: U32, padding: U32 }
    StatfsOut {
        blocks: U64, bfree: U64, bavail: U64, files: U64, ffree: U64, bsize: U32, namelen: U32,
        frsize: U32, padding: U32, spare: [U32; 6],
    }
    FsyncIn { fh: U64, fsync_flags: U32, padding: U32 }
    ForgetIn { nlookup: U64 }
    BatchForgetIn { count: U32, dummy: U32 }
    ForgetOne { nodeid: U64, nlookup: U64 }
    FallocateIn { fh: U64, offset: U64, length: U64, mode: U32, padding: U32 }
    LseekIn { fh: U64, offset: U64, whence: U32, padding: U32 }
    LseekOut { offset: U64 }
    CopyFileRangeIn {
        fh_in: U64, off_in: U64, nodeid_out: U64, fh_out: U64, off_out: U64, len: U64, flags: U64,
    }
    /// Before the name of an entry in a directory's listing.
    DirentWire { ino: U64, off: U64, namelen: U32, kind: U32 }
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;

    #[test]
    fn messages_are_as_long_as_linux_has_them() {
        assert_eq!(size_of::<InHeader>(), 40);
        assert_eq!(size_of::<OutHeader>(), 16);
        assert_eq!(size_of::<InitOut>(), 64);
        assert_eq!(size_of::<AttrWire>(), 88);
        assert_eq!(size_of::<EntryOut>(), 128);
        assert_eq!(size_of::<AttrOut>(), 104);
        assert_eq!(size_of::<SetattrIn>(), 88);
        assert_eq!(size_of::<OpenOut>(), 16);
        assert_eq!(size_of::<ReadIn>(), 40);
        assert_eq!(size_of::<WriteIn>(), 40);
        assert_eq!(size_of::<StatfsOut>(), 80);
        assert_eq!(size_of::<CopyFileRangeIn>(), 56);
        assert_eq!(size_of::<DirentWire>(), 24);
    }
}
