//! General registers and CSRs: the state that a guest begins in, exceptions, and dumps.
//!
//! CSRs: the privileged ISA manual, chapter "Supervisor-Level ISA".

use kvm_bindings::{KVM_RISCV_MODE_S, KVM_RISCV_MODE_U};
use kvm_ioctls::VcpuFd;

use super::one_reg::OneReg;
use crate::{
    addr::GuestPhysAddr,
    hal::{HalError, HalResult, VCpuDump, VCpuSetup},
};

/// The names of `pc` and `x1` to `x31` in the calling convention, by their numbers.
const NAMES: [&str; 32] = [
    "pc", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5",
    "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5",
    "t6",
];

/// In which order a person wants to read them: by the same numbers.
#[rustfmt::skip] // by kind: addresses, temporaries, arguments, saved
const READING_ORDER: [usize; 32] = [
    0, 1, 2, 3, 4,
    5, 6, 7, 28, 29, 30, 31,
    10, 11, 12, 13, 14, 15, 16, 17,
    8, 9, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27,
];

const CSRS: [(&str, OneReg); 9] = [
    ("sstatus", OneReg::SSTATUS),
    ("scause", OneReg::SCAUSE),
    ("stval", OneReg::STVAL),
    ("sepc", OneReg::SEPC),
    ("stvec", OneReg::STVEC),
    ("satp", OneReg::SATP),
    ("sip", OneReg::SIP),
    ("sie", OneReg::SIE),
    ("sscratch", OneReg::SSCRATCH),
];

/// Bits of `sstatus`.
const SSTATUS_SIE: u64 = 1 << 1;
const SSTATUS_SPIE: u64 = 1 << 5;
const SSTATUS_SPP: u64 = 1 << 8;

/// Exception codes in `scause`.
const INSTRUCTION_ACCESS_FAULT: u64 = 1;
const ILLEGAL_INSTRUCTION: u64 = 2;
const BREAKPOINT: u64 = 3;

/// How many bits a physical address has at most (`satp` has a page's number in 44).
const PHYSICAL_BITS: u32 = 56;

/// `a0`, in which the boot protocol has the hart's number.
const A0: usize = 10;

/// `pc` and `x1` to `x31`.
pub struct General([u64; 32]);

impl General {
    pub fn read(fd: &VcpuFd) -> HalResult<Self> {
        let mut values = [0; 32];
        for (value, reg) in values.iter_mut().zip(general()) {
            *value = reg.get(fd).map_err(read_failed)?;
        }
        Ok(Self(values))
    }

    pub fn write(&self, fd: &VcpuFd) -> HalResult {
        self.0.iter().zip(general()).try_for_each(|(value, reg)| write(fd, reg, *value))
    }
}

impl General {
    /// `x0` to `x31`.
    pub fn x(&self, number: usize) -> u64 {
        // `pc` is in the place of `x0`, which is 0.
        if number == 0 { 0 } else { self.0.get(number).copied().unwrap_or_default() }
    }

    pub const fn pc(&self) -> u64 {
        self.0[0]
    }
}

fn general() -> impl Iterator<Item = OneReg> {
    [OneReg::PC].into_iter().chain((1..32).filter_map(OneReg::x))
}

/// Brings the boot hart to its entry: supervisor mode, no translation, interrupts off, its number in
/// `a0` if `setup` has nothing else for that.
pub fn enter_at(fd: &VcpuFd, hart: u64, entry: GuestPhysAddr, setup: &VCpuSetup) -> HalResult {
    let mut general = General([0; 32]);
    general.0[A0] = hart;
    for &(number, value) in &setup.gprs {
        if let Some(register) = general.0.get_mut(number) {
            *register = value;
        }
    }
    general.0[0] = entry.0;
    general.write(fd)?;
    for (_, csr) in CSRS {
        write(fd, csr, 0)?;
    }
    write(fd, OneReg::MODE, KVM_RISCV_MODE_S.into())
}

/// Writes `x1` to `x31`; any other number is ignored.
pub fn set_gpr(fd: &VcpuFd, number: usize, value: u64) -> HalResult {
    OneReg::x(number).map_or(Ok(()), |reg| write(fd, reg, value))
}

/// Lets the instruction at `pc` raise an illegal instruction exception. `stval` is 0, which says
/// that the instruction is not told.
pub fn raise_illegal_instruction(fd: &VcpuFd) -> HalResult {
    raise(fd, ILLEGAL_INSTRUCTION, 0)
}

