//! Raw images and block devices: the disk's bytes are the file's.

use std::{
    fs::{self, File},
    io::{self, Seek, SeekFrom},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileExt, FileTypeExt, MetadataExt},
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    sys::stat::{major, minor},
};

use super::{
    BlockConfig,
    image::{Image, ImageError, SECTOR},
};
use crate::{addrspace::GuestBuffer, virtio::file_lock};

const KEEP_SIZE: FallocateFlags = FallocateFlags::FALLOC_FL_KEEP_SIZE;
const PUNCH_HOLE: FallocateFlags = FallocateFlags::FALLOC_FL_PUNCH_HOLE;
const ZERO_RANGE: FallocateFlags = FallocateFlags::FALLOC_FL_ZERO_RANGE;

/// Zeroes for files that know no better way, where direct I/O can take them.
#[repr(align(4096))]
struct Zeroes([u8; 65536]);

static ZEROES: Zeroes = Zeroes([0; 65536]);

/// A file or a block device.
pub struct RawImage {
    file: File,
    size: u64,
    block_size: u32,
    physical_block_size: u32,
}

impl RawImage {
    /// The disk in `file`, which is open as `config` wants it.
    pub fn new(mut file: File, config: &BlockConfig) -> Result<Self, ImageError> {
        let path = &config.path;
        let failed =
            |source| ImageError::Open { path: path.clone(), readonly: config.readonly, source };
        // Block devices have no length in their metadata.
        let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if size == 0 {
            return Err(ImageError::Empty { path: path.clone() });
        }
        if size % SECTOR != 0 {
            return Err(ImageError::OddSize { path: path.clone(), size });
        }
        let (mut block_size, mut physical_block_size) = (SECTOR as u32, 4096);
        let metadata = file.metadata().map_err(failed)?;
        if metadata.file_type().is_block_device() {
            let limits = DeviceLimits::of(metadata.rdev());
            (block_size, physical_block_size) = (limits.logical, limits.physical);
        } else if config.direct {
            block_size = direct_block_size(&file, path)?;
        }
        if size % u64::from(block_size) != 0 {
            return Err(ImageError::OddSize { path: path.clone(), size });
        }
        Ok(Self { file, size, block_size, physical_block_size })
    }

    /// `true`: done. `false`: this file cannot.
    fn fallocate(&self, mode: FallocateFlags, offset: u64, len: u64) -> io::Result<bool> {
        let signed = |n| i64::try_from(n).map_err(|_| io::ErrorKind::InvalidInput);
        let (offset, len) = (signed(offset)?, signed(len)?);
        loop {
            match fallocate(&self.file, mode | KEEP_SIZE, offset, len) {
                Ok(()) => return Ok(true),
                Err(Errno::EINTR) => {}
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::ENODEV) => return Ok(false),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// What a host's block device says of itself.
struct DeviceLimits {
    logical: u32,
    physical: u32,
}

impl DeviceLimits {
    fn of(device: u64) -> Self {
        let node = format!("/sys/dev/block/{}:{}", major(device), minor(device));
        // A partition has its disk's.
        let read = |name| {
            let own = fs::read_to_string(format!("{node}/queue/{name}"));
            let text =
                own.or_else(|_| fs::read_to_string(format!("{node}/../queue/{name}"))).ok()?;
            text.trim().parse().ok().filter(|size: &u32| size.is_power_of_two() && *size >= 512)
        };
        let logical = read("logical_block_size").unwrap_or(SECTOR as u32);
        Self { logical, physical: read("physical_block_size").unwrap_or(logical).max(logical) }
    }
}

/// The smallest block that can be read past the page cache: this is up to what lies below the file.
fn direct_block_size(file: &File, path: &Path) -> Result<u32, ImageError> {
    let mut room = vec![0_u8; 8192];
    let aligned = room.as_ptr().align_offset(4096);
    let mut refused = io::Error::from(io::ErrorKind::InvalidInput);
    for size in [512, 4096] {
        match file.read_at(&mut room[aligned..aligned + size], 0) {
            Ok(_) => return Ok(size as u32),
            Err(error) => refused = error,
        }
    }
    Err(ImageError::NotDirect { path: path.to_owned(), source: refused })
}

impl Drop for RawImage {
    fn drop(&mut self) {
        // A ring that worked on the file is taken down by the kernel when it has time.
        file_lock::unlock(&self.file);
    }
}

impl Image for RawImage {
    fn size(&self) -> u64 {
        self.size
    }

    fn block_size(&self) -> u32 {
        self.block_size
    }

    fn physical_block_size(&self) -> u32 {
        self.physical_block_size
    }

    fn file(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }

    fn read(&self, offset: u64, to: GuestBuffer) -> io::Result<()> {
        whole(offset, to, |offset, to| match to.read_from(self.file.as_fd(), Some(offset)) {
            Ok(0) => Err(truncated()),
            done => done,
        })
    }

    fn write(&self, offset: u64, from: GuestBuffer) -> io::Result<()> {
        whole(offset, from, |offset, from| match from.write_to(self.file.as_fd(), Some(offset)) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            done => done,
        })
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        // Where it cannot be done, nothing is as good.
        self.fallocate(PUNCH_HOLE, offset, len).map(drop)
    }

    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        // A hole reads as zeroes too; that it gives the room back is the lesser evil compared to
        // zeroes written one by one.
        let ways = if unmap { [PUNCH_HOLE, ZERO_RANGE] } else { [ZERO_RANGE, PUNCH_HOLE] };
        for way in ways {
            if self.fallocate(way, offset, len)? {
                return Ok(());
            }
        }
        let mut done = 0;
        while done < len {
            let piece = (len - done).min(ZEROES.0.len() as u64) as usize;
            self.file.write_all_at(&ZEROES.0[..piece], offset + done)?;
            done += piece as u64;
        }
        Ok(())
    }
}

/// The file is shorter than it was when the disk was made of it.
pub fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the image has become shorter")
}

/// Does `part` until all of the buffer is done: it may do less than is asked for.
fn whole(
    mut offset: u64,
    mut buffer: GuestBuffer,
    mut part: impl FnMut(u64, &GuestBuffer) -> io::Result<usize>,
) -> io::Result<()> {
    while !buffer.is_empty() {
        let done = match part(offset, &buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            done => done?,
        };
        offset += done as u64;
        let Some((_, rest)) = buffer.split_at(done) else { return Ok(()) };
        buffer = rest;
    }
    Ok(())
}
