//! The registers that a debugger of aarch64 knows: those of GDB's features `aarch64.core` and
//! `aarch64.fpu`, and system registers.

use kvm_ioctls::VcpuFd;

use super::super::one_reg::{OneReg, Vector};
use crate::hal::{DebugFeature, DebugModel, DebugRegister, HalError, HalResult};

/// All registers, and the instructions that stop.
pub static MODEL: DebugModel = DebugModel {
    architecture: "aarch64",
    features: &[
        DebugFeature { name: "org.gnu.gdb.aarch64.core", types: FLAGS, registers: &CORE },
        DebugFeature { name: "org.gnu.gdb.aarch64.fpu", types: VECTORS, registers: &FPU },
        DebugFeature { name: "org.axvmm.system", types: "", registers: &SYSTEM },
    ],
    pc: PC,
    // brk #0
    breakpoints: &[&[0x00, 0x00, 0x20, 0xd4]],
};

const SP: usize = 31;
const PC: usize = 32;
const CPSR: usize = 33;
const V0: usize = 34;
const FPSR: usize = 66;
const FPCR: usize = 67;
const FIRST_SYSTEM: usize = 68;

/// PSTATE: EL1 or EL0 by its own stack pointer.
const SPSEL: u64 = 1;
const EL1: u64 = 4;

const FLAGS: &str = "<flags id=\"cpsr_flags\" size=\"4\">\
    <field name=\"SP\" start=\"0\" end=\"0\"/><field name=\"EL\" start=\"2\" end=\"3\"/>\
    <field name=\"nRW\" start=\"4\" end=\"4\"/><field name=\"F\" start=\"6\" end=\"6\"/>\
    <field name=\"I\" start=\"7\" end=\"7\"/><field name=\"A\" start=\"8\" end=\"8\"/>\
    <field name=\"D\" start=\"9\" end=\"9\"/><field name=\"IL\" start=\"20\" end=\"20\"/>\
    <field name=\"SS\" start=\"21\" end=\"21\"/><field name=\"PAN\" start=\"22\" end=\"22\"/>\
    <field name=\"V\" start=\"28\" end=\"28\"/><field name=\"C\" start=\"29\" end=\"29\"/>\
    <field name=\"Z\" start=\"30\" end=\"30\"/><field name=\"N\" start=\"31\" end=\"31\"/></flags>";

const VECTORS: &str = "<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>\
    <vector id=\"v2u\" type=\"uint64\" count=\"2\"/><vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>\
    <vector id=\"v4u\" type=\"uint32\" count=\"4\"/><vector id=\"v16u\" type=\"uint8\" count=\"16\"/>\
    <union id=\"aarch64v\"><field name=\"d\" type=\"v2d\"/><field name=\"du\" type=\"v2u\"/>\
    <field name=\"f\" type=\"v4f\"/><field name=\"su\" type=\"v4u\"/><field name=\"b\" type=\"v16u\"/>\
    <field name=\"q\" type=\"uint128\"/></union>";

const fn x(name: &'static str) -> DebugRegister {
    DebugRegister::int(name, 64)
}

const fn v(name: &'static str) -> DebugRegister {
    DebugRegister::new(name, 128, "aarch64v")
}

#[rustfmt::skip] // as a table
static CORE: [DebugRegister; 34] = [
    x("x0"), x("x1"), x("x2"), x("x3"), x("x4"), x("x5"), x("x6"), x("x7"),
    x("x8"), x("x9"), x("x10"), x("x11"), x("x12"), x("x13"), x("x14"), x("x15"),
    x("x16"), x("x17"), x("x18"), x("x19"), x("x20"), x("x21"), x("x22"), x("x23"),
    x("x24"), x("x25"), x("x26"), x("x27"), x("x28"), x("x29"), x("x30"),
    DebugRegister::new("sp", 64, "data_ptr"), DebugRegister::new("pc", 64, "code_ptr"),
    DebugRegister::new("cpsr", 32, "cpsr_flags"),
];

#[rustfmt::skip] // as a table
static FPU: [DebugRegister; 34] = [
    v("v0"), v("v1"), v("v2"), v("v3"), v("v4"), v("v5"), v("v6"), v("v7"),
    v("v8"), v("v9"), v("v10"), v("v11"), v("v12"), v("v13"), v("v14"), v("v15"),
    v("v16"), v("v17"), v("v18"), v("v19"), v("v20"), v("v21"), v("v22"), v("v23"),
    v("v24"), v("v25"), v("v26"), v("v27"), v("v28"), v("v29"), v("v30"), v("v31"),
    DebugRegister::int("fpsr", 32), DebugRegister::int("fpcr", 32),
];

