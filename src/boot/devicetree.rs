//! Machines that are described by a device tree: aarch64 and riscv64. Both are entered in the same
//! manner, with the tree's address in a register, whatever the kernel is.

mod image;
mod packed;
mod rules;

use std::sync::Arc;

use image::Header;
pub use rules::{AARCH64, RISCV64, Rules};

use crate::{
    addr::{DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange},
    addrspace::AddrSpace,
    hal::{EntryMode, VCpuSetup},
};

use super::{
    BootPlan, Error, Fault, FirmwareInfo, Format, Placed, Unpacked,
    draft::{Draft, space_error},
    elf::{self, Class},
    error::Role,
    file::ImageSource,
    identify::{self, Found},
    request::{CMDLINE_MAX_ELSEWHERE, HandOver, Loaded, Request},
};

/// A device tree is found at any address; pages keep it apart from what is protected.
const DTB_ALIGN: u64 = 4096;
/// Kernels map the part of memory that they stand in with blocks of this size.
const BLOCK: u64 = 2 << 20;

/// What the kernel file gave, before its surroundings are placed.
struct Kernel {
    format: Format,
    /// Whether it says that it is Linux.
    is_linux: bool,
    entry: u64,
    unpacked: Option<Unpacked>,
}

/// Decides what goes where, for a machine whose device tree has up to `dtb_room` bytes.
pub fn prepare(
    rules: &Rules,
    request: &Request<'_>,
    ram: GuestPhysAddrRange,
    dtb_room: u64,
    draft: &mut Draft,
) -> Result<Loaded, Error> {
    let config = request.config;
    if !config.modules.is_empty() {
        let problem = "its guest finds what it needs in a device tree, which has no modules".into();
        return Err(Error::Config { path: request.source.path.clone(), problem });
    }
    let kernel = match &config.bios {
        Some(_) => flat(rules, request, draft)?,
        None => recognise(rules, request, &request.source, ram, draft)?,
    };
    let max = if kernel.is_linux { rules.cmdline_max } else { CMDLINE_MAX_ELSEWHERE };
    if let Some(line) = config.cmdline.as_ref().filter(|line| line.len() > max) {
        return Err(Error::CmdlineTooLong { len: line.len(), max });
    }
    let dtb = place_dtb(request, ram, dtb_room, draft)?;
    let initrd = match &config.ramdisk {
        Some(file) => {
            let source = ImageSource::open(Role::Initrd, &file.path)?;
            let window = (rules.initrd_window)(kernel.entry);
            Some(draft.whole_file("the initrd", &source, file.load_addr, window)?)
        }
        None => None,
    };
    Ok(Loaded {
        format: kernel.format,
        protocol: rules.protocol,
        entry: kernel.entry,
        initrd,
        dtb: Some(dtb),
        unpacked: kernel.unpacked,
        handover: Arc::new(Registers { dtb: dtb.gpa, rules: *rules }),
    })
}

