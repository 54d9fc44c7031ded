//! What is counted over all of a guest's reboots.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    devices::{UnownedCounts, WindowInfo},
    hal::AxVMHal,
    vm::{AccessCounts, AxVM, HandlingTimes},
};

/// Counts of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// How often the guest was started again.
    pub reboots: u64,
    /// For each vCPU, its exits.
    pub exits: Vec<VCpuExits>,
    /// For each window of a device's that was accessed, by how many exits.
    pub devices: Vec<WindowExits>,
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
    /// How long its thread was on a processor.
    #[serde(skip)]
    pub processor: Duration,
    /// How long they took, while that was counted.
    #[serde(skip)]
    pub times: BTreeMap<&'static str, HandlingTimes>,
}

#[derive(Clone, Debug, Serialize)]
pub struct WindowExits {
    #[serde(flatten)]
    pub window: WindowInfo,
    #[serde(flatten)]
    pub all: AccessCounts,
    /// Of each vCPU.
    pub by_vcpu: Vec<AccessCounts>,
    /// How long they took, while that was counted.
    #[serde(skip)]
    pub times: HandlingTimes,
}

impl Tally {
    /// Adds what a VM has counted.
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
            sum.processor += stats.processor_time();
            for (reason, times) in stats.times_by_reason() {
                sum.times.entry(reason).or_default().add(&times);
            }
        }
        let mut windows: Vec<_> = vm.get_devices().windows().into_iter().map(count_for).collect();
        for (vcpu, stats) in vm.stats().iter().enumerate() {
            for (number, counts) in stats.accesses().enumerate() {
                windows[number].add(vcpu, counts);
                windows[number].times.add(&stats.times_of_window(number));
            }
        }
        for new in windows.into_iter().filter(|it| it.all != AccessCounts::default()) {
            let known = self.devices.iter_mut().find(|it| it.window == new.window);
            match known {
                Some(known) => {
                    let of_vcpus = new.by_vcpu.into_iter().enumerate();
                    of_vcpus.for_each(|(vcpu, counts)| known.add(vcpu, counts));
                    known.times.add(&new.times);
                }
                None => self.devices.push(new),
            }
        }
        let unowned = vm.get_devices().unowned();
        self.unowned.reads += unowned.reads;
        self.unowned.writes += unowned.writes;
    }

    /// All exits of all vCPUs.
    pub fn total(&self) -> u64 {
        self.exits.iter().map(|it| it.total).sum()
    }
}

fn count_for(window: WindowInfo) -> WindowExits {
    let (all, by_vcpu, times) = Default::default();
    WindowExits { window, all, by_vcpu, times }
}

impl WindowExits {
    fn add(&mut self, vcpu: usize, counts: AccessCounts) {
        if self.by_vcpu.len() <= vcpu {
            self.by_vcpu.resize(vcpu + 1, AccessCounts::default());
        }
        for sum in [&mut self.all, &mut self.by_vcpu[vcpu]] {
            sum.reads += counts.reads;
            sum.writes += counts.writes;
        }
    }
}

/// Two vCPUs, of which the first has a console.
#[cfg(test)]
pub fn fixture() -> Tally {
    let exits = |vcpu, by: &[(&'static str, u64)]| VCpuExits {
        vcpu,
        total: by.iter().map(|(_, count)| count).sum(),
        by_reason: by.iter().copied().collect(),
        ..VCpuExits::default()
    };
    let window = WindowInfo {
        device: "com1".to_owned(),
        bus: crate::devices::BusKind::Port,
        addresses: "0x3f8..=0x3ff".to_owned(),
    };
    let all = AccessCounts { reads: 7, writes: 1000 };
    Tally {
        reboots: 0,
        exits: vec![exits(0, &[("IoRead", 7), ("IoWrite", 1000)]), exits(1, &[("Halt", 3)])],
        devices: vec![WindowExits { all, by_vcpu: vec![all], ..count_for(window) }],
        unowned: UnownedCounts { reads: 1, writes: 0 },
        console_dropped: 0,
    }
}
