//! A vCPU's registers by number (api.rst, 4.68).

use std::mem::offset_of;

use kvm_bindings::{
    KVM_REG_ARM_CORE, KVM_REG_ARM64, KVM_REG_ARM64_SVE, KVM_REG_ARM64_SYSREG, KVM_REG_SIZE_U32,
    KVM_REG_SIZE_U64, KVM_REG_SIZE_U128, KVM_REG_SIZE_U2048, kvm_regs, user_fpsimd_state,
    user_pt_regs,
};
use kvm_ioctls::VcpuFd;

pub use super::super::one_reg::OneReg;

impl OneReg {
    /// At this offset in `kvm_regs`, which KVM counts in 32-bit words.
    const fn core(offset: usize) -> Self {
        Self(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE as u64 | (offset as u64 / 4))
    }

    /// By its encoding in `mrs` and `msr`.
    const fn system(op0: u64, op1: u64, crn: u64, crm: u64, op2: u64) -> Self {
        let number = op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2;
        Self(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM64_SYSREG as u64 | number)
    }

    /// `x0` to `x30`; `None` for what is none of them.
    pub const fn x(number: usize) -> Option<Self> {
        match number {
            0..=30 => Some(Self::core(offset_of!(user_pt_regs, regs) + 8 * number)),
            _ => None,
        }
    }

    pub const SP_EL0: Self = Self::core(offset_of!(user_pt_regs, sp));
    pub const PC: Self = Self::core(offset_of!(user_pt_regs, pc));
    pub const PSTATE: Self = Self::core(offset_of!(user_pt_regs, pstate));
    pub const SP_EL1: Self = Self::core(offset_of!(kvm_regs, sp_el1));
    pub const ELR_EL1: Self = Self::core(offset_of!(kvm_regs, elr_el1));
    pub const SPSR_EL1: Self = Self::core(offset_of!(kvm_regs, spsr));

    pub const MPIDR_EL1: Self = Self::system(3, 0, 0, 0, 5);
    pub const SCTLR_EL1: Self = Self::system(3, 0, 1, 0, 0);
    pub const TTBR0_EL1: Self = Self::system(3, 0, 2, 0, 0);
    pub const TTBR1_EL1: Self = Self::system(3, 0, 2, 0, 1);
    pub const TCR_EL1: Self = Self::system(3, 0, 2, 0, 2);
    pub const ESR_EL1: Self = Self::system(3, 0, 5, 2, 0);
    pub const FAR_EL1: Self = Self::system(3, 0, 6, 0, 0);
    pub const VBAR_EL1: Self = Self::system(3, 0, 12, 0, 0);

    const fn float_word(offset: usize) -> Self {
        let offset = offset_of!(kvm_regs, fp_regs) + offset;
        let number = KVM_REG_ARM_CORE as u64 | (offset as u64 / 4);
        Self(KVM_REG_ARM64 | KVM_REG_SIZE_U32 | number)
    }

    /// 32 bits each.
    pub const FPSR: Self = Self::float_word(offset_of!(user_fpsimd_state, fpsr));
    pub const FPCR: Self = Self::float_word(offset_of!(user_fpsimd_state, fpcr));
}

/// A vector register, `v0` to `v31`. A vCPU with SVE has it as a part of a `z` register alone (api.rst,
/// 4.68: "These registers are only accessible if SVE is not enabled").
#[derive(Clone, Copy, Debug)]
pub struct Vector(u64);

impl Vector {
    pub const fn new(number: usize) -> Self {
        Self(number as u64 & 31)
    }

    const fn plain(self) -> u64 {
        let offset = offset_of!(kvm_regs, fp_regs) + offset_of!(user_fpsimd_state, vregs);
        let number = KVM_REG_ARM_CORE as u64 | (offset as u64 / 4 + 4 * self.0);
        KVM_REG_ARM64 | KVM_REG_SIZE_U128 | number
    }

    const fn of_z(self) -> u64 {
        KVM_REG_ARM64 | KVM_REG_SIZE_U2048 | KVM_REG_ARM64_SVE as u64 | self.0 << 5
    }

    pub fn get(self, fd: &VcpuFd) -> Result<u128, kvm_ioctls::Error> {
        let mut bytes = [0; 16];
        if fd.get_one_reg(self.plain(), &mut bytes).is_ok() {
            return Ok(u128::from_le_bytes(bytes));
        }
        let mut z = [0; 256];
        fd.get_one_reg(self.of_z(), &mut z)?;
        bytes.copy_from_slice(&z[..16]);
        Ok(u128::from_le_bytes(bytes))
    }

    pub fn set(self, fd: &VcpuFd, value: u128) -> Result<(), kvm_ioctls::Error> {
        if fd.set_one_reg(self.plain(), &value.to_le_bytes()).is_ok() {
            return Ok(());
        }
        let mut z = [0; 256];
        fd.get_one_reg(self.of_z(), &mut z)?;
        z[..16].copy_from_slice(&value.to_le_bytes());
        fd.set_one_reg(self.of_z(), &z).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_api() {
        // api.rst, 4.68, has these in its table.
        assert_eq!(OneReg::x(0).unwrap().0, 0x6030_0000_0010_0000);
        assert_eq!(OneReg::x(30).unwrap().0, 0x6030_0000_0010_003c);
        assert_eq!(OneReg::SP_EL0.0, 0x6030_0000_0010_003e);
        assert_eq!(OneReg::PC.0, 0x6030_0000_0010_0040);
        assert_eq!(OneReg::PSTATE.0, 0x6030_0000_0010_0042);
        assert_eq!(OneReg::SP_EL1.0, 0x6030_0000_0010_0044);
        assert_eq!(OneReg::ELR_EL1.0, 0x6030_0000_0010_0046);
        assert_eq!(OneReg::SPSR_EL1.0, 0x6030_0000_0010_0048);
        assert_eq!(OneReg::MPIDR_EL1.0, 0x6030_0000_0013_c005);
        assert_eq!(OneReg::x(31), None);
        assert_eq!(OneReg::FPSR.0, 0x6020_0000_0010_00d4);
        assert_eq!(OneReg::FPCR.0, 0x6020_0000_0010_00d5);
        assert_eq!(Vector::new(1).plain(), 0x6040_0000_0010_0058);
        assert_eq!(Vector::new(31).of_z(), 0x6080_0000_0015_03e0);
    }
}
