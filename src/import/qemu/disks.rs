//! Disks.

use super::{
    Backends, Draft, Given, Row, connected, row, tell_rest,
    words::{IMAGE, Keys},
};
use crate::{config::At, import::draft::rate};

/// What of a drive makes no difference here.
const HARMLESS: [&str; 9] =
    ["index", "unit", "bus", "werror", "rerror", "aio", "detect-zeroes", "discard", "id"];

/// `-drive`, and what is short for it.
pub fn option(given: &Given<'_>, backends: &mut Backends, draft: &mut Draft) {
    if given.name != "drive" {
        let mut disk = row("block", "", given);
        disk.set("path", given.at(given.value.to_owned()));
        if given.name == "cdrom" {
            disk.set("readonly", given.at(true));
        }
        if given.name == IMAGE || given.name.starts_with("hd") || given.name == "cdrom" {
            draft.note(given.place, "the guest has it as a virtio disk: /dev/vda, /dev/vdb, …");
        }
        name_format(&mut disk, given.value, given);
        draft.add(disk);
        return;
    }
    let mut keys = given.keys("file");
    match keys.take("if").map(|kind| kind.value).as_deref() {
        Some("none") => backends.drives.push(keys),
        Some("pflash") => {
            draft.note(given.place, "not used: axvmm starts the kernel itself, without firmware");
        }
        kind => {
            if kind != Some("virtio") {
                draft.note(given.place, "the guest has it as a virtio disk: /dev/vda, /dev/vdb, …");
            }
            let disk = row("block", "", given);
            disk_of(keys, disk, given, draft);
        }
    }
}

/// `-device virtio-blk-pci,drive=ID`, or another disk's.
pub fn device(
    model: &str,
    mut keys: Keys,
    given: &Given<'_>,
    backends: &mut Backends,
    draft: &mut Draft,
) {
    let id = keys.take("drive").map(|id| id.value);
    let Some(drive) = connected(&mut backends.drives, "id", id.as_deref()) else {
        draft.note(given.place, "not used: no -drive with if=none has this id");
        return;
    };
    if !model.starts_with("virtio-blk") {
        draft.note(given.place, "the guest has it as a virtio disk: /dev/vda, /dev/vdb, …");
    }
    let mut disk = row("block", model, given);
    disk.set_if("serial", keys.take("serial"));
    disk.set_if("queues", keys.number("num-queues", &mut draft.report));
    disk.set_if("name", keys.take("id"));
    tell_rest(keys, &["bootindex", "bus", "addr", "iothread", "scsi", "write-cache"], draft);
    disk_of(drive, disk, given, draft);
}

fn disk_of(mut keys: Keys, mut disk: Row, given: &Given<'_>, draft: &mut Draft) {
    let Some(path) = keys.take("file") else {
        draft.note(keys.place, "not used: it has no file");
        return;
    };
    let format = keys.take("format");
    let is_cdrom = keys.take("media").is_some_and(|media| media.value == "cdrom");
    let is_readonly = keys.is_on(&["readonly", "read-only"]);
    let is_discarded = keys.is_on(&["snapshot"]);
    if is_discarded {
        let text = "snapshot=on: the guest can only read, so that the file stays as it is";
        draft.note(keys.place, text);
    }
    if is_cdrom || is_readonly || is_discarded {
        disk.set("readonly", given.at(true));
    }
    if let Some(cache) = keys.take("cache") {
        match cache.value.as_str() {
            "none" | "directsync" => disk.set("direct", given.at(true)),
            "writeback" | "writethrough" => {}
            other => {
                let text = format!("cache={other}: what the guest flushes is on the disk then");
                draft.note(keys.place, text);
            }
        }
    }
    let serial = keys.take("serial");
    if !disk.has("serial") {
        disk.set_if("serial", serial);
    }
    let report = &mut draft.report;
    let bandwidth = ["bps", "throttling.bps-total"].map(|key| keys.number(key, report));
    let operations = ["iops", "throttling.iops-total"].map(|key| keys.number(key, report));
    let first = |limits: [Option<At<u64>>; 2]| limits.into_iter().flatten().next();
    disk.set_if("rate", rate(first(bandwidth), first(operations)));
    match format {
        Some(format) => {
            if format.value == "qcow2" {
                // QEMU takes what the image lacks from the files that it names.
                disk.set("backing", given.at(true));
            }
            disk.set("format", format);
        }
        None => name_format(&mut disk, &path.value, given),
    }
    disk.set("path", path);
    tell_rest(keys, &HARMLESS, draft);
    draft.add(disk);
}

/// The format that a file's name tells, which QEMU finds out from what is in it.
fn name_format(disk: &mut Row, path: &str, given: &Given<'_>) {
    if path.ends_with(".qcow2") {
        disk.set("format", given.at("qcow2".to_owned()));
        disk.set("backing", given.at(true));
    }
}
