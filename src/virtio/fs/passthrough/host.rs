//! The system calls: on files that are known (`O_PATH`) but not opened.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{
        self, AtFlags, CWD, FileType, Gid, Mode, OFlags, Statx, StatxFlags, Timespec, Timestamps,
        UTIME_NOW, UTIME_OMIT, Uid,
    },
    process::{self, Resource, Rlimit},
};

use crate::virtio::fs::filesystem::{
    Attributes, Changes, Name, New, NewTime, Result, Statistics, Time,
};

/// What of a mode is no file's kind.
const PERMISSIONS: u32 = 0o7777;

/// Whose files are whose, on the two sides.
#[derive(Clone, Copy, Debug)]
pub struct Owners {
    /// Who may give files away.
    pub is_root: bool,
    pub uid: u32,
    pub gid: u32,
}

impl Owners {
    fn ours() -> Self {
        let (uid, gid) = (process::geteuid().as_raw(), process::getegid().as_raw());
        Self { is_root: uid == 0, uid, gid }
    }

    /// What the guest sees for the host's owners.
    pub fn seen(&self, uid: u32, gid: u32) -> (u32, u32) {
        let (own_uid, own_gid) =
            (!self.is_root && uid == self.uid, !self.is_root && gid == self.gid);
        (if own_uid { 0 } else { uid }, if own_gid { 0 } else { gid })
    }

    fn uid(&self, seen: u32) -> Uid {
        Uid::from_raw(if !self.is_root && seen == 0 { self.uid } else { seen })
    }

    fn gid(&self, seen: u32) -> Gid {
        Gid::from_raw(if !self.is_root && seen == 0 { self.gid } else { seen })
    }
}

/// What the system calls need beside the file.
pub struct Host {
    /// `/proc/self/fd`, where a known file can be opened without its name.
    opened: OwnedFd,
    pub owners: Owners,
}

impl Host {
    pub fn new() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = fs::openat(CWD, c"/proc/self/fd", flags, Mode::empty())?;
        Ok(Self { opened, owners: Owners::ours() })
    }

    /// Opens a known file, of which the caller knows that it is no device.
    pub fn reopen(&self, file: impl AsFd, flags: OFlags) -> Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        fs::openat(&self.opened, number(file), flags, Mode::empty())
    }

    /// Changes what is neither size nor time.
    pub fn change(&self, file: impl AsFd, changes: &Changes) -> Result {
        let uid = changes.uid.map(|uid| self.owners.uid(uid));
        let gid = changes.gid.map(|gid| self.owners.gid(gid));
        // First, as it may take bits of the mode away.
        if uid.is_some() || gid.is_some() {
            fs::chownat(file.as_fd(), c"", uid, gid, AtFlags::EMPTY_PATH)?;
        }
        match changes.mode {
            Some(new) => fs::chmodat(&self.opened, number(file), mode(new), AtFlags::empty()),
            None => Ok(()),
        }
    }

    pub fn set_times(&self, file: impl AsFd, changes: &Changes) -> Result {
        if changes.atime.is_none() && changes.mtime.is_none() {
            return Ok(());
        }
        let times = Timestamps {
            last_access: timespec(changes.atime),
            last_modification: timespec(changes.mtime),
        };
        // Through the link to it, as there is no such call for a file that is only known.
        fs::utimensat(&self.opened, number(file), &times, AtFlags::empty())
    }

    /// Another name for a file.
    pub fn link(&self, file: impl AsFd, dir: impl AsFd, name: Name<'_>) -> Result {
        let flags = AtFlags::SYMLINK_FOLLOW;
        fs::linkat(&self.opened, number(file), dir, name.as_c_str(), flags)
    }

    /// Gives a new file in `dir` to whom the guest says, if we may.
    pub fn give(&self, file: impl AsFd, dir: BorrowedFd<'_>, new: &New) -> Result {
        if !self.owners.is_root {
            return Ok(());
        }
        let inherits = stat(dir)?.stx_mode as u32 & libc::S_ISGID != 0;
        let gid = (!inherits).then(|| Gid::from_raw(new.caller.gid));
        let uid = Some(Uid::from_raw(new.caller.uid));
        fs::chownat(file.as_fd(), c"", uid, gid, AtFlags::EMPTY_PATH)?;
        // A change of owners takes these away.
        if new.mode & (libc::S_ISUID | libc::S_ISGID) != 0 {
            return fs::chmodat(&self.opened, number(file), mode(new.mode), AtFlags::empty());
        }
        Ok(())
    }
}

fn number(file: impl AsFd) -> String {
    file.as_fd().as_raw_fd().to_string()
}