/// A kernel that is in `source`, which may be what was unpacked from the file that was given.
fn recognise(
    rules: &Rules,
    request: &Request<'_>,
    source: &ImageSource,
    ram: GuestPhysAddrRange,
    draft: &mut Draft,
) -> Result<Kernel, Error> {
    let head = source.head(identify::HEAD)?;
    let config = request.config;
    let packed = !Arc::ptr_eq(&source.file, &request.source.file);
    let kernel = match Found::of(&head) {
        Found::Image(arch) if arch == rules.arch => {
            linux(rules, request, source, &head, ram, draft)?
        }
        // One for no machine of ours is refused there by its own machine's name.
        Found::Elf(arch) if arch.is_none_or(|arch| arch == rules.arch) => {
            elf_kernel(rules, source, draft)?
        }
        found @ (Found::Zboot(_) | Found::Compressed(_)) if !packed => {
            let (mut inner, mut unpacked) = packed::unpack(request, found, ram)?;
            let untouched = draft.clone();
            let mut kernel = recognise(rules, request, &inner, ram, draft);
            if let (Err(error), Some(path), true) = (&kernel, &unpacked.cache, unpacked.cache_hit) {
                log::warn!("{error}; it is unpacked again");
                if let Some(cache) = request.cache {
                    cache.remove(path);
                }
                *draft = untouched;
                (inner, unpacked) = packed::unpack(request, found, ram)?;
                kernel = recognise(rules, request, &inner, ram, draft);
            }
            return Ok(Kernel { unpacked: Some(unpacked), ..kernel? });
        }
        // What is packed may be damaged: only a file as it was given is put anywhere unseen.
        found if config.image.load_addr.is_some() && found.arch().is_none() && !packed => {
            draft.notes.extend(found.loaded_flat());
            return flat(rules, request, draft);
        }
        found => {
            let problem = match found.refusal(rules.arch) {
                Some(problem) if packed => format!("holds what {problem}"),
                Some(problem) => problem,
                None => "is of no known format (Image, ELF); a flat binary needs a \
                         kernel_load_addr"
                    .into(),
            };
            return Err(Error::Unrecognised { path: request.source.path.clone(), problem });
        }
    };
    note_unused(request, &kernel, draft);
    Ok(kernel)
}

/// What a kernel says itself needs not be said in the configuration.
fn note_unused(request: &Request<'_>, kernel: &Kernel, draft: &mut Draft) {
    let format = kernel.format;
    if let Some(at) = request.config.entry_point.filter(|at| at.0 != kernel.entry) {
        draft.notes.push(format!("entry_point = {at} is not used: a {format} says so itself"));
    }
    if let Some(at) = request.config.image.load_addr.filter(|_| format == Format::Elf64) {
        draft.notes.push(format!("kernel_load_addr = {at} is not used: a {format} says so itself"));
    }
}

/// An `Image`: at the address that was given, else where its header and the board want it.
fn linux(
    rules: &Rules,
    request: &Request<'_>,
    source: &ImageSource,
    head: &[u8],
    ram: GuestPhysAddrRange,
    draft: &mut Draft,
) -> Result<Kernel, Error> {
    let header =
        Header::parse(rules.arch, head, source.len).map_err(|fault| source.fault(fault))?;
    let base = match request.config.image.load_addr {
        Some(at) if at.0.checked_sub(header.text_offset).is_none_or(|base| base % BLOCK != 0) => {
            let problem = format!(
                "kernel_load_addr = {at} must be {:#x} above a multiple of 2 MiB; leave it out to \
                 have it chosen",
                header.text_offset
            );
            return Err(Error::Config { path: request.source.path.clone(), problem });
        }
        Some(at) => at.0 - header.text_offset,
        None => {
            let block = ram.first().0.checked_next_multiple_of(BLOCK);
            (rules.image_base)(block.unwrap_or(u64::MAX))
        }
    };
    let Some(at) = base.checked_add(header.text_offset) else {
        let problem = format!("{:#x} is beyond all memory", header.text_offset);
        return Err(source.fault(Fault::new("text_offset", problem)));
    };
    draft.segment("the kernel", source, (0, source.len), (at, header.size))?;
    Ok(Kernel { format: Format::Image, is_linux: true, entry: at, unpacked: None })
}

fn elf_kernel(rules: &Rules, source: &ImageSource, draft: &mut Draft) -> Result<Kernel, Error> {
    let elf = elf::parse(source, &[(Class::Elf64, rules.machine)])?;
    if let Some(address) = elf.virtual_address() {
        let problem = format!(
            "{address:#x} is a virtual address, as in all segments: that of a vmlinux does not say \
             where it goes in memory; give the Image that is made of it"
        );
        return Err(source.fault(Fault::new("p_paddr", problem)));
    }
    for segment in &elf.segments {
        let what = format!("segment {} of the kernel", segment.index);
        let (file, memory) =
            ((segment.offset, segment.file_size), (segment.paddr, segment.mem_size));
        draft.segment(what, source, file, memory)?;
    }
    if !elf.holds(elf.entry) {
        let problem = format!("{:#x} lies in no segment that is loaded", elf.entry);
        return Err(source.fault(Fault::new("e_entry", problem)));
    }
    Ok(Kernel { format: Format::Elf64, is_linux: elf.is_linux, entry: elf.entry, unpacked: None })
}

