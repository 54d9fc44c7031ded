//! The PC: which kernels it boots, and how.

mod abi;
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

use crate::{
    addr::GuestPhysAddr,
    addrspace::AddrSpace,
    hal::Arch,
    vm::config::{ImageFile, KernelConfig},
};

use super::{
    Format, Placed, Protocol,
    draft::Draft,
    elf,
    error::{Error, Role},
    file::ImageSource,
    identify::Found,
    request::{Loaded, Request},
};

/// General registers by the numbers of [`crate::hal::AxArchVCpu::set_gpr`].
const RAX: usize = 0;
const RBX: usize = 3;
const RSI: usize = 6;

/// Recognises the kernel and decides what goes where.
pub(super) fn prepare(request: &Request<'_>, draft: &mut Draft) -> Result<Loaded, Error> {
    let Request { config, source, head, .. } = request;
    for (what, range) in layout::reserved() {
        draft.space.reserve(what, range);
    }
    if config.dtb.is_some() {
        draft.notes.push("dtb_path is not used: a PC is described by ACPI".into());
    }
    if config.bios.is_some() {
        return flat::prepare(request, draft);
    }
    let loaded = if let Some(header) = bzimage::Header::find(head) {
        bzimage::prepare(request, &header, draft)?
    } else if let Some(header) = multiboot::Header::find(head).filter(|h| h.has_addresses()) {
        multiboot::prepare_flat(request, &header, draft)?
    } else if elf::is_elf(head) {
        elf_kernel::prepare(request, draft)?
    } else {
        let found = Found::of(head);
        if config.image.load_addr.is_some() && found.arch().is_none() {
            draft.notes.extend(found.loaded_flat());
            return flat::prepare(request, draft);
        }
        let problem = found.refusal(Arch::X86_64).unwrap_or_else(|| {
            "is of no known format (bzImage, ELF, multiboot); a flat binary needs a \
             kernel_load_addr, and is entered in real mode"
                .into()
        });
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
