//! Which exits: `--vm`, `--vcpu`, `--reason`, `--device`, `--at`, `--from`, `--to`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, builder::PossibleValuesParser};

use super::Recording;
use crate::{
    cli::Failure,
    config::parse_duration,
    hal::{AxVCpuExitReason, EXIT_REASONS},
    trace::{About, Event, Recorder},
};

#[derive(Debug, Args)]
pub struct FilterArgs {
    #[command(flatten)]
    recording: Recording,
    /// The new recording
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Which exits are wanted: those that all of these are true of.
#[derive(Debug, Default, Args)]
pub struct Filter {
    /// Of this VM, by its name
    #[arg(long, value_name = "NAME")]
    vm: Option<String>,
    /// Of this vCPU
    #[arg(long, value_name = "N")]
    vcpu: Option<usize>,
    /// For this reason; may be given more than once
    #[arg(long, value_parser = PossibleValuesParser::new((0..EXIT_REASONS).map(AxVCpuExitReason::name_of)))]
    reason: Vec<String>,
    /// Accesses that this device takes, by its name; may be given more than once
    #[arg(long, value_name = "NAME")]
    device: Vec<String>,
    /// At this address, port or register, or in FIRST..=LAST
    #[arg(long, value_name = "ADDRESS", value_parser = addresses)]
    at: Option<(u64, u64)>,
    /// Not before this time in the recording, such as 1.5s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    from: Option<Duration>,
    /// Not after this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    to: Option<Duration>,
}

impl Filter {
    /// Refuses names that the recording does not have.
    pub fn check(&self, about: &About) -> Result<(), Failure> {
        let vms: Vec<_> = about.vms.iter().map(|vm| vm.name.as_str()).collect();
        if let Some(vm) = self.vm.as_deref().filter(|vm| !vms.contains(vm)) {
            let has = vms.join(", ");
            return Err(Failure::usage(format!("--vm {vm}: the recording has {has}")));
        }
        let windows = about.vms.iter().flat_map(|vm| &vm.windows);
        let devices: Vec<_> = windows.map(|window| window.device.as_str()).collect();
        match self.device.iter().find(|device| !devices.contains(&device.as_str())) {
            Some(device) => {
                let has = devices.join(", ");
                Err(Failure::usage(format!("--device {device}: the recording has {has}")))
            }
            None => Ok(()),
        }
    }

    /// What was asked for, as it is written on a command line; empty for all exits.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut add = |option: &str, value: String| words.push(format!("--{option} {value}"));
        self.vm.iter().for_each(|it| add("vm", it.clone()));
        self.vcpu.iter().for_each(|it| add("vcpu", it.to_string()));
        self.reason.iter().for_each(|it| add("reason", it.clone()));
        self.device.iter().for_each(|it| add("device", it.clone()));
        self.at.iter().for_each(|(first, last)| add("at", format!("{first:#x}..={last:#x}")));
        self.from.iter().for_each(|it| add("from", format!("{it:?}")));
        self.to.iter().for_each(|it| add("to", format!("{it:?}")));
        words
    }

    /// Whether an exit is wanted.
    pub fn takes(&self, about: &About, event: &Event) -> bool {
        let record = &event.record;
        let is_vm = |vm: &String| about.vms.get(event.vm).is_some_and(|it| it.name == *vm);
        let reason = record.reason().map_or("", |it| it.name());
        let device = event.device(about).unwrap_or_default();
        let is_in = |(first, last): (u64, u64)| {
            record.width() > 0 && (first..=last).contains(&record.addr())
        };
        let time = Duration::from_nanos(record.time());
        self.vm.as_ref().is_none_or(is_vm)
            && self.vcpu.is_none_or(|vcpu| vcpu == event.vcpu)
            && (self.reason.is_empty() || self.reason.iter().any(|it| it == reason))
            && (self.device.is_empty() || self.device.iter().any(|it| it == device))
            && self.at.is_none_or(is_in)
            && self.from.is_none_or(|from| time >= from)
            && self.to.is_none_or(|to| time <= to)
    }
}

/// Writes what is wanted to a recording of its own, with the times that they have.
pub fn filter(args: &FilterArgs) -> Result<(), Failure> {
    let reader = args.recording.open()?;
    let same = |path: &PathBuf| path.canonicalize().ok();
    if same(&args.output).is_some_and(|it| Some(it) == same(&args.recording.file)) {
        return Err(Failure::usage("--output: this is the recording that is read"));
    }
    let about = reader.about();
    let recorder = Recorder::create(&args.output, about, None)?;
    let vms: Vec<_> =
        about.vms.iter().enumerate().map(|(vm, it)| recorder.for_vm(vm, it.vcpus)).collect();
    for event in args.recording.events(&reader) {
        let event = event?;
        vms[event.vm].push(event.vcpu, event.record);
    }
    vms.iter().for_each(|vm| vm.flush());
    recorder.failure().map_or(Ok(()), |error| Err(Failure::failed(error)))
}

/// `ADDRESS` or `FIRST..=LAST`, each decimal or hexadecimal.
fn addresses(text: &str) -> Result<(u64, u64), String> {
    let (first, last) = text.split_once("..=").unwrap_or((text, text));
    match (number(first)?, number(last)?) {
        (first, last) if first <= last => Ok((first, last)),
        _ => Err("the first address is above the last".to_owned()),
    }
}

fn number(text: &str) -> Result<u64, String> {
    let digits = text.trim().replace('_', "");
    let parsed = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is no address; write it like 0x3f8 or 0x3f8..=0x3ff"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_one_or_a_range() {
        assert_eq!(addresses("0x3f8"), Ok((0x3f8, 0x3f8)));
        assert_eq!(addresses("0x900_0000..=0x900_0fff"), Ok((0x900_0000, 0x900_0fff)));
        assert_eq!(addresses("16..=17"), Ok((16, 17)));
        for wrong in ["", "x", "2..=1", "0x1..=", "0x10000000000000000", "-1"] {
            assert!(addresses(wrong).is_err(), "{wrong}");
        }
    }
}
