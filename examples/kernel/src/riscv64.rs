//! The board `virt`, entered as the Linux boot protocol for RISC-V has it: S-mode, satp 0.

use core::{
    arch::{asm, global_asm},
    ptr,
};

global_asm!(
    ".section .head, \"ax\"",
    ".globl start",
    "start:",
    "la sp, stack_top",
    "call main",
    ".section .bss",
    ".balign 16",
    ".skip 0x10000",
    "stack_top:",
    ".text",
);

/// The 16550's data, and the line status, in which bit 5 says that a byte may be sent.
const THR: *mut u8 = 0x1000_0000 as *mut u8;
const LSR: *const u8 = 0x1000_0005 as *const u8;

/// `sifive_test`: 0x5555 passes, 0x3333 fails with the code in the upper half.
const FINISHER: *mut u32 = 0x10_0000 as *mut u32;

pub fn send(byte: u8) {
    // SAFETY: the board has these registers there, and nobody else uses them.
    unsafe {
        while ptr::read_volatile(LSR) & 1 << 5 == 0 {}
        ptr::write_volatile(THR, byte);
    }
}

/// Status 0.
pub fn power_off() -> ! {
    finish(0x5555)
}

/// Status 3.
pub fn fail() -> ! {
    finish(3 << 16 | 0x3333)
}

fn finish(how: u32) -> ! {
    // SAFETY: as above; the machine ends.
    unsafe { ptr::write_volatile(FINISHER, how) };
    loop {
        // SAFETY: it waits.
        unsafe { asm!("wfi", options(nomem, nostack)) }
    }
}
