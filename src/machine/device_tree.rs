//! The device tree that a guest gets: the board's own, or the user's.

mod agree;
mod patch;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    Error,
    board::{Board, Told},
    describe::SEEDS,
    fdt::{self, ReadError, Tree},
    memory,
    parts::FirmwareTable,
};
use crate::{
    addr::{GuestPhysAddr, GuestPhysAddrRange},
    boot::Placed,
    vm::config::{DtbPatch, KernelConfig, MemoryConfig, MemoryRegion, VmMemMappingType, WrittenAt},
};

/// So much of a device tree a kernel maps to begin with (Linux' `Documentation/arch/arm64/booting.rst`;
/// riscv64 has the same room).
const MAX_SIZE: u64 = 2 << 20;

/// What is wrong with a user's device tree.
#[derive(Debug, thiserror::Error)]
pub enum OwnTreeError {
    #[error("it cannot be read: {0}")]
    Open(io::Error),
    #[error("it has more than {MAX_SIZE} bytes, which is all that a kernel looks at")]
    TooBig,
    #[error("{0}")]
    NoTree(#[from] ReadError),
    #[error(
        "it tells of memory at {at:#x}, {size:#x} bytes, where the guest has none (it has {ram}); \
         change it, memory, or add \"memory\" to dtb_patch"
    )]
    Memory { at: u64, size: u64, ram: String },
    #[error(
        "it tells of {told} CPUs, and the guest has {cpus}; change it, cpu_num, or add \"cpus\" to \
         dtb_patch"
    )]
    Cpus { told: usize, cpus: usize },
    #[error(
        "it does not tell of the CPU that boots, which has the id {id:#x}; change it, or add \
         \"cpus\" to dtb_patch"
    )]
    NoBootCpu { id: usize },
    #[error(
        "its /chosen has the initrd at {start:#x} up to {end:#x}, where the guest has no memory (it \
         has {ram}); change it, or add \"initrd\" to dtb_patch"
    )]
    Initrd { start: u64, end: u64, ram: String },
    #[error("it cannot be patched: {0}")]
    Patch(&'static str),
    #[error("it cannot be written again with what dtb_patch names: {0}")]
    Write(vm_fdt::Error),
}

/// Where a guest's device tree comes from.
pub enum Source<'a> {
    /// This board is described in another way.
    None,
    Board,
    Own(OwnTree<'a>),
}

/// A user's device tree.
pub struct OwnTree<'a> {
    path: &'a Path,
    /// As it is in the file.
    blob: Vec<u8>,
    tree: Tree,
    patches: &'a [DtbPatch],
}

impl<'a> Source<'a> {
    /// The user's device tree if there is one, on boards that have such a thing.
    pub fn open(
        board: &dyn Board,
        kernel: &'a KernelConfig,
        told: &Told<'_>,
    ) -> Result<Self, Error> {
        match (board.device_tree(told), &kernel.dtb) {
            (None, _) => Ok(Self::None),
            (Some(_), None) => Ok(Self::Board),
            (Some(_), Some(dtb)) => OwnTree::open(&dtb.path, &kernel.dtb_patch).map(Self::Own),
        }
    }

    /// The blob that tells of all this.
    pub fn blob(&self, board: &dyn Board, told: &Told<'_>) -> Result<Option<Vec<u8>>, Error> {
        let Some(tree) = board.device_tree(told) else { return Ok(None) };
        let blob = match self {
            Self::None => return Ok(None),
            Self::Board => tree.to_blob()?,
            Self::Own(own) => own.blob(&tree, told)?,
        };
        match blob.len() as u64 {
            size @ ..=MAX_SIZE => debug_assert!(size > 0),
            size => return Err(Error::DeviceTreeTooLarge { size, room: MAX_SIZE }),
        }
        Ok(Some(blob))
    }

    /// Whether the guest can work with `blob`, if a user has written it; where it merely differs
    /// from the machine, that is noted.
    pub fn check(
        &self,
        blob: &[u8],
        told: &Told<'_>,
        notes: &mut Vec<String>,
    ) -> Result<(), Error> {
        let Self::Own(own) = self else { return Ok(()) };
        let tree = fdt::read(blob).map_err(|error| own.error(error.into()))?;
        agree::check(&tree, told, notes).map_err(|error| own.error(error))
    }