/// A file of no format: at the address that was given, firmware beside it if there is some; entered
/// at `entry_point`, else at the firmware, else at the file's beginning.
fn flat(rules: &Rules, request: &Request<'_>, draft: &mut Draft) -> Result<Kernel, Error> {
    let Request { config, source, .. } = request;
    let wrong = |problem: String| Error::Config { path: source.path.clone(), problem };
    let Some(load_addr) = config.image.load_addr else {
        return Err(wrong("beside firmware (bios_path) it needs a kernel_load_addr".into()));
    };
    draft.whole_file("the kernel", source, Some(load_addr), (0, u64::MAX))?;
    let mut entry = load_addr;
    if let Some(bios) = &config.bios {
        let firmware = ImageSource::open(Role::Bios, &bios.path)?;
        let Some(at) = bios.load_addr else {
            return Err(wrong("its firmware (bios_path) needs a bios_load_addr".into()));
        };
        draft.whole_file("the firmware", &firmware, Some(at), (0, u64::MAX))?;
        entry = at;
    }
    let entry = config.entry_point.unwrap_or(entry);
    let holds_entry = |gpa: GuestPhysAddr, size: u64| {
        entry.0.checked_sub(gpa.0).is_some_and(|offset| offset < size)
    };
    if !draft.segments.iter().any(|segment| holds_entry(segment.gpa, segment.size)) {
        return Err(wrong(format!("entry_point = {entry} lies outside of what is loaded")));
    }
    if entry.0 % rules.code_align != 0 {
        let align = rules.code_align;
        return Err(wrong(format!("entry_point = {entry} must be a multiple of {align}")));
    }
    Ok(Kernel { format: Format::Flat, is_linux: false, entry: entry.0, unpacked: None })
}

/// Room for the device tree: where it was asked for, else at the very beginning of RAM, where
/// firmware and unikernels look for it, else as high as there is room.
fn place_dtb(
    request: &Request<'_>,
    ram: GuestPhysAddrRange,
    size: u64,
    draft: &mut Draft,
) -> Result<Placed, Error> {
    const WHAT: &str = "the device tree";
    let asked = request.config.dtb.as_ref().and_then(|dtb| dtb.load_addr);
    let (first, end) = (ram.first().0, ram.last().0.saturating_add(1));
    let gpa = match asked {
        Some(at) if at.0 % 8 != 0 => {
            let problem = format!("dtb_load_addr = {at} must be a multiple of 8");
            return Err(Error::Config { path: request.source.path.clone(), problem });
        }
        Some(at) => draft.space.claim(WHAT, at.0, size).map(|()| at.0),
        None => match draft.space.claim(WHAT, first, size) {
            Ok(()) => Ok(first),
            Err(_) => draft.space.take_high(WHAT, size, DTB_ALIGN, (first, end)),
        },
    };
    let gpa = GuestPhysAddr(gpa.map_err(|error| space_error(&request.source, error))?);
    Ok(Placed { gpa, size })
}

/// All that the boot processor is told: registers.
#[derive(Debug)]
struct Registers {
    dtb: GuestPhysAddr,
    rules: Rules,
}

impl HandOver for Registers {
    fn write(&self, _: &BootPlan, _: &AddrSpace, _: &FirmwareInfo) -> Result<VCpuSetup, Error> {
        let mut gprs = vec![(self.rules.dtb_register, self.dtb.0)];
        gprs.extend(self.rules.hart_id_register.map(|register| (register, 0)));
        Ok(VCpuSetup { mode: EntryMode::Reset, gprs })
    }
}

#[cfg(test)]
mod tests;
