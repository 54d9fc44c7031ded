//! What is done to the host's side of guest memory: files read into it, and its pages' size.

use std::{fs::File, io, os::fd::AsRawFd};

use vm_memory::{GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress, mmap::MmapRegionError};

use crate::addr::GuestPhysAddr;

/// Reads `len` bytes of `file` from `offset` on straight into guest memory at `gpa`; with `len`
/// that lies inside `region`.
pub fn read_file(
    region: &GuestRegionMmap,
    gpa: GuestPhysAddr,
    file: &File,
    offset: u64,
    len: u64,
) -> io::Result<()> {
    let start = gpa.0 - region.start_addr().0;
    let mut done = 0;
    while done < len {
        let host = region
            .get_host_address(MemoryRegionAddress(start + done))
            .map_err(|error| io::Error::other(error.to_string()))?;
        let left = usize::try_from(len - done).map_err(io::Error::other)?;
        let at = offset.checked_add(done).ok_or(io::ErrorKind::InvalidInput)?;
        let at = libc::off_t::try_from(at).map_err(io::Error::other)?;
        // SAFETY: the caller checked that `start..start + len` lies inside `region`, so `left`
        // bytes from `host` on are the region's own. Nobody holds references into guest memory,
        // only copies.
        let read = unsafe { libc::pread(file.as_raw_fd(), host.cast(), left, at) };
        match u64::try_from(read) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => done += bytes,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// Asks the host for huge pages behind all of `region`.
pub fn advise_huge_pages(region: &GuestRegionMmap) -> io::Result<()> {
    let mapping = region.get_mmap();
    // SAFETY: the range is the mapping itself, and the advice changes no contents.
    let result =
        unsafe { libc::madvise(mapping.as_ptr().cast(), mapping.size(), libc::MADV_HUGEPAGE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Why a mapping could not be made.
pub fn io_error(error: MmapRegionError) -> io::Error {
    match error {
        MmapRegionError::Mmap(source) => source,
        other => io::Error::other(other.to_string()),
    }
}
