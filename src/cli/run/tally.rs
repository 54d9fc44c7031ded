//! What is counted over all of a guest's reboots.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{devices::UnownedCounts, hal::AxVMHal, vm::AxVM};

/// Counts of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// How often the guest was started again.
    pub reboots: u64,
    /// For each vCPU, its exits.
    pub exits: Vec<VCpuExits>,
    /// Accesses that no device took.
    pub unowned: UnownedCounts,
    /// Bytes of the guest's output that stdout did not take.
    pub console_dropped: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct VCpuExits {
    pub vcpu: usize,
    pub total: u64,
    pub by_reason: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Adds what a VM has counted, which has ended.
    pub fn add<H: AxVMHal>(&mut self, vm: &AxVM<H>) {
        for (vcpu, stats) in vm.stats().iter().enumerate() {
            if self.exits.len() == vcpu {
                self.exits.push(VCpuExits { vcpu, ..VCpuExits::default() });
            }
            let counts = stats.counts();
            let sum = &mut self.exits[vcpu];
            sum.total += counts.total();
            for (reason, count) in counts.iter() {
                *sum.by_reason.entry(reason).or_default() += count;
            }
        }
        let unowned = vm.get_devices().unowned();
        self.unowned.reads += unowned.reads;
        self.unowned.writes += unowned.writes;
    }
}
