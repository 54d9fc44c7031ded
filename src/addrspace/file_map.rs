//! Files as guest memory, without copying them.

use std::{fs::File, io, os::fd::AsRawFd, os::unix::fs::FileExt};

use vm_memory::{Bytes, GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress};

use super::PAGE_SIZE;
use crate::addr::GuestPhysAddr;

/// Below this a copy is cheaper than a mapping, and safe from whoever edits the file meanwhile.
const WORTH_MAPPING: u64 = 16 * PAGE_SIZE;

/// Puts `len` bytes of `file` from `offset` on at `gpa`, which with `len` lies inside `region`.
pub fn place(
    region: &GuestRegionMmap,
    gpa: GuestPhysAddr,
    file: &File,
    offset: u64,
    len: u64,
) -> io::Result<()> {
    let start = gpa.0 - region.start_addr().0;
    let congruent = gpa.0 % PAGE_SIZE == offset % PAGE_SIZE;
    if !congruent || len < WORTH_MAPPING {
        return copy(region, start, file, offset, len);
    }
    // The first and the last page may hold other things beside the file's bytes.
    let head = (PAGE_SIZE - offset % PAGE_SIZE) % PAGE_SIZE;
    let whole = (len - head) / PAGE_SIZE * PAGE_SIZE;
    copy(region, start, file, offset, head)?;
    map(region, start + head, file, offset + head, whole)?;
    let done = head + whole;
    copy(region, start + done, file, offset + done, len - done)
}

fn copy(
    region: &GuestRegionMmap,
    start: u64,
    file: &File,
    offset: u64,
    len: u64,
) -> io::Result<()> {
    const CHUNK: u64 = 256 * 1024;
    let mut buffer = vec![0; len.min(CHUNK) as usize];
    let mut done = 0;
    while done < len {
        let part = &mut buffer[..(len - done).min(CHUNK) as usize];
        file.read_exact_at(part, offset + done)?;
        region
            .write_slice(part, MemoryRegionAddress(start + done))
            .map_err(|error| io::Error::other(error.to_string()))?;
        done += part.len() as u64;
    }
    Ok(())
}

fn map(region: &GuestRegionMmap, start: u64, file: &File, offset: u64, len: u64) -> io::Result<()> {
    // A mapping past the end of the file would be a SIGBUS at the first touch.
    let end = offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
    if file.metadata()?.len() < end {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    let host = region
        .get_host_address(MemoryRegionAddress(start))
        .map_err(|error| io::Error::other(error.to_string()))?;
    debug_assert!(start + len as u64 <= region.len());
    // SAFETY: the caller checked that `start..start + len` lies inside `region`, whose mapping is
    // ours alone; MAP_FIXED replaces just these pages by private ones, and the region's unmapping
    // takes them away with the rest. Nobody holds references into guest memory, only copies.
    let mapped = unsafe {
        libc::mmap(
            host.cast(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE,
            file.as_raw_fd(),
            offset,
        )
    };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
