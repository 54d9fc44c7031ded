//! What is tried on aarch64.

use std::arch::global_asm;

use super::super::{
    KvmHal, KvmVCpu,
    probe::{run_bounded, snippets},
};
use crate::{
    addr::{AccessWidth, GuestPhysAddr, MappingFlags},
    addrspace::AddrSpace,
    hal::{AxArchVCpu, AxVCpuExitReason, AxVMHal, EntryMode, HalError, HalResult, VCpuSetup},
};

/// Where a snippet writes to when it comes to its end, and what it writes when all is well. Else it
/// is 0 for a wrong result, and 0x80 plus the exception class for an exception.
const DONE_ADDR: GuestPhysAddr = GuestPhysAddr(0x0900_0000);
const DONE: u64 = 0x5a;
const WRONG: u64 = 0;

/// Guest memory: 2 MiB where boards have it.
const MEMORY: u64 = 0x4000_0000;
const MEMORY_SIZE: u64 = 0x20_0000;
const CODE: u64 = MEMORY;
const PAGE_TABLE: u64 = MEMORY + 0x1000;
const SCRATCH: u64 = MEMORY + 0x2000;
const VECTORS: u64 = MEMORY + 0x3000;

/// What stands in the vector for synchronous exceptions from the same level (Arm ARM, D1.3): tells
/// the exception class.
const EXCEPTION: (u64, [u32; 6]) = (
    0x200,
    [
        0xd538_520a, // mrs x10, esr_el1
        0xd35a_fd4a, // lsr x10, x10, #26
        0xb279_014a, // orr x10, x10, #0x80
        0xd2a1_2009, // mov x9, #0x09000000
        0x3900_012a, // strb w10, [x9]
        0x1400_0000, // b .
    ],
);

/// Defines a snippet of EL1 code between two symbols. All are position-independent, are entered
/// with `x1` at the scratch page, `x2` at a page table that maps all there is to itself and `x3` at
/// vectors, and end by writing to [`DONE_ADDR`]; a wrong result is a branch to `7f`.
macro_rules! snippet {
    ($name:ident, $($line:literal),+ $(,)?) => {
        global_asm!(
            ".pushsection .rodata.axvmm_probe, \"a\"",
            ".balign 4",
            concat!(".globl axvmm_probe_", stringify!($name)),
            concat!(".globl axvmm_probe_", stringify!($name), "_end"),
            concat!("axvmm_probe_", stringify!($name), ":"),
            "msr vbar_el1, x3",
            "isb",
            $($line,)+
            "mov w10, #0x5a",
            "b 9f",
            "7: mov w10, #0",
            "9: mov x9, #0x09000000",
            "strb w10, [x9]",
            "2: wfi",
            "b 2b",
            concat!("axvmm_probe_", stringify!($name), "_end:"),
            ".popsection",
        );
    };
}

snippet!(
    el1,
    "mrs x10, CurrentEL",
    "cmp x10, #(1 << 2)",
    "b.ne 7f",
    "ldr x10, =0x0123456789abcdef",
    "str x10, [x1]",
    "3: ldaxr x11, [x1]",
    "add x11, x11, #1",
    "stlxr w12, x11, [x1]",
    "cbnz w12, 3b",
    "ldr x12, [x1]",
    "add x10, x10, #1",
    "cmp x10, x12",
    "b.ne 7f",
    "b 4f",
    ".ltorg",
    "4:",
);
snippet!(
    simd,
    "mov x10, #(3 << 20)", // CPACR_EL1.FPEN: no traps
    "msr cpacr_el1, x10",
    "isb",
    "fmov d0, #3.0",
    "fmul d1, d0, d0",
    "fmov x10, d1",
    "mov x11, #0x4022000000000000", // 9.0
    "cmp x10, x11",
    "b.ne 7f",
    "movi v0.16b, #5",
    "addv b1, v0.16b",
    "umov w10, v1.b[0]",
    "cmp w10, #80",
    "b.ne 7f",
);
snippet!(
    mmu,
    "mov x10, #0xff", // attribute 0: normal memory, write-back; 1: device, nGnRnE
    "msr mair_el1, x10",
    // TCR_EL1: T0SZ 25, cacheable and inner shareable walks, no TTBR1, 40-bit addresses.
    "ldr x10, =(25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2 << 32)",
    "msr tcr_el1, x10",
    "msr ttbr0_el1, x2",
    "isb",
    "mrs x10, sctlr_el1",
    "orr x10, x10, #1",
    "msr sctlr_el1, x10",
    "isb",
    "mrs x11, sctlr_el1",
    "tbz x11, #0, 7f",
    "str x10, [x1]",
    "ldr x11, [x1]",
    "cmp x10, x11",
    "b.ne 7f",
    "b 4f",
    ".ltorg",
    "4:",
);
snippet!(
    counter,
    "mrs x10, cntvct_el0",
    "3: isb",
    "mrs x11, cntvct_el0",
    "cmp x10, x11",
    "b.eq 3b",
    "b.hi 7f",
);
snippet!(
    timer,
    "mov x10, #1000",
    "msr cntv_tval_el0, x10",
    "mov x10, #3", // enabled, its interrupt masked: there is nobody to take it
    "msr cntv_ctl_el0, x10",
    "3: isb",
    "mrs x10, cntv_ctl_el0",
    "tbz x10, #2, 3b", // ISTATUS
);
snippet!(
    psci,
    "mov x0, #0x84000000", // PSCI_VERSION
    "hvc #0",
    "tbnz w0, #31, 7f",
    "cbz w0, 7f",
);

