//! What kernels are, and how they are entered.

use std::fmt;

use serde::Serialize;

/// What a kernel file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// x86 Linux, with its setup code before it.
    BzImage,
    /// The `Image` of arm64 or riscv Linux.
    Image,
    /// A 32-bit ELF file.
    Elf32,
    /// A 64-bit ELF file.
    Elf64,
    /// Nothing that says what it is: bytes for an address.
    Flat,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BzImage => "bzImage",
            Self::Image => "Image",
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
    /// Linux' `Documentation/arch/arm64/booting.rst`: x0 has the device tree's address.
    Arm64,
    /// Linux' `Documentation/arch/riscv/boot.rst`: a0 has the hart's id, a1 the device tree's address.
    Riscv,
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
            Self::Arm64 => "the arm64 Linux protocol",
            Self::Riscv => "the riscv Linux protocol",
            Self::Real => "real mode",
        })
    }
}
