//! AxVisor's `emu_devices` for virtio: what stands at each row's place.

use super::*;
use crate::{
    addr::GuestPhysAddr,
    virtio::{
        DeviceConfig, TransportKind,
        console::{ConsoleConfig, PortConfig, Target},
        net::{NetConfig, Network},
    },
    vm::config::VirtioConfig,
};

/// The virtio devices of a guest with these rows, and with these lines below them.
#[track_caller]
fn devices(rows: &str, lines: &str) -> Vec<VirtioConfig> {
    let dir = files();
    fs::write(dir.path().join("a.img"), [0; 512]).unwrap();
    let text = format!(
        "[kernel]\nkernel_path = \"vmlinuz\"\n[devices]\nemu_devices = [\n{rows}\n]\n{lines}\n"
    );
    parse(&text, "guest.toml", dir.path()).unwrap().devices.virtio
}

fn console(target: Target) -> DeviceConfig {
    DeviceConfig::Console(ConsoleConfig { ports: vec![PortConfig { label: None, target }] })
}

const ROWS: &str = "[\"eth\", 0xa00_0000, 0x200, 48, 0xe2, []],\n\
                    [\"tty\", 0xa00_0200, 0x200, 49, 0xe3, []],\n\
                    [\"tty\", 0xa00_0400, 0x200, 50, 0xe3, []],";

#[test]
fn a_row_alone_is_a_card_in_the_users_network_or_a_console() {
    let found = devices(ROWS, "");
    let expected = [
        ("eth", DeviceConfig::Net(NetConfig::user()), 0xa00_0000, 48, 5),
        ("tty", console(Target::Stdio), 0xa00_0200, 49, 6),
        ("tty-1", console(Target::Pty(None)), 0xa00_0400, 50, 7),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, (name, device, at, irq, line)) in found.iter().zip(expected) {
        assert_eq!((found.name.as_str(), &found.device), (name, &device));
        assert_eq!(found.place, Some((GuestPhysAddr(at), irq)));
        assert_eq!((found.transport, found.at.line), (Some(TransportKind::Mmio), Some(line)));
    }
}

#[test]
fn a_table_of_the_same_name_says_what_a_row_is() {
    let tables = "[[devices.virtio]]\nkind = \"net\"\nname = \"eth\"\ntap = \"tap0\"\n\
                  [[devices.virtio]]\nkind = \"console\"\nname = \"tty\"\ntarget = \"null\"\n\
                  [[devices.virtio]]\nkind = \"rng\"\nname = \"tty-1\"\n";
    let found = devices(ROWS, tables);
    let names: Vec<_> = found.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["eth", "tty", "tty-1", "tty-2"]);
    let DeviceConfig::Net(card) = &found[0].device else { panic!("{found:#?}") };
    assert_eq!(card.network, Network::Tap("tap0".into()));
    assert_eq!(found[1].device, console(Target::Null));
    assert_eq!(found[3].device, console(Target::Stdio), "the second row has none");
    let places: Vec<_> = found.iter().map(|it| it.place.map(|(gpa, irq)| (gpa.0, irq))).collect();
    let at = |gpa, irq| Some((gpa, irq));
    assert_eq!(places, [at(0xa00_0000, 48), at(0xa00_0200, 49), None, at(0xa00_0400, 50)]);
}

#[test]
fn disk_path_is_for_the_first_disk_without_a_table() {
    let rows = "[\"data\", 0xa00_0000, 0x200, 48, 0xe1, []],\n\
                [\"root\", 0xa00_0200, 0x200, 49, 0xe1, []],";
    let dir = files();
    for name in ["a.img", "b.img"] {
        fs::write(dir.path().join(name), [0; 512]).unwrap();
    }
    let text = format!(
        "[kernel]\nkernel_path = \"vmlinuz\"\ndisk_path = \"b.img\"\n\
         [devices]\nemu_devices = [{rows}]\n\
         [[devices.virtio]]\nkind = \"block\"\nname = \"data\"\npath = \"a.img\"\n"
    );
    let found = parse(&text, "guest.toml", dir.path()).unwrap().devices.virtio;
    let places: Vec<_> =
        found.iter().map(|it| (it.name.as_str(), it.place.map(|(gpa, _)| gpa.0))).collect();
    assert_eq!(places, [("root", Some(0xa00_0200)), ("data", Some(0xa00_0000))]);
}
