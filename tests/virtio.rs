//! virtio devices with Linux's own drivers, in the emulated KVM host of each architecture: for each
//! transport, one guest with all of them.
//!
//! All devices over all transports in all hosts take half an hour, and most of it differs by nothing
//! that is the host's. So unless `AXVMM_TESTS` is `all`, one host has all devices, the others have
//! [`EVERYWHERE`], and each host has its first transport.
//!
//! A device is a folder of `tests/virtio`:
//! - `device.toml`: its `[[devices.virtio]]`, with TRANSPORT for the transport's name.
//! - `check.sh`: run in the guest, with the folder as working directory; fails if the device does.
//! - `before.sh`, `after.sh`: run in the host before and after the guest, if they are there, both in
//!   one directory that is made for them; what the first starts, the second ends.
//! - `programs`: examples of this crate that come into the folder, one a line.
//! - `hosts`: in which hosts it is tried, one a line, if that is not all of them.
//! - `others`: which programs of others it has, one a line (`tests/hosts/setup ARCH backends`); the host
//!   finds them in `backends`.
//!
//! So is a device of another process that is no virtio, but a function on the same bus (`vfio-user`).

mod common;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use common::{despite_svm, host, root, start};

/// For a host and its guest.
const PATIENCE: Duration = Duration::from_secs(1200);

/// What is tried in each host: requests both ways, interrupts, bytes of a device's own configuration,
/// and a function that is no virtio.
const EVERYWHERE: [&str; 4] = ["block", "console", "net-tap", "vfio-user"];

/// The host that always has all devices.
const THOROUGH: &str = "aarch64";

/// An emulated host: as `tests/hosts/host` calls it, its architecture, its guest's console, and the
/// transports that are tried there.
struct Host(&'static str, &'static str, &'static str, &'static [&'static str]);

#[test]
fn x86_64() {
    all(Host("x86_64", "x86_64", "ttyS0", &["pci", "mmio"]));
}

#[test]
fn aarch64() {
    all(Host("aarch64", "aarch64", "ttyAMA0", &["pci", "mmio"]));
}

#[test]
fn riscv64_plic() {
    all(Host("riscv64", "riscv64", "ttyS0", &["mmio"]));
}

/// With mmio it differs from the other host in the interrupt controller alone, which `linux` covers.
#[test]
fn riscv64_aia() {
    all(Host("riscv64-aia", "riscv64", "ttyS0", &["pci"]));
}

/// The folders of `tests/virtio` for a host, by name.
fn devices(host: &str) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(root().join("tests/virtio")).unwrap();
    let folders = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let folders = folders.filter(|path| {
        fs::read_to_string(path.join("hosts")).map_or(true, |it| it.lines().any(|it| it == host))
    });
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut devices: Vec<_> = folders.map(|path| (name(&path), path)).collect();
    devices.sort();
    devices
}

/// The examples that a device's folder asks for.
fn programs(folder: &Path) -> Vec<String> {
    let listed = fs::read_to_string(folder.join("programs")).unwrap_or_default();
    listed.lines().map(str::to_owned).collect()
}

/// Builds examples as the host runs them, and says where they are.
fn build(host: &str, examples: &[String]) -> PathBuf {
    const SCRIPT: &str = ". tests/hosts/lib/common.sh && load_arch \"$0\" && \
        cargo_for_host build --quiet --profile hosts \"${@/#/--example=}\" && \
        echo \"${CARGO_TARGET_DIR:-target}/$rust_target/hosts/examples\"";
    let mut command = Command::new("bash");
    command.args(["-euc", SCRIPT, host]).args(examples).current_dir(root());
    let built = command.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    root().join(String::from_utf8(built.stdout).unwrap().trim())
}

/// Gets the programs of others for a host, and says where they are.
fn backends(host: &str, arch: &str) -> PathBuf {
    let mut setup = Command::new(root().join("tests/hosts/setup"));
    let got = setup.args([host, "backends"]).current_dir(root()).output().unwrap();
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    root().join("target/hosts").join(format!("backends-{arch}"))
}

fn all(Host(name, arch, console, mut transports): Host) {
    let mut devices = devices(name);
    if env::var_os("AXVMM_TESTS").is_none_or(|it| it != "all") {
        transports = &transports[..1];
        devices.retain(|(device, _)| name == THOROUGH || EVERYWHERE.contains(&device.as_str()));
    }
    assert!(!devices.is_empty());
    let examples: Vec<_> = devices.iter().flat_map(|(_, folder)| programs(folder)).collect();
    let built = build(name, &examples);
    let mut with = vec!["tests/virtio/all.sh:all.sh".to_owned()];
    if devices.iter().any(|(_, folder)| folder.join("others").exists()) {
        with.push(format!("{}:backends", backends(name, arch).display()));
    }
    for (device, folder) in &devices {
        for program in programs(folder) {
            let file = built.join(&program);
            with.push(format!("{}:virtio/{device}/{program}", file.display()));
        }
        for file in fs::read_dir(folder).unwrap() {
            let file = file.unwrap();
            let inside = format!("virtio/{device}/{}", file.file_name().to_str().unwrap());
            with.push(format!("{}:{inside}", file.path().display()));
        }
    }
    for transport in transports {
        despite_svm(name, || {
            let mut command = host(name);
            command.args(["--memory", "3G"]).args(with.iter().flat_map(|it| ["--with", it]));
            command.args(["--", "sh", "all.sh", arch, console, transport]);
            let ended = start(&mut command).within(PATIENCE).finish();
            print!("{name}\n{}", ended.stdout);
            for (device, _) in &devices {
                let ok = format!("{transport}: {device}: ok");
                let (out, told) = (&ended.stdout, &ended.stderr);
                assert!(
                    out.contains(&ok),
                    "{ok:?} is not among\n{out}\nwith status {}:\n{told}",
                    ended.status
                );
            }
            ended.assert(0, "").assert_tells(&[]);
        });
    }
}
