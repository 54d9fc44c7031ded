//! Firecracker's configuration file (`--config-file`), by its API's description, version 1.16:
//! `src/firecracker/swagger/firecracker.yaml`, and `vmm_config/` for what may be left out.
//!
//! Its guests find devices over MMIO, mostly with `pci=off` on their command line, and their root
//! file system on the first disk. Its process ends when the guest resets itself.

mod devices;
mod disks;

use std::path::Path;

use super::{
    draft::{Draft, Imported, Row},
    json::{Json, Object},
};
use crate::config::{At, Error, Language, Place, Report, Value, read_foreign};

const JSON: Language = Language { name: "JSON", example: "vm.json", missing: None };

/// The command line of a guest whose file has none.
const USUAL_CMDLINE: &str = "reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux \
                             i8042.dumbkbd swiotlb=noforce";
/// The machine of a file that says nothing of it.
const USUAL_CPUS: u64 = 1;
const USUAL_MEMORY: &str = "128M";

/// Reads such a file. Its relative paths are so to the working directory.
///
/// # Errors
/// All that is wrong with it, each with its place. What the guest cannot be given, no guest.toml
/// being able to say it, is no error but a note.
pub fn import(path: &Path) -> Result<Imported, Error> {
    let source = read_foreign(path, &JSON)?;
    let text = source.text.clone();
    let mut report = Report::default();
    let source = report.add_source(source);
    let file = Json::document(&text, source, &mut report);
    let file = file.and_then(|file| file.object("this file", &mut report));
    let mut draft = Draft::new(report);
    if let Some(file) = file {
        guest(file, &mut draft);
    }
    draft.run_with("--no-reboot");
    let name = path.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    if !name.is_empty() && !name.contains(char::is_control) {
        // So that it is the same guest under another file's name.
        draft.set("base", "name", At { value: name.into_owned(), place: Place::default() });
    }
    draft.finish(&path.display().to_string())
}

fn guest(mut file: Object<'_>, draft: &mut Draft) {
    let mut root = String::new();
    let place = file.place;
    machine(file.take("machine-config", &mut draft.report), place, draft);
    let boot = file.require("boot-source", &mut draft.report);
    if let Some(drives) = file.take("drives", &mut draft.report) {
        disks::drives(drives, &mut root, draft);
    }
    if let Some(pmem) = file.take("pmem", &mut draft.report) {
        disks::pmem(pmem, &mut root, draft);
    }
    if let Some(boot) = boot {
        boot_source(boot, &root, draft);
    }
    for (key, read) in devices::ALL {
        if let Some(value) = file.take(key, &mut draft.report) {
            read(value, draft);
        }
    }
    for (key, becomes) in UNSUPPORTED {
        if let Some(value) = file.take(key, &mut draft.report) {
            draft.note(value.place(), format!("{key:?} is not used: {becomes}"));
        }
    }
    // Firecracker passes over keys of the file itself that it does not know.
    for member in file.rest() {
        let text = format!("{:?} is not used: neither Firecracker nor axvmm know it", member.key);
        draft.note(member.place, text);
    }
}

/// What no guest.toml says, and what there is instead.
const UNSUPPORTED: [(&str, &str); 6] = [
    ("logger", "axvmm logs on stderr; --log-level says how much"),
    ("metrics", "give --metrics FILE to `axvmm run`"),
    ("mmds-config", "there is no metadata service; the guest's requests for it are not answered"),
    ("cpu-config", "the guest's processors are those of the host"),
    ("memory-hotplug", "the guest's memory is what it begins with"),
    ("serial", "the guest's serial port is on stdin and stdout"),
];

