//! Keys from the command line.

use super::*;
use crate::virtio::{DeviceConfig, fs::FsConfig};

/// A small file with these sets over it.
fn with_sets(sets: &[&str]) -> Result<AxVMConfig, Error> {
    let dir = files();
    let path = dir.path().join("guest.toml");
    let text = "[base]\ncpu_num = 2\nmemory = \"1G\"\n[kernel]\nkernel_path = \"vmlinuz\"\n";
    fs::write(&path, text).unwrap();
    let sets: Vec<_> = sets.iter().map(|set| Setting::from(*set)).collect();
    load(&path, &sets)
}

#[test]
fn sets_are_toml_or_bare_words() {
    let sets = [
        "base.cpu_num = 4",
        "kernel.cmdline=console=ttyS0 quiet",
        "devices.debug_exit=[0x10]",
        "kernel.memory=64M",
        "base.name='x=y'",
        "base.cpu_num=8",
    ];
    let config = with_sets(&sets).unwrap();
    assert_eq!(config.cpus.num, 8);
    assert_eq!(config.kernel.cmdline.as_deref(), Some("console=ttyS0 quiet"));
    assert_eq!(config.devices.debug_exit_ports, Some(vec![Port(0x10)]));
    assert_eq!(config.memory, MemoryConfig::Size(64 << 20));
    assert_eq!(config.name, "x=y");
}

#[test]
fn the_command_line_wins_over_what_the_file_says_about_memory() {
    let config = with_sets(&["kernel.memory_regions=[[0,0x1000]]"]).unwrap();
    assert!(matches!(config.memory, MemoryConfig::Regions(regions) if regions.len() == 1));
}

#[test]
fn what_is_wrong_with_a_set_is_shown_there() {
    let cases = [
        ("kernel.memroy=1G", "7: unknown key \"memroy\" in [kernel]"),
        ("memory=1G", "0: unknown key \"memory\""),
        ("base.cpu_num=0", "13: base.cpu_num: expected"),
        ("base.cpu_num", "0: expected KEY=VALUE"),
        ("", "0: expected KEY=VALUE"),
        ("=1", "0: a key is empty"),
        ("base..id=1", "5: a key is empty"),
        ("devices.debug_exit=[0xf4", "24: unclosed array"),
        ("base.name=\"a\" \"b\"", "13: unexpected content"),
        ("base.cpu_num.x=1", "5: \"cpu_num\" is an integer"),
        ("base=1", "5: base: expected a table"),
        ("kernel.ramdisk_path=nowhere", "20: kernel.ramdisk_path: nowhere: No such file"),
        ("base.phys_cpu_ids=[1]", "18: base.phys_cpu_ids: 1 elements, but cpu_num is 2"),
    ];
    for (set, expected) in cases {
        let error = with_sets(&["kernel.cmdline=x", set]).expect_err(set);
        let [problem] = error.problems() else { panic!("{error}") };
        let (column, words) = expected.split_once(": ").unwrap();
        assert_eq!(problem.origin, "--set #2", "{error}");
        assert_eq!(problem.line, None, "{error}");
        assert!(problem.message.starts_with(words), "{error}");
        assert_eq!(problem.excerpt.as_ref().unwrap().before.to_string(), column, "{error}");
        assert!(error.to_string().starts_with(&format!("--set #2: {words}")), "{error}");
    }
}

#[test]
fn quotes_that_the_shell_took_are_asked_for() {
    let error = with_sets(&["kernel.cmdline=1"]).unwrap_err().to_string();
    assert!(error.starts_with("--set #1: kernel.cmdline: expected a string, found an integer"));
    assert!(error.contains("quote it for the shell"), "{error}");
    assert_eq!(with_sets(&["kernel.cmdline=\"1\""]).unwrap().kernel.cmdline.as_deref(), Some("1"));
}

