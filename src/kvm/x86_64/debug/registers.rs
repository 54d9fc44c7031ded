//! The registers that a debugger of x86_64 knows: those of GDB's features `i386.core`, `i386.sse` and
//! `i386.segments`, and control registers.

use kvm_bindings::{kvm_fpu, kvm_regs, kvm_sregs};
use kvm_ioctls::VcpuFd;

use crate::hal::{DebugFeature, DebugModel, DebugRegister, HalError, HalResult};

/// All registers, and the instructions that stop.
pub static MODEL: DebugModel = DebugModel {
    architecture: "i386:x86-64",
    features: &[
        DebugFeature { name: "org.gnu.gdb.i386.core", types: FLAGS, registers: &CORE },
        DebugFeature { name: "org.gnu.gdb.i386.sse", types: VECTORS, registers: &SSE },
        DebugFeature { name: "org.gnu.gdb.i386.segments", types: "", registers: &BASES },
        DebugFeature { name: "org.axvmm.control", types: "", registers: &CONTROL },
    ],
    pc: RIP,
    breakpoints: &[&[0xcc]],
};

const RIP: usize = 16;
const EFLAGS: usize = 17;
const ST0: usize = 24;
const FCTRL: usize = 32;
const XMM0: usize = 40;
const MXCSR: usize = 56;
const FS_BASE: usize = 57;

const FLAGS: &str = "<flags id=\"x86_eflags\" size=\"4\">\
    <field name=\"CF\" start=\"0\" end=\"0\"/><field name=\"PF\" start=\"2\" end=\"2\"/>\
    <field name=\"AF\" start=\"4\" end=\"4\"/><field name=\"ZF\" start=\"6\" end=\"6\"/>\
    <field name=\"SF\" start=\"7\" end=\"7\"/><field name=\"TF\" start=\"8\" end=\"8\"/>\
    <field name=\"IF\" start=\"9\" end=\"9\"/><field name=\"DF\" start=\"10\" end=\"10\"/>\
    <field name=\"OF\" start=\"11\" end=\"11\"/><field name=\"NT\" start=\"14\" end=\"14\"/>\
    <field name=\"RF\" start=\"16\" end=\"16\"/><field name=\"VM\" start=\"17\" end=\"17\"/>\
    <field name=\"AC\" start=\"18\" end=\"18\"/><field name=\"ID\" start=\"21\" end=\"21\"/></flags>";

const VECTORS: &str = "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>\
    <vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>\
    <vector id=\"v16i8\" type=\"int8\" count=\"16\"/>\
    <vector id=\"v8i16\" type=\"int16\" count=\"8\"/>\
    <vector id=\"v4i32\" type=\"int32\" count=\"4\"/>\
    <vector id=\"v2i64\" type=\"int64\" count=\"2\"/>\
    <union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/>\
    <field name=\"v2_double\" type=\"v2d\"/><field name=\"v16_int8\" type=\"v16i8\"/>\
    <field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/>\
    <field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" type=\"uint128\"/></union>";

const fn wide(name: &'static str) -> DebugRegister {
    DebugRegister::new(name, 64, "int64")
}

const fn address(name: &'static str) -> DebugRegister {
    DebugRegister::new(name, 64, "data_ptr")
}

const fn word(name: &'static str) -> DebugRegister {
    DebugRegister::new(name, 32, "int32")
}

const fn float(name: &'static str) -> DebugRegister {
    DebugRegister::new(name, 80, "i387_ext")
}

const fn vector(name: &'static str) -> DebugRegister {
    DebugRegister::new(name, 128, "vec128")
}

#[rustfmt::skip] // as a table
static CORE: [DebugRegister; 40] = [
    wide("rax"), wide("rbx"), wide("rcx"), wide("rdx"), wide("rsi"), wide("rdi"),
    address("rbp"), address("rsp"),
    wide("r8"), wide("r9"), wide("r10"), wide("r11"), wide("r12"), wide("r13"), wide("r14"), wide("r15"),
    DebugRegister::new("rip", 64, "code_ptr"), DebugRegister::new("eflags", 32, "x86_eflags"),
    word("cs"), word("ss"), word("ds"), word("es"), word("fs"), word("gs"),
    float("st0"), float("st1"), float("st2"), float("st3"),
    float("st4"), float("st5"), float("st6"), float("st7"),
    word("fctrl"), word("fstat"), word("ftag"), word("fiseg"),
    word("fioff"), word("foseg"), word("fooff"), word("fop"),
];

#[rustfmt::skip] // as a table
static SSE: [DebugRegister; 17] = [
    vector("xmm0"), vector("xmm1"), vector("xmm2"), vector("xmm3"),
    vector("xmm4"), vector("xmm5"), vector("xmm6"), vector("xmm7"),
    vector("xmm8"), vector("xmm9"), vector("xmm10"), vector("xmm11"),
    vector("xmm12"), vector("xmm13"), vector("xmm14"), vector("xmm15"), word("mxcsr"),
];

static BASES: [DebugRegister; 2] = [wide("fs_base"), wide("gs_base")];

#[rustfmt::skip] // as a table
static CONTROL: [DebugRegister; 6] = [
    wide("cr0"), wide("cr2"), wide("cr3"), wide("cr4"), wide("cr8"), wide("efer"),
];

fn general(regs: &mut kvm_regs) -> [&mut u64; 17] {
    let r = regs;
    [
        &mut r.rax, &mut r.rbx, &mut r.rcx, &mut r.rdx, &mut r.rsi, &mut r.rdi, &mut r.rbp,
        &mut r.rsp, &mut r.r8, &mut r.r9, &mut r.r10, &mut r.r11, &mut r.r12, &mut r.r13,
        &mut r.r14, &mut r.r15, &mut r.rip,
    ]
}

