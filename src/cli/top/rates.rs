//! What happened between two samples.

use std::collections::BTreeMap;

use serde::Serialize;

use super::sample::{self, Accesses, Ended, Handling, Sample, Vm};
use crate::{
    devices::{BusKind, WindowInfo},
    hal::VMId,
};

/// Between two samples. Rates are per second of the run's time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    pub pid: u32,
    /// When it ends, from the run's start, in seconds.
    pub time: f64,
    /// How long it is, in seconds.
    pub interval: f64,
    pub vms: Vec<VmRates>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VmRates {
    pub id: VMId,
    pub name: String,
    pub status: String,
    /// How often it was started again, all told.
    pub reboots: u64,
    pub exits: f64,
    /// All since its start.
    pub total: u64,
    pub vcpus: Vec<VCpuRates>,
    pub reasons: Vec<ReasonRates>,
    pub devices: Vec<DeviceRates>,
    pub ended: Option<Ended>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VCpuRates {
    pub vcpu: usize,
    pub exits: f64,
    pub total: u64,
    pub by_reason: BTreeMap<String, f64>,
    /// `None`: not known.
    pub shares: Option<Shares>,
}

/// What a vCPU's time went to: parts of 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Shares {
    /// In the guest, or in the host's kernel for it.
    pub guest: f64,
    /// In axvmm, over exits.
    pub handling: f64,
    /// Halted, or waiting for one of the host's processors.
    pub waiting: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ReasonRates {
    pub reason: String,
    pub exits: f64,
    pub total: u64,
    /// Of each vCPU.
    pub by_vcpu: Vec<f64>,
    pub handling: Option<Lengths>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeviceRates {
    /// `(nobody)`: accesses that no device took.
    pub device: String,
    /// `None`, if it is nobody.
    pub bus: Option<BusKind>,
    pub addresses: String,
    pub reads: f64,
    pub writes: f64,
    pub total: u64,
    pub handling: Option<Lengths>,
}

/// How long exits took, in nanoseconds. All but the mean are upper bounds, a quarter above at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Lengths {
    pub mean_ns: f64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
    /// The part of the time that went to them: 1 is one vCPU's whole.
    pub share: f64,
}

impl Rates {
    /// Of the time from `old` to `new`, which are the same run's.
    pub fn between(old: &Sample, new: &Sample) -> Self {
        let interval = (new.time - old.time).max(0.0);
        let of = |vm: &Vm| VmRates::between(old.vms.iter().find(|it| it.id == vm.id), vm, interval);
        Self { pid: new.pid, time: new.time, interval, vms: new.vms.iter().map(of).collect() }
    }
}

/// How many there are a second.
fn per_second(old: u64, new: u64, interval: f64) -> f64 {
    if interval > 0.0 { new.saturating_sub(old) as f64 / interval } else { 0.0 }
}

impl VmRates {
    fn between(old: Option<&Vm>, new: &Vm, interval: f64) -> Self {
        let vcpus = new.exits.iter().map(|vcpu| {
            let was = old.and_then(|it| it.exits.iter().find(|it| it.vcpu == vcpu.vcpu));
            let shares = shares(old, new, vcpu.vcpu, interval);
            VCpuRates { shares, ..vcpu_rates(was, vcpu, interval) }
        });
        let vcpus: Vec<_> = vcpus.collect();
        Self {
            id: new.id,
            name: new.name.clone(),
            status: new.status.clone(),
            reboots: new.reboots,
            exits: vcpus.iter().map(|it| it.exits).sum(),
            total: new.exits.iter().map(|it| it.total).sum(),
            reasons: reasons(old, new, &vcpus, interval),
            devices: devices(old, new, interval),
            vcpus,
            ended: new.ended.clone(),
        }
    }
}

fn vcpu_rates(old: Option<&sample::VCpu>, new: &sample::VCpu, interval: f64) -> VCpuRates {
    let by_reason = new.by_reason.iter().map(|(reason, count)| {
        let was = old.and_then(|it| it.by_reason.get(reason)).copied().unwrap_or(0);
        (reason.clone(), per_second(was, *count, interval))
    });
    VCpuRates {
        vcpu: new.vcpu,
        exits: per_second(old.map_or(0, |it| it.total), new.total, interval),
        total: new.total,
        by_reason: by_reason.collect(),
        shares: None,
    }
}

/// The processor's time has what handling took of it, and the rest of the interval nobody had.
fn shares(old: Option<&Vm>, new: &Vm, vcpu: usize, interval: f64) -> Option<Shares> {
    let of = |vm: &Vm| vm.times.as_ref()?.vcpus.iter().find(|it| it.vcpu == vcpu).cloned();
    let (old, new) = (of(old?)?, of(new)?);
    if interval <= 0.0 {
        return None;
    }
    let part = |old: u64, new: u64| (new.saturating_sub(old) as f64 / 1e9 / interval).min(1.0);
    let processor = part(old.processor_ns, new.processor_ns);
    let handling = part(old.handling_ns, new.handling_ns);
    let guest = (processor - handling).max(0.0);
    Some(Shares { guest, handling, waiting: (1.0 - guest - handling).max(0.0) })
}

fn reasons(old: Option<&Vm>, new: &Vm, vcpus: &[VCpuRates], interval: f64) -> Vec<ReasonRates> {
    let mut totals = BTreeMap::<&String, u64>::new();
    for (reason, count) in new.exits.iter().flat_map(|it| &it.by_reason) {
        *totals.entry(reason).or_default() += count;
    }
    let rates = totals.into_iter().map(|(reason, total)| {
        let rate = |vcpu: &VCpuRates| vcpu.by_reason.get(reason).copied().unwrap_or(0.0);
        let by_vcpu: Vec<_> = vcpus.iter().map(rate).collect();
        let of = |vm: &Vm| vm.times.as_ref()?.reasons.get(reason).cloned();
        let handling = lengths(old.and_then(of), of(new), interval);
        let exits = by_vcpu.iter().sum();
        ReasonRates { reason: reason.clone(), exits, total, by_vcpu, handling }
    });
    rates.collect()
}

fn devices(old: Option<&Vm>, new: &Vm, interval: f64) -> Vec<DeviceRates> {
    let rates = |old: Option<Accesses>, new: Accesses| {
        let old = old.unwrap_or_default();
        DeviceRates {
            device: "(nobody)".to_owned(),
            bus: None,
            addresses: String::new(),
            reads: per_second(old.reads, new.reads, interval),
            writes: per_second(old.writes, new.writes, interval),
            total: new.reads + new.writes,
            handling: None,
        }
    };
    let of = |it: &sample::Window| {
        let same = |other: &WindowInfo| *other == it.window;
        let was = old.and_then(|old| old.devices.iter().find(|it| same(&it.window)));
        let times = |vm: &Vm| {
            let all = &vm.times.as_ref()?.devices;
            Some(all.iter().find(|it| same(&it.window))?.handling.clone())
        };
        let WindowInfo { device, bus, addresses } = it.window.clone();
        let handling = lengths(old.and_then(times), times(new), interval);
        let rates = rates(was.map(|it| it.accesses), it.accesses);
        DeviceRates { device, bus: Some(bus), addresses, handling, ..rates }
    };
    let nobody =
        (new.unowned != Accesses::default()).then(|| rates(old.map(|it| it.unowned), new.unowned));
    new.devices.iter().map(of).chain(nobody).collect()
}

/// How long exits took from `old` to `new`; `None`: there were none.
fn lengths(old: Option<Handling>, new: Option<Handling>, interval: f64) -> Option<Lengths> {
    let (old, new) = (old.unwrap_or_default(), new?);
    let before: BTreeMap<_, _> = old.up_to_ns.into_iter().collect();
    let mut counts = new.up_to_ns;
    for (bound, count) in &mut counts {
        *count = count.saturating_sub(before.get(bound).copied().unwrap_or(0));
    }
    counts.retain(|(_, count)| *count > 0);
    let all: u64 = counts.iter().map(|(_, count)| count).sum();
    let at = |quantile: f64| {
        let wanted = (all as f64 * quantile).ceil() as u64;
        let mut seen = 0;
        let found = counts.iter().find(|(_, count)| {
            seen += count;
            seen >= wanted
        });
        found.map(|(bound, _)| *bound)
    };
    let sum = new.sum_ns.saturating_sub(old.sum_ns) as f64;
    Some(Lengths {
        mean_ns: sum / all as f64,
        p50_ns: at(0.5)?,
        p99_ns: at(0.99)?,
        max_ns: at(1.0)?,
        share: if interval > 0.0 { sum / 1e9 / interval } else { 0.0 },
    })
}

#[cfg(test)]
pub mod tests;
