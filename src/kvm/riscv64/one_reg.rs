//! Registers by number: `KVM_GET_ONE_REG` and `KVM_SET_ONE_REG` (api.rst, 4.68, "RISC-V registers
//! are mapped using the lower 32 bits").

use std::mem::offset_of;

use kvm_bindings::{
    KVM_REG_RISCV, KVM_REG_RISCV_CONFIG, KVM_REG_RISCV_CORE, KVM_REG_RISCV_CSR,
    KVM_REG_RISCV_CSR_GENERAL, KVM_REG_RISCV_FP_D, KVM_REG_RISCV_ISA_EXT,
    KVM_REG_RISCV_ISA_MULTI_EN, KVM_REG_RISCV_SBI_EXT, KVM_REG_RISCV_SBI_SINGLE,
    KVM_REG_RISCV_TIMER, KVM_REG_SIZE_U32, KVM_REG_SIZE_U64, kvm_riscv_config, kvm_riscv_core,
    kvm_riscv_csr, kvm_riscv_timer,
};

pub use super::super::one_reg::OneReg;

impl OneReg {
    /// A register of type `kind`; `index` counts 8-byte fields of the type's structure, or what
    /// else the type counts.
    const fn new(kind: u32, index: usize) -> Self {
        Self(KVM_REG_RISCV as u64 | KVM_REG_SIZE_U64 | kind as u64 | index as u64)
    }

    const fn config(offset: usize) -> Self {
        Self::new(KVM_REG_RISCV_CONFIG, offset / 8)
    }

    const fn csr(offset: usize) -> Self {
        Self::new(KVM_REG_RISCV_CSR | KVM_REG_RISCV_CSR_GENERAL, offset / 8)
    }

    pub const ZICBOM_BLOCK_SIZE: Self =
        Self::config(offset_of!(kvm_riscv_config, zicbom_block_size));
    pub const ZICBOZ_BLOCK_SIZE: Self =
        Self::config(offset_of!(kvm_riscv_config, zicboz_block_size));
    pub const SATP_MODE: Self = Self::config(offset_of!(kvm_riscv_config, satp_mode));
    /// Later kernels have it behind the structure as `kvm-bindings` knows it.
    pub const ZICBOP_BLOCK_SIZE: Self = Self::config(size_of::<kvm_riscv_config>());

    pub const PC: Self = Self::new(KVM_REG_RISCV_CORE, 0);
    /// Supervisor or user: `KVM_RISCV_MODE_S` or `_U`.
    pub const MODE: Self = Self::new(KVM_REG_RISCV_CORE, offset_of!(kvm_riscv_core, mode) / 8);

    /// `x1` to `x31`, which stand behind `pc` in the order of their numbers. `None` for `x0`, which
    /// is no register, and for what is none at all.
    pub const fn x(number: usize) -> Option<Self> {
        match number {
            1..=31 => Some(Self::new(KVM_REG_RISCV_CORE, number)),
            _ => None,
        }
    }

    pub const SSTATUS: Self = Self::csr(offset_of!(kvm_riscv_csr, sstatus));
    pub const SIE: Self = Self::csr(offset_of!(kvm_riscv_csr, sie));
    pub const STVEC: Self = Self::csr(offset_of!(kvm_riscv_csr, stvec));
    pub const SSCRATCH: Self = Self::csr(offset_of!(kvm_riscv_csr, sscratch));
    pub const SEPC: Self = Self::csr(offset_of!(kvm_riscv_csr, sepc));
    pub const SCAUSE: Self = Self::csr(offset_of!(kvm_riscv_csr, scause));
    pub const STVAL: Self = Self::csr(offset_of!(kvm_riscv_csr, stval));
    pub const SIP: Self = Self::csr(offset_of!(kvm_riscv_csr, sip));
    pub const SATP: Self = Self::csr(offset_of!(kvm_riscv_csr, satp));

    pub const TIMER_FREQUENCY: Self =
        Self::new(KVM_REG_RISCV_TIMER, offset_of!(kvm_riscv_timer, frequency) / 8);

    /// Which of the ISA extensions 64 * `block` to 64 * `block` + 63 (`KVM_RISCV_ISA_EXT_…`) the
    /// guest has: a bit for each.
    pub const fn isa_extensions(block: usize) -> Self {
        Self::new(KVM_REG_RISCV_ISA_EXT | KVM_REG_RISCV_ISA_MULTI_EN, block)
    }

    /// Whether the guest has an SBI extension (`KVM_RISCV_SBI_EXT_…`): 0 or 1.
    pub const fn sbi_extension(id: u32) -> Self {
        Self::new(KVM_REG_RISCV_SBI_EXT | KVM_REG_RISCV_SBI_SINGLE, id as usize)
    }

    /// `f0` to `f31`, of the D extension.
    pub const fn f(number: usize) -> Self {
        Self::new(KVM_REG_RISCV_FP_D, number & 31)
    }

    /// 32 bits.
    pub const FCSR: Self =
        Self(KVM_REG_RISCV as u64 | KVM_REG_SIZE_U32 | KVM_REG_RISCV_FP_D as u64 | 32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_api() {
        // api.rst, 4.68, has these in its table.
        assert_eq!(OneReg::PC.0, 0x8030_0000_0200_0000);
        assert_eq!(OneReg::x(1).unwrap().0, 0x8030_0000_0200_0001);
        assert_eq!(OneReg::x(31).unwrap().0, 0x8030_0000_0200_001f);
        assert_eq!(OneReg::MODE.0, 0x8030_0000_0200_0020);
        assert_eq!(OneReg::SSTATUS.0, 0x8030_0000_0300_0000);
        assert_eq!(OneReg::SATP.0, 0x8030_0000_0300_0008);
        assert_eq!(OneReg::TIMER_FREQUENCY.0, 0x8030_0000_0400_0000);
        assert_eq!(OneReg::SATP_MODE.0, 0x8030_0000_0100_0006);
        assert_eq!(OneReg::ZICBOP_BLOCK_SIZE.0, 0x8030_0000_0100_0007);
        assert_eq!(OneReg::isa_extensions(1).0, 0x8030_0000_0701_0001);
        assert_eq!(OneReg::sbi_extension(9).0, 0x8030_0000_0800_0009);
        assert_eq!(OneReg::f(31).0, 0x8030_0000_0600_001f);
        assert_eq!(OneReg::FCSR.0, 0x8020_0000_0600_0020);
        assert_eq!(OneReg::x(0), None);
        assert_eq!(OneReg::x(32), None);
    }
}
