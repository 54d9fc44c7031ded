//! What is done to the host's side of guest memory: files read into it and mapped over it, its pages'
//! size, and pages given back.

use std::{fs::File, io, os::fd::AsRawFd};

use nix::{
    fcntl::{FallocateFlags, fallocate},
    unistd::{SysconfVar, sysconf},
};
use vm_memory::{
    GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress, MmapRegion, mmap::MmapRegionError,
};

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

/// Has the first `len` bytes of `region`, at most all of it, show `file` from its beginning on; what
/// is written there stays in memory.
pub fn map_private_file(region: &MmapRegion, file: &File, len: usize) -> io::Result<()> {
    if len > region.size() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE;
    // SAFETY: the range lies in a mapping of our own, which nobody else knows yet and which goes as a
    // whole; whole pages of it are replaced.
    let mapped =
        unsafe { libc::mmap(region.as_ptr().cast(), len, access, flags, file.as_raw_fd(), 0) };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives pages of `region` back to the host, which read as zeros from then on: `len` bytes from
/// `start` on, which lie inside, cut to whole pages of the host's.
pub fn discard(region: &GuestRegionMmap, start: u64, len: u64) -> io::Result<()> {
    // A host may have larger pages than the guest, and would round the length up.
    let page = host_page_size();
    let first = start.next_multiple_of(page);
    let end = start.saturating_add(len).min(region.len()) / page * page;
    let len = end.saturating_sub(first);
    if len == 0 {
        return Ok(());
    }
    if let Some(file) = region.file_offset() {
        // Dropping a shared page from this mapping only would leave it in the file.
        let at = file.start().checked_add(first).ok_or(io::ErrorKind::InvalidInput)?;
        let at = i64::try_from(at).map_err(io::Error::other)?;
        let len = i64::try_from(len).map_err(io::Error::other)?;
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        return Ok(fallocate(file.file(), hole, at, len)?);
    }
    let host = region
        .get_host_address(MemoryRegionAddress(first))
        .map_err(|error| io::Error::other(error.to_string()))?;
    let len = usize::try_from(len).map_err(io::Error::other)?;
    // SAFETY: the pages are the region's own, which is private memory that only the guest and copies
    // made for it look at; they stay mapped.
    let result = unsafe { libc::madvise(host.cast(), len, libc::MADV_DONTNEED) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// In bytes.
pub fn host_page_size() -> u64 {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(super::PAGE_SIZE)
}

/// Why a mapping could not be made.
pub fn io_error(error: MmapRegionError) -> io::Error {
    match error {
        MmapRegionError::Mmap(source) => source,
        other => io::Error::other(other.to_string()),
    }
}
