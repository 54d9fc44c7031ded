//! What is tried on riscv64.

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
/// is 0 for a wrong result, and 0x80 plus the exception's code for an exception.
const DONE_ADDR: GuestPhysAddr = GuestPhysAddr(0x1000_0000);
const DONE: u64 = 0x5a;
const WRONG: u64 = 0;

/// Guest memory: 2 MiB where boards have it.
const MEMORY: u64 = 0x8000_0000;
const MEMORY_SIZE: u64 = 0x20_0000;
const CODE: u64 = MEMORY;
const PAGE_TABLE: u64 = MEMORY + 0x1000;
const SCRATCH: u64 = MEMORY + 0x2000;

/// Defines a snippet of supervisor code between two symbols. All are position-independent, are
/// entered with `a1` at the scratch page and `a2` at an Sv39 page table that maps all there is to
/// itself, and end by writing to [`DONE_ADDR`]; a wrong result is a jump to `7f`.
macro_rules! snippet {
    ($name:ident, $($line:literal),+ $(,)?) => {
        global_asm!(
            ".pushsection .rodata.axvmm_probe, \"a\"",
            ".option push",
            // Whether the compiler hands the target's extensions on depends on how it is called.
            ".option arch, rv64gc",
            ".option norvc",
            ".option norelax",
            ".balign 4",
            concat!(".globl axvmm_probe_", stringify!($name)),
            concat!(".globl axvmm_probe_", stringify!($name), "_end"),
            concat!("axvmm_probe_", stringify!($name), ":"),
            "lla t0, 8f",
            "csrw stvec, t0",
            $($line,)+
            "li t1, 0x5a",
            "j 9f",
            "7: li t1, 0",
            "j 9f",
            "8: csrr t1, scause",
            "ori t1, t1, 0x80",
            "9: li t0, 0x10000000",
            "sb t1, 0(t0)",
            "2: wfi",
            "j 2b",
            concat!("axvmm_probe_", stringify!($name), "_end:"),
            ".option pop",
            ".popsection",
        );
    };
}

snippet!(
    rv64,
    "li t0, 0x123456789abcdef",
    "sd t0, 0(a1)",
    "ld t1, 0(a1)",
    "bne t0, t1, 7f",
    "li t2, 1",
    "amoadd.d t1, t2, (a1)",
    "ld t1, 0(a1)",
    "add t0, t0, t2",
    "bne t0, t1, 7f",
);
snippet!(
    float,
    "li t0, 0x2000", // sstatus.FS: initial
    "csrs sstatus, t0",
    "li t0, 3",
    "fcvt.d.l f0, t0",
    "fmul.d f1, f0, f0",
    "fsd f1, 0(a1)",
    "ld t1, 0(a1)",
    "li t2, 0x4022000000000000", // 9.0
    "bne t1, t2, 7f",
    "fcvt.s.l f0, t0",
    "fadd.s f1, f0, f0",
    "fcvt.l.s t1, f1",
    "li t2, 6",
    "bne t1, t2, 7f",
);
snippet!(time, "rdtime t0", "3: rdtime t1", "beq t0, t1, 3b", "bltu t1, t0, 7f");
snippet!(
    sv39,
    "srli t0, a2, 12",
    "li t1, 8 << 60",
    "or t0, t0, t1",
    "sfence.vma",
    "csrw satp, t0",
    "sfence.vma",
    "csrr t1, satp",
    "bne t0, t1, 7f",
    "sd t0, 0(a1)",
    "ld t1, 0(a1)",
    "bne t0, t1, 7f",
);
snippet!(
    sbi,
    // Base extension (0x10), function 3: whether there is TIME, sPI, RFNC, HSM.
    "li a7, 0x10",
    "li a6, 3",
    "li a0, 0x54494d45",
    "ecall",
    "bnez a0, 7f",
    "beqz a1, 7f",
    "li a0, 0x735049",
    "ecall",
    "bnez a0, 7f",
    "beqz a1, 7f",
    "li a0, 0x52464e43",
    "ecall",
    "bnez a0, 7f",
    "beqz a1, 7f",
    "li a0, 0x48534d",
    "ecall",
    "bnez a0, 7f",
    "beqz a1, 7f",
);
snippet!(
    timer,
    "li t2, 1 << 5", // the supervisor's timer interrupt, in sie and sip
    "csrs sie, t2",
    "rdtime a0",
    "addi a0, a0, 1000",
    "li a7, 0x54494d45", // TIME, function 0: set_timer
    "li a6, 0",
    "ecall",
    "bnez a0, 7f",
    "wfi",
    "4: csrr t1, sip",
    "and t1, t1, t2",
    "beqz t1, 4b",
);

snippets! {
    rv64 "64-bit code" "all of a kernel";
    float "F and D" "user space";
    time "the time CSR" "the kernel's clock";
    sv39 "Sv39" "virtual memory";
    sbi "the SBI" "processors that start and interrupt each other";
    timer "the SBI's timer" "scheduling";
}

/// Runs a snippet in a VM of its own; what went wrong, if something did.
pub fn try_snippet(code: &[u8]) -> HalResult<Option<String>> {
    let hal = KvmHal::new()?;
    let memory = AddrSpace::new_empty(hal.clone());
    prepare(&memory, code)
        .map_err(|error| HalError::failed("prepare a probe guest", std::io::Error::other(error)))?;
    let mut vcpu = KvmVCpu::new(0, 0, hal.vcpu_create_config(0, 0, 1)?)?;
    vcpu.set_entry(GuestPhysAddr(CODE))?;
    vcpu.setup(VCpuSetup { mode: EntryMode::Reset, gprs: vec![(11, SCRATCH), (12, PAGE_TABLE)] })?;
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
        Some(code @ 0x80..) => Some(format!("it raised exception {}", code & 0x7f)),
        _ => outcome?,
    })
}

fn prepare(memory: &AddrSpace, code: &[u8]) -> Result<(), crate::addrspace::Error> {
    // Leaves of 1 GiB: valid, readable, writable, executable, accessed, dirty (privileged ISA
    // manual, "Sv39").
    const LEAF: u64 = 0xcf;
    const GIB: u64 = 1 << 30;
    memory.map_alloc(GuestPhysAddr(MEMORY), MEMORY_SIZE, MappingFlags::all(), true)?;
    for gib in 0..3 {
        let entry = ((gib * GIB) >> 12) << 10 | LEAF;
        memory.write(GuestPhysAddr(PAGE_TABLE + 8 * gib), &entry.to_le_bytes())?;
    }
    memory.write(GuestPhysAddr(CODE), code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kvm_that_uses_the_hardware_has_it_all() {
        for probe in crate::kvm::probe::run().unwrap() {
            assert_eq!(probe.failure, None, "{}", probe.feature);
        }
    }

    #[test]
    fn what_fails_is_told() {
        let tried = |words: &[u32]| {
            let code: Vec<_> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            try_snippet(&code).unwrap().unwrap()
        };
        // lui t0, 0x10000; sb t1, 0(t0), with t1 0, or 0x82 by addi t1, x0, 0x82.
        assert!(tried(&[0x1000_02b7, 0x0062_8023]).contains("wrong"));
        assert!(tried(&[0x1000_02b7, 0x0820_0313, 0x0062_8023]).contains("exception 2"));
        // An illegal instruction with stvec 0, where no memory is.
        assert!(tried(&[0]).contains("where no memory is"));
    }
}
