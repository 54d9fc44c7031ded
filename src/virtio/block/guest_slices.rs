//! A guest's buffer for a library that wants slices.

use std::{
    io::{IoSlice, IoSliceMut},
    slice,
};

use libc::iovec;

use crate::addrspace::GuestBuffer;

/// The buffer to be filled. It is taken, so that nothing else of ours reaches its memory meanwhile.
pub fn with_slices_mut<R>(buffer: GuestBuffer, act: impl FnOnce(Vec<IoSliceMut<'_>>) -> R) -> R {
    let slice = |piece: &iovec| {
        // SAFETY: the piece is mapped as long as `buffer` lives, which is longer than `act` runs, and
        // no other reference of ours to it exists. The guest may write there as well: what receives
        // these slices hands them to system calls or fills them, and relies on no byte in them.
        unsafe { slice::from_raw_parts_mut(piece.iov_base.cast::<u8>(), piece.iov_len) }
    };
    act(buffer.iovecs().iter().map(slice).map(IoSliceMut::new).collect())
}

/// The buffer to be read.
pub fn with_slices<R>(buffer: &GuestBuffer, act: impl FnOnce(Vec<IoSlice<'_>>) -> R) -> R {
    let slice = |piece: &iovec| {
        // SAFETY: the piece is mapped as long as `buffer` lives. The guest may write there: what
        // receives these slices hands them to system calls or copies them, and relies on no byte
        // being the same twice.
        unsafe { slice::from_raw_parts(piece.iov_base.cast::<u8>(), piece.iov_len) }
    };
    act(buffer.iovecs().iter().map(slice).map(IoSlice::new).collect())
}
