//! What is tried on x86_64.

use std::arch::global_asm;

use super::super::{
    KvmHal, KvmVCpu,
    probe::{run_bounded, snippets},
};
use crate::{
    addr::{AccessWidth, GuestPhysAddr, MappingFlags, Port},
    addrspace::AddrSpace,
    hal::{
        AxArchVCpu, AxVCpuExitReason, AxVMHal, DescriptorTable, EntryMode, HalError, HalResult,
        VCpuSetup,
    },
};

/// The port that a snippet writes to when it came through, and what it writes.
const DONE_PORT: Port = Port(0xf4);
const DONE: u64 = 0x5a;

/// Guest memory: 2 MiB, identity-mapped by one large page.
const MEMORY: u64 = 0x20_0000;
const GDT: u64 = 0x500;
const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const PD: u64 = 0x3000;
/// Where the snippets expect an interrupt descriptor table, and where they may write.
const IDT: u64 = 0x4000;
const SCRATCH: u64 = 0x5000;
const CODE: u64 = 0x8000;
const STACK: u64 = 0x1_0000;

/// Defines a snippet of 64-bit code between two symbols. All are position-independent, are entered
/// with RSP at a stack, RSI at the scratch page and RDI at the IDT's page, and end by writing
/// [`DONE`] to [`DONE_PORT`].
macro_rules! snippet {
    ($name:ident, $($line:literal),+ $(,)?) => {
        global_asm!(
            ".pushsection .rodata.axvmm_probe, \"a\"",
            concat!(".globl axvmm_probe_", stringify!($name)),
            concat!(".globl axvmm_probe_", stringify!($name), "_end"),
            concat!("axvmm_probe_", stringify!($name), ":"),
            $($line,)+
            "mov al, 0x5a",
            "out 0xf4, al",
            "2: hlt",
            "jmp 2b",
            concat!("axvmm_probe_", stringify!($name), "_end:"),
            ".popsection",
        );
    };
}

snippet!(long_mode, "mov rax, 0x123456789abcdef", "mov [rsi], rax", "cmp [rsi], rax", "jne 2f");
snippet!(
    sse,
    "mov rax, cr4",
    "or eax, 0x600", // OSFXSR, OSXMMEXCPT
    "mov cr4, rax",
    "movups xmm0, [rsi]",
    "paddd xmm0, xmm0",
    "movups [rsi], xmm0",
);
snippet!(
    cmpxchg16b,
    "xor eax, eax",
    "xor edx, edx",
    "mov ebx, 1",
    "xor ecx, ecx",
    "lock cmpxchg16b [rsi]",
    "jne 2f",
);
snippet!(
    xsave,
    "mov rax, cr4",
    "or eax, 0x40600", // OSXSAVE, OSFXSR, OSXMMEXCPT
    "mov cr4, rax",
    "xor ecx, ecx",
    "xor edx, edx",
    "mov eax, 3", // x87 and SSE state
    "xsetbv",
    "xsave [rsi]",
    "xrstor [rsi]",
);
snippet!(
    int3,
    // The handler is the instruction after int3; its gate, number 3, is written byte by byte.
    "lea rax, [rip + 3f]",
    "mov [rdi + 0x30], ax",
    "mov word ptr [rdi + 0x32], 0x10",
    "mov word ptr [rdi + 0x34], 0x8e00",
    "mov word ptr [rdi + 0x36], 0",
    "sub rsp, 16",
    "mov word ptr [rsp], 0xfff",
    "mov [rsp + 2], rdi",
    "lidt [rsp]",
    "int3",
    "hlt",
    "3:",
);

snippets! {
    long_mode "long mode" "all of a 64-bit kernel";
    sse "SSE" "user space, and cryptography in the kernel";
    cmpxchg16b "cmpxchg16b" "lock-free lists of the memory allocator";
    xsave "xsave" "switching between tasks";
    int3 "int3" "patching the kernel's own code while it boots";
}

/// Runs a snippet in a VM of its own; what went wrong, if something did.
pub fn try_snippet(code: &[u8]) -> HalResult<Option<String>> {
    let hal = KvmHal::new()?;
    let memory = AddrSpace::new_empty(hal.clone());
    prepare(&memory, code)
        .map_err(|error| HalError::failed("prepare a probe guest", std::io::Error::other(error)))?;
    let mut vcpu = KvmVCpu::new(0, 0, hal.vcpu_create_config(0, 0, 1)?)?;
    vcpu.set_entry(GuestPhysAddr(CODE))?;
    vcpu.setup(VCpuSetup {
        mode: EntryMode::Long64 {
            gdt: DescriptorTable { base: GuestPhysAddr(GDT), limit: 0x1f },
            page_table: GuestPhysAddr(PML4),
        },
        gprs: vec![(4, STACK), (6, SCRATCH), (7, IDT)],
    })?;
    vcpu.bind()?;
    let outcome = run_bounded(&mut vcpu, is_done);
    vcpu.unbind()?;
    outcome
}

/// Whether the snippet came through.
fn is_done(reason: &AxVCpuExitReason) -> bool {
    let done = AxVCpuExitReason::IoWrite { port: DONE_PORT, width: AccessWidth::Byte, data: DONE };
    *reason == done
}

fn prepare(memory: &AddrSpace, code: &[u8]) -> Result<(), crate::addrspace::Error> {
    // A page present and writable; PD entries with bit 7 are 2 MiB pages (Intel SDM vol. 3, 4.5).
    const TABLE: u64 = 0x3;
    const LARGE_PAGE: u64 = 0x83;
    // Flat 64-bit code at 0x10, flat data at 0x18, as the vCPU's segments say.
    const DESCRIPTORS: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
    memory.map_alloc(GuestPhysAddr(0), MEMORY, MappingFlags::all(), true)?;
    for (at, entry) in [(PML4, PDPT | TABLE), (PDPT, PD | TABLE), (PD, LARGE_PAGE)] {
        memory.write(GuestPhysAddr(at), &entry.to_le_bytes())?;
    }
    for (at, descriptor) in (GDT..).step_by(8).zip(DESCRIPTORS) {
        memory.write(GuestPhysAddr(at), &descriptor.to_le_bytes())?;
    }
    memory.write(GuestPhysAddr(CODE), code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_told() {
        let failure = try_snippet(&[0x0f, 0x0b]).unwrap().unwrap(); // ud2 without an IDT
        assert!(failure.contains("triple fault"), "{failure}");
        let failure = try_snippet(&[0xb0, 0x01, 0xe6, 0xf4]).unwrap().unwrap(); // the wrong value
        assert!(failure.contains("IoWrite"), "{failure}");
    }
}
