//! What the templates for CI systems call: `resources/ci/run`.

mod common;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::{Command, Stdio},
};

use common::{guest, root, run};

/// The script with this program's axvmm, in a directory of its own.
fn script(dir: &Path) -> Command {
    let mut command = Command::new(root().join("resources/ci/run"));
    command.current_dir(dir).env("AXVMM", env!("CARGO_BIN_EXE_axvmm")).stdin(Stdio::null());
    command
}

/// A file that a template is: what it runs, and where results are.
fn template(name: &str) -> String {
    fs::read_to_string(root().join("resources/ci").join(name)).unwrap()
}

#[test]
fn guests_are_tested_and_reports_are_where_templates_take_them_from() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, test: &str| {
        let kernel = guest("hello");
        let text = format!("[kernel]\nkernel_path = {kernel:?}\nmemory = \"16M\"\n[test]\n{test}");
        fs::write(dir.path().join(name), text).unwrap();
    };
    write("good.toml", "");
    write("bad.toml", "expect = [\"never said\"]");
    let good = run(script(dir.path()).arg("good.toml"));
    good.assert(0, "1 passed");
    let xml = || fs::read_to_string(dir.path().join("axvmm-junit.xml")).unwrap();
    assert!(xml().contains("failures=\"0\""), "{}", xml());
    let both = run(script(dir.path()).args(["good.toml", "bad.toml", "--jobs", "1"]));
    both.assert(1, "never said");
    assert!(xml().contains("failures=\"1\""), "{}", xml());
    assert!(dir.path().join("axvmm-test/bad/console.log").exists());
    for (name, call) in
        [("action.yml", "/run\" $FILES $OPTIONS"), ("gitlab.yml", "/run $FILES $OPTIONS")]
    {
        let text = template(name);
        assert!(text.contains(call), "{name}");
        assert!(text.contains("axvmm-test") && text.contains("axvmm-junit.xml"), "{name}");
    }
}

#[test]
fn a_runner_without_kvm_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let none = run(script(dir.path()).arg("x.toml").env("AXVMM_KVM_DEVICE", "/nonexistent/kvm"));
    none.assert(37, "there is no /nonexistent/kvm").assert_tells(&["cannot run guests"]);
    run(&mut script(dir.path())).assert(35, "").assert_tells(&["Usage: resources/ci/run"]);
}

/// A device that its user may not use is opened by udev's rule, and where udev does nothing, at once.
#[test]
fn the_device_is_opened_for_the_runners_user() {
    const NOBODY: u32 = 65534;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("bin")).unwrap();
    fs::create_dir(at("rules.d")).unwrap();
    for (name, text) in [
        ("sudo", "#!/bin/sh\n[ \"$1\" = -n ] && shift && exec \"$@\"\n".to_owned()),
        ("udevadm", format!("#!/bin/sh\necho \"$*\" >>{}\n", at("asked").display())),
    ] {
        fs::write(at("bin").join(name), text).unwrap();
        fs::set_permissions(at("bin").join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let device = at("kvm");
    fs::write(&device, "").unwrap();
    fs::set_permissions(&device, fs::Permissions::from_mode(0o000)).unwrap();
    let is_root = nix::unistd::geteuid().is_root();
    let mut command = script(dir.path());
    if is_root {
        // Root may use anything: as somebody else, to whom all here belongs.
        for path in [dir.path().to_owned(), at("rules.d"), device.clone()] {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        fs::copy(root().join("resources/ci/run"), at("run")).unwrap();
        command.arg(at("run")).current_dir(dir.path()).stdin(Stdio::null());
        command.env("AXVMM", "true");
    }
    let path = format!("{}:{}", at("bin").display(), std::env::var("PATH").unwrap());
    command.arg("x.toml").env("PATH", path).env("AXVMM_KVM_DEVICE", &device);
    run(command.env("AXVMM_UDEV_RULES", at("rules.d"))).assert_tells(&["usable for all users"]);
    let rule = fs::read_to_string(at("rules.d/99-axvmm-kvm.rules")).unwrap();
    assert!(rule.contains("KERNEL==\"kvm\"") && rule.contains("MODE=\"0666\""), "{rule}");
    let asked = fs::read_to_string(at("asked")).unwrap();
    assert_eq!(asked, "control --reload-rules\ntrigger --name-match=kvm --settle\n");
    assert_eq!(fs::metadata(&device).unwrap().permissions().mode() & 0o777, 0o666);
}