/// Raises an instruction access fault if `pc` is no physical address, where nothing translates it,
/// and else says that it does not. The handler must be one, or this would never end.
pub fn raise_fetch_fault(fd: &VcpuFd) -> HalResult<bool> {
    let get = |reg: OneReg| reg.get(fd).map_err(read_failed);
    let pc = get(OneReg::PC)?;
    let is_physical = |address: u64| address >> PHYSICAL_BITS == 0;
    if get(OneReg::SATP)? != 0 || is_physical(pc) || !is_physical(get(OneReg::STVEC)?) {
        return Ok(false);
    }
    raise(fd, INSTRUCTION_ACCESS_FAULT, pc)?;
    Ok(true)
}

/// Raises the exception of the `ebreak` at `pc`; `stval` is its address.
pub fn raise_breakpoint(fd: &VcpuFd) -> HalResult {
    raise(fd, BREAKPOINT, OneReg::PC.get(fd).map_err(read_failed)?)
}

fn raise(fd: &VcpuFd, cause: u64, value: u64) -> HalResult {
    let get = |reg: OneReg| reg.get(fd).map_err(read_failed);
    let from_user = get(OneReg::MODE)? == u64::from(KVM_RISCV_MODE_U);
    write(fd, OneReg::SEPC, get(OneReg::PC)?)?;
    write(fd, OneReg::SCAUSE, cause)?;
    write(fd, OneReg::STVAL, value)?;
    write(fd, OneReg::SSTATUS, sstatus_in_trap(get(OneReg::SSTATUS)?, from_user))?;
    write(fd, OneReg::MODE, KVM_RISCV_MODE_S.into())?;
    // The two lowest bits are the mode, which only interrupts look at.
    write(fd, OneReg::PC, get(OneReg::STVEC)? & !3)
}

/// `sstatus` after a trap: what was enabled, and from where it came, is kept.
const fn sstatus_in_trap(sstatus: u64, from_user: bool) -> u64 {
    let kept = sstatus & !(SSTATUS_SIE | SSTATUS_SPIE | SSTATUS_SPP);
    let enabled = if sstatus & SSTATUS_SIE != 0 { SSTATUS_SPIE } else { 0 };
    kept | enabled | if from_user { 0 } else { SSTATUS_SPP }
}

/// Where the guest is; 0 if that cannot be had.
pub fn pc(fd: &VcpuFd) -> u64 {
    OneReg::PC.get(fd).unwrap_or_default()
}

/// The registers, for a person.
pub fn dump(fd: &VcpuFd) -> VCpuDump {
    let mut dump = VCpuDump::default();
    if let Ok(General(values)) = General::read(fd) {
        dump.pc = values[0];
        let in_order = READING_ORDER.into_iter().map(|number| (NAMES[number], values[number]));
        dump.registers.extend(in_order);
    }
    let csrs = CSRS.into_iter().filter_map(|(name, csr)| Some((name, csr.get(fd).ok()?)));
    dump.registers.extend(csrs);
    let bare = dump.registers.contains(&("satp", 0));
    dump.pc_gpa = bare.then_some(GuestPhysAddr(dump.pc));
    dump
}

fn write(fd: &VcpuFd, reg: OneReg, value: u64) -> HalResult {
    reg.set(fd, value).map_err(|errno| HalError::failed("set a register (KVM_SET_ONE_REG)", errno))
}

pub fn read_failed(errno: kvm_ioctls::Error) -> HalError {
    HalError::failed("read a register (KVM_GET_ONE_REG)", errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_is_read_once() {
        let mut numbers = READING_ORDER;
        numbers.sort_unstable();
        assert_eq!(numbers.to_vec(), (0..32).collect::<Vec<_>>());
        assert_eq!((NAMES[A0], NAMES[8], NAMES[27], NAMES[28]), ("a0", "s0", "s11", "t3"));
    }

    #[test]
    fn a_trap_keeps_what_it_came_from() {
        assert_eq!(sstatus_in_trap(0x2_0000_0002, false), 0x2_0000_0120);
        assert_eq!(sstatus_in_trap(0x2_0000_0000, false), 0x2_0000_0100);
        assert_eq!(sstatus_in_trap(0x122, true), 0x20);
        assert_eq!(sstatus_in_trap(0x6020, false), 0x6100);
    }
}
