//! Kernel images: from files to a guest that is ready to run.
//!
//! [`BootPlan::prepare`] opens and checks the files, recognises the format from what is in them,
//! and decides what goes where, without a VM. [`BootPlan::load`] does it, for as many VMs (or
//! resets of one) as wanted.
//!
//! Each architecture is a file: its formats, its protocols, its map of low memory. What they share
//! stands beside them: reading ELF, unpacking, keeping track of who has which memory.

mod cache;
pub(crate) mod cpio;
mod devicetree;
mod draft;
mod elf;
mod error;
mod file;
mod identify;
mod kinds;
mod request;
mod space;
#[cfg(test)]
mod testing;
mod unpack;
mod x86_64;

use std::{
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use cache::Cache;
use draft::Draft;
pub use error::{Error, Fault, Role, SpaceError};
pub use kinds::{Format, Protocol};
use request::{HandOver, Request};
use serde::Serialize;
use space::Space;

use crate::{
    addr::{DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange},
    addrspace::AddrSpace,
    hal::{Arch, VCpuSetup},
    vm::config::KernelConfig,
};

/// The architecture that the kernel in this file is for, if the file can be read and says so.
pub fn arch_of(path: &Path) -> Option<Arch> {
    let source = file::ImageSource::open(Role::Kernel, path).ok()?;
    identify::Found::of(&source.head(identify::HEAD).ok()?).arch()
}

/// What a stretch of guest-physical memory is, as a kernel is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MemKind {
    /// Memory that the kernel may use.
    Ram,
    /// Nothing for the kernel to use.
    Reserved,
    /// ACPI tables; RAM once the kernel has read them.
    Acpi,
    /// Must be kept over ACPI sleep states.
    Nvs,
}

/// A row of the memory map that a kernel is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemMapEntry {
    /// From where to where.
    pub range: GuestPhysAddrRange,
    /// What is there.
    pub kind: MemKind,
}

/// What the machine tells the kernel about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FirmwareInfo {
    /// ACPI's root pointer.
    pub rsdp: Option<GuestPhysAddr>,
    /// Ascending, without overlaps.
    pub memory_map: Vec<MemMapEntry>,
}

/// Where the boot processor begins, and in which state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Where execution begins.
    pub entry: GuestPhysAddr,
    /// With what registers.
    pub setup: VCpuSetup,
}

/// A piece of a file and its place in guest memory.
#[derive(Clone, Debug, Serialize)]
pub struct Segment {
    /// What it is, for people.
    pub what: String,
    /// Where it begins in guest memory.
    pub gpa: GuestPhysAddr,
    /// In guest memory, in bytes. What exceeds `file_size` is zero.
    pub size: u64,
    /// In the file, in bytes.
    pub file_size: u64,
    #[serde(skip)]
    file: Arc<File>,
    #[serde(skip)]
    offset: u64,
}

/// Where a file's bytes are in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Placed {
    /// Where they begin.
    pub gpa: GuestPhysAddr,
    /// In bytes.
    pub size: u64,
}

/// Something that the kernel or the processor is given besides: its name and its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Structure {
    /// What it is, for people.
    pub what: &'static str,
    /// Where it begins.
    pub gpa: GuestPhysAddr,
    /// In bytes; as much as it may come to.
    pub size: u64,
}

/// A kernel that was unpacked on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unpacked {
    /// What it was compressed by.
    pub compression: unpack::Compression,
    /// In bytes, unpacked.
    pub size: u64,
    /// The file that it is kept in; `None`: it is in memory, for this run only.
    pub cache: Option<PathBuf>,
    /// Whether it was there already.
    pub cache_hit: bool,
}

/// All decisions about how a guest is booted: a plain value, printed by `axvmm check`.
#[derive(Clone, Debug, Serialize)]
pub struct BootPlan {
    /// The kernel's file.
    pub kernel: PathBuf,
    /// What that file is.
    pub format: Format,
    /// How the kernel is entered.
    pub protocol: Protocol,
    /// Where execution begins.
    pub entry: GuestPhysAddr,
    /// `None`: the guest gets none, or an empty one where its protocol has no way to say so.
    pub cmdline: Option<String>,
    /// Where the initrd's bytes are.
    pub initrd: Option<Placed>,
    /// Room for the device tree, which whoever makes it writes there.
    pub dtb: Option<Placed>,
    /// What was unpacked for it, if it was compressed and the host did that.
    pub unpacked: Option<Unpacked>,
    /// What of files goes where in guest memory.
    pub segments: Vec<Segment>,
    /// What else is put there.
    pub structures: Vec<Structure>,
    /// What is done in another way than one may expect, each a sentence for the user.
    pub notes: Vec<String>,
    #[serde(skip)]
    handover: Arc<dyn HandOver>,
}

