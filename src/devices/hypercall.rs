//! What answers a guest's hypercalls, and the calls that AxVisor's guests know.

use std::ops::RangeInclusive;

use crate::{addrspace::AddrSpace, hal::HypercallResult};

/// A service behind hypercalls. Any vCPU's thread may call.
pub trait HypercallOps: Send + Sync {
    /// Answers hypercall `nr`, counted as [`crate::hal::AxVCpuExitReason::Hypercall`] counts;
    /// `None`: it is none of this service's. Addresses among the arguments are the guest's word.
    fn call(&self, mem: &AddrSpace, nr: u64, args: [u64; 6]) -> Option<HypercallResult>;
}

/// AxVisor's calls, by its names and numbers (the `axhvc` crate). Each answers
/// [`HypercallResult::SUCCESS`] or [`HypercallResult::FAILURE`]; pointers among the arguments are
/// guest-physical addresses of 64-bit words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum HyperCallCode {
    /// Leaves the hypervisor. A failure always, as under AxVisor.
    HypervisorDisable = 0,
    /// Prepares for that. A failure always.
    HyperVisorPrepareDisable = 1,
    /// For its developers. A failure always.
    HyperVisorDebug = 2,
    /// `(key, base_gpa_ptr, size_ptr, rights)`: makes an inter-VM channel. `*size_ptr` is the size
    /// wanted, and then the size that it has; `*base_gpa_ptr` becomes its address. What its
    /// subscribers may do: `rights` 0, read and write; 1, read.
    HIVCPublishChannel = 3,
    /// `(publisher_vm_id, key, base_gpa_ptr, size_ptr)`: makes a channel of another VM's part of
    /// this one's memory; its address and its size are left behind the pointers.
    HIVCSubscribChannel = 4,
    /// `(key)`: takes a channel away that this VM has published.
    HIVCUnPublishChannel = 5,
    /// `(publisher_vm_id, key)`: takes a channel away that this VM has subscribed to.
    HIVCUnSubscribChannel = 6,
    /// `(publisher_vm_id, key)`: interrupts all other VMs that have this channel.
    HIVCNotify = 7,
}

impl HyperCallCode {
    /// All codes, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::HypervisorDisable,
        Self::HyperVisorPrepareDisable,
        Self::HyperVisorDebug,
        Self::HIVCPublishChannel,
        Self::HIVCSubscribChannel,
        Self::HIVCUnPublishChannel,
        Self::HIVCUnSubscribChannel,
        Self::HIVCNotify,
    ];

    /// The numbers that the calls have.
    pub const NUMBERS: RangeInclusive<u64> =
        Self::HypervisorDisable as u64..=Self::HIVCNotify as u64;

    /// The code with this number.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|code| *code as u64 == number)
    }
}

/// The calls about the hypervisor itself, none of which AxVisor supports, and nor does this.
#[derive(Debug)]
pub struct HypervisorCalls;

impl HypercallOps for HypervisorCalls {
    fn call(&self, _: &AddrSpace, nr: u64, _: [u64; 6]) -> Option<HypercallResult> {
        match HyperCallCode::from_number(nr)? {
            HyperCallCode::HypervisorDisable
            | HyperCallCode::HyperVisorPrepareDisable
            | HyperCallCode::HyperVisorDebug => Some(HypercallResult::FAILURE),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_counted_from_0() {
        for (number, code) in HyperCallCode::ALL.into_iter().enumerate() {
            assert_eq!(HyperCallCode::from_number(number as u64), Some(code));
        }
        assert_eq!(HyperCallCode::NUMBERS, 0..=7);
        for number in [8, 1 << 32, u64::MAX] {
            assert_eq!(HyperCallCode::from_number(number), None);
        }
    }
}
