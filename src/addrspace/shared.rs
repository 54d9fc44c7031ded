//! Memory that several address spaces, or several processes, may map.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::FileExt},
    sync::Arc,
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use vm_memory::{FileOffset, GuestMemoryRegion, MmapRegion};

use super::{AddrSpace, Area, Content, Error, PAGE_SIZE, host_memory, page_range};
use crate::addr::{DeviceAddrRange, GuestPhysAddr, MappingFlags};

/// Zeroed memory of whole pages that any number of address spaces may map, at any address. It goes
/// when its last mapping and the last of these values are gone.
#[derive(Clone, Debug)]
pub struct SharedMemory {
    file: Arc<File>,
    /// In bytes.
    size: u64,
}

impl SharedMemory {
    /// Memory of `size` bytes, a multiple of 4096.
    ///
    /// # Errors
    /// A size that is none, and a host without memory or file descriptors.
    pub fn new(size: u64) -> Result<Self, Error> {
        let failed = |source| Error::NoSharedMemory { size, source };
        if size == 0 || size % PAGE_SIZE != 0 {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        }
        let file = Self::file(size).map_err(failed)?;
        Ok(Self { file: Arc::new(file), size })
    }

    fn file(size: u64) -> io::Result<File> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file: OwnedFd = memfd_create("axvmm-shared", flags)?;
        let file = File::from(file);
        file.set_len(size)?;
        // A mapping of a file that has shrunk is a trap for whoever reads there.
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(file)
    }

    /// Memory of these bytes, a multiple of 4096 of them.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with(bytes: &[u8]) -> Result<Self, Error> {
        let size = bytes.len() as u64;
        let memory = Self::new(size)?;
        let written = memory.file.write_all_at(bytes, 0);
        written.map_err(|source| Error::NoSharedMemory { size, source })?;
        Ok(memory)
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// A mapping of all of it.
    pub(super) fn map(&self) -> Result<MmapRegion, Error> {
        let failed = |source| Error::NoSharedMemory { size: self.size, source };
        let bytes = usize::try_from(self.size).map_err(|error| failed(io::Error::other(error)))?;
        let file = FileOffset::from_arc(self.file.clone(), 0);
        MmapRegion::from_file(file, bytes).map_err(|error| failed(host_memory::io_error(error)))
    }
}

/// A piece of guest memory that another process may map.
#[derive(Clone, Debug)]
pub struct SharedRegion {
    /// Where the guest has it.
    pub gpa: GuestPhysAddr,
    /// In bytes.
    pub size: u64,
    /// Where it is.
    pub file: Arc<File>,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
}

impl AddrSpace {
    /// As [`Self::map_alloc`], for memory that other processes get as well
    /// ([`Self::shared_regions`]); the guest's hardware has all of it from the start.
    ///
    /// # Errors
    /// As [`Self::map_alloc`].
    pub fn map_shared(
        &self,
        gpa: GuestPhysAddr,
        size: u64,
        flags: MappingFlags,
    ) -> Result<(), Error> {
        let range = page_range(gpa, size)?;
        let area = |region| Area::whole(range, flags, region, Content::Shared);
        self.map_area(range, SharedMemory::new(size)?.map()?, area)
    }

    /// The memory of [`Self::map_shared`] that the guest may read and write, ascending by address.
    pub fn shared_regions(&self) -> Vec<SharedRegion> {
        let map = self.map.load();
        let open = MappingFlags::READ | MappingFlags::WRITE;
        let areas = map.areas.iter();
        let areas =
            areas.filter(|area| area.content == Content::Shared && area.flags.contains(open));
        let region = |area: &Arc<Area>| {
            let file = area.region.file_offset()?;
            Some(SharedRegion {
                gpa: area.range.first(),
                size: area.range.len(),
                file: file.arc().clone(),
                offset: file.start(),
            })
        };
        areas.filter_map(region).collect()
    }
}
