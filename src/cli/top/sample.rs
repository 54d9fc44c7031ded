//! What a run answers, as far as it is looked at.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{cli::control::VERSION, devices::WindowInfo, hal::VMId};

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Sample {
    pub pid: u32,
    /// From the run's start, in seconds.
    pub time: f64,
    pub vms: Vec<Vm>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Vm {
    pub id: VMId,
    pub name: String,
    pub status: String,
    pub reboots: u64,
    pub exits: Vec<VCpu>,
    pub devices: Vec<Window>,
    pub unowned: Accesses,
    pub times: Option<Times>,
    pub ended: Option<Ended>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct VCpu {
    pub vcpu: usize,
    pub total: u64,
    pub by_reason: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Window {
    #[serde(flatten)]
    pub window: WindowInfo,
    #[serde(flatten)]
    pub accesses: Accesses,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct Accesses {
    pub reads: u64,
    pub writes: u64,
}

/// Where time went, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Times {
    pub vcpus: Vec<VCpuTimes>,
    pub reasons: BTreeMap<String, Handling>,
    pub devices: Vec<WindowTimes>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct VCpuTimes {
    pub vcpu: usize,
    pub processor_ns: u64,
    pub handling_ns: u64,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct WindowTimes {
    #[serde(flatten)]
    pub window: WindowInfo,
    #[serde(flatten)]
    pub handling: Handling,
}

/// How long exits took: see [`crate::vm::HandlingTimes`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Handling {
    pub sum_ns: u64,
    pub up_to_ns: Vec<(u64, u64)>,
}

/// How a guest has ended.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Ended {
    pub reason: String,
    pub status: u8,
    pub message: String,
}

/// What every line has, whatever else.
#[derive(Deserialize)]
struct Any {
    version: u32,
    error: Option<String>,
}

impl Sample {
    /// What a line says, or what is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let wrong = |error: serde_json::Error| format!("this is no answer of axvmm's: {error}");
        let any: Any = serde_json::from_slice(line).map_err(wrong)?;
        if any.version != VERSION {
            let found = any.version;
            return Err(format!("it speaks version {found}, and this axvmm version {VERSION}"));
        }
        if let Some(error) = any.error {
            return Err(printable(&error));
        }
        let mut sample: Self = serde_json::from_slice(line).map_err(wrong)?;
        sample.vms.iter_mut().for_each(Vm::make_printable);
        Ok(sample)
    }
}

impl Vm {
    /// Nothing that comes from elsewhere moves the cursor.
    fn make_printable(&mut self) {
        let windows = self.devices.iter_mut().map(|it| &mut it.window);
        let times = self.times.iter_mut().flat_map(|it| &mut it.devices).map(|it| &mut it.window);
        for window in windows.chain(times) {
            window.device = printable(&window.device);
            window.addresses = printable(&window.addresses);
        }
        let reasons = |it: &mut VCpu| {
            let by_reason = std::mem::take(&mut it.by_reason).into_iter();
            it.by_reason = by_reason.map(|(name, count)| (printable(&name), count)).collect();
        };
        self.exits.iter_mut().for_each(reasons);
        let told = self.ended.as_mut().map(|it| &mut it.message);
        for text in [&mut self.name, &mut self.status].into_iter().chain(told) {
            *text = printable(text);
        }
    }
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_answer_is_told() {
        for (line, told) in [
            ("", "no answer"),
            ("{}", "no answer"),
            ("{\"version\":2,\"vms\":7}", "version 2"),
            ("{\"version\":1,\"error\":\"no \\u001b[2J\"}", "no  [2J"),
            ("{\"version\":1}", "no answer"),
        ] {
            let found = Sample::parse(line.as_bytes()).unwrap_err();
            assert!(found.contains(told), "{line}: {found}");
        }
    }
}
