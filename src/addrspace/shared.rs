//! Memory that several address spaces may map.

use std::{fs::File, io, os::fd::OwnedFd, sync::Arc};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use vm_memory::{FileOffset, MmapRegion};

use super::{Error, PAGE_SIZE, host_memory};

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
