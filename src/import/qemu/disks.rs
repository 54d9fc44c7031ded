//! Disks.

use super::{
    Backends, Draft, Given, Row, connected, row, tell_rest,
    words::{IMAGE, Keys},
};
use crate::{config::At, import::draft::rate};

/// What of a drive makes no difference here.
const HARMLESS: [&str; 9] =
    ["index", "unit", "bus", "werror", "rerror", "aio", "detect-zeroes", "discard", "id"];

/// And what of a node.
const NODES: [&str; 7] = [
    "node-name",
    "file.driver",
    "auto-read-only",
    "discard",
    "cache.no-flush",
    "cache.direct",
    "aio",
];

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
    let drive = connected(&mut backends.drives, "id", id.as_deref());
    let Some(drive) = drive.or_else(|| node(id.as_deref(), backends, draft)) else {
        draft.note(given.place, "not used: no -drive with if=none, and no -blockdev, has this id");
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

/// The drive that a `-blockdev` is, with the one below it if that has the file.
fn node(name: Option<&str>, backends: &mut Backends, draft: &mut Draft) -> Option<Keys> {
    let mut node = connected(&mut backends.nodes, "node-name", name)?;
    node.take("node-name");
    if let Some(driver) = node.take("driver") {
        // What has no format of its own is the disk's bytes.
        let is_file = ["file", "host_device"].contains(&driver.value.as_str());
        node.set("format", if is_file { "raw".to_owned() } else { driver.value });
    }
    let below = node.take("file");
    let below = connected(&mut backends.nodes, "node-name", below.as_ref().map(|at| &*at.value));
    let mut path = node.take("filename").or(node.take("file.filename"));
    if let Some(mut below) = below {
        path = path.or(below.take("filename"));
        if below.is_on(&["read-only"]) {
            node.set("readonly", "on".to_owned());
        }
        if below.is_on(&["cache.direct"]) {
            node.set("cache.direct", "on".to_owned());
        }
        below.take("driver");
        tell_rest(below, &NODES, draft);
    }
    if node.is_on(&["cache.direct"]) {
        node.set("cache", "none".to_owned());
    }
    NODES.iter().for_each(|key| drop(node.take(key)));
    if let Some(path) = path {
        node.set("file", path.value);
    }
    Some(node)
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