/// What a share shows as its own.
pub fn open_root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // Opened and not only known, so that a directory that cannot be read is told at the start.
    Ok(fs::openat(CWD, path, flags, Mode::empty())?)
}

/// The entry of this name: known, not opened, and not followed.
pub fn look(dir: impl AsFd, name: Name<'_>) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(dir, name.as_c_str(), flags, Mode::empty())
}

pub fn stat(file: impl AsFd) -> Result<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    fs::statx(file, c"", flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
}

/// Which kind of file it is (`S_IFREG` …).
pub fn kind(stat: &Statx) -> u32 {
    u32::from(stat.stx_mode) & libc::S_IFMT
}

pub fn device(stat: &Statx) -> (u32, u32) {
    (stat.stx_dev_major, stat.stx_dev_minor)
}

/// What the guest sees; `device`: the one of the share's own directory.
pub fn attributes(stat: &Statx, owners: &Owners, own_device: (u32, u32)) -> Attributes {
    let time = |time: &fs::StatxTimestamp| Time { seconds: time.tv_sec, nanoseconds: time.tv_nsec };
    let (uid, gid) = owners.seen(stat.stx_uid, stat.stx_gid);
    // The guest knows one device only, so other file systems below the directory get numbers of
    // their own.
    let (major, minor) = device(stat);
    let elsewhere = (device(stat) != own_device).then(|| u64::from(major << 20 ^ minor) << 40);
    Attributes {
        ino: stat.stx_ino ^ elsewhere.unwrap_or(0),
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        atime: time(&stat.stx_atime),
        mtime: time(&stat.stx_mtime),
        ctime: time(&stat.stx_ctime),
        mode: u32::from(stat.stx_mode),
        nlink: stat.stx_nlink,
        uid,
        gid,
        rdev: encode_device(stat.stx_rdev_major, stat.stx_rdev_minor),
        blksize: stat.stx_blksize,
    }
}

/// What a name in a directory of our own is.
pub fn attributes_at(dir: impl AsFd, name: &str) -> Result<Attributes> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let stat = fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)?;
    Ok(attributes(&stat, &Owners::ours(), device(&stat)))
}

/// A device's number, as Linux's `new_encode_dev` puts it.
fn encode_device(major: u32, minor: u32) -> u32 {
    minor & 0xff | (major & 0xfff) << 8 | (minor & !0xff) << 12
}

pub fn statistics(file: impl AsFd) -> Result<Statistics> {
    let it = fs::fstatvfs(file)?;
    Ok(Statistics {
        blocks: it.f_blocks,
        bfree: it.f_bfree,
        bavail: it.f_bavail,
        files: it.f_files,
        ffree: it.f_ffree,
        bsize: it.f_bsize as u32,
        namelen: it.f_namemax as u32,
        frsize: it.f_frsize as u32,
    })
}

/// What a listing says of an entry's kind.
pub fn listed_kind(kind: FileType) -> u32 {
    let kind = match kind {
        FileType::RegularFile => libc::DT_REG,
        FileType::Directory => libc::DT_DIR,
        FileType::Symlink => libc::DT_LNK,
        FileType::Fifo => libc::DT_FIFO,
        FileType::Socket => libc::DT_SOCK,
        FileType::CharacterDevice => libc::DT_CHR,
        FileType::BlockDevice => libc::DT_BLK,
        _ => libc::DT_UNKNOWN,
    };
    u32::from(kind)
}

pub fn mode(bits: u32) -> Mode {
    Mode::from_bits_retain(bits & PERMISSIONS)
}

fn timespec(time: Option<NewTime>) -> Timespec {
    let (tv_sec, tv_nsec) = match time {
        None => (0, UTIME_OMIT),
        Some(NewTime::Now) => (0, UTIME_NOW),
        Some(NewTime::At(time)) => (time.seconds, time.nanoseconds.into()),
    };
    Timespec { tv_sec, tv_nsec }
}

/// How many files a share may know without opening them, and how many it may have open; the limit of
/// the process is raised as far as it may be.
pub fn file_budget() -> usize {
    const WANTED: u64 = 1 << 20;
    let Rlimit { current, maximum } = process::getrlimit(Resource::Nofile);
    let highest = maximum.unwrap_or(WANTED).min(WANTED);
    let raised = Rlimit { current: Some(highest), maximum };
    let now = match current {
        Some(now) if now < highest => {
            process::setrlimit(Resource::Nofile, raised).map_or(now, |()| highest)
        }
        now => now.unwrap_or(WANTED),
    };
    (now / 8).clamp(64, 16384) as usize
}
