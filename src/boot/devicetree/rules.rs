//! Where the architectures differ.

use crate::{boot::Protocol, boot::elf, hal::Arch};

use super::BLOCK;

/// One architecture's rules.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub arch: Arch,
    /// `e_machine` of its ELF files.
    pub machine: u16,
    pub protocol: Protocol,
    /// The number of the register with the device tree's address, and of that with the hart's id.
    pub dtb_register: usize,
    pub hart_id_register: Option<usize>,
    /// Linux' `COMMAND_LINE_SIZE` without the NUL.
    pub cmdline_max: usize,
    /// What code must be aligned to, in bytes.
    pub code_align: u64,
    /// Where an `Image` counts its `text_offset` from, given the first 2 MiB block of RAM.
    pub image_base: fn(u64) -> u64,
    /// Where the initrd may be, given where the kernel begins: start and end.
    pub initrd_window: fn(u64) -> (u64, u64),
}

/// Linux' `Documentation/arch/arm64/booting.rst`.
pub const AARCH64: Rules = Rules {
    arch: Arch::Aarch64,
    machine: elf::EM_AARCH64,
    protocol: Protocol::Arm64,
    dtb_register: 0,
    hart_id_register: None,
    cmdline_max: 2047,
    code_align: 4,
    // The first block is left to the device tree: `text_offset` is 0 since Linux 5.8.
    image_base: |block| block.saturating_add(BLOCK),
    // "Within a 1 GB aligned physical window of up to 32 GB in size that fully covers the kernel".
    initrd_window: |kernel| {
        let start = kernel & !((1 << 30) - 1);
        (start, start.saturating_add(32 << 30))
    },
};

/// Linux' `Documentation/arch/riscv/boot.rst`.
pub const RISCV64: Rules = Rules {
    arch: Arch::Riscv64,
    machine: elf::EM_RISCV,
    protocol: Protocol::Riscv,
    dtb_register: 11,
    hart_id_register: Some(10),
    cmdline_max: 1023,
    code_align: 2,
    // `text_offset` is 2 MiB, which leaves the first block to the device tree.
    image_base: |block| block,
    initrd_window: |_| (0, u64::MAX),
};