#[test]
fn a_one_off_needs_no_file() {
    let dir = files();
    let path = |name| dir.path().join(name).to_str().unwrap().to_owned();
    let args = OneOff {
        kernel: path("vmlinuz"),
        initrd: Some(path("initrd")),
        cmdline: Some("quiet".into()),
        memory: Some("64M".into()),
        cpus: Some(3),
    };
    let config = from_args(&args, &["base.name=x".into(), "base.cpu_num=2".into()]).unwrap();
    assert_eq!((config.name.as_str(), config.cpus.num), ("x", 2));
    assert_eq!(config.memory, MemoryConfig::Size(64 << 20));
    assert_eq!(config.kernel.cmdline.as_deref(), Some("quiet"));
    assert!(config.kernel.ramdisk.unwrap().path.ends_with("initrd"));
    let least = OneOff { kernel: path("vmlinuz"), ..OneOff::default() };
    assert_eq!(from_args(&least, &[]).unwrap().name, "vmlinuz");
}

#[test]
fn what_is_wrong_with_an_option_has_its_name() {
    let args = OneOff {
        kernel: "nowhere".into(),
        initrd: Some("nowhere".into()),
        memory: Some("4G".into()),
        ..OneOff::default()
    };
    let error = from_args(&args, &[]).unwrap_err().to_string();
    assert!(error.starts_with("--kernel: nowhere: No such file"), "{error}");
    assert!(error.contains("\n--initrd: nowhere: No such file"), "{error}");
    let args = OneOff { memory: Some("4X".into()), cpus: Some(0), ..args };
    let error = from_args(&args, &[]).unwrap_err().to_string();
    assert!(error.contains("\n--memory: \"X\" is no unit"), "{error}");
    assert!(error.contains("\n--cpus: expected an integer from 1 to 512, found 0"), "{error}");
}

#[test]
fn what_is_wrong_with_what_an_option_stands_for_has_its_name() {
    let dir = files();
    let kernel = dir.path().join("vmlinuz").to_str().unwrap().to_owned();
    let share = Setting {
        text: "devices.virtio+={kind = 'fs', path = '/none/such'}".to_owned(),
        option: Some("--share /none/such".to_owned()),
    };
    let args = OneOff { kernel, ..OneOff::default() };
    let sets = [share, "base.name=x".into(), "base.nmae=y".into()];
    let error = from_args(&args, &sets).unwrap_err().to_string();
    assert!(error.contains("--share /none/such: /none/such: No such file"), "{error}");
    assert!(error.contains("--set #2: unknown key \"nmae\""), "{error}");
}

#[test]
fn a_value_joins_a_list_that_is_there_or_not() {
    let share = "devices.virtio+={kind = 'fs', path = '/', tag = 'all', readonly = true}";
    let config = with_sets(&["devices.virtio+={kind = 'rng'}", share]).unwrap();
    let names: Vec<_> = config.devices.virtio.iter().map(|device| &*device.name).collect();
    assert_eq!(names, ["rng0", "fs0"]);
    let DeviceConfig::Fs(fs) = &config.devices.virtio[1].device else { panic!("{names:?}") };
    let expect = FsConfig { path: "/".into(), tag: "all".into(), readonly: true, discard: false };
    assert_eq!(*fs, expect);
    let error = with_sets(&["base.cpu_num+=1"]).unwrap_err().to_string();
    assert!(error.contains("no list"), "{error}");
}

#[test]
fn a_share_that_cannot_be_is_told_with_its_place() {
    for (row, expect) in [
        ("{kind = 'fs'}", "devices.virtio[0]: this share has no path"),
        ("{kind = 'fs', path = '/none/such'}", "path: /none/such: No such file"),
        ("{kind = 'fs', path = '/dev/null'}", "path: /dev/null is no directory"),
        ("{kind = 'fs', path = '/', tag = ''}", "tag: \"\" is no tag"),
        ("{kind = 'fs', path = '/', tag = 'this one is one byte longer than it may'}", "is no tag"),
    ] {
        let error = with_sets(&[&format!("devices.virtio+={row}")]).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }
}
