//! `axvmm doctor`: whether this host can run guests, and what to do about what it lacks.

mod device;
mod finding;
pub mod memory;

use std::{env, io, path::PathBuf};

use clap::Args;
use serde::Serialize;

use self::finding::{Finding, Level};
use super::{
    Failure,
    check::{json, print},
    failure,
    log_output::colourful,
};
use crate::{
    hal::HalError,
    kvm::{
        Capability, DEVICE_VARIABLE, KvmHal, KvmHost, OpenError,
        probe::{self, FeatureProbe},
    },
};

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Prints the findings as JSON
    #[arg(long)]
    json: bool,
}

/// All that was found.
#[derive(Debug, Serialize)]
struct Diagnosis {
    /// Whether guests can run.
    guests: bool,
    /// Whether an unmodified Linux kernel can.
    linux: bool,
    findings: Vec<Finding>,
}

/// Looks at everything and tells; the exit status says whether a guest can run.
pub fn doctor(args: &DoctorArgs) -> Result<u8, Failure> {
    let diagnosis = diagnose();
    let text = if args.json {
        json(&diagnosis)?
    } else {
        let colours = colourful(&io::stdout());
        let lines: String = diagnosis.findings.iter().map(|f| f.to_text(colours)).collect();
        format!("{lines}\n{}\n", diagnosis.summary())
    };
    print(&text)?;
    Ok(if diagnosis.guests { 0 } else { failure::HOST })
}

impl Diagnosis {
    fn summary(&self) -> &'static str {
        match (self.guests, self.linux) {
            (true, true) => "Guests can run here, unmodified Linux kernels among them.",
            (true, false) => "Guests can run here, but no unmodified Linux (--host emulated has).",
            (false, _) => "Guests cannot run here, but in an emulated host (--host emulated).",
        }
    }
}

fn diagnose() -> Diagnosis {
    let mut findings = kvm();
    let guests = findings.iter().all(|finding| finding.level != Level::Fail);
    let mut linux = false;
    if guests {
        let kernels = kernels();
        linux = kernels.level == Level::Ok;
        findings.push(kernels);
    }
    findings.extend(memory::findings());
    Diagnosis { guests, linux, findings }
}

/// KVM, up to the first thing that fails.
fn kvm() -> Vec<Finding> {
    let host = match KvmHost::open() {
        Ok(host) => host,
        Err(error) => return vec![opening(error)],
    };
    let device = env::var_os(DEVICE_VARIABLE).map_or_else(|| "/dev/kvm".into(), PathBuf::from);
    let mut findings =
        vec![Finding::ok("KVM", format!("{} is there, with API version 12", device.display()))];
    let missing = host.missing_capabilities();
    if !missing.is_empty() {
        findings.extend(missing.iter().map(lacks));
        return findings;
    }
    findings.push(Finding::ok("capabilities", "all that axvmm needs"));
    // Dropped at once: some hosts bear one VM at a time.
    match KvmHal::new().map(drop) {
        Ok(()) => findings.push(Finding::ok("virtual machine", "one can be made")),
        Err(error) => {
            findings.push(of_error("virtual machine", error));
            return findings;
        }
    }
    findings.push(vcpus(host.max_vcpus(), online_cpus()));
    findings
}

/// Why KVM cannot be opened.
fn opening(error: OpenError) -> Finding {
    match &error {
        OpenError::Missing { device } => device::missing(device, &device::Facts::gather(device)),
        OpenError::Permission { device } => {
            device::no_permission(device, device::Access::gather(device))
        }
        _ => of_error("KVM", error.into()),
    }
}

fn lacks(capability: &Capability) -> Finding {
    Finding::fail(
        "capabilities",
        format!("this KVM lacks {}", capability.name),
        format!(
            "Linux {} brought it: use a host kernel that is newer, or has it enabled.",
            capability.since
        ),
    )
}

fn of_error(subject: &'static str, mut error: HalError) -> Finding {
    let hint = error.hint.take();
    let hint = hint.unwrap_or_else(|| "The host kernel's log (dmesg) may tell more.".to_owned());
    Finding::fail(subject, error.to_string(), hint)
}

fn online_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

fn vcpus(max: usize, cpus: usize) -> Finding {
    let text = format!("up to {max} a guest; this process may use {cpus} host CPUs");
    if max < cpus {
        let remedy = "Nothing need be done, unless a guest is to have more.";
        return Finding::warn("vCPUs", text, remedy);
    }
    Finding::ok("vCPUs", text)
}

/// Whether a kernel as distributions have it would run: tried with tiny guests.
fn kernels() -> Finding {
    const SUBJECT: &str = "Linux kernels";
    let remedy = "Tiny guests run all the same. For Linux use a host whose KVM uses the hardware, or \
        an emulated one: axvmm run --host emulated …";
    let features = match probe::run() {
        Ok(features) => features,
        Err(error) => {
            let what = format!("cannot be tried: {error}");
            return Finding::warn(SUBJECT, what, remedy);
        }
    };
    let lacking: Vec<_> = features.iter().filter(|probe| probe.failure.is_some()).collect();
    if !lacking.is_empty() {
        let names: Vec<_> = lacking.iter().map(|probe| probe.feature).collect();
        let names = names.join(", ");
        let what = format!("this KVM cannot run an unmodified Linux kernel, which needs {names}");
        let detail = |probe: &&FeatureProbe| {
            let failure = probe.failure.as_deref().unwrap_or_default();
            format!("{}, for {}: {failure}", probe.feature, probe.needed_for)
        };
        let details = lacking.iter().map(detail).collect();
        return Finding { details, ..Finding::warn(SUBJECT, what, remedy) };
    }
    let tried: Vec<_> = features.iter().map(|probe| probe.feature).collect();
    Finding::ok(
        SUBJECT,
        format!("this KVM can run an unmodified Linux kernel: {} work", tried.join(", ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_its_cause_and_its_remedy() {
        let error = HalError::host_cannot("create a VM (KVM_CREATE_VM)")
            .because(io::Error::from_raw_os_error(libc::EBUSY))
            .hint("Another hypervisor may be using the hardware: stop it.");
        let finding = of_error("virtual machine", error);
        assert_eq!(finding.level, Level::Fail);
        assert!(finding.what.contains("busy"), "{finding:?}");
        assert!(finding.remedy.as_deref().unwrap().contains("stop it"), "{finding:?}");
    }

    #[test]
    fn fewer_vcpus_than_cpus_is_worth_a_word() {
        assert_eq!(vcpus(16, 16).level, Level::Ok);
        assert_eq!(vcpus(1, 16).level, Level::Warn);
    }
}
