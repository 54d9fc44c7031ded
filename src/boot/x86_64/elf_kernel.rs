//! ELF kernels, and which way they are entered: a 64-bit Linux by its own protocol, others by PVH if
//! they have its note, by multiboot if they have its header, else as Linux.

use std::sync::Arc;

use crate::boot::{
    Error, Fault,
    draft::Draft,
    elf::{self, Class, Elf},
    file::ImageSource,
    request::CMDLINE_MAX_ELSEWHERE,
};

use super::{
    Format, Loaded, Protocol, Request, layout,
    linux::{self, CMDLINE_MAX, INITRD_ADDR_MAX},
    multiboot, place_initrd, pvh,
};

pub const MACHINES: &[(Class, u16)] =
    &[(Class::Elf32, elf::EM_386), (Class::Elf64, elf::EM_X86_64)];

/// Where and how a kernel without a multiboot header is entered.
pub enum Entry {
    Pvh(u64),
    Linux64(u64),
}

pub fn prepare(request: &Request<'_>, draft: &mut Draft) -> Result<Loaded, Error> {
    let elf = elf::parse(&request.source, MACHINES)?;
    let multiboot = multiboot::Header::find(&request.head);
    for segment in &elf.segments {
        let what = format!("segment {} of the kernel", segment.index);
        let (file, memory) =
            ((segment.offset, segment.file_size), (segment.paddr, segment.mem_size));
        draft.segment(what, &request.source, file, memory)?;
    }
    let format = match elf.class {
        Class::Elf32 => Format::Elf32,
        Class::Elf64 => Format::Elf64,
    };
    let cmdline_max = if elf.is_linux { CMDLINE_MAX } else { CMDLINE_MAX_ELSEWHERE };
    let loaded = match multiboot {
        Some(header) if elf.pvh_entry.is_none() => {
            let entry = checked(&request.source, &elf, "e_entry", elf.entry)?;
            multiboot::enter(request, &header, draft, entry)?
        }
        _ => match choose(&request.source, &elf)? {
            Entry::Pvh(entry) => {
                enter_by_pvh(request, draft, entry, layout::LIMIT_32BIT, cmdline_max)?
            }
            Entry::Linux64(entry) => enter_by_linux(request, draft, entry)?,
        },
    };
    Ok(Loaded { format, ..loaded })
}

/// The entry point of a kernel that is no multiboot kernel, checked.
pub fn choose(source: &ImageSource, elf: &Elf) -> Result<Entry, Error> {
    // Entered by PVH, Linux asks CPUID for Xen in 256 places, and the same again later: an exit each.
    let prefers_its_own = elf.is_linux && elf.class == Class::Elf64 && elf.holds(elf.entry);
    if let Some(entry) = elf.pvh_entry.filter(|_| !prefers_its_own) {
        return checked(source, elf, "XEN_ELFNOTE_PHYS32_ENTRY", entry).map(Entry::Pvh);
    }
    if elf.class == Class::Elf32 {
        let problem =
            "a 32-bit kernel must have a PVH note or a multiboot header, this has neither";
        return Err(source.fault(Fault::new("EI_CLASS", problem)));
    }
    // Any address will do in 64-bit mode, if the page tables to begin with reach it.
    if !elf.holds(elf.entry) {
        return Err(source.fault(outside("e_entry", elf.entry)));
    }
    Ok(Entry::Linux64(elf.entry))
}

/// An entry point for 32-bit code.
fn checked(source: &ImageSource, elf: &Elf, field: &'static str, entry: u64) -> Result<u64, Error> {
    if entry >= layout::LIMIT_32BIT {
        let problem = format!("{entry:#x} is above 4 GiB, where 32-bit code cannot begin");
        return Err(source.fault(Fault::new(field, problem)));
    }
    if !elf.holds(entry) {
        return Err(source.fault(outside(field, entry)));
    }
    Ok(entry)
}

fn outside(field: &'static str, entry: u64) -> Fault {
    Fault::new(field, format!("{entry:#x} lies in no segment that is loaded"))
}

pub fn enter_by_pvh(
    request: &Request<'_>,
    draft: &mut Draft,
    entry: u64,
    initrd_limit: u64,
    cmdline_max: usize,
) -> Result<Loaded, Error> {
    let initrd = place_initrd(request.config, draft, initrd_limit)?;
    let handover = pvh::Handover::place(request.config, initrd, cmdline_max, draft)?;
    Ok(Loaded {
        format: Format::Elf64,
        protocol: Protocol::Pvh,
        entry,
        initrd,
        unpacked: None,
        dtb: None,
        handover: Arc::new(handover),
    })
}

fn enter_by_linux(request: &Request<'_>, draft: &mut Draft, entry: u64) -> Result<Loaded, Error> {
    refuse_modules(request)?;
    let initrd = place_initrd(request.config, draft, INITRD_ADDR_MAX + 1)?;
    let cmdline = request.config.cmdline.as_deref();
    let handover = linux::Handover::place(cmdline, CMDLINE_MAX, Vec::new(), true, draft)?;
    Ok(Loaded {
        format: Format::Elf64,
        protocol: Protocol::Linux64,
        entry,
        initrd,
        unpacked: None,
        dtb: None,
        handover: Arc::new(handover),
    })
}

/// Linux' own protocols have one initrd and nothing else.
pub fn refuse_modules(request: &Request<'_>) -> Result<(), Error> {
    if request.config.modules.is_empty() {
        return Ok(());
    }
    Err(Error::Config {
        path: request.source.path.clone(),
        problem: "it is entered by the Linux protocol, which has no modules; \
                  only PVH and multiboot have"
            .into(),
    })
}
