//! `-device`.

use super::{
    Backends, Draft, Given, connected, disks, machine, networks, row, tell_rest, words::Keys,
};
use crate::config::At;

/// What makes no difference for any device.
const HARMLESS: [&str; 6] = ["id", "bus", "addr", "rng", "disable-legacy", "disable-modern"];

/// Models of disks and network cards that a guest can have as virtio's.
const DISKS: [&str; 6] = ["virtio-blk", "ide-hd", "scsi-hd", "nvme", "usb-storage", "sd-card"];
const CARDS: [&str; 6] = ["virtio-net", "e1000", "e1000e", "rtl8139", "ne2k_pci", "vmxnet3"];
/// What boards have anyway, or what only leads to another device.
const NEEDLESS: [&str; 7] = [
    "pvpanic",
    "pvpanic-pci",
    "pcie-root-port",
    "pci-bridge",
    "virtio-scsi-pci",
    "isa-serial",
    "ahci",
];

/// Takes a device, and what it is connected to.
pub fn option(given: &Given<'_>, backends: &mut Backends, draft: &mut Draft) {
    if given.name == "virtfs" {
        let keys = given.keys("fsdriver");
        return share(keys, None, given, draft);
    }
    let mut keys = given.keys("driver");
    let Some(At { value: model, .. }) = keys.take("driver") else { return };
    let is = |models: &[&str]| {
        models.iter().any(|name| model == *name || model.starts_with(&format!("{name}-")))
    };
    let device = match model.as_str() {
        _ if is(&DISKS) => return disks::device(&model, keys, given, backends, draft),
        _ if is(&CARDS) => return networks::device(&model, keys, given, backends, draft),
        _ if is(&["virtio-rng"]) => row("rng", &model, given),
        _ if is(&["virtio-balloon"]) => balloon(&mut keys, &model, given),
        _ if is(&["virtio-9p"]) => {
            let id = keys.take("fsdev").map(|id| id.value);
            let Some(directory) = connected(&mut backends.filesystems, "id", id.as_deref()) else {
                draft.note(given.place, "not used: no -fsdev has this id");
                return;
            };
            return share(directory, keys.take("mount_tag"), given, draft);
        }
        _ if is(&["vhost-user-fs", "vhost-user-blk", "vhost-user-vsock"]) => {
            let Some(device) = vhost_user(&mut keys, &model, given, backends, draft) else {
                return;
            };
            device
        }
        _ if is(&["vhost-vsock"]) => {
            let mut device = row("vsock", &model, given);
            device.set_if("cid", keys.number("guest-cid", &mut draft.report));
            device.set("path", given.at("vsock.sock".to_owned()));
            let text = "the host's programs reach the guest by the Unix socket vsock.sock, with \
                        Firecracker's protocol, and not by AF_VSOCK";
            draft.note(given.place, text);
            device
        }
        "isa-debug-exit" => {
            machine::debug_exit(given, keys.take("iobase").as_ref(), draft);
            return tell_rest(keys, &["id", "iosize"], draft);
        }
        other if NEEDLESS.contains(&other) => return,
        _ => return draft.note(given.place, "not used: it has no counterpart"),
    };
    tell_rest(keys, &HARMLESS, draft);
    draft.add(device);
}

fn balloon(keys: &mut Keys, model: &str, given: &Given<'_>) -> super::Row {
    let mut device = row("balloon", model, given);
    // QEMU's do neither unless they are told to.
    device.set("deflate_on_oom", given.at(keys.is_on(&["deflate-on-oom"])));
    device.set("free_page_reporting", given.at(keys.is_on(&["free-page-reporting"])));
    device
}

/// A directory, which QEMU shares by 9p and axvmm by virtio-fs.
fn share(mut keys: Keys, tag: Option<At<String>>, given: &Given<'_>, draft: &mut Draft) {
    if keys.take("fsdriver").is_none_or(|driver| driver.value != "local") {
        draft.note(given.place, "not used: only a directory of the host's can be shared");
        return;
    }
    let Some(path) = keys.take("path") else {
        draft.report.problem(given.place, "this share has no path");
        return;
    };
    let mut device = row("fs", "", given);
    device.set("path", path);
    let own = keys.take("mount_tag");
    device.set_if("tag", tag.or(own));
    if keys.is_on(&["readonly"]) {
        device.set("readonly", given.at(true));
    }
    draft.note(given.place, "the guest mounts it with -t virtiofs in the place of -t 9p");
    tell_rest(keys, &["id", "security_model", "multidevs", "writeout"], draft);
    draft.add(device);
}

/// A device that is another process, at the other end of a channel.
fn vhost_user(
    keys: &mut Keys,
    model: &str,
    given: &Given<'_>,
    backends: &mut Backends,
    draft: &mut Draft,
) -> Option<super::Row> {
    let id = keys.take("chardev").map(|id| id.value);
    let channel = connected(&mut backends.chardevs, "id", id.as_deref());
    let Some(socket) = channel.and_then(|mut channel| channel.take("path")) else {
        draft.note(given.place, "not used: no -chardev socket with a path has this id");
        return None;
    };
    let mut device = if model.starts_with("vhost-user-fs") {
        let mut device = row("fs", model, given);
        device.set_if("tag", keys.take("tag"));
        device
    } else {
        let mut device = row("vhost-user", model, given);
        let kind = if model.starts_with("vhost-user-blk") { "block" } else { "vsock" };
        device.set("device", given.at(kind.to_owned()));
        device.set_if("queues", keys.number("num-queues", &mut draft.report));
        device
    };
    device.set("socket", socket);
    Some(device)
}
