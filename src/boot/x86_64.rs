//! The PC: which kernels it boots, and how.

mod bzimage;
mod elf_kernel;
mod flat;
mod layout;
mod linux;
mod modules;
mod multiboot;
mod pvh;
mod tables;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

use crate::{
    addr::{GuestPhysAddr, GuestPhysAddrRange},
    addrspace::AddrSpace,
    hal::VCpuSetup,
    vm::config::{ImageFile, KernelConfig},
};

use super::{
    BootPlan, FirmwareInfo, Placed, Unpacked,
    cache::Cache,
    draft::Draft,
    elf,
    error::{Error, Role},
    file::ImageSource,
    space::Space,
};

/// Enough to find a multiboot header in, which may begin anywhere in the first 8 KiB.
const HEAD: usize = 8192;

/// General registers by the numbers of [`crate::hal::AxArchVCpu::set_gpr`].
const RAX: usize = 0;
const RBX: usize = 3;
const RSI: usize = 6;

/// What a kernel file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    BzImage,
    Elf32,
    Elf64,
    Flat,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BzImage => "bzImage",
            Self::Elf32 => "32-bit ELF",
            Self::Elf64 => "64-bit ELF",
            Self::Flat => "flat binary",
        })
    }
}

/// How a kernel is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Linux' `Documentation/arch/x86/boot.rst`, "64-bit Boot Protocol".
    Linux64,
    /// The same, "32-bit Boot Protocol".
    Linux32,
    /// Xen's `docs/misc/pvh.pandoc`, "x86/HVM direct boot ABI".
    Pvh,
    /// The multiboot specification 0.6.96.
    Multiboot,
    /// As the processor leaves reset, but at the entry point with segment bases 0.
    Real,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linux64 => "the 64-bit Linux protocol",
            Self::Linux32 => "the 32-bit Linux protocol",
            Self::Pvh => "PVH",
            Self::Multiboot => "multiboot",
            Self::Real => "real mode",
        })
    }
}

/// What `load` writes beside the segments, by protocol.
#[derive(Clone, Debug)]
pub(super) enum Handover {
    Linux(linux::Handover),
    Pvh(pvh::Handover),
    Multiboot(multiboot::Handover),
    Real,
}

/// What the file turned out to be, and how it is entered; what goes where is in the draft.
struct Loaded {
    format: Format,
    protocol: Protocol,
    entry: u64,
    initrd: Option<Placed>,
    unpacked: Option<Unpacked>,
    handover: Handover,
}

/// All that the loaders need to know.
struct Request<'a> {
    config: &'a KernelConfig,
    source: ImageSource,
    /// The beginning of the file.
    head: Vec<u8>,
    cache: Option<&'a Cache>,
}

pub(super) fn prepare(
    config: &KernelConfig,
    ram: &[GuestPhysAddrRange],
    cache: Option<&Cache>,
) -> Result<BootPlan, Error> {
    if let Some(at) = config.cmdline.as_ref().and_then(|line| line.find('\0')) {
        return Err(Error::CmdlineNul { at });
    }
    let source = ImageSource::open(Role::Kernel, &config.image.path)?;
    let head = source.head(HEAD)?;
    let mut space = Space::new(ram);
    for (what, range) in layout::reserved() {
        space.reserve(what, range);
    }
    let mut draft = Draft::new(space);
    let request = Request { config, source, head, cache };
    let loaded = recognise(&request, &mut draft)?;
    if config.dtb.is_some() {
        draft.notes.push("dtb_path is not used: a PC is described by ACPI".into());
    }
    Ok(BootPlan {
        kernel: config.image.path.clone(),
        format: loaded.format,
        protocol: loaded.protocol,
        entry: GuestPhysAddr(loaded.entry),
        cmdline: config.cmdline.clone(),
        initrd: loaded.initrd,
        unpacked: loaded.unpacked,
        segments: draft.segments,
        structures: draft.structures,
        notes: draft.notes,
        handover: loaded.handover,
    })
}

fn recognise(request: &Request<'_>, draft: &mut Draft) -> Result<Loaded, Error> {
    let Request { config, source, head, .. } = request;
    if config.bios.is_some() {
        return flat::prepare(request, draft);
    }
    let loaded = if let Some(header) = bzimage::Header::find(head) {
        bzimage::prepare(request, &header, draft)?
    } else if let Some(header) = multiboot::Header::find(head).filter(|h| h.has_addresses()) {
        multiboot::prepare_flat(request, &header, draft)?
    } else if elf::is_elf(head) {
        elf_kernel::prepare(request, draft)?
    } else if config.image.load_addr.is_some() {
        return flat::prepare(request, draft);
    } else {
        let problem = flat::unrecognised(head);
        return Err(Error::Unrecognised { path: source.path.clone(), problem });
    };
    for (key, given) in
        [("kernel_load_addr", config.image.load_addr), ("entry_point", config.entry_point)]
    {
        if let Some(given) = given {
            let format = loaded.format;
            draft.notes.push(format!("{key} = {given} is not used: a {format} says so itself"));
        }
    }
    Ok(loaded)
}

/// Writes what the protocol wants the guest to find, and tells the state to begin in.
pub(super) fn hand_over(
    plan: &BootPlan,
    mem: &AddrSpace,
    firmware: &FirmwareInfo,
) -> Result<VCpuSetup, Error> {
    match &plan.handover {
        Handover::Linux(handover) => handover.write(plan, mem, firmware),
        Handover::Pvh(handover) => handover.write(plan, mem, firmware),
        Handover::Multiboot(handover) => handover.write(plan, mem, firmware),
        Handover::Real => Ok(VCpuSetup::default()),
    }
}

/// The initrd, if there is one: at its `load_addr`, else as high as `limit` (exclusive) allows.
fn place_initrd(
    config: &KernelConfig,
    draft: &mut Draft,
    limit: u64,
) -> Result<Option<Placed>, Error> {
    let Some(ImageFile { path, load_addr }) = &config.ramdisk else { return Ok(None) };
    let source = ImageSource::open(Role::Initrd, path)?;
    let window = (layout::HIGH_MEMORY, limit);
    draft.whole_file("the initrd", &source, *load_addr, window).map(Some)
}

/// The command line as it is written to guest memory, with its NUL; checked against what the
/// kernel takes.
fn place_cmdline(
    cmdline: Option<&str>,
    max: usize,
    draft: &mut Draft,
) -> Result<Option<GuestPhysAddr>, Error> {
    let Some(line) = cmdline else { return Ok(None) };
    if line.len() > max {
        return Err(Error::CmdlineTooLong { len: line.len(), max });
    }
    let size = line.len() as u64 + 1;
    draft.structure("command line", size, 1, layout::STRUCTURES).map(Some)
}

fn write_string(mem: &AddrSpace, gpa: GuestPhysAddr, text: &str) -> Result<(), Error> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    Ok(mem.write(gpa, &bytes)?)
}
