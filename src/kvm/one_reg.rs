//! Registers by number: `KVM_GET_ONE_REG` and `KVM_SET_ONE_REG` (api.rst, 4.68 and 4.69). Which there
//! are, the architectures say.

use kvm_ioctls::VcpuFd;

/// A register's number in KVM. It has 64 bits, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneReg(pub(super) u64);

impl OneReg {
    /// Of a register of 32 bits.
    pub fn get_word(self, fd: &VcpuFd) -> Result<u32, kvm_ioctls::Error> {
        let mut bytes = [0; 4];
        fd.get_one_reg(self.0, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Of a register of 32 bits.
    pub fn set_word(self, fd: &VcpuFd, value: u32) -> Result<(), kvm_ioctls::Error> {
        fd.set_one_reg(self.0, &value.to_le_bytes()).map(drop)
    }

    pub fn get(self, fd: &VcpuFd) -> Result<u64, kvm_ioctls::Error> {
        let mut bytes = [0; 8];
        fd.get_one_reg(self.0, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub fn set(self, fd: &VcpuFd, value: u64) -> Result<(), kvm_ioctls::Error> {
        fd.set_one_reg(self.0, &value.to_le_bytes()).map(drop)
    }
}
