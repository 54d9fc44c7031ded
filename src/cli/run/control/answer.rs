//! The answers: lines of JSON. What is counted is as in the result file.

use std::{collections::BTreeMap, process, time::Duration};

use serde::Serialize;

use crate::{
    cli::{
        control::VERSION,
        run::{ends::End, guest::Guest, result_file::Told, tally::Tally},
    },
    devices::WindowInfo,
    hal::VMId,
    vm::HandlingTimes,
};

#[derive(Serialize)]
struct Answer<'a> {
    version: u32,
    axvmm: &'static str,
    pid: u32,
    /// From the start of axvmm, in seconds.
    time: f64,
    /// In the order in which they were given.
    vms: Vec<AboutVm<'a>>,
}

#[derive(Serialize)]
struct AboutVm<'a> {
    id: VMId,
    name: &'a str,
    status: &'static str,
    #[serde(flatten)]
    tally: &'a Tally,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<Times<'a>>,
    ended: Option<Told<'a>>,
}

/// Where time went.
#[derive(Serialize)]
struct Times<'a> {
    vcpus: Vec<VCpuTimes>,
    /// By reason, of all vCPUs.
    reasons: BTreeMap<&'static str, HandlingTimes>,
    devices: Vec<WindowTimes<'a>>,
}

#[derive(Serialize)]
struct VCpuTimes {
    vcpu: usize,
    /// How long its thread was on a processor, since it was started.
    processor_ns: u64,
    /// How long axvmm handled its exits, while that was counted.
    handling_ns: u64,
}

#[derive(Serialize)]
struct WindowTimes<'a> {
    #[serde(flatten)]
    window: &'a WindowInfo,
    #[serde(flatten)]
    times: &'a HandlingTimes,
}

impl<'a> From<&'a Tally> for Times<'a> {
    fn from(tally: &'a Tally) -> Self {
        let mut reasons = BTreeMap::<_, HandlingTimes>::new();
        for (reason, times) in tally.exits.iter().flat_map(|it| &it.times) {
            reasons.entry(*reason).or_default().add(times);
        }
        let vcpus = tally.exits.iter().map(|it| VCpuTimes {
            vcpu: it.vcpu,
            processor_ns: u64::try_from(it.processor.as_nanos()).unwrap_or(u64::MAX),
            handling_ns: it.times.values().map(HandlingTimes::sum_ns).sum(),
        });
        let devices = tally.devices.iter();
        let devices = devices.map(|it| WindowTimes { window: &it.window, times: &it.times });
        Self { vcpus: vcpus.collect(), reasons, devices: devices.collect() }
    }
}

/// What was counted so far.
pub fn counts(guests: &[Guest], with_times: bool, time: Duration) -> Vec<u8> {
    let tallies: Vec<_> = guests.iter().map(Guest::tally_now).collect();
    let vms = guests.iter().zip(&tallies).map(|(guest, tally)| AboutVm {
        id: guest.blueprint.plan.id,
        name: &guest.blueprint.plan.name,
        status: guest.status(),
        tally,
        times: with_times.then(|| tally.into()),
        ended: guest.ended.as_ref().map(Told::new),
    });
    line(time, vms.collect())
}

/// The same when all have ended.
pub fn ends(ends: &[End], time: Duration) -> Vec<u8> {
    let vms = ends.iter().map(|end| AboutVm {
        id: end.id,
        name: &end.name,
        status: "ended",
        tally: &end.tally,
        times: Some((&end.tally).into()),
        ended: Some(Told::new(&end.ended)),
    });
    line(time, vms.collect())
}

/// That there is no answer, and why.
pub fn refusal(error: &str) -> Vec<u8> {
    let refusal = serde_json::json!({ "version": VERSION, "error": error });
    format!("{refusal}\n").into_bytes()
}

fn line(time: Duration, vms: Vec<AboutVm<'_>>) -> Vec<u8> {
    let (axvmm, pid) = (env!("CARGO_PKG_VERSION"), process::id());
    let answer = Answer { version: VERSION, axvmm, pid, time: time.as_secs_f64(), vms };
    match serde_json::to_vec(&answer) {
        Ok(mut line) => {
            line.push(b'\n');
            line
        }
        Err(error) => refusal(&error.to_string()),
    }
}
