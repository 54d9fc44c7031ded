//! Which hypercalls KVM hands out (`Documentation/virt/kvm/devices/vm.rst`, `KVM_ARM_VM_SMCCC_CTRL`).

use std::ops::RangeInclusive;

use kvm_bindings::{
    KVM_ARM_VM_SMCCC_CTRL, KVM_ARM_VM_SMCCC_FILTER, kvm_device_attr, kvm_smccc_filter,
    kvm_smccc_filter_action_KVM_SMCCC_FILTER_FWD_TO_USER,
};
use kvm_ioctls::VmFd;

use crate::hal::{HalError, HalResult};

/// Asks for those with the function ids `numbers`, which are 32 bits wide; `false`: this KVM keeps
/// all to itself, as before Linux 6.4.
pub fn forward(vm: &VmFd, numbers: RangeInclusive<u64>) -> HalResult<bool> {
    let filter = filter(&numbers).ok_or_else(|| {
        HalError::host_cannot(format!("hand out the hypercalls {numbers:#x?}: ids have 32 bits"))
    })?;
    let attr = kvm_device_attr {
        group: KVM_ARM_VM_SMCCC_CTRL,
        attr: KVM_ARM_VM_SMCCC_FILTER.into(),
        addr: &raw const filter as u64,
        ..Default::default()
    };
    if let Err(errno) = vm.has_device_attr(&attr) {
        log::debug!("KVM hands out no hypercalls (KVM_ARM_VM_SMCCC_FILTER): {errno}");
        return Ok(false);
    }
    vm.set_device_attr(&attr).map(|()| true).map_err(|errno| {
        let what = format!("have hypercalls {numbers:#x?} handed out (KVM_ARM_VM_SMCCC_FILTER)");
        HalError::failed(what, errno)
    })
}

fn filter(numbers: &RangeInclusive<u64>) -> Option<kvm_smccc_filter> {
    let base = u32::try_from(*numbers.start()).ok()?;
    let last = u32::try_from(*numbers.end()).ok()?;
    Some(kvm_smccc_filter {
        base,
        nr_functions: last.checked_sub(base)?.checked_add(1)?,
        action: kvm_smccc_filter_action_KVM_SMCCC_FILTER_FWD_TO_USER as u8,
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_counts_functions() {
        let counts = |numbers| filter(&numbers).map(|filter| (filter.base, filter.nr_functions));
        assert_eq!(counts(0..=7), Some((0, 8)));
        assert_eq!(counts(5..=0xffff_ffff), Some((5, 0xffff_fffb)));
        for none in [0..=0xffff_ffff, 0..=1 << 32, 1 << 32..=1 << 32] {
            assert_eq!(counts(none), None);
        }
    }
}
