//! Whatever is imported: there is an answer, and the `guest.toml` that is written is the same guest.

use std::{fs, path::Path};

use proptest::prelude::*;

use super::{Imported, firecracker, qemu};
use crate::{config, devices::custom::Kinds};

/// One that the reader takes, with files that are there.
const VM: &str = r#"{
  "boot-source": { "kernel_image_path": "/proc/self/exe", "boot_args": "a \"b\" \u00e4\n",
    "initrd_path": "/proc/self/exe" },
  "drives": [
    { "drive_id": "d", "is_root_device": true, "is_read_only": true, "path_on_host": "README.md",
      "partuuid": "x", "cache_type": "Unsafe", "io_engine": "Sync",
      "rate_limiter": { "bandwidth": { "size": 9, "refill_time": 7, "one_time_burst": 5 } } },
    { "drive_id": "e", "is_root_device": false, "socket": "s" } ],
  "machine-config": { "vcpu_count": 2, "mem_size_mib": 64, "smt": true },
  "network-interfaces": [ { "iface_id": "d", "host_dev_name": "tap0", "mtu": 1500,
      "tx_rate_limiter": { "ops": { "size": 1, "refill_time": 1 } } } ],
  "pmem": [ { "id": "p", "path_on_host": "/proc/self/exe", "read_only": true } ],
  "vsock": { "guest_cid": 3, "uds_path": "v" },
  "balloon": { "amount_mib": 1, "deflate_on_oom": false, "free_page_reporting": true },
  "entropy": { "rate_limiter": null }, "logger": {}, "x": [[{}]]
}"#;

/// What damage is made of.
const PIECES: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "null",
    "true",
    "0",
    "-1",
    "1.5",
    "1e9",
    "18446744073709551616",
    "ä",
    "\u{feff}",
    "\n",
    "\"path_on_host\":",
    "\"drives\":",
    "'''",
    "\u{7f}",
];

/// Words of QEMU's command lines.
const WORDS: [&str; 43] = [
    "-m",
    "512",
    "2G,slots=2",
    "-smp",
    "2",
    "cores=2,sockets=2",
    "-kernel",
    "/proc/self/exe",
    "-initrd",
    "/proc/self/exe",
    "-append",
    "a,,b = \"c\" '''",
    "-drive",
    "file=README.md,format=raw,if=virtio",
    "if=none,id=d,file=LICENSE,format=raw,readonly",
    "-device",
    "virtio-blk-device,drive=d,serial=s",
    "-netdev",
    "user,id=n,hostfwd=tcp::1-:2",
    "tap,id=n,ifname=t",
    "virtio-net-pci,netdev=n",
    "virtio-rng-pci",
    "vhost-vsock-pci,guest-cid=5",
    "virtio-balloon",
    "isa-debug-exit,iobase=0xf4",
    "-virtfs",
    "local,path=src,mount_tag=t",
    "-name",
    "n\u{1}",
    "it",
    "-no-reboot",
    "-foo",
    "=",
    ",",
    ",,,",
    "-",
    "--",
    "",
    "-nic",
    "user",
    "-blockdev",
    "raw,node-name=d,file=e",
    "file,node-name=e,filename=src",
];

/// What came of it is the same when it is written and read again.
fn check(import: impl Fn() -> Result<Imported, config::Error>, name: &str) {
    let kinds = Kinds::new();
    let Ok(config) = import().and_then(|imported| imported.config(&[], &kinds)) else { return };
    let seen = |path: &str| Ok::<_, config::Error>(path.to_owned());
    let written = import().unwrap().guest_toml("a\ntest", &kinds, &seen).unwrap();
    let again = config::parse(&written.text, name, Path::new("")).expect(&written.text);
    let plain = |config| without_places(serde_json::to_value(config).unwrap());
    assert_eq!(plain(&config), plain(&again), "{}", written.text);
    let comments = written.text.lines().filter(|line| line.starts_with("# - "));
    assert_eq!(comments.count(), written.notes.len(), "{}", written.text);
}

fn without_places(mut value: serde_json::Value) -> serde_json::Value {
    match &mut value {
        serde_json::Value::Object(map) => {
            map.retain(|key, _| !["at", "notes"].contains(&key.as_str()));
            map.values_mut().for_each(|value| *value = without_places(value.take()));
        }
        serde_json::Value::Array(list) => {
            list.iter_mut().for_each(|value| *value = without_places(value.take()));
        }
        _ => {}
    }
    value
}

#[test]
fn what_is_whole_is_the_same_guest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vm.json");
    fs::write(&path, VM).unwrap();
    firecracker::import(&path).unwrap().config(&[], &Kinds::new()).unwrap();
    check(|| firecracker::import(&path), "vm.toml");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_damaged_file_has_an_answer(
        damage in prop::collection::vec((0..VM.len(), 0_usize..12, 0..PIECES.len()), 1..4),
    ) {
        let mut text = VM.to_owned();
        for (at, len, piece) in damage {
            let end = (at + len).min(text.len());
            if text.is_char_boundary(at) && text.is_char_boundary(end) && at <= end {
                text.replace_range(at..end, PIECES[piece]);
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vm.json");
        fs::write(&path, text).unwrap();
        check(|| firecracker::import(&path), "vm.toml");
    }

    #[test]
    fn any_command_line_has_an_answer(
        words in prop::collection::vec(0..WORDS.len(), 0..20),
    ) {
        let begins = ["-kernel", "/proc/self/exe"].into_iter();
        let words: Vec<_> = begins.chain(words.into_iter().map(|word| WORDS[word])).map(str::to_owned).collect();
        check(|| qemu::import(&words), "qemu.toml");
    }
}
