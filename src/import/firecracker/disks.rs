//! Drives, and files that a guest has in its memory.

use super::{Draft, Json, limit, row};
use crate::config::At;

/// What is taken of a drive, in the order of the file.
struct Drive {
    row: super::Row,
    is_root: bool,
}

/// The drives; where the root file system is, if the row itself does not say so, goes to `root`.
pub fn drives(list: Json<'_>, root: &mut String, draft: &mut Draft) {
    let list = list.list(&mut draft.report).unwrap_or_default();
    let mut drives: Vec<_> = list.into_iter().filter_map(|it| drive(it, root, draft)).collect();
    // The guest is to find its root file system on the first.
    drives.sort_by_key(|drive| !drive.is_root);
    drives.into_iter().for_each(|drive| draft.add(drive.row));
}

fn drive(json: Json<'_>, root: &mut String, draft: &mut Draft) -> Option<Drive> {
    let report = &mut draft.report;
    let mut keys = json.object("this drive", report)?;
    let id = keys.take("drive_id", report).and_then(|it| it.text(report));
    let is_root = keys.take("is_root_device", report).and_then(|it| it.flag(report));
    let readonly = keys.take("is_read_only", report).and_then(|it| it.flag(report));
    let uuid = keys.take("partuuid", report).and_then(|it| it.text(report));
    let path = keys.take("path_on_host", report).and_then(|it| it.text(report));
    let socket = keys.take("socket", report).and_then(|it| it.text(report));
    let cache = keys.take("cache_type", report).and_then(|it| it.text(report));
    let engine = keys.take("io_engine", report).and_then(|it| it.text(report));
    let limiter = keys.take("rate_limiter", report);
    let place = keys.place;
    keys.finish(report);
    let rate = limit(limiter, draft);
    match cache.as_ref().map(|cache| cache.value.as_str()) {
        Some("Unsafe") => {
            let text =
                "\"cache_type\": what the guest flushes is on the disk then, as with Writeback";
            draft.note(cache.as_ref()?.place, text);
        }
        Some("Writeback") | None => {}
        Some(_) => word(cache.as_ref()?, "\"Unsafe\" or \"Writeback\"", draft),
    }
    match engine.as_ref().map(|engine| engine.value.as_str()) {
        Some("Sync" | "Async") => {
            draft.note(
                engine.as_ref()?.place,
                "\"io_engine\" is not used: axvmm chooses one itself",
            );
        }
        None => {}
        Some(_) => word(engine.as_ref()?, "\"Sync\" or \"Async\"", draft),
    }
    let is_readonly = readonly.as_ref().is_some_and(|readonly| readonly.value);
    let is_root_device = is_root.as_ref().is_some_and(|root| root.value);
    let access = if is_readonly { "ro" } else { "rw" };
    let mut drive = match (path, socket) {
        (Some(path), None) => {
            let mut disk = row("block", place);
            disk.set("path", path);
            disk.set("format", At { value: "raw".to_owned(), place });
            disk.set_if("readonly", readonly.filter(|readonly| readonly.value));
            disk.set_if("rate", rate);
            if uuid.is_none() {
                disk.set_if("root", is_root.filter(|root| root.value));
            }
            disk
        }
        (None, Some(socket)) => {
            let mut disk = row("vhost-user", place);
            disk.set("socket", socket);
            disk.set("device", At { value: "block".to_owned(), place });
            if is_root_device && uuid.is_none() {
                *root = format!("/dev/vda {access}");
            }
            disk
        }
        (Some(_), Some(socket)) => {
            let problem = "this drive has a \"path_on_host\" and a \"socket\"";
            draft.report.problem(socket.place, problem).help("choose one of them");
            return None;
        }
        (None, None) => {
            draft.report.problem(place, "this drive has no \"path_on_host\"");
            return None;
        }
    };
    match uuid {
        Some(uuid) if is_root_device => *root = format!("PARTUUID={} {access}", uuid.value),
        Some(uuid) => {
            draft.note(uuid.place, "\"partuuid\" is not used: this drive is no root device");
        }
        None => {}
    }
    drive.set_if("name", id);
    Some(Drive { row: drive, is_root: is_root_device })
}

fn word(found: &At<String>, expected: &str, draft: &mut Draft) {
    draft.report.problem(found.place, format!("expected {expected}"));
}

/// Persistent memory.
pub fn pmem(list: Json<'_>, root: &mut String, draft: &mut Draft) {
    let list = list.list(&mut draft.report).unwrap_or_default();
    for (number, json) in list.into_iter().enumerate() {
        let report = &mut draft.report;
        let Some(mut keys) = json.object("this pmem device", report) else { continue };
        let id = keys.take("id", report).and_then(|it| it.text(report));
        let path = keys.require("path_on_host", report).and_then(|it| it.text(report));
        let is_root = keys.take("root_device", report).and_then(|it| it.flag(report));
        let readonly = keys.take("read_only", report).and_then(|it| it.flag(report));
        let limiter = keys.take("rate_limiter", report);
        let place = keys.place;
        keys.finish(report);
        if let Some(limiter) = limiter {
            draft.note(limiter.place(), "\"rate_limiter\": flushes of memory are not limited");
        }
        if is_root.is_some_and(|root| root.value) {
            let is_readonly = readonly.as_ref().is_some_and(|readonly| readonly.value);
            let access = if is_readonly { "ro" } else { "rw" };
            *root = format!("/dev/pmem{number} {access}");
        }
        let mut device = row("pmem", place);
        device.set_if("path", path);
        device.set_if("readonly", readonly.filter(|readonly| readonly.value));
        device.set_if("name", id);
        draft.add(device);
    }
}
