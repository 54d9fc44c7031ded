//! Files that are no kernel format at all: put into memory as they are and entered in real mode.

use crate::{
    addr::GuestPhysAddr,
    boot::{Error, draft::Draft, error::Role, file::ImageSource},
};

use super::{Format, Handover, Loaded, Protocol, Request, layout};

/// With segment bases of 0, IP reaches no further.
const REAL_MODE_END: u64 = 0x1_0000;

/// Loads the kernel at its `load_addr`, and firmware beside it if there is some; execution begins
/// at `entry_point`, else at the firmware, else at the kernel.
pub fn prepare(request: &Request<'_>, draft: &mut Draft) -> Result<Loaded, Error> {
    let Request { config, source, .. } = request;
    let wrong = |problem: String| Error::Config { path: source.path.clone(), problem };
    let Some(load_addr) = config.image.load_addr else {
        return Err(wrong("beside firmware (bios_path) it needs a kernel_load_addr".into()));
    };
    draft.whole_file("the kernel", source, Some(load_addr), (0, u64::MAX))?;
    let mut default_entry = load_addr;
    if let Some(bios) = &config.bios {
        let firmware = ImageSource::open(Role::Bios, &bios.path)?;
        let Some(at) = bios.load_addr else {
            return Err(wrong("its firmware (bios_path) needs a bios_load_addr".into()));
        };
        draft.whole_file("the firmware", &firmware, Some(at), (0, u64::MAX))?;
        default_entry = at;
    }
    let entry = config.entry_point.unwrap_or(default_entry);
    if entry.0 >= REAL_MODE_END {
        return Err(wrong(format!(
            "it is of no known format, hence entered in real mode, where entry_point = {entry} \
             cannot be reached: it must be below {REAL_MODE_END:#x}"
        )));
    }
    let holds_entry = |gpa: GuestPhysAddr, size: u64| (gpa.0..gpa.0 + size).contains(&entry.0);
    if !draft.segments.iter().any(|segment| holds_entry(segment.gpa, segment.size)) {
        return Err(wrong(format!("entry_point = {entry} lies outside of what is loaded")));
    }
    if !config.modules.is_empty() {
        return Err(wrong("it has no multiboot header, hence no use for modules".into()));
    }
    let initrd = match &config.ramdisk {
        Some(ramdisk) => {
            let source = ImageSource::open(Role::Initrd, &ramdisk.path)?;
            let window = (layout::HIGH_MEMORY, layout::LIMIT_32BIT);
            Some(draft.whole_file("the initrd", &source, ramdisk.load_addr, window)?)
        }
        None => None,
    };
    if config.cmdline.is_some() {
        let note = "cmdline is not passed on: a guest that begins in real mode is given none";
        draft.notes.push(note.into());
    }
    Ok(Loaded {
        format: Format::Flat,
        protocol: Protocol::Real,
        entry: entry.0,
        initrd,
        unpacked: None,
        handover: Handover::Real,
    })
}

/// Says of a file that is nothing to boot what it may be, and what to do.
pub fn unrecognised(head: &[u8]) -> String {
    let at = |offset: usize, magic: &[u8]| head.get(offset..offset + magic.len()) == Some(magic);
    let arch = std::env::consts::ARCH;
    let (looks_like, remedy) = match () {
        _ if at(0x38, b"ARM\x64") => ("a Linux kernel for aarch64", format!("this is {arch}")),
        _ if at(0x38, b"RSC\x05") => ("a Linux kernel for riscv64", format!("this is {arch}")),
        _ if at(0, b"070701") || at(0, b"070702") => {
            ("a cpio archive", "is it the initrd (ramdisk_path)?".into())
        }
        _ if at(0, &[0x1f, 0x8b]) => ("compressed with gzip", "unpack it with gunzip".into()),
        _ if at(0, &[0x28, 0xb5, 0x2f, 0xfd]) => {
            ("compressed with zstd", "unpack it with unzstd".into())
        }
        _ if at(0, b"\xfd7zXZ\0") => ("compressed with xz", "unpack it with unxz".into()),
        _ if at(0, b"BZh") => ("compressed with bzip2", "unpack it with bunzip2".into()),
        _ if at(0, &[0x27, 0x05, 0x19, 0x56]) => {
            ("an image for U-Boot", "give the kernel that is in it".into())
        }
        _ if at(0, b"MZ") => ("an EFI program", "this machine has no EFI firmware".into()),
        _ if at(0, b"#!") => ("a script", "give the kernel itself".into()),
        _ if at(0x1fe, &[0x55, 0xaa]) => {
            ("a boot sector", "set kernel_load_addr = 0x7c00 to run it in real mode".into())
        }
        _ => {
            return "is of no known format (bzImage, ELF, multiboot); a flat binary needs a \
                    kernel_load_addr, and is entered in real mode"
                .into();
        }
    };
    format!("is {looks_like}: {remedy}")
}