#[rustfmt::skip] // as a table
static SYSTEM: [DebugRegister; 12] = [
    x("SP_EL0"), x("SP_EL1"), x("ELR_EL1"), x("SPSR_EL1"), x("ESR_EL1"), x("FAR_EL1"),
    x("VBAR_EL1"), x("SCTLR_EL1"), x("TCR_EL1"), x("TTBR0_EL1"), x("TTBR1_EL1"), x("MPIDR_EL1"),
];
const SYSTEM_REGS: [OneReg; 12] = [
    OneReg::SP_EL0,
    OneReg::SP_EL1,
    OneReg::ELR_EL1,
    OneReg::SPSR_EL1,
    OneReg::ESR_EL1,
    OneReg::FAR_EL1,
    OneReg::VBAR_EL1,
    OneReg::SCTLR_EL1,
    OneReg::TCR_EL1,
    OneReg::TTBR0_EL1,
    OneReg::TTBR1_EL1,
    OneReg::MPIDR_EL1,
];

/// The stack pointer that is in use.
const fn sp(pstate: u64) -> OneReg {
    if pstate & (EL1 | SPSEL) == EL1 | SPSEL { OneReg::SP_EL1 } else { OneReg::SP_EL0 }
}

/// All registers.
pub fn registers(fd: &VcpuFd) -> HalResult<Vec<Option<u128>>> {
    let get = |reg: OneReg| reg.get(fd).map(u128::from).map_err(read_failed);
    let mut all = Vec::with_capacity(FIRST_SYSTEM + SYSTEM.len());
    for reg in (0..SP).filter_map(OneReg::x) {
        all.push(Some(get(reg)?));
    }
    let pstate = get(OneReg::PSTATE)?;
    all.extend([Some(get(sp(pstate as u64))?), Some(get(OneReg::PC)?), Some(pstate)]);
    all.extend((0..32).map(|number| Vector::new(number).get(fd).ok()));
    all.extend([OneReg::FPSR, OneReg::FPCR].map(|reg| reg.get_word(fd).ok().map(u128::from)));
    all.extend(SYSTEM_REGS.map(|reg| reg.get(fd).ok().map(u128::from)));
    Ok(all)
}

/// Writes one.
pub fn set_register(fd: &VcpuFd, number: usize, value: u128) -> HalResult {
    let done = match number {
        SP => {
            let pstate = OneReg::PSTATE.get(fd).map_err(read_failed)?;
            sp(pstate).set(fd, value as u64)
        }
        PC => OneReg::PC.set(fd, value as u64),
        CPSR => OneReg::PSTATE.set(fd, value as u64),
        V0..FPSR => Vector::new(number - V0).set(fd, value),
        FPSR => OneReg::FPSR.set_word(fd, value as u32),
        FPCR => OneReg::FPCR.set_word(fd, value as u32),
        _ => {
            let reg = OneReg::x(number)
                .or_else(|| SYSTEM_REGS.get(number.checked_sub(FIRST_SYSTEM)?).copied());
            match reg {
                Some(reg) => reg.set(fd, value as u64),
                None => return Err(HalError::host_cannot("set a register that there is not")),
            }
        }
    };
    done.map_err(|errno| HalError::failed("set a register (KVM_SET_ONE_REG)", errno))
}

pub fn read_failed(errno: kvm_ioctls::Error) -> HalError {
    HalError::failed("read a register (KVM_GET_ONE_REG)", errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_have_the_numbers_that_they_are_written_by() {
        let names: Vec<_> = MODEL.registers().map(|register| register.name).collect();
        let numbers = [SP, PC, CPSR, V0, FPSR, FPCR, FIRST_SYSTEM];
        let expected = ["sp", "pc", "cpsr", "v0", "fpsr", "fpcr", "SP_EL0"];
        assert_eq!(numbers.map(|number| names[number]), expected);
        assert_eq!(names.len(), FIRST_SYSTEM + SYSTEM_REGS.len());
    }

    #[test]
    fn the_stack_pointer_is_the_one_in_use() {
        assert_eq!([5, 4, 0].map(sp), [OneReg::SP_EL1, OneReg::SP_EL0, OneReg::SP_EL0]);
    }
}
