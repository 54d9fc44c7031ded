//! Devices whose other end is a Unix socket.

use super::*;
use crate::virtio::{
    DeviceConfig, DeviceType,
    vhost_user::{Kept, VhostUserConfig},
    vsock::VsockConfig,
};

/// The text of a file with this device.
fn with(keys: &str) -> String {
    format!("[kernel]\nkernel_path = \"vmlinuz\"\n[[devices.virtio]]\n{keys}")
}

fn devices(text: &str, dir: &TempDir) -> Vec<DeviceConfig> {
    let config = parse(text, "guest.toml", dir.path()).unwrap();
    config.devices.virtio.into_iter().map(|config| config.device).collect()
}

#[test]
fn a_vsock_has_a_path_beside_the_file_and_a_context_id() {
    let dir = files();
    let path = dir.path().join("v.sock");
    let text = with("kind = \"vsock\"\npath = \"v.sock\"\n");
    let expected = DeviceConfig::Vsock(VsockConfig { cid: 3, path: path.clone() });
    assert_eq!(devices(&text, &dir), [expected]);
    let text = with("kind = \"vsock\"\npath = \"v.sock\"\ncid = 52\n");
    assert_eq!(devices(&text, &dir), [DeviceConfig::Vsock(VsockConfig { cid: 52, path })]);
}

#[test]
fn what_can_be_no_vsock_is_told_where_it_is_written() {
    let long = format!("kind = \"vsock\"\npath = \"/tmp/{}\"", "x".repeat(100));
    let cases = [
        ("kind = \"vsock\"", "4:8", "write path = "),
        ("kind = \"vsock\"\npath = \"vmlinuz\"", "5:8", "is no socket"),
        ("kind = \"vsock\"\npath = \"missing/v.sock\"", "5:8", "there is no directory"),
        (&long, "5:8", "at most 96 bytes, and this has 105"),
        ("kind = \"vsock\"\npath = \"v\"\ncid = 2", "6:7", "from 3 to 0xfffffffe"),
        ("kind = \"vsock\"\npath = \"v\"\nport = 2", "6:1", "known here"),
    ];
    for (keys, place, said) in cases {
        let told = problem(&with(keys));
        assert!(told.contains(&format!("guest.toml:{place}: ")) && told.contains(said), "{told}");
    }
}

#[test]
fn a_backends_device_is_named_or_numbered() {
    let dir = files();
    let kind = "kind = \"vhost-user\"\nsocket = \"b.sock\"\n";
    let plain = VhostUserConfig {
        socket: dir.path().join("b.sock"),
        device: DeviceType::BLOCK,
        queues: None,
        queue_size: 256,
        tag: None,
        config_size: None,
        kept: Kept::default(),
    };
    let text = with(&format!("{kind}device = \"block\""));
    assert_eq!(devices(&text, &dir), [DeviceConfig::VhostUser(plain.clone())]);
    let text = with(&format!("{kind}device = 99\nqueues = 4\nqueue_size = 1024\nconfig_size = 12"));
    let told = VhostUserConfig {
        device: DeviceType(99),
        queues: Some(4),
        queue_size: 1024,
        config_size: Some(12),
        ..plain.clone()
    };
    assert_eq!(devices(&text, &dir), [DeviceConfig::VhostUser(told)]);
    let text = with(&format!("{kind}device = \"fs\"\ntag = \"share\""));
    let tag = Some("share".into());
    let share = VhostUserConfig { device: DeviceType::FILE_SYSTEM, tag, ..plain };
    assert_eq!(devices(&text, &dir), [DeviceConfig::VhostUser(share)]);
}

#[test]
fn what_can_be_no_backends_device_is_told_where_it_is_written() {
    let kind = "kind = \"vhost-user\"\nsocket = \"b\"\n";
    let cases = [
        ("kind = \"vhost-user\"\ndevice = 1".to_owned(), "4:8", "write socket = "),
        (kind.to_owned(), "4:8", "write device = "),
        (format!("{kind}device = \"blok\""), "6:10", "did you mean \"block\"?"),
        (format!("{kind}device = \"toaster\""), "6:10", "known: net, block"),
        (format!("{kind}device = 1\nqueue_size = 100"), "7:14", "100 is no power of two"),
        (format!("{kind}device = 1\ntag = \"x\""), "7:7", "only a file system"),
        (format!("{kind}device = \"fs\"\ntag = \"{}\"", "x".repeat(37)), "7:7", "1 to 36 bytes"),
        ("kind = \"vhost-user\"\nsocket = \"vmlinuz\"\ndevice = 1".into(), "5:10", "no socket"),
    ];
    for (keys, place, said) in cases {
        let told = problem(&with(&keys));
        assert!(told.contains(&format!("guest.toml:{place}: ")) && told.contains(said), "{told}");
    }
}

#[test]
fn a_share_with_a_socket_is_a_daemons() {
    let dir = files();
    let kind = "kind = \"fs\"\nsocket = \"fs.sock\"\n";
    let share = VhostUserConfig {
        socket: dir.path().join("fs.sock"),
        device: DeviceType::FILE_SYSTEM,
        queues: None,
        queue_size: 1024,
        tag: None,
        config_size: None,
        kept: Kept::default(),
    };
    assert_eq!(devices(&with(kind), &dir), [DeviceConfig::VhostUser(share.clone())]);
    let text = with(&format!("{kind}tag = \"share\""));
    let named = VhostUserConfig { tag: Some("share".into()), ..share };
    assert_eq!(devices(&text, &dir), [DeviceConfig::VhostUser(named)]);
    let cases = [
        ("path = \".\"", "6:8", "path is for the virtiofsd"),
        ("readonly = true", "6:12", "command line of the virtiofsd"),
        ("discard = false", "6:11", "discard is for the virtiofsd"),
        ("tag = \"\"", "6:7", "1 to 36 bytes"),
    ];
    for (keys, place, said) in cases {
        let told = problem(&with(&format!("{kind}{keys}")));
        assert!(told.contains(&format!("guest.toml:{place}: ")) && told.contains(said), "{told}");
    }
    let told = problem(&with("kind = \"fs\"\nsocket = \"vmlinuz\""));
    assert!(told.contains("guest.toml:5:10: ") && told.contains("no socket"), "{told}");
}
