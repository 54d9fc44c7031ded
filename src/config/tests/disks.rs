//! `[[devices.virtio]]` with `kind = "block"`, and AxVisor's `disk_path`.

use std::{fs::File, num::NonZeroU64};

use super::*;
use crate::{
    addr::GuestPhysAddr,
    virtio::{
        DeviceConfig, TransportKind,
        block::{Backing, BlockConfig, ImageFormat},
        rate_limit::Rate,
    },
};

/// A guest with these lines below its kernel's, with images `a.img`, `b.raw` and `c.qcow2`.
fn with(lines: &str) -> (Result<AxVMConfig, Error>, tempfile::TempDir) {
    let dir = files();
    for name in ["a.img", "b.raw", "c.qcow2"] {
        File::create(dir.path().join(name)).unwrap().set_len(512).unwrap();
    }
    let text = format!("[kernel]\nkernel_path = \"vmlinuz\"\n{lines}\n");
    (parse(&text, "guest.toml", dir.path()), dir)
}

fn disk(keys: &str) -> String {
    format!("[[devices.virtio]]\nkind = \"block\"\n{keys}\n")
}

#[track_caller]
fn only_disk(lines: &str) -> (BlockConfig, tempfile::TempDir) {
    let (config, dir) = with(lines);
    let config = config.unwrap();
    assert_eq!(config.devices.virtio[0].name, "disk0");
    let DeviceConfig::Block(disk) = &config.devices.virtio[0].device else { panic!() };
    (disk.clone(), dir)
}

#[test]
fn a_path_is_enough() {
    let (found, dir) = only_disk(&disk("path = \"a.img\""));
    assert_eq!(found, BlockConfig::new(dir.path().join("a.img"), ImageFormat::Raw));
}

#[test]
fn every_key_of_a_disk_is_understood() {
    let (found, dir) = only_disk(&disk(
        "path = \"c.qcow2\"\nformat = \"qcow2\"\nreadonly = true\nroot = true\nserial = \"A 1\"\n\
         queues = 3\ndirect = true\nbacking = \"b.raw\"\n\
         rate = { bandwidth = \"10M\", operations = 100 }",
    ));
    let rate = Rate { bandwidth: NonZeroU64::new(10 << 20), operations: NonZeroU64::new(100) };
    let expected = BlockConfig {
        path: dir.path().join("c.qcow2"),
        format: ImageFormat::Qcow2,
        readonly: true,
        root: true,
        serial: Some("A 1".to_owned()),
        queues: Some(3),
        direct: true,
        backing: Backing::At(dir.path().join("b.raw"), ImageFormat::Raw),
        rate,
    };
    assert_eq!(found, expected);
    let named = disk("path = \"c.qcow2\"\nformat = \"qcow2\"\nbacking = true");
    assert_eq!(only_disk(&named).0.backing, Backing::AsNamed);
}

/// Each: the keys of a disk, and words of what is said.
#[test]
fn disks_that_cannot_be() {
    let cases = [
        ("", "devices.virtio[0]: this disk has no path"),
        ("path = \"none\"", "devices.virtio[0].path: "),
        ("path = \".\"", "is a directory, and no disk"),
        ("path = \"/dev/null\"", "is neither a file nor a block device"),
        ("path = \"c.qcow2\"", "c.qcow2 may be of any format"),
        ("path = \"c.qcow2\"\nformat = \"qcow\"", "did you mean \"qcow2\"?"),
        ("path = \"a.img\"\nserial = \"\"", "1 to 20 printable ASCII"),
        ("path = \"a.img\"\nserial = \"123456789012345678901\"", "1 to 20 printable ASCII"),
        ("path = \"a.img\"\nqueues = 0", "an integer from 1 to 64"),
        ("path = \"a.img\"\nqueues = 65", "an integer from 1 to 64"),
        ("path = \"a.img\"\nbacking = true", "only a qcow2 image is backed"),
        (
            "path = \"c.qcow2\"\nformat = \"qcow2\"\nbacking = \"vmlinuz\"",
            "backing_format = \"raw\"",
        ),
        ("path = \"c.qcow2\"\nformat = \"qcow2\"\nbacking = \"none\"", "[0].backing: "),
        ("path = \"a.img\"\nrate = { bandwidth = 0 }", "nothing at all could ever be done"),
        ("path = \"a.img\"\nrate = { bandwidth = -1 }", "rate.bandwidth: "),
        ("path = \"a.img\"\nrate = { bandwidth = \"fast\" }", "is no size"),
        ("path = \"a.img\"\nrate = { operations = 0 }", "an integer from 1"),
        ("path = \"a.img\"\nread_only = true", "did you mean \"readonly\"?"),
    ];
    for (keys, words) in cases {
        let error = with(&disk(keys)).0.expect_err(keys).to_string();
        assert!(error.contains(words) && error.contains("guest.toml:"), "{keys}: {error}");
    }
}

