//! Machine checks (Intel SDM vol. 3, chapter 17).

use std::io;

use kvm_bindings::KVMIO;
use kvm_ioctls::VcpuFd;
use vmm_sys_util::{ioctl::ioctl_with_ref, ioctl_iow_nr};

ioctl_iow_nr!(KVM_X86_SETUP_MCE, KVMIO, 0x9c, u64);

/// IA32_MCG_CAP: one bank, and nothing else.
const ONE_BANK: u64 = 1;

/// Gives the vCPU the fewest banks that KVM can give. Nothing here ever reports a machine check,
/// and a kernel reads and writes each of KVM's usual 32 as it boots, an exit each time.
pub fn set_up(fd: &VcpuFd) {
    // SAFETY: the ioctl reads one u64 (api.rst, 4.105), which outlives the call.
    let result = unsafe { ioctl_with_ref(fd, KVM_X86_SETUP_MCE(), &ONE_BANK) };
    if result != 0 {
        // The guest has its 32 banks then, and is slower by a millisecond.
        log::debug!("KVM_X86_SETUP_MCE: {}", io::Error::last_os_error());
    }
}

#[cfg(test)]
mod tests {
    use kvm_bindings::{Msrs, kvm_msr_entry};
    use kvm_ioctls::Kvm;

    use super::*;

    #[test]
    fn the_guest_finds_one_bank() {
        const IA32_MCG_CAP: u32 = 0x179;
        let kvm = Kvm::new().unwrap();
        let vm = kvm.create_vm().unwrap();
        let vcpu = vm.create_vcpu(0).unwrap();
        set_up(&vcpu);
        let entry = kvm_msr_entry { index: IA32_MCG_CAP, ..Default::default() };
        let mut msrs = Msrs::from_entries(&[entry]).unwrap();
        assert_eq!(vcpu.get_msrs(&mut msrs).unwrap(), 1);
        assert_eq!(msrs.as_slice()[0].data & 0xff, 1);
    }
}