    /// The blob in its place.
    pub fn table(&self, blob: Vec<u8>, place: Placed) -> Result<FirmwareTable, Error> {
        let size = blob.len() as u64;
        if size > place.size {
            return Err(Error::DeviceTreeTooLarge { size, room: place.size });
        }
        let ours = match self {
            Self::Own(own) => own.patches.contains(&DtbPatch::Chosen),
            _ => true,
        };
        // Seeds in a user's own tree are the user's.
        let found = SEEDS.iter().filter(|_| ours);
        let found = found.filter_map(|(name, _)| fdt::property(&blob, "chosen", name).ok()?);
        let seeds = found.collect();
        Ok(FirmwareTable::new("device tree", place.gpa, blob).seeded(seeds))
    }
}

impl<'a> OwnTree<'a> {
    fn open(path: &'a Path, patches: &'a [DtbPatch]) -> Result<Self, Error> {
        let failed = |problem| Error::OwnDeviceTree { path: path.to_owned(), problem };
        let mut blob = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_SIZE + 1).read_to_end(&mut blob))
            .map_err(|error| failed(OwnTreeError::Open(error)))?;
        // What is no tree at all is told as such, however big it is.
        let tree = match fdt::read(&blob) {
            Err(ReadError::Truncated { .. }) if blob.len() as u64 > MAX_SIZE => {
                return Err(failed(OwnTreeError::TooBig));
            }
            read => read.map_err(|error| failed(error.into()))?,
        };
        Ok(Self { path, blob, tree, patches })
    }

    /// As it is, but for what is to be patched.
    fn blob(&self, board: &Tree, told: &Told<'_>) -> Result<Vec<u8>, Error> {
        if self.patches.is_empty() {
            return Ok(self.blob.clone());
        }
        let mut tree = self.tree.clone();
        for patch in self.patches {
            patch::apply(*patch, &mut tree, board, told).map_err(|error| self.error(error))?;
        }
        tree.to_blob().map_err(|error| self.error(OwnTreeError::Write(error)))
    }

    fn error(&self, problem: OwnTreeError) -> Error {
        Error::OwnDeviceTree { path: PathBuf::from(self.path), problem }
    }
}

/// The memory that a user's device tree tells of, if that is what the guest is to have; `None`: it
/// is not, or the tree tells of none.
pub fn memory(asked: &MemoryConfig, kernel: &KernelConfig) -> Result<Option<MemoryConfig>, Error> {
    let (MemoryConfig::OfDeviceTree { lazy }, Some(dtb)) = (asked, &kernel.dtb) else {
        return Ok(None);
    };
    let own = OwnTree::open(&dtb.path, &kernel.dtb_patch)?;
    let told = agree::memory_of(&own.tree.root);
    let areas: Vec<_> = told
        .into_iter()
        // Nothing is for a boot loader to fill in, which nobody does here.
        .filter(|(_, size)| *size > 0)
        .map(|(at, size)| MemoryRegion {
            gpa: GuestPhysAddr(at),
            size,
            flags: memory::ALL,
            lazy: *lazy,
            map_type: VmMemMappingType::default(),
            at: WrittenAt::default(),
        })
        .collect();
    Ok((!areas.is_empty()).then_some(MemoryConfig::Regions(areas)))
}

/// The guest's memory, for messages.
fn ram(told: &Told<'_>) -> String {
    told.ram.iter().map(GuestPhysAddrRange::to_string).collect::<Vec<_>>().join(", ")
}

/// How many cells the addresses and sizes of a node's children have (2.3.5).
fn cells(node: &fdt::Node) -> (usize, usize) {
    let cells = |name, default| node.get_cell(name).map_or(default, |cells| cells as usize);
    (cells("#address-cells", 2), cells("#size-cells", 1))
}

#[cfg(test)]
mod tests;