snippets! {
    el1 "EL1" "all of a kernel";
    simd "FP and SIMD" "user space";
    mmu "address translation" "virtual memory";
    counter "the virtual counter" "the kernel's clock";
    timer "the virtual timer" "scheduling";
    psci "PSCI" "processors that start each other, power off, reset";
}

/// Runs a snippet in a VM of its own; what went wrong, if something did.
pub fn try_snippet(code: &[u8]) -> HalResult<Option<String>> {
    let hal = KvmHal::new()?;
    let memory = AddrSpace::new_empty(hal.clone());
    prepare(&memory, code)
        .map_err(|error| HalError::failed("prepare a probe guest", std::io::Error::other(error)))?;
    let mut vcpu = KvmVCpu::new(0, 0, hal.vcpu_create_config(0, 0, 1)?)?;
    vcpu.set_entry(GuestPhysAddr(CODE))?;
    let gprs = vec![(1, SCRATCH), (2, PAGE_TABLE), (3, VECTORS)];
    vcpu.setup(VCpuSetup { mode: EntryMode::Reset, gprs })?;
    hal.vcpus_are_made()?;
    vcpu.bind()?;
    let mut written = None;
    let outcome = run_bounded(&mut vcpu, |reason| {
        if let AxVCpuExitReason::MmioWrite { addr: DONE_ADDR, width: AccessWidth::Byte, data } =
            *reason
        {
            written = Some(data);
        }
        written == Some(DONE)
    });
    vcpu.unbind()?;
    Ok(match written {
        Some(WRONG) => Some("its result is wrong".to_owned()),
        Some(code @ 0x80..) => Some(format!("it raised an exception of class {:#x}", code & 0x3f)),
        _ => outcome?,
    })
}

fn prepare(memory: &AddrSpace, code: &[u8]) -> Result<(), crate::addrspace::Error> {
    // Blocks of 1 GiB: valid, accessed, inner shareable (Arm ARM, D8.3); devices, then memory.
    const BLOCK: u64 = 1 | 3 << 8 | 1 << 10;
    const DEVICE: u64 = 1 << 2;
    memory.map_alloc(GuestPhysAddr(MEMORY), MEMORY_SIZE, MappingFlags::all(), true)?;
    for (index, entry) in [(0, BLOCK | DEVICE), (1, MEMORY | BLOCK)] {
        memory.write(GuestPhysAddr(PAGE_TABLE + 8 * index), &u64::to_le_bytes(entry))?;
    }
    let (offset, words) = EXCEPTION;
    let handler: Vec<_> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    memory.write(GuestPhysAddr(VECTORS + offset), &handler)?;
    memory.write(GuestPhysAddr(CODE), code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kvm_that_uses_the_hardware_has_it_all() {
        for (feature, _, code) in all() {
            assert_eq!(try_snippet(code).unwrap(), None, "{feature}");
        }
    }

    #[test]
    fn what_fails_is_told() {
        let tried = |words: &[u32]| {
            let code: Vec<_> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            try_snippet(&code).unwrap().unwrap()
        };
        // mov x9, #0x09000000; strb wzr, [x9]
        assert!(tried(&[0xd2a1_2009, 0x3900_013f]).contains("wrong"));
        // msr vbar_el1, x3; udf #0
        assert!(tried(&[0xd518_c003, 0]).contains("class 0x0"));
        // ldp x0, x1, [x9]: no syndrome
        let error = tried(&[0xd2a1_2009, 0xa940_0520]);
        assert!(error.contains("read 0x9000000") && error.contains("ldp"), "{error}");
    }
}