fn control(sregs: &mut kvm_sregs) -> [&mut u64; 8] {
    let s = sregs;
    [
        &mut s.fs.base,
        &mut s.gs.base,
        &mut s.cr0,
        &mut s.cr2,
        &mut s.cr3,
        &mut s.cr4,
        &mut s.cr8,
        &mut s.efer,
    ]
}

/// The control word and what follows it, by GDB's numbers.
fn fpu_words(fpu: &kvm_fpu) -> [u32; 8] {
    [
        fpu.fcw.into(),
        fpu.fsw.into(),
        full_tags(fpu),
        0,
        fpu.last_ip as u32,
        0,
        fpu.last_dp as u32,
        fpu.last_opcode.into(),
    ]
}

/// The tag word from KVM's short form, which only says whether a register is empty: bits 11 are
/// "empty", and 00 stands for all else.
fn full_tags(fpu: &kvm_fpu) -> u32 {
    (0..8).filter(|bit| fpu.ftwx >> bit & 1 == 0).map(|bit| 3 << (2 * bit)).sum()
}

fn short_tags(full: u32) -> u8 {
    (0..8).filter(|bit| full >> (2 * bit) & 3 != 3).map(|bit| 1 << bit).sum()
}

/// All registers.
pub fn registers(fd: &VcpuFd) -> HalResult<Vec<Option<u128>>> {
    let mut regs = fd.get_regs().map_err(failed("read registers (KVM_GET_REGS)"))?;
    let mut sregs = fd.get_sregs().map_err(failed("read registers (KVM_GET_SREGS)"))?;
    let fpu = fd.get_fpu().map_err(failed("read registers (KVM_GET_FPU)"))?;
    let mut all: Vec<u128> = general(&mut regs).map(|value| u128::from(*value)).to_vec();
    all.push(regs.rflags.into());
    let segments = [&sregs.cs, &sregs.ss, &sregs.ds, &sregs.es, &sregs.fs, &sregs.gs];
    all.extend(segments.map(|segment| u128::from(segment.selector)));
    all.extend(fpu.fpr.map(u128::from_le_bytes));
    all.extend(fpu_words(&fpu).map(u128::from));
    all.extend(fpu.xmm.map(u128::from_le_bytes));
    all.push(fpu.mxcsr.into());
    all.extend(control(&mut sregs).map(|value| u128::from(*value)));
    Ok(all.into_iter().map(Some).collect())
}

/// Writes one.
pub fn set_register(fd: &VcpuFd, number: usize, value: u128) -> HalResult {
    match number {
        0..=EFLAGS => {
            let mut regs = fd.get_regs().map_err(failed("read registers (KVM_GET_REGS)"))?;
            if number == EFLAGS {
                regs.rflags = value as u64;
            } else if let Some(register) = general(&mut regs).into_iter().nth(number) {
                *register = value as u64;
            }
            fd.set_regs(&regs).map_err(failed("set a register (KVM_SET_REGS)"))
        }
        ST0..=MXCSR => {
            let mut fpu = fd.get_fpu().map_err(failed("read registers (KVM_GET_FPU)"))?;
            set_float(&mut fpu, number, value);
            fd.set_fpu(&fpu).map_err(failed("set a register (KVM_SET_FPU)"))
        }
        FS_BASE.. => {
            let mut sregs = fd.get_sregs().map_err(failed("read registers (KVM_GET_SREGS)"))?;
            let register = control(&mut sregs).into_iter().nth(number - FS_BASE);
            *register.ok_or_else(no_such)? = value as u64;
            fd.set_sregs(&sregs).map_err(failed("set a register (KVM_SET_SREGS)"))
        }
        // A selector is nothing without its descriptor.
        _ => Err(HalError::host_cannot("load a segment from outside the guest")),
    }
}

fn set_float(fpu: &mut kvm_fpu, number: usize, value: u128) {
    match number {
        ST0..FCTRL => fpu.fpr[number - ST0] = value.to_le_bytes(),
        XMM0..MXCSR => fpu.xmm[number - XMM0] = value.to_le_bytes(),
        MXCSR => fpu.mxcsr = value as u32,
        _ => match number - FCTRL {
            0 => fpu.fcw = value as u16,
            1 => fpu.fsw = value as u16,
            2 => fpu.ftwx = short_tags(value as u32),
            4 => fpu.last_ip = u64::from(value as u32),
            6 => fpu.last_dp = u64::from(value as u32),
            7 => fpu.last_opcode = value as u16,
            // Segments, which 64-bit processors do not keep.
            _ => {}
        },
    }
}

fn no_such() -> HalError {
    HalError::host_cannot("set a register that there is not")
}

fn failed(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> HalError {
    move |errno| HalError::failed(what, errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_have_the_numbers_that_they_are_written_by() {
        let names: Vec<_> = MODEL.registers().map(|register| register.name).collect();
        for (number, name) in [
            (RIP, "rip"),
            (EFLAGS, "eflags"),
            (ST0, "st0"),
            (FCTRL, "fctrl"),
            (XMM0, "xmm0"),
            (MXCSR, "mxcsr"),
            (FS_BASE, "fs_base"),
            (FS_BASE + 2, "cr0"),
        ] {
            assert_eq!(names[number], name);
        }
        assert_eq!(names.len(), FS_BASE + 8);
    }

    #[test]
    fn tags_keep_which_registers_are_empty() {
        let fpu = kvm_fpu { ftwx: 0b1010_0001, ..Default::default() };
        assert_eq!(full_tags(&fpu), 0b00_11_00_11_11_11_11_00);
        assert_eq!(short_tags(full_tags(&fpu)), fpu.ftwx);
    }
}
