//! What a file is, from how it begins: whatever the architecture, so that a file that is none of the
//! guest's can be named.

use crate::hal::Arch;

use super::{elf, unpack::Compression};

/// Where an arm64 or riscv `Image` has its magic number (Linux' `Documentation/arch/arm64/booting.rst`,
/// `Documentation/arch/riscv/boot-image-header.rst`).
const IMAGE_MAGIC: usize = 0x38;
/// Where a bzImage has its own.
const SETUP_HEADER: usize = 0x202;
const E_MACHINE: usize = 18;

/// How many of a file's first bytes tell what it is.
pub const HEAD: usize = 1024;

/// The kinds of files that people give for a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A Linux `Image`.
    Image(Arch),
    BzImage,
    /// `None`: for some other machine.
    Elf(Option<Arch>),
    /// A compressed kernel that EFI firmware starts (Linux' `zboot-header.S`), and for what machine.
    Zboot(Option<Arch>),
    Compressed(Compression),
    Cpio,
    /// U-Boot's legacy image.
    UImage,
    DeviceTree,
    Efi,
    Script,
    BootSector,
    Unknown,
}

impl Found {
    /// From a file's first bytes.
    pub fn of(head: &[u8]) -> Self {
        let at =
            |offset: usize, magic: &[u8]| head.get(offset..offset + magic.len()) == Some(magic);
        match () {
            _ if at(4, b"zimg") && at(0, b"MZ") => Self::Zboot(pe_arch(head)),
            _ if at(IMAGE_MAGIC, b"ARM\x64") => Self::Image(Arch::Aarch64),
            _ if at(IMAGE_MAGIC, b"RSC\x05") => Self::Image(Arch::Riscv64),
            _ if at(SETUP_HEADER, b"HdrS") => Self::BzImage,
            _ if elf::is_elf(head) => Self::Elf(elf_arch(head)),
            _ if at(0, b"070701") || at(0, b"070702") => Self::Cpio,
            _ if at(0, &[0x27, 0x05, 0x19, 0x56]) => Self::UImage,
            _ if at(0, &[0xd0, 0x0d, 0xfe, 0xed]) => Self::DeviceTree,
            _ if at(0, b"MZ") => Self::Efi,
            _ if at(0, b"#!") => Self::Script,
            _ => match Compression::detect(head) {
                Some(compression) => Self::Compressed(compression),
                None if at(0x1fe, &[0x55, 0xaa]) => Self::BootSector,
                None => Self::Unknown,
            },
        }
    }

    /// The architecture that the file is for, if it says so.
    pub fn arch(self) -> Option<Arch> {
        match self {
            Self::Image(arch) => Some(arch),
            Self::BzImage => Some(Arch::X86_64),
            Self::Elf(arch) => arch,
            _ => None,
        }
    }

    /// A note on a file of a known kind that is put into memory as it is, since an address says so.
    pub fn loaded_flat(self) -> Option<String> {
        let is = match self {
            Self::Zboot(_) => "a compressed kernel for EFI firmware".into(),
            Self::Compressed(compression) => format!("compressed with {compression}"),
            Self::Cpio => "a cpio archive".into(),
            Self::UImage => "an image for U-Boot".into(),
            Self::DeviceTree => "a device tree".into(),
            Self::Efi => "an EFI program".into(),
            Self::Script => "a script".into(),
            _ => return None,
        };
        Some(format!(
            "the kernel looks like {is}, but has a kernel_load_addr: it is loaded as it is"
        ))
    }

    /// Why a guest of `arch` cannot begin with this file, and what to do; to follow "Kernel F".
    /// `None`: it is nothing known.
    pub fn refusal(self, arch: Arch) -> Option<String> {
        let (is, remedy) = match self {
            _ if self.arch() == Some(arch) => return None, // damaged: the loader says how
            Self::Image(other) => (format!("{} Image", a(other)), format!("this guest is {arch}")),
            Self::BzImage => ("an x86 bzImage".into(), format!("this guest is {arch}")),
            Self::Elf(Some(other)) => {
                (format!("{} ELF file", a(other)), format!("this guest is {arch}"))
            }
            Self::Elf(None) => {
                ("an ELF file for another machine".into(), format!("this guest is {arch}"))
            }
            Self::Zboot(Some(other)) if other != arch => {
                (format!("{} kernel for EFI firmware", a(other)), format!("this guest is {arch}"))
            }
            Self::Zboot(_) => {
                let remedy = "give the kernel that is in it (vmlinux, or a bzImage)";
                ("a compressed kernel for EFI firmware".into(), remedy.into())
            }
            Self::Compressed(compression) => {
                (format!("compressed with {compression}"), unpacking(compression).into())
            }
            Self::Cpio => ("a cpio archive".into(), "is it the initrd (ramdisk_path)?".into()),
            Self::UImage => ("an image for U-Boot".into(), "give the kernel that is in it".into()),
            Self::DeviceTree => {
                ("a device tree".into(), "is it the dtb_path, or an image for U-Boot?".into())
            }
            Self::Efi => ("an EFI program".into(), "this machine has no EFI firmware".into()),
            Self::Script => ("a script".into(), "give the kernel itself".into()),
            Self::BootSector if arch == Arch::X86_64 => (
                "a boot sector".into(),
                "set kernel_load_addr = 0x7c00 to run it in real mode".into(),
            ),
            Self::BootSector => ("a boot sector".into(), format!("this guest is {arch}")),
            Self::Unknown => return None,
        };
        Some(format!("is {is}: {remedy}"))
    }
}

/// The architecture with its article.
fn a(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "an x86_64",
        Arch::Aarch64 => "an aarch64",
        Arch::Riscv64 => "a riscv64",
    }
}

fn unpacking(compression: Compression) -> &'static str {
    match compression {
        Compression::Gzip => "unpack it with gunzip",
        Compression::Zstd => "unpack it with unzstd",
        Compression::Xz => "unpack it with unxz",
        Compression::Bzip2 => "unpack it with bunzip2",
        Compression::Lz4 => "unpack it with unlz4",
        Compression::Lzma => "unpack it with unlzma",
        Compression::Lzo => "unpack it with unlzop",
    }
}

/// The machine of a little-endian ELF file, if it is one of ours.
fn elf_arch(head: &[u8]) -> Option<Arch> {
    let machine = u16::from_le_bytes(head.get(E_MACHINE..E_MACHINE + 2)?.try_into().ok()?);
    match machine {
        elf::EM_386 | elf::EM_X86_64 => Some(Arch::X86_64),
        elf::EM_AARCH64 => Some(Arch::Aarch64),
        elf::EM_RISCV => Some(Arch::Riscv64),
        _ => None,
    }
}

/// The machine that a PE header names, if it is one of ours (Microsoft's PE format, "COFF File
/// Header").
fn pe_arch(head: &[u8]) -> Option<Arch> {
    const PE_OFFSET: usize = 0x3c;
    let at = u32::from_le_bytes(*head.get(PE_OFFSET..)?.first_chunk()?) as usize;
    match *head.get(at..)?.first_chunk()? {
        [b'P', b'E', 0, 0, 0x64, 0x86] => Some(Arch::X86_64),
        [b'P', b'E', 0, 0, 0x64, 0xaa] => Some(Arch::Aarch64),
        [b'P', b'E', 0, 0, 0x64, 0x50] => Some(Arch::Riscv64),
        _ => None,
    }
}
