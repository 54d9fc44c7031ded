//! The registers that a debugger of riscv64 knows: those of GDB's features `riscv.cpu`, `riscv.fpu`,
//! `riscv.virtual` and, of `riscv.csr`, what supervisors have.

use kvm_ioctls::VcpuFd;

use super::super::{
    one_reg::OneReg,
    regs::{General, read_failed},
};
use crate::hal::{DebugFeature, DebugModel, DebugRegister, HalError, HalResult};

/// All registers, and the instructions that stop.
pub static MODEL: DebugModel = DebugModel {
    architecture: "riscv:rv64",
    features: &[
        DebugFeature { name: "org.gnu.gdb.riscv.cpu", types: "", registers: &CPU },
        DebugFeature { name: "org.gnu.gdb.riscv.fpu", types: "", registers: &FPU },
        DebugFeature { name: "org.gnu.gdb.riscv.virtual", types: "", registers: &VIRTUAL },
        DebugFeature { name: "org.gnu.gdb.riscv.csr", types: "", registers: &CSR },
    ],
    pc: PC,
    // c.ebreak, ebreak
    breakpoints: &[&[0x02, 0x90], &[0x73, 0x00, 0x10, 0x00]],
};

const PC: usize = 32;
const F0: usize = 33;
const FFLAGS: usize = 65;
const FRM: usize = 66;
const FCSR: usize = 67;
const PRIV: usize = 68;
const FIRST_CSR: usize = 69;

const fn x(name: &'static str) -> DebugRegister {
    DebugRegister::int(name, 64)
}

const fn f(name: &'static str) -> DebugRegister {
    DebugRegister::new(name, 64, "ieee_double")
}

#[rustfmt::skip] // as a table
static CPU: [DebugRegister; 33] = [
    x("zero"), DebugRegister::new("ra", 64, "code_ptr"), DebugRegister::new("sp", 64, "data_ptr"),
    x("gp"), x("tp"), x("t0"), x("t1"), x("t2"), DebugRegister::new("fp", 64, "data_ptr"), x("s1"),
    x("a0"), x("a1"), x("a2"), x("a3"), x("a4"), x("a5"), x("a6"), x("a7"),
    x("s2"), x("s3"), x("s4"), x("s5"), x("s6"), x("s7"), x("s8"), x("s9"), x("s10"), x("s11"),
    x("t3"), x("t4"), x("t5"), x("t6"), DebugRegister::new("pc", 64, "code_ptr"),
];

#[rustfmt::skip] // as a table
static FPU: [DebugRegister; 35] = [
    f("ft0"), f("ft1"), f("ft2"), f("ft3"), f("ft4"), f("ft5"), f("ft6"), f("ft7"), f("fs0"), f("fs1"),
    f("fa0"), f("fa1"), f("fa2"), f("fa3"), f("fa4"), f("fa5"), f("fa6"), f("fa7"),
    f("fs2"), f("fs3"), f("fs4"), f("fs5"), f("fs6"), f("fs7"), f("fs8"), f("fs9"), f("fs10"), f("fs11"),
    f("ft8"), f("ft9"), f("ft10"), f("ft11"),
    DebugRegister::int("fflags", 32), DebugRegister::int("frm", 32), DebugRegister::int("fcsr", 32),
];

static VIRTUAL: [DebugRegister; 1] = [x("priv")];

#[rustfmt::skip] // as a table
static CSR: [DebugRegister; 9] = [
    x("sstatus"), x("sie"), x("stvec"), x("sscratch"), x("sepc"), x("scause"), x("stval"), x("sip"),
    x("satp"),
];
const CSR_REGS: [OneReg; 9] = [
    OneReg::SSTATUS,
    OneReg::SIE,
    OneReg::STVEC,
    OneReg::SSCRATCH,
    OneReg::SEPC,
    OneReg::SCAUSE,
    OneReg::STVAL,
    OneReg::SIP,
    OneReg::SATP,
];

/// All registers. A hart without D has none of the floats.
pub fn registers(fd: &VcpuFd) -> HalResult<Vec<Option<u128>>> {
    let general = General::read(fd)?;
    let mut all: Vec<Option<u128>> = (0..PC).map(|number| Some(general.x(number).into())).collect();
    all.push(Some(general.pc().into()));
    all.extend((0..32).map(|number| OneReg::f(number).get(fd).ok().map(u128::from)));
    let fcsr = OneReg::FCSR.get_word(fd).ok().map(u128::from);
    all.extend([fcsr.map(|it| it & 0x1f), fcsr.map(|it| it >> 5 & 7), fcsr]);
    all.extend([OneReg::MODE].iter().chain(&CSR_REGS).map(|reg| reg.get(fd).ok().map(u128::from)));
    Ok(all)
}

/// Writes one.
pub fn set_register(fd: &VcpuFd, number: usize, value: u128) -> HalResult {
    let fcsr = || OneReg::FCSR.get_word(fd).map_err(read_failed);
    let done = match number {
        // x0 is what it is.
        0 => Ok(()),
        PC => OneReg::PC.set(fd, value as u64),
        F0..FFLAGS => OneReg::f(number - F0).set(fd, value as u64),
        FFLAGS => OneReg::FCSR.set_word(fd, fcsr()? & !0x1f | value as u32 & 0x1f),
        FRM => OneReg::FCSR.set_word(fd, fcsr()? & !0xe0 | (value as u32 & 7) << 5),
        FCSR => OneReg::FCSR.set_word(fd, value as u32),
        PRIV => OneReg::MODE.set(fd, value as u64),
        _ => {
            let csr = || CSR_REGS.get(number.checked_sub(FIRST_CSR)?).copied();
            match OneReg::x(number).or_else(csr) {
                Some(reg) => reg.set(fd, value as u64),
                None => return Err(HalError::host_cannot("set a register that there is not")),
            }
        }
    };
    done.map_err(|errno| HalError::failed("set a register (KVM_SET_ONE_REG)", errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_have_the_numbers_that_they_are_written_by() {
        let names: Vec<_> = MODEL.registers().map(|register| register.name).collect();
        let numbers = [PC, F0, FFLAGS, FRM, FCSR, PRIV, FIRST_CSR];
        let expected = ["pc", "ft0", "fflags", "frm", "fcsr", "priv", "sstatus"];
        assert_eq!(numbers.map(|number| names[number]), expected);
        assert_eq!(names.len(), FIRST_CSR + CSR_REGS.len());
    }
}