#[test]
fn what_disks_cannot_be_beside_each_other() {
    let two = |a: &str, b: &str| with(&(disk(a) + &disk(b))).0;
    let same = two("path = \"a.img\"", "path = \"./a.img\"\nreadonly = true").unwrap_err();
    assert!(same.to_string().contains("[1].path: another disk is this file"), "{same}");
    let readonly = "path = \"a.img\"\nreadonly = true";
    two(readonly, readonly).unwrap();
    let roots = two("path = \"a.img\"\nroot = true", "path = \"b.raw\"\nroot = true").unwrap_err();
    assert!(roots.to_string().contains("[1].root: another disk"), "{roots}");
}

#[test]
fn the_kernel_is_told_of_its_root() {
    let cmdline = |written: &str, keys: &str| {
        let disks = disk("path = \"b.raw\"") + &disk(&format!("path = \"a.img\"\n{keys}"));
        with(&format!("{written}\n{disks}")).0.unwrap().kernel.cmdline
    };
    for (written, keys, expected) in [
        ("", "", None),
        ("", "root = true", Some("root=/dev/vdb rw")),
        ("cmdline = \"quiet\"", "root = true\nreadonly = true", Some("quiet root=/dev/vdb ro")),
        ("cmdline = \"ro\"", "root = true", Some("ro root=/dev/vdb")),
        ("cmdline = \"root=/dev/vdb1\"", "root = true", Some("root=/dev/vdb1")),
        ("cmdline = \"quiet\"", "root = false", Some("quiet")),
    ] {
        assert_eq!(cmdline(written, keys).as_deref(), expected, "{written} {keys}");
    }
}

#[test]
fn axvisors_disk_is_where_its_row_says() {
    let (config, dir) = with(
        "disk_path = \"c.qcow2\"\n[devices]\n\
         emu_devices = [[\"blk\", 0xa00_0000, 0x200, 48, 0xe1, []]]",
    );
    let config = config.unwrap();
    let [found] = &config.devices.virtio[..] else { panic!("{config:?}") };
    let image = BlockConfig::new(dir.path().join("c.qcow2"), ImageFormat::Raw);
    assert_eq!((found.name.as_str(), &found.device), ("blk", &DeviceConfig::Block(image)));
    assert_eq!(found.place, Some((GuestPhysAddr(0xa00_0000), 48)));
    assert_eq!(found.transport, Some(TransportKind::Mmio));
    assert_eq!(found.at.line, Some(5));
    // Without a row it is the first disk, wherever there is room.
    let (config, _dir) = with(&format!("disk_path = \"b.raw\"\n{}", disk("path = \"a.img\"")));
    let config = config.unwrap();
    let names: Vec<_> = config.devices.virtio.iter().map(|it| it.name.as_str()).collect();
    assert_eq!((names, config.devices.virtio[0].place), (vec!["disk0-1", "disk0"], None));
    let missing = with("disk_path = \"none\"").0.unwrap_err().to_string();
    assert!(missing.contains("guest.toml:3:13: kernel.disk_path: "), "{missing}");
}