/// From this many bytes of images on, a guest is one that uses its memory in bulk.
const BULK: u64 = 2 << 20;

impl BootPlan {
    /// Opens and checks the files and decides on format, protocol and places, for a guest of `arch`.
    /// `ram` is the guest's RAM, each range one area of the address space that [`Self::load`] gets.
    /// Where there is a device tree, it gets room for `dtb_room` bytes.
    pub fn prepare(
        arch: Arch,
        kernel: &KernelConfig,
        ram: &[GuestPhysAddrRange],
        dtb_room: u64,
    ) -> Result<Self, Error> {
        Self::prepare_with(arch, kernel, ram, dtb_room, Cache::of_user().as_ref())
    }

    fn prepare_with(
        arch: Arch,
        kernel: &KernelConfig,
        ram: &[GuestPhysAddrRange],
        dtb_room: u64,
        cache: Option<&Cache>,
    ) -> Result<Self, Error> {
        if let Some(at) = kernel.cmdline.as_ref().and_then(|line| line.find('\0')) {
            return Err(Error::CmdlineNul { at });
        }
        let request = Request::open(kernel, cache)?;
        let mut draft = Draft::new(Space::new(ram));
        let rules = match arch {
            Arch::X86_64 => None,
            Arch::Aarch64 => Some(devicetree::AARCH64),
            Arch::Riscv64 => Some(devicetree::RISCV64),
        };
        let loaded = match rules {
            None => x86_64::prepare(&request, &mut draft)?,
            Some(rules) => {
                let lowest = ram.iter().min_by_key(|range| range.first()).copied();
                let lowest = lowest.unwrap_or(GuestPhysAddrRange::at(GuestPhysAddr(0)));
                devicetree::prepare(&rules, &request, lowest, dtb_room, &mut draft)?
            }
        };
        Ok(Self {
            kernel: kernel.image.path.clone(),
            format: loaded.format,
            protocol: loaded.protocol,
            entry: GuestPhysAddr(loaded.entry),
            cmdline: kernel.cmdline.clone(),
            initrd: loaded.initrd,
            dtb: loaded.dtb,
            unpacked: loaded.unpacked,
            segments: draft.segments,
            structures: draft.structures,
            notes: draft.notes,
            handover: loaded.handover,
        })
    }

    /// Puts everything into `mem`, which must be as [`AddrSpace::map_alloc`] gives it: zero.
    pub fn load(&self, mem: &AddrSpace, firmware: &FirmwareInfo) -> Result<Entry, Error> {
        if self.segments.iter().map(|segment| segment.file_size).sum::<u64>() >= BULK {
            mem.prefer_huge_pages();
        }
        for Segment { gpa, file, offset, file_size, .. } in &self.segments {
            if *file_size > 0 {
                mem.load_file(*gpa, file, *offset, *file_size)?;
            }
        }
        let setup = self.handover.write(self, mem, firmware)?;
        Ok(Entry { entry: self.entry, setup })
    }
}

impl fmt::Display for BootPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kernel    {}", self.kernel.display())?;
        writeln!(f, "          {}, entered by {} at {}", self.format, self.protocol, self.entry)?;
        if let Some(unpacked) = &self.unpacked {
            writeln!(f, "          {unpacked}")?;
        }
        match &self.cmdline {
            Some(cmdline) => writeln!(f, "cmdline   {cmdline:?}")?,
            None => writeln!(f, "cmdline   none")?,
        }
        for Segment { what, gpa, size, file_size, .. } in &self.segments {
            write!(f, "loaded    {gpa:>12} {size:>#12x}  {what}", gpa = gpa.to_string())?;
            match size - file_size {
                0 => writeln!(f)?,
                zero => writeln!(f, ", the last {zero:#x} bytes zero")?,
            }
        }
        for Structure { what, gpa, size } in &self.structures {
            writeln!(f, "written   {gpa:>12} {size:>#12x}  {what}", gpa = gpa.to_string())?;
        }
        for note in &self.notes {
            writeln!(f, "note      {note}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Unpacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its {} payload unpacked on the host to {} bytes", self.compression, self.size)?;
        match (&self.cache, self.cache_hit) {
            (None, _) => write!(f, ", for this run only"),
            (Some(path), false) => write!(f, ", kept in {}", path.display()),
            (Some(path), true) => write!(f, " before, in {}", path.display()),
        }
    }
}
