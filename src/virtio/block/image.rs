//! Disk images: what a disk's bytes are kept in.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::BorrowedFd,
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::libc;
use serde::Serialize;

use crate::{addrspace::GuestBuffer, virtio::file_lock};

/// The unit of virtio's disks, in bytes (virtio 1.2, 5.2).
pub const SECTOR: u64 = 512;

/// How a file keeps a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// The disk's bytes, as they are.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        })
    }
}

impl ImageFormat {
    /// What a file plainly is without being looked into: its contents are the guest's, which could
    /// have them say anything. Block devices are raw, and what is named so.
    pub fn of(path: &Path) -> Option<Self> {
        let extension = path.extension().and_then(|it| it.to_str()).unwrap_or("");
        let is_raw = ["raw", "img", "iso"].iter().any(|raw| extension.eq_ignore_ascii_case(raw));
        let is_device = || fs::metadata(path).is_ok_and(|it| it.file_type().is_block_device());
        (is_raw || is_device()).then_some(Self::Raw)
    }
}

/// What a qcow2 image may take from other files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backing {
    /// Nothing: an image that wants another file is refused.
    #[default]
    None,
    /// What it lacks comes from the files that it names, and those name.
    AsNamed,
    /// What it lacks comes from this file.
    At(PathBuf, ImageFormat),
}

/// Why a disk cannot be had.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what each is")]
pub enum ImageError {
    #[error("{}: {source}{}", path.display(), hint(source, *readonly))]
    Open { path: PathBuf, readonly: bool, source: io::Error },
    #[error("{} is {kind}, neither a file nor a block device", path.display())]
    NoDisk { path: PathBuf, kind: &'static str },
    #[error("{} is empty: a disk has at least one sector of 512 bytes", path.display())]
    Empty { path: PathBuf },
    #[error(
        "{} has {size} bytes, which is no multiple of 512; if it is a raw image, `truncate -s %512` \
         makes it one", path.display()
    )]
    OddSize { path: PathBuf, size: u64 },
    #[error(
        "{} is in use by another program, or by another disk of this one{}", path.display(),
        if *readonly { ", which writes to it" } else { "; two writers would destroy it" }
    )]
    InUse { path: PathBuf, readonly: bool },
    #[error("{} cannot be had without the host's page cache (direct = true): {source}", path.display())]
    NotDirect { path: PathBuf, source: io::Error },
    #[error("{} cannot be used as a qcow2 image: {source}", path.display())]
    Qcow2 { path: PathBuf, source: io::Error },
    #[error(
        "{} wants the file {backing:?} for what it lacks; if it may have that, say backing = true, or \
         backing = the path of another", path.display()
    )]
    Backing { path: PathBuf, backing: String },
    #[error(
        "{} does not say of what format the file is that backs it{}; say backing = its path, and \
         backing_format", path.display(),
        named.as_ref().map_or(String::new(), |named| format!(", or what none of ours is: {named:?}"))
    )]
    BackingFormat { path: PathBuf, named: Option<String> },
    #[error("{} keeps its data in another file, which is not supported", path.display())]
    DataFile { path: PathBuf },
}

impl ImageError {
    /// The host lacks something, whatever the image is.
    pub fn is_of_host(&self) -> bool {
        let (Self::Open { source, .. } | Self::Qcow2 { source, .. }) = self else { return false };
        matches!(source.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
    }
}

fn hint(source: &io::Error, readonly: bool) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EACCES | libc::EPERM | libc::EROFS) if !readonly => {
            "; a disk that the guest only reads has readonly = true"
        }
        _ => "",
    }
}

/// A disk's bytes. Any thread may call; a call returns when it is done.
///
/// Offsets and lengths are in bytes, lie inside of [`Self::size`] and are multiples of 512.
pub trait Image: Send + Sync {
    /// How many bytes the disk has.
    fn size(&self) -> u64;

    /// The smallest unit that can be read or written, in bytes: 512 or a power of two above it.
    fn block_size(&self) -> u32 {
        SECTOR as u32
    }

    /// The unit in which its storage works, in bytes: what is smaller costs more.
    fn physical_block_size(&self) -> u32 {
        4096
    }

    /// The file that has the disk's bytes as they are, if that is so: reads, writes and syncs may go
    /// there as well.
    fn file(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Fills `to`.
    ///
    /// # Errors
    /// The host's. Some of the buffer may be filled.
    fn read(&self, offset: u64, to: GuestBuffer) -> io::Result<()>;

    /// Writes all of `from`.
    ///
    /// # Errors
    /// The host's. Some of it may be written.
    fn write(&self, offset: u64, from: GuestBuffer) -> io::Result<()>;

    /// What is written so far is on disk when this returns.
    ///
    /// # Errors
    /// The host's. What is on disk is not known then.
    fn flush(&self) -> io::Result<()>;

    /// The guest does not need these bytes any more; they may have any value afterwards.
    ///
    /// # Errors
    /// The host's.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()>;

    /// These bytes are 0 afterwards. Without `unmap` their room is kept.
    ///
    /// # Errors
    /// The host's.
    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()>;
}

/// Opens a file or a block device, and locks it: against writers if it is read, against all if it is
/// written.
pub fn open_file(path: &Path, readonly: bool, direct: bool) -> Result<File, ImageError> {
    let failed = |source| ImageError::Open { path: path.to_owned(), readonly, source };
    // Before it is opened: that would wait for the other end of a pipe.
    let kind = fs::metadata(path).map_err(failed)?.file_type();
    let no_disk = |kind| ImageError::NoDisk { path: path.to_owned(), kind };
    match () {
        () if kind.is_file() || kind.is_block_device() => {}
        () if kind.is_dir() => return Err(no_disk("a directory")),
        () if kind.is_fifo() => return Err(no_disk("a pipe")),
        () if kind.is_socket() => return Err(no_disk("a socket")),
        () => return Err(no_disk("a device of characters")),
    }
    let flags = libc::O_NONBLOCK | if direct { libc::O_DIRECT } else { 0 };
    let opened = OpenOptions::new().read(true).write(!readonly).custom_flags(flags).open(path);
    let file = opened.map_err(|source| match source.raw_os_error() {
        Some(libc::EINVAL) if direct => ImageError::NotDirect { path: path.to_owned(), source },
        _ => failed(source),
    })?;
    match file_lock::lock(&file, path, readonly) {
        true => Ok(file),
        false => Err(ImageError::InUse { path: path.to_owned(), readonly }),
    }
}
