//! Why a kernel, or a file that goes with it, cannot be booted.

use std::{borrow::Cow, fmt, io, path::PathBuf};

use serde::Serialize;

use crate::{addr::GuestPhysAddrRange, addrspace};

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The kernel.
    Kernel,
    /// Its initrd.
    Initrd,
    /// Firmware beside it (AxVisor's `bios_path`).
    Bios,
    /// A multiboot module.
    Module,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "Kernel",
            Self::Initrd => "Initrd",
            Self::Bios => "Firmware",
            Self::Module => "Module",
        })
    }
}

/// What is wrong with a file's content, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field under the name that its specification gives it.
    pub field: Cow<'static, str>,
    /// What is wrong with it.
    pub problem: String,
}

impl Fault {
    pub(super) fn new(field: impl Into<Cow<'static, str>>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

/// Why a guest's images cannot be loaded. Sizes are in bytes.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what each is")]
pub enum Error {
    #[error("{role} {path:?} cannot be opened: {source}")]
    Open { role: Role, path: PathBuf, source: io::Error },
    #[error(
        "{role} {path:?} is {kind}, not a file; give a regular file (what comes out of a pipe \
         can be saved to one first)"
    )]
    NotAFile { role: Role, path: PathBuf, kind: &'static str },
    #[error("{role} {path:?} is empty")]
    Empty { role: Role, path: PathBuf },
    #[error("{role} {path:?} cannot be read: {source}")]
    Read { role: Role, path: PathBuf, source: io::Error },
    /// The file's content is damaged, or asks for what cannot be had.
    #[error("{role} {path:?} cannot be booted: {fault}")]
    Image { role: Role, path: PathBuf, fault: Fault },
    /// The file is nothing that this machine boots.
    #[error("Kernel {path:?} {problem}")]
    Unrecognised { path: PathBuf, problem: String },
    #[error("{role} {path:?} does not fit: {source}")]
    Space { role: Role, path: PathBuf, source: SpaceError },
    #[error("No room for the boot structures: {0}")]
    Structures(SpaceError),
    #[error(
        "The command line has {len} bytes, this kernel takes {max} at most: \
         leave out {} of them", len - max
    )]
    CmdlineTooLong { len: usize, max: usize },
    #[error("The command line has a NUL byte at offset {at}, where the kernel would end it")]
    CmdlineNul { at: usize },
    #[error("The configuration does not fit the kernel {path:?}: {problem}")]
    Config { path: PathBuf, problem: String },
    #[error("The firmware's memory map has {len} entries, this boot protocol takes {max}")]
    MemoryMap { len: usize, max: usize },
    #[error(transparent)]
    Memory(#[from] addrspace::Error),
}

/// Why something has no place in guest memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what each is")]
pub enum SpaceError {
    #[error("{what} needs {size:#x} bytes at {gpa:#x}, but the guest has RAM at {ram} only")]
    OutsideRam { what: String, gpa: u64, size: u64, ram: String },
    #[error("{what} at {range} overlaps {other} at {other_range}")]
    Overlap {
        what: String,
        range: GuestPhysAddrRange,
        other: String,
        other_range: GuestPhysAddrRange,
    },
    #[error(
        "{what} has {size} bytes, but the largest free piece of RAM from {from:#x} to {below:#x} \
         has {free}; give the guest more memory"
    )]
    NoRoom { what: String, size: u64, from: u64, below: u64, free: u64 },
    #[error("{what} at {gpa:#x} has {size} bytes, but must end below {below:#x}")]
    TooHigh { what: String, gpa: u64, size: u64, below: u64 },
}
