//! General and system registers: the state that a guest begins in, and dumps.
//!
//! Names and fields: Arm ARM (DDI 0487), chapters C5 and D24.

use kvm_bindings::{PSR_A_BIT, PSR_D_BIT, PSR_F_BIT, PSR_I_BIT, PSR_MODE_EL1h};
use kvm_ioctls::VcpuFd;

use super::one_reg::OneReg;
use crate::{
    addr::GuestPhysAddr,
    hal::{HalError, HalResult, VCpuDump, VCpuSetup},
};

const NAMES: [&str; 31] = [
    "X0", "X1", "X2", "X3", "X4", "X5", "X6", "X7", "X8", "X9", "X10", "X11", "X12", "X13", "X14",
    "X15", "X16", "X17", "X18", "X19", "X20", "X21", "X22", "X23", "X24", "X25", "X26", "X27",
    "X28", "X29", "X30",
];

/// In a dump before and behind the general registers.
const FIRST: [(&str, OneReg); 4] = [
    ("PC", OneReg::PC),
    ("PSTATE", OneReg::PSTATE),
    ("SP_EL1", OneReg::SP_EL1),
    ("SP_EL0", OneReg::SP_EL0),
];
const LAST: [(&str, OneReg); 10] = [
    ("ESR", OneReg::ESR_EL1),
    ("FAR", OneReg::FAR_EL1),
    ("ELR", OneReg::ELR_EL1),
    ("SPSR", OneReg::SPSR_EL1),
    ("VBAR", OneReg::VBAR_EL1),
    (SCTLR, OneReg::SCTLR_EL1),
    ("TCR", OneReg::TCR_EL1),
    ("TTBR0", OneReg::TTBR0_EL1),
    ("TTBR1", OneReg::TTBR1_EL1),
    ("MPIDR", OneReg::MPIDR_EL1),
];
const SCTLR: &str = "SCTLR";
/// Bit 0 of `SCTLR_EL1`: address translation is on.
const SCTLR_M: u64 = 1;

/// EL1 with its own stack pointer, and all exceptions that can be masked masked.
const PSTATE: u32 = PSR_D_BIT | PSR_A_BIT | PSR_I_BIT | PSR_F_BIT | PSR_MODE_EL1h;

/// Brings the boot CPU, just reset, to its entry.
pub fn enter_at(fd: &VcpuFd, entry: GuestPhysAddr, setup: &VCpuSetup) -> HalResult {
    write(fd, OneReg::PSTATE, PSTATE.into())?;
    write(fd, OneReg::PC, entry.0)?;
    setup.gprs.iter().try_for_each(|&(number, value)| set_gpr(fd, number, value))
}

/// Writes `x0` to `x30`; any other number is ignored.
pub fn set_gpr(fd: &VcpuFd, number: usize, value: u64) -> HalResult {
    OneReg::x(number).map_or(Ok(()), |reg| write(fd, reg, value))
}

/// Where the guest is; 0 if that cannot be had.
pub fn pc(fd: &VcpuFd) -> u64 {
    OneReg::PC.get(fd).unwrap_or_default()
}

/// The registers, for a person.
pub fn dump(fd: &VcpuFd) -> VCpuDump {
    let general = NAMES.into_iter().enumerate();
    let general = general.filter_map(|(number, name)| Some((name, OneReg::x(number)?)));
    let registers: Vec<_> = FIRST
        .into_iter()
        .chain(general)
        .chain(LAST)
        .filter_map(|(name, reg)| Some((name, reg.get(fd).ok()?)))
        .collect();
    let value =
        |wanted| registers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    let pc = value("PC").unwrap_or_default();
    let translates = value(SCTLR).is_none_or(|sctlr| sctlr & SCTLR_M != 0);
    VCpuDump { pc, pc_gpa: (!translates).then_some(GuestPhysAddr(pc)), registers }
}

fn write(fd: &VcpuFd, reg: OneReg, value: u64) -> HalResult {
    reg.set(fd, value).map_err(|errno| HalError::failed("set a register (KVM_SET_ONE_REG)", errno))
}
