//! Bytes in guest memory, scattered: what a device works on.

use std::{
    fmt, io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use libc::iovec;
use smallvec::SmallVec;
use vm_memory::{GuestMemory, Permissions};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{DeviceMemory, Map};
use crate::addr::GuestPhysAddr;

/// As many pieces of a buffer as cost no allocation.
type Pieces = SmallVec<[iovec; 4]>;

/// The most pieces that one system call takes (`UIO_MAXIOV`).
const MOST_PIECES: usize = 1024;

/// A buffer that is put together of ranges of guest memory.
pub struct BufferBuilder {
    memory: DeviceMemory,
    pieces: Pieces,
    len: usize,
}

impl BufferBuilder {
    pub(super) fn new(memory: DeviceMemory) -> Self {
        Self { memory, pieces: Pieces::new(), len: 0 }
    }

    /// Adds `len` bytes at `gpa`; `None`: not all of them lie in memory that devices may reach, and
    /// none has been added.
    pub fn push(&mut self, gpa: GuestPhysAddr, len: u32) -> Option<()> {
        let (before, len) = (self.pieces.len(), len as usize);
        let slices = self.memory.get_slices(gpa.into(), len, Permissions::ReadWrite).ok()?;
        for slice in slices {
            let Ok(slice) = slice else {
                self.pieces.truncate(before);
                return None;
            };
            // The guard is a plain pointer, as this is no memory of another VM's (Xen).
            let iov_base = slice.ptr_guard_mut().as_ptr().cast();
            self.pieces.push(iovec { iov_base, iov_len: slice.len() });
        }
        self.len = self.len.checked_add(len)?;
        Some(())
    }

    /// All that has been added.
    pub fn build(self) -> GuestBuffer {
        GuestBuffer { memory: self.memory, pieces: self.pieces, len: self.len }
    }
}

/// Bytes in guest memory, in order but not in one place. They stay mapped as long as this lives, and
/// the guest may change them at any time: what matters is to be read once.
pub struct GuestBuffer {
    memory: DeviceMemory,
    pieces: Pieces,
    len: usize,
}

// SAFETY: the pointers lead into mappings that `memory` keeps, for any thread; nothing but raw copies
// and system calls goes through them.
unsafe impl Send for GuestBuffer {}

impl GuestBuffer {
    /// How many bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads bytes at `offset`; `None`: not all of them lie in the buffer.
    pub fn read_at(&self, offset: usize, bytes: &mut [u8]) -> Option<()> {
        self.each_part(offset, bytes.len(), |at, part| {
            let to = &mut bytes[at..at + part.iov_len];
            // SAFETY: `part` is mapped, as all of this buffer is; `to` is as long, and not guest
            // memory, to which no reference exists.
            unsafe {
                ptr::copy_nonoverlapping(part.iov_base.cast::<u8>(), to.as_mut_ptr(), to.len());
            }
        })
    }

    /// Writes bytes at `offset`; `None`: not all of them fit into the buffer, and none is written.
    pub fn write_at(&self, offset: usize, bytes: &[u8]) -> Option<()> {
        self.each_part(offset, bytes.len(), |at, part| {
            let from = &bytes[at..at + part.iov_len];
            // SAFETY: as in `read_at`, the other way round.
            unsafe {
                ptr::copy_nonoverlapping(from.as_ptr(), part.iov_base.cast::<u8>(), from.len());
            }
        })
    }

    /// Sets `len` bytes at `offset` to 0; `None`: not all of them lie in the buffer, and none is set.
    pub fn zero_at(&self, offset: usize, len: usize) -> Option<()> {
        self.each_part(offset, len, |_, part| {
            // SAFETY: `part` is mapped, as all of this buffer is, and no reference to it exists.
            unsafe { ptr::write_bytes(part.iov_base.cast::<u8>(), 0, part.iov_len) }
        })
    }

    /// Reads a value at `offset`.
    pub fn read_obj_at<T: FromBytes + IntoBytes>(&self, offset: usize) -> Option<T> {
        let mut value = T::new_zeroed();
        self.read_at(offset, value.as_mut_bytes())?;
        Some(value)
    }

    /// Writes a value at `offset`.
    pub fn write_obj_at<T: IntoBytes + Immutable>(&self, offset: usize, value: &T) -> Option<()> {
        self.write_at(offset, value.as_bytes())
    }

    /// The first `at` bytes, and the rest; `None`: it has fewer.
    pub fn split_at(mut self, at: usize) -> Option<(Self, Self)> {
        let mut rest = Pieces::new();
        let mut first = Pieces::new();
        let len = self.len.checked_sub(at)?;
        let mut left = at;
        for piece in self.pieces.drain(..) {
            let here = piece.iov_len.min(left);
            left -= here;
            if here > 0 {
                first.push(iovec { iov_len: here, ..piece });
            }
            if here < piece.iov_len {
                rest.push(behind(piece, here));
            }
        }
        let memory = self.memory.clone();
        Some((Self { pieces: first, len: at, ..self }, Self { memory, pieces: rest, len }))
    }

    /// A part of it, which keeps the memory mapped as well; `None`: not all of that lies inside.
    pub fn part(&self, offset: usize, len: usize) -> Option<Self> {
        let mut pieces = Pieces::new();
        self.each_part(offset, len, |_, piece| pieces.push(piece))?;
        Some(Self { memory: self.memory.clone(), pieces, len })
    }

    /// Its pieces, for system calls that take such a list; they are valid as long as this lives.
    pub fn iovecs(&self) -> &[iovec] {
        &self.pieces
    }

    /// Fills it from a file, at `offset` or where the file stands, and says with how many bytes: one
    /// system call, which may read less.
    pub fn read_from(&self, fd: BorrowedFd<'_>, offset: Option<u64>) -> io::Result<usize> {
        let (pieces, count, fd) = self.vector(fd);
        // SAFETY: each of the pieces is mapped and may be written, and no reference to it exists.
        let done = unsafe {
            match offset {
                Some(offset) => libc::preadv64(fd, pieces, count, file_offset(offset)?),
                None => libc::readv(fd, pieces, count),
            }
        };
        usize::try_from(done).map_err(|_| io::Error::last_os_error())
    }

    /// Writes it to a file, at `offset` or where the file stands, and says how many bytes: one
    /// system call, which may write less.
    pub fn write_to(&self, fd: BorrowedFd<'_>, offset: Option<u64>) -> io::Result<usize> {
        let (pieces, count, fd) = self.vector(fd);
        // SAFETY: each of the pieces is mapped and may be read.
        let done = unsafe {
            match offset {
                Some(offset) => libc::pwritev64(fd, pieces, count, file_offset(offset)?),
                None => libc::writev(fd, pieces, count),
            }
        };
        usize::try_from(done).map_err(|_| io::Error::last_os_error())
    }

    pub(super) fn map(&self) -> &Map {
        self.memory.map()
    }

    /// Fills buffers one after the other from a file, and then `rest` with what does not fit into
    /// them; says how many bytes there were. One system call, which may read less.
    ///
    /// # Errors
    /// More pieces than one system call takes; what the call says.
    pub fn read_all_from<'a>(
        buffers: impl IntoIterator<Item = &'a Self>,
        rest: &mut [u8],
        fd: BorrowedFd<'_>,
    ) -> io::Result<usize> {
        let mut pieces: SmallVec<[iovec; 64]> = SmallVec::new();
        buffers.into_iter().for_each(|buffer| pieces.extend_from_slice(&buffer.pieces));
        pieces.push(iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: rest.len() });
        if pieces.len() > MOST_PIECES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: each of the pieces is mapped and may be written; but for the last, which is
        // borrowed for writing, no reference to it exists.
        let done = unsafe { libc::readv(fd.as_raw_fd(), pieces.as_ptr(), pieces.len() as i32) };
        usize::try_from(done).map_err(|_| io::Error::last_os_error())
    }

    /// Writes `before` to a file, and then what begins at `offset` of this: one system call, which
    /// may write less.
    ///
    /// # Errors
    /// More pieces than one system call takes, an offset outside; what the call says.
    pub fn write_behind(
        &self,
        before: &[u8],
        offset: usize,
        fd: BorrowedFd<'_>,
    ) -> io::Result<usize> {
        let base = before.as_ptr().cast_mut().cast();
        let mut pieces: Pieces = SmallVec::new();
        pieces.push(iovec { iov_base: base, iov_len: before.len() });
        let len = self.len.checked_sub(offset).ok_or(io::ErrorKind::InvalidInput)?;
        self.each_part(offset, len, |_, part| pieces.push(part))
            .ok_or(io::ErrorKind::InvalidInput)?;
        if pieces.len() > MOST_PIECES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: each of the pieces is mapped and may be read.
        let done = unsafe { libc::writev(fd.as_raw_fd(), pieces.as_ptr(), pieces.len() as i32) };
        usize::try_from(done).map_err(|_| io::Error::last_os_error())
    }

    fn vector(&self, fd: BorrowedFd<'_>) -> (*const iovec, i32, i32) {
        let count = self.pieces.len().min(MOST_PIECES);
        (self.pieces.as_ptr(), count as i32, fd.as_raw_fd())
    }

    /// Does something to each piece of a range, and where in the range that begins; to none if the
    /// range is not inside.
    fn each_part(
        &self,
        offset: usize,
        len: usize,
        mut act: impl FnMut(usize, iovec),
    ) -> Option<()> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        let (mut skip, mut done) = (offset, 0);
        for piece in &self.pieces {
            let skipped = skip.min(piece.iov_len);
            skip -= skipped;
            let part = behind(*piece, skipped);
            let part = iovec { iov_len: part.iov_len.min(len - done), ..part };
            if part.iov_len > 0 {
                act(done, part);
                done += part.iov_len;
            }
            if done == len {
                break;
            }
        }
        Some(())
    }
}

/// What is left of a piece behind its first `by` bytes, which it has.
fn behind(piece: iovec, by: usize) -> iovec {
    iovec {
        iov_base: piece.iov_base.cast::<u8>().wrapping_add(by).cast(),
        iov_len: piece.iov_len - by,
    }
}

fn file_offset(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl fmt::Debug for GuestBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestBuffer({} bytes in {} pieces)", self.len, self.pieces.len())
    }
}

#[cfg(test)]
mod tests;
