//! `[[devices.virtio]]` of the kinds that have few keys: consoles, balloons, persistent memory.

use super::*;
use crate::virtio::{
    DeviceConfig,
    balloon::BalloonConfig,
    console::{ConsoleConfig, PortConfig, Target},
    pmem::PmemConfig,
};

/// The text of a file with this device.
fn with(keys: &str) -> String {
    format!("[kernel]\nkernel_path = \"vmlinuz\"\n[[devices.virtio]]\n{keys}")
}

#[track_caller]
fn device(keys: &str, dir: &TempDir) -> DeviceConfig {
    let config = parse(&with(keys), "guest.toml", dir.path()).unwrap();
    config.devices.virtio[0].device.clone()
}

#[track_caller]
fn assert_wrong(cases: &[(&str, &str, &str)]) {
    for (keys, place, said) in cases {
        let told = problem(&with(keys));
        assert!(told.contains(&format!("guest.toml:{place}: ")) && told.contains(said), "{told}");
    }
}

#[test]
fn a_console_has_a_terminal_and_ports() {
    let dir = files();
    let at = |name: &str| dir.path().join(name);
    let port = |label: Option<&str>, target| PortConfig { label: label.map(str::to_owned), target };
    for (keys, target) in [
        ("", Target::Stdio),
        ("target = \"null\"", Target::Null),
        ("target = \"pty\"", Target::Pty(None)),
        ("target = \"pty\"\npath = \"tty\"", Target::Pty(Some(at("tty")))),
        ("target = \"unix\"\npath = \"a.sock\"", Target::Unix(at("a.sock"))),
        ("target = \"file\"\npath = \"log\"", Target::File(at("log"))),
    ] {
        let expected = ConsoleConfig { ports: vec![port(None, target)] };
        let found = device(&format!("kind = \"console\"\n{keys}"), &dir);
        assert_eq!(found, DeviceConfig::Console(expected), "{keys}");
    }
    let found = device(
        "kind = \"console\"\nports = [{ name = \"agent\", target = \"unix\", path = \"a\" }]",
        &dir,
    );
    let ports = vec![port(None, Target::Stdio), port(Some("agent"), Target::Unix(at("a")))];
    assert_eq!(found, DeviceConfig::Console(ConsoleConfig { ports }));
}

#[test]
fn what_can_be_no_console_is_told_where_it_is_written() {
    let port = "{ name = \"a\", target = \"null\" }";
    let twice = format!("kind = \"console\"\nports = [{port}, {port}]");
    let many: Vec<_> =
        (0..16).map(|n| format!("{{ name = \"p{n}\", target = \"null\" }}")).collect();
    let many = format!("kind = \"console\"\nports = [\n{}]", many.join(",\n"));
    let long = format!(
        "kind = \"console\"\nports = [{{ name = \"{}\", target = \"null\" }}]",
        "x".repeat(65)
    );
    assert_wrong(&[
        ("kind = \"console\"\ntarget = \"tty\"", "5:10", "\"pty\""),
        ("kind = \"console\"\ntarget = \"unix\"", "4:8", "target = \"unix\" needs a path"),
        ("kind = \"console\"\npath = \"log\"", "5:8", "a path is for a pty"),
        (
            "kind = \"console\"\ntarget = \"file\"\npath = \"no/log\"",
            "6:8",
            "there is no directory",
        ),
        ("kind = \"console\"\nports = [{ name = \"a\" }]", "5:10", "needs a name and a target"),
        (
            "kind = \"console\"\nports = [{ name = \"a\", target = \"stdio\" }]",
            "5:33",
            "only a terminal can be on stdio",
        ),
        ("kind = \"console\"\nports = [{ name = \"a/b\", target = \"null\" }]", "5:19", "no slash"),
        (&long, "5:19", "1 to 64 bytes"),
        (&twice, "5:52", "another port has this name"),
        (&many, "21:1", "at most 15 ports"),
        (
            "kind = \"console\"\n[[devices.virtio]]\nkind = \"console\"",
            "6:8",
            "another console is on stdio already",
        ),
    ]);
}

#[test]
fn a_balloon_is_as_large_and_as_talkative_as_is_said() {
    let dir = files();
    let usual = BalloonConfig::default();
    assert_eq!(device("kind = \"balloon\"\nsize = 0", &dir), DeviceConfig::Balloon(usual));
    let found = device(
        "kind = \"balloon\"\nsize = \"128M\"\ndeflate_on_oom = false\n\
         free_page_reporting = false\nstatistics_interval = 5",
        &dir,
    );
    let expected = BalloonConfig {
        size: 128 << 20,
        deflate_on_oom: false,
        free_page_reporting: false,
        statistics: 5,
    };
    assert_eq!(found, DeviceConfig::Balloon(expected));
    assert_wrong(&[
        ("kind = \"balloon\"\nsize = \"many\"", "5:8", "size"),
        ("kind = \"balloon\"\nsize = -1", "5:8", ""),
        ("kind = \"balloon\"\ndeflate_on_oom = 1", "5:18", "true or false"),
        ("kind = \"balloon\"\nstatistics_interval = 0", "5:23", "from 1 to"),
        ("kind = \"balloon\"\nsizes = 1", "5:1", "did you mean \"size\"?"),
    ]);
}

#[test]
fn persistent_memory_is_a_file_of_a_fit_size() {
    let dir = files();
    let path = dir.path().join("data.img");
    fs::File::create(&path).unwrap().set_len(4 << 20).unwrap();
    let found = |keys: &str| device(&format!("kind = \"pmem\"\npath = \"data.img\"\n{keys}"), &dir);
    let expected = PmemConfig { path, readonly: false, size: 4 << 20, place: GuestPhysAddr(0) };
    assert_eq!(found(""), DeviceConfig::Pmem(expected.clone()));
    let readonly = PmemConfig { readonly: true, ..expected };
    assert_eq!(found("readonly = true"), DeviceConfig::Pmem(readonly));
    assert_wrong(&[
        ("kind = \"pmem\"", "4:8", "this device has no path"),
        ("kind = \"pmem\"\npath = \"none\"", "5:8", "No such file"),
        ("kind = \"pmem\"\npath = \"initrd\"", "5:8", "2 MiB"),
        ("kind = \"pmem\"\npath = \".\"", "5:8", ""),
    ]);
}