fn machine(config: Option<Json<'_>>, file: Place, draft: &mut Draft) {
    let Some(config) = config else {
        draft.set("base", "cpu_num", At { value: USUAL_CPUS, place: file });
        draft.set("base", "memory", At { value: USUAL_MEMORY.to_owned(), place: file });
        return;
    };
    let report = &mut draft.report;
    let Some(mut config) = config.object("machine-config", report) else { return };
    let cpus = config.require("vcpu_count", report).and_then(|it| it.number(report));
    let memory = config.require("mem_size_mib", report).and_then(|it| it.number(report));
    let unused = [
        ("smt", "the guest sees no threads of a core"),
        ("cpu_template", "the guest's processors are those of the host"),
        ("track_dirty_pages", "there are no snapshots"),
        ("huge_pages", "the host decides on the size of pages"),
        ("gdb_socket_path", "give --gdb PATH to `axvmm run`"),
    ];
    let unused = unused.map(|(key, why)| (key, why, config.take(key, report)));
    config.finish(report);
    if let Some(cpus) = cpus {
        draft.set("base", "cpu_num", cpus);
    }
    if let Some(At { value, place }) = memory {
        draft.set("base", "memory", At { value: format!("{value}M"), place });
    }
    for (key, why, value) in unused {
        let value = value.filter(|value| !value.says(&["false", "\"None\""]));
        if let Some(value) = value {
            draft.note(value.place(), format!("{key:?} is not used: {why}"));
        }
    }
}

fn boot_source(boot: Json<'_>, root: &str, draft: &mut Draft) {
    let report = &mut draft.report;
    let Some(mut boot) = boot.object("boot-source", report) else { return };
    let kernel = boot.require("kernel_image_path", report).and_then(|it| it.text(report));
    let initrd = boot.take("initrd_path", report).and_then(|it| it.text(report));
    let cmdline = boot.take("boot_args", report).and_then(|it| it.text(report));
    let place = boot.place;
    boot.finish(report);
    if let Some(kernel) = kernel {
        draft.set("kernel", "kernel_path", kernel);
    }
    if let Some(initrd) = initrd {
        draft.set("kernel", "ramdisk_path", initrd);
    }
    let mut cmdline = cmdline.unwrap_or_else(|| At { value: USUAL_CMDLINE.to_owned(), place });
    if !root.is_empty() {
        let gap = if cmdline.value.is_empty() { "" } else { " " };
        cmdline.value.push_str(&format!("{gap}root={root}"));
    }
    draft.set("kernel", "cmdline", cmdline);
}

/// A device as Firecracker has them.
fn row(kind: &str, place: Place) -> Row {
    let mut row = Row::new(kind, place);
    row.set("transport", At { value: "mmio".to_owned(), place });
    row
}

/// A limit of how much a device may do, as a rate; `None` if there is none.
fn limit(limiter: Option<Json<'_>>, draft: &mut Draft) -> Option<At<Value>> {
    let mut limiter = limiter?.object("this rate limiter", &mut draft.report)?;
    let bandwidth = limiter.take("bandwidth", &mut draft.report);
    let ops = limiter.take("ops", &mut draft.report);
    limiter.finish(&mut draft.report);
    let bandwidth = bandwidth.and_then(|bucket| per_second(bucket, draft));
    let ops = ops.and_then(|bucket| per_second(bucket, draft));
    super::draft::rate(bandwidth, ops)
}

/// What a token bucket lets through in a second.
fn per_second(bucket: Json<'_>, draft: &mut Draft) -> Option<At<u64>> {
    let report = &mut draft.report;
    let mut bucket = bucket.object("this token bucket", report)?;
    let size = bucket.require("size", report).and_then(|it| it.number(report));
    let time = bucket.require("refill_time", report).and_then(|it| it.number(report));
    let burst = bucket.take("one_time_burst", report).and_then(|it| it.number(report));
    let place = bucket.place;
    bucket.finish(report);
    let (size, time) = (size?.value, time?.value);
    if let Some(burst) = burst.filter(|burst| burst.value > 0) {
        draft.note(burst.place, "\"one_time_burst\" is not used: a rate lasts from the start");
    }
    if size == 0 || time == 0 {
        draft.note(place, "nothing is limited by a token bucket of size or refill_time 0");
        return None;
    }
    let rate = u128::from(size) * 1000 / u128::from(time);
    Some(At { value: u64::try_from(rate).unwrap_or(u64::MAX).max(1), place })
}
