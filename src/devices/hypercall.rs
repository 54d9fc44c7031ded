//! What answers a guest's hypercalls.

use crate::{addrspace::AddrSpace, hal::HypercallResult};

/// A service behind hypercalls. Any vCPU's thread may call.
pub trait HypercallOps: Send + Sync {
    /// Answers hypercall `nr`, counted as [`crate::hal::AxVCpuExitReason::Hypercall`] counts;
    /// `None`: it is none of this service's. Addresses among the arguments are the guest's word.
    fn call(&self, mem: &AddrSpace, nr: u64, args: [u64; 6]) -> Option<HypercallResult>;
}
