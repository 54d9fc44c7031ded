//! The board `virt`, entered as the Linux boot protocol for arm64 has it: MMU off, at EL1.

use core::{
    arch::{asm, global_asm},
    ptr,
};

global_asm!(
    ".section .head, \"ax\"",
    ".globl start",
    "start:",
    "adrp x9, stack_top",
    "add x9, x9, :lo12:stack_top",
    "mov sp, x9",
    // Compiled code may use the registers of FP.
    "mov x9, #3 << 20",
    "msr cpacr_el1, x9",
    "isb",
    "bl main",
    ".section .bss",
    ".balign 16",
    ".skip 0x10000",
    "stack_top:",
    ".text",
);

/// The PL011's data, and its flags, in which bit 5 says that no byte can be sent.
const UARTDR: *mut u32 = 0x0900_0000 as *mut u32;
const UARTFR: *const u32 = 0x0900_0018 as *const u32;

pub fn send(byte: u8) {
    // SAFETY: the board has these registers there, and nobody else uses them.
    unsafe {
        while ptr::read_volatile(UARTFR) & 1 << 5 != 0 {}
        ptr::write_volatile(UARTDR, byte.into());
    }
}

/// PSCI's SYSTEM_OFF: status 0.
pub fn power_off() -> ! {
    psci(0x8400_0008)
}

/// PSCI's SYSTEM_RESET: status 32, since the runner starts no kernel again.
pub fn fail() -> ! {
    psci(0x8400_0009)
}

fn psci(function: u64) -> ! {
    // SAFETY: neither call returns, and if one did, the kernel would wait.
    unsafe { asm!("hvc #0", in("x0") function, options(nomem, nostack)) }
    loop {
        // SAFETY: it waits.
        unsafe { asm!("wfi", options(nomem, nostack)) }
    }
}
