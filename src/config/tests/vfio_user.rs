//! `[[devices.vfio_user]]`.

use super::*;
use crate::vfio_user::Server;

const BEFORE: &str = "[kernel]\nkernel_path = \"vmlinuz\"\n[[devices.vfio_user]]\n";

fn with(keys: &str) -> String {
    format!("{BEFORE}{keys}")
}

#[test]
fn a_device_is_a_program_or_a_socket_on_pci_or_at_an_address() {
    let keys = "command = [\"python3\", \"initrd\", \"-v\"]\n[[devices.vfio_user]]\nname = \"x\"\n\
                socket = \"s\"\naddr = 0xd0000000\nsize = \"8K\"\nirq = 20\ncompatible = \"a,b\"";
    let config = good(&with(keys));
    let [program, socket] = config.devices.vfio_user.try_into().unwrap();
    assert_eq!((program.name.as_str(), socket.name.as_str()), ("vfio-user", "x"));
    assert_eq!(program.place, None);
    let Server::Command { words, dir, watch } = program.server else { panic!() };
    assert_eq!(words, ["python3", "initrd", "-v"]);
    assert!(dir.is_absolute());
    assert_eq!(watch, [dir.join("initrd")]);
    let place = socket.place.unwrap();
    assert_eq!((place.addr.0, place.size, place.irq), (0xd000_0000, 0x2000, Some(20)));
    let Server::Socket(path) = socket.server else { panic!() };
    assert!(path.ends_with("s"));
}

#[test]
fn which_files_are_watched_can_be_said() {
    for (watch, count) in [("true", 1), ("false", 0), ("[\"bios\", \"dtb\"]", 2)] {
        let keys = format!("command = [\"python3\", \"initrd\"]\nwatch = {watch}");
        let config = good(&with(&keys));
        let Server::Command { watch: files, .. } = &config.devices.vfio_user[0].server else {
            panic!()
        };
        assert_eq!(files.len(), count, "{watch}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (keys, told) in [
        ("", "guest.toml:3"),
        ("", "this device has no server"),
        ("comand = [\"x\"]\nsocket = \"s\"", "guest.toml:4:1: unknown key \"comand\""),
        ("command = \"x\"", "guest.toml:4:11: devices.vfio_user[0].command"),
        ("command = []", "a command begins with its program"),
        ("command = [\"\"]", "a command begins with its program"),
        ("command = [\"x\"]\nsocket = \"s\"", "not both"),
        ("socket = \"s\"\nwatch = true", "guest.toml:5:9: devices.vfio_user[0].watch"),
        ("socket = \"s\"\nirq = 5", "guest.toml:5:7: devices.vfio_user[0].irq"),
        ("socket = \"s\"\nsize = \"4K\"", "without addr it is on PCI"),
        ("socket = \"s\"\naddr = 0x1000\nsize = 100", "guest.toml:6:8"),
        ("socket = \"s\"\naddr = \"x\"", "guest.toml:5:8"),
        ("command = [\"x\"]\nwatch = 3", "true or false or a list"),
        ("socket = \"s\"\nname = \"\"", "a name has at least one character"),
        (
            "socket = \"s\"\nname = \"a\"\n[[devices.vfio_user]]\nsocket = \"s\"\nname = \"a\"",
            "another device",
        ),
    ] {
        let shown = problem(&with(keys));
        assert!(shown.contains(told), "{keys:?}: {shown}");
    }
}
