//! A PC, entered by the 64-bit Linux boot protocol: long mode, memory at its own addresses.

use core::arch::{asm, global_asm};

global_asm!(
    ".section .head, \"ax\"",
    ".globl start",
    "start:",
    "lea rsp, [rip + stack_top]",
    "cld",
    "call main",
    ".section .bss",
    ".balign 16",
    ".skip 0x10000",
    "stack_top:",
    ".text",
);

/// COM1's data, and the line status, in which bit 5 says that a byte may be sent.
const COM1: u16 = 0x3f8;
const LSR: u16 = COM1 + 5;

fn write(port: u16, value: u8) {
    // SAFETY: the kernel has the machine to itself; a port's write changes no memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) }
}

pub fn send(byte: u8) {
    let mut status: u8 = 0;
    while status & 1 << 5 == 0 {
        // SAFETY: as above.
        unsafe { asm!("in al, dx", in("dx") LSR, out("al") status, options(nomem, nostack)) }
    }
    write(COM1, byte);
}

/// SLP_EN to PM1a_CNT: status 0.
pub fn power_off() -> ! {
    // SAFETY: as above.
    unsafe { asm!("out dx, ax", in("dx") 0x604_u16, in("ax") 0x2000_u16, options(nomem, nostack)) }
    halt()
}

/// 1 to isa-debug-exit: status 3.
pub fn fail() -> ! {
    write(0xf4, 1);
    halt()
}

fn halt() -> ! {
    loop {
        // SAFETY: as above.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) }
    }
}
