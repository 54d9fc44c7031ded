//! Model-specific registers at boot. Numbers: Intel SDM vol. 4.

use std::collections::HashSet;

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

/// A register and the value that firmware would leave in it.
#[derive(Clone, Copy)]
pub struct Msr {
    name: &'static str,
    index: u32,
    value: u64,
}

/// What firmware sets and kernels rely on: fast string operations, and memory that is write-back
/// cached unless a page says otherwise (without it Linux gives up on PAT).
const AT_BOOT: [Msr; 2] = [
    Msr { name: "IA32_MISC_ENABLE", index: 0x1a0, value: 1 },
    Msr { name: "IA32_MTRR_DEF_TYPE", index: 0x2ff, value: 1 << 11 | 6 },
];

/// Those of them that this KVM knows. The MTRRs are not in KVM's list, which holds what must be
/// saved, but can be set everywhere.
pub fn at_boot(settable: &HashSet<u32>) -> Vec<Msr> {
    AT_BOOT.into_iter().filter(|msr| msr.index == 0x2ff || settable.contains(&msr.index)).collect()
}

/// Sets them one by one; one that KVM refuses is a warning, since the guest may well do without.
/// Returns how many were set.
pub fn set(fd: &VcpuFd, msrs: &[Msr]) -> usize {
    let mut done = 0;
    for msr in msrs {
        let entry = kvm_msr_entry { index: msr.index, data: msr.value, ..Default::default() };
        let result = Msrs::from_entries(&[entry])
            .map_err(|error| format!("{error:?}"))
            .and_then(|one| fd.set_msrs(&one).map_err(|errno| errno.to_string()));
        let why = match result {
            Ok(1) => {
                done += 1;
                continue;
            }
            Ok(_) => "KVM refuses the value".to_owned(),
            Err(error) => error,
        };
        log::warn!("MSR {} ({:#x}) stays as it is: {why}", msr.name, msr.index);
    }
    done
}

#[cfg(test)]
mod tests {
    use kvm_ioctls::Kvm;

    use super::*;

    #[test]
    fn an_msr_that_kvm_refuses_does_not_keep_the_others_from_being_set() {
        let kvm = Kvm::new().unwrap();
        let vm = kvm.create_vm().unwrap();
        let vcpu = vm.create_vcpu(0).unwrap();
        let nobodys = Msr { name: "none", index: 0x7fff_fff0, value: 1 };
        let msrs = [AT_BOOT[0], nobodys, AT_BOOT[1]];
        assert_eq!(set(&vcpu, &msrs), 2);
    }

    #[test]
    fn msrs_that_kvm_does_not_list_are_left_alone() {
        let names = |msrs: Vec<Msr>| msrs.iter().map(|msr| msr.name).collect::<Vec<_>>();
        assert_eq!(names(at_boot(&HashSet::new())), ["IA32_MTRR_DEF_TYPE"]);
        assert_eq!(at_boot(&HashSet::from([0x1a0])).len(), 2);
    }
}
