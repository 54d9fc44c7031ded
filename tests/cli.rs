//! The command line as a user meets it: what needs no guest to run.

mod common;

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use common::{Finished, axvmm, guest, run, start};
use serde_json::Value;

const HELLO: &str = "hello-x86_64.elf";

#[track_caller]
fn run_args(args: &[&str]) -> Finished {
    run(axvmm().args(args))
}

/// A directory that any user may enter.
fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

#[test]
fn help_and_version_are_no_errors() {
    run_args(&["--help"]).assert(0, "doctor");
    run_args(&["run", "--help"]).assert(0, "--no-reboot");
    run_args(&["--version"]).assert(0, env!("CARGO_PKG_VERSION"));
}

#[test]
fn wrong_usage_is_status_35_with_one_message() {
    for (args, tells) in [
        (&[][..], "Usage: axvmm"),
        (&["frob"], "frob"),
        (&["run"], "--config <FILE>|--firecracker-config <FILE>|--kernel <KERNEL>"),
        (&["run", "--config", "a.toml", "-k", "vmlinuz"], "cannot be used with"),
        (&["run", "--config", "a.toml", "-m", "1G"], "--kernel"),
        (&["run", "-k", "vmlinuz", "--timeout", "soon"], "--timeout"),
        (&["run", "-k", "vmlinuz", "--timeout", "0"], "more than 0"),
        (&["run", "-k", "vmlinuz", "-n", "many"], "many"),
        (&["check", "--log-level", "loud", "-k", "x"], "loud"),
        (&["doctor", "now"], "now"),
    ] {
        let finished = run_args(args);
        finished.assert(35, "").assert_tells(&["axvmm: ", tells]);
        assert_eq!(finished.stderr.matches("axvmm: ").count(), 1, "{finished:#?}");
        assert_eq!(finished.stdout, "");
    }
}

#[test]
fn wrong_configurations_are_status_35_with_the_place() {
    let dir = directory();
    let file = dir.path().join("guest.toml");
    let kernel = guest(HELLO);
    for (text, tells) in [
        ("[kernel]\nkernel_path = \"nope\"\n", ":2:"),
        ("[kernel]\nkernel_pth = \"nope\"\n", "did you mean \"kernel_path\""),
        ("[kernel\n", ":1:"),
        ("", "kernel"),
        ("\u{0}\u{ffff}", ":1:"),
    ] {
        fs::write(&file, text).unwrap();
        for command in ["run", "check"] {
            let finished = run(axvmm().args([command, "--config"]).arg(&file));
            finished.assert(35, "").assert_tells(&["axvmm: ", "guest.toml", tells]);
        }
    }
    for (path, tells) in [("/nonexistent.toml", "No such file"), ("/", "directory")] {
        run_args(&["run", "--config", path]).assert(35, "").assert_tells(&[path, tells]);
    }
    let kernel = kernel.to_str().unwrap();
    for (args, tells) in [
        (&["-k", "/nonexistent"][..], "--kernel: /nonexistent"),
        (&["-k", "/"], "/"),
        (&["-k", "/dev/zero"], "/dev/zero"),
        (&["-k", kernel, "-i", "/nonexistent"], "--initrd"),
        (&["-k", kernel, "-m", "0"], "--memory"),
        (&["-k", kernel, "-m", "1"], "--memory"),
        (&["-k", kernel, "-n", "0"], "--cpus"),
        (&["-k", kernel, "--set", "base.memroy=1G"], "--set"),
        (&["-k", kernel, "--set", "nonsense"], "--set"),
        (&["-k", "Cargo.toml"], "Cargo.toml"),
    ] {
        let finished = run(axvmm().arg("run").args(args));
        finished.assert(35, "").assert_tells(&["axvmm: ", tells]);
    }
}

#[test]
fn check_prints_the_plan_for_a_person_and_for_a_program() {
    guest(HELLO);
    let config = ["--config", "configs/hello-x86_64.toml"];
    let text = run(axvmm().arg("check").args(config));
    text.assert(0, "memory").assert(0, "com1").assert(0, "PVH");
    let json = run(axvmm().args(["check", "--json", "--set", "base.cpu_num=3"]).args(config));
    let plan: Value = serde_json::from_str(&json.assert(0, "{").stdout).unwrap();
    assert_eq!((&plan["name"], &plan["cpus"]["num"]), (&"hello".into(), &3.into()));
    assert_eq!(plan["ram"][0]["size"], 16 << 20);
}

#[test]
fn check_tells_a_program_what_is_wrong_and_where() {
    let finished = run_args(&["check", "--json", "-k", "/nonexistent"]);
    let wrong: Value = serde_json::from_str(&finished.assert(35, "{").stdout).unwrap();
    assert_eq!(wrong["problems"][0]["origin"], "--kernel");
    assert!(wrong["message"].as_str().unwrap().contains("/nonexistent"));
    finished.assert_tells(&["axvmm: ", "/nonexistent"]);
}

#[test]
fn a_stdout_that_nobody_reads_is_no_failure() {
    guest(HELLO);
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    let mut command = axvmm();
    command.args(["check", "--config", "configs/hello-x86_64.toml"]).stdout(writer);
    let output = command.stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn init_writes_a_file_that_check_takes() {
    let dir = directory();
    let kernel = guest(HELLO);
    let init = |args: &[&str]| {
        run(axvmm().current_dir(dir.path()).args(["init", "-k"]).arg(&kernel).args(args))
    };
    init(&[]).assert(0, "guest.toml");
    let written = fs::read_to_string(dir.path().join("guest.toml")).unwrap();
    assert!(written.contains(HELLO) && written.contains("#cpu_num"), "{written}");
    run(axvmm().current_dir(dir.path()).args(["check", "--config", "guest.toml"])).assert(0, "PVH");

    fs::write(dir.path().join("guest.toml"), "mine").unwrap();
    init(&[]).assert(35, "").assert_tells(&["guest.toml", "--force"]);
    assert_eq!(fs::read_to_string(dir.path().join("guest.toml")).unwrap(), "mine");
    init(&["--force"]).assert(0, "");
    assert_eq!(fs::read_to_string(dir.path().join("guest.toml")).unwrap(), written);
    init(&["-o", "-"]).assert(0, &written);
    init(&["-o", "no/where.toml"]).assert(35, "").assert_tells(&["no/where.toml"]);
}

#[test]
fn init_writes_for_another_architecture() {
    for (arch, console) in [("x86_64", "ttyS0"), ("aarch64", "ttyAMA0"), ("riscv64", "ttyS0")] {
        let ended = run(axvmm().args(["init", "--arch", arch, "-o", "-"]));
        ended.assert(0, &format!("axvmm on {arch}:")).assert(0, &format!("console={console}\""));
    }
    run(axvmm().args(["init", "--arch", "vax"])).assert(35, "").assert_tells(&["vax", "riscv64"]);
}

#[test]
fn init_names_the_kernel_as_seen_from_the_file() {
    let dir = directory();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::copy(guest(HELLO), dir.path().join("vmlinuz")).unwrap();
    run(axvmm().current_dir(dir.path()).args(["init", "-o", "sub/g.toml"])).assert(0, "sub/g.toml");
    run(axvmm().current_dir(dir.path()).args(["check", "--config", "sub/g.toml"])).assert(0, "PVH");
}

/// What the doctor says with `device` as KVM's.
#[track_caller]
fn doctor(device: &Path, json: bool) -> Finished {
    let mut command = axvmm();
    command.arg("doctor").env("AXVMM_KVM_DEVICE", device);
    if json {
        command.arg("--json");
    }
    run(&mut command)
}

#[test]
fn doctor_and_run_tell_a_host_without_kvm() {
    for (device, tells) in [
        ("/nonexistent/kvm", "there is no /nonexistent/kvm"),
        ("/dev/null", "not the KVM device"),
        ("/etc/passwd", "not the KVM device"),
        ("/dev", "/dev"),
    ] {
        let text = doctor(Path::new(device), false);
        text.assert(37, tells).assert(37, "fail").assert(37, "->");
        assert!(!text.stdout.contains('\x1b'), "{text:#?}");
        let json: Value = serde_json::from_str(&doctor(Path::new(device), true).stdout).unwrap();
        assert_eq!((&json["guests"], &json["linux"]), (&false.into(), &false.into()));
        assert_eq!(json["findings"][0]["level"], "fail");
        assert!(json["findings"][0]["remedy"].is_string());

        let mut command = axvmm();
        command.args(["run", "-k"]).arg(guest(HELLO)).env("AXVMM_KVM_DEVICE", device);
        run(&mut command).assert(37, "").assert_tells(&["axvmm: ", device]);
    }
}

#[test]
fn colours_are_for_terminals_and_for_who_wants_them() {
    for (no_color, wanted) in [("", true), ("1", false)] {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut command = axvmm();
        command.arg("doctor").env("AXVMM_KVM_DEVICE", "/dev/null").env("TERM", "xterm");
        command.env("NO_COLOR", no_color).stdout(pty.slave).stderr(Stdio::null());
        assert_eq!(command.status().unwrap().code(), Some(37));
        drop(command);
        let mut text = Vec::new();
        // Ends with an error: nobody is at the other end any more.
        let _ = fs::File::from(pty.master).read_to_end(&mut text);
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.contains("\x1b[31mfail\x1b[0m"), wanted, "{text:?}");
        assert!(text.contains("Guests cannot run here, "), "{text:?}");
    }
}

/// The program as a user who may not do everything; it must be where that user can reach it.
fn as_nobody(dir: &Path) -> Command {
    let copy = dir.join("axvmm");
    // By a program of its own: were the copy open for writing here, a test that starts a program at
    // this moment would keep it busy.
    let copied = Command::new("cp").arg(axvmm().get_program()).arg(&copy).status().unwrap();
    assert!(copied.success());
    let mut command = Command::new(copy);
    command.current_dir(dir).stdin(Stdio::null());
    if nix::unistd::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    command
}

#[test]
fn doctor_tells_why_there_is_no_permission() {
    let dir = directory();
    let device = dir.path().join("kvm");
    fs::write(&device, "").unwrap();
    for (mode, tells) in [(0o600, "mode 600"), (0o000, "mode 000")] {
        fs::set_permissions(&device, fs::Permissions::from_mode(mode)).unwrap();
        if mode == 0o600 && !nix::unistd::geteuid().is_root() {
            continue; // its owner may open it
        }
        let mut command = as_nobody(dir.path());
        let finished = run(command.arg("doctor").env("AXVMM_KVM_DEVICE", &device));
        finished.assert(37, "no permission").assert(37, tells).assert(37, "usermod -aG");
    }
    if nix::unistd::geteuid().is_root() {
        fs::set_permissions(&device, fs::Permissions::from_mode(0o660)).unwrap();
        let mut command = as_nobody(dir.path());
        let finished = run(command.arg("doctor").env("AXVMM_KVM_DEVICE", &device));
        finished.assert(37, "is not in its group").assert(37, "log in anew");
    }
}

#[test]
fn the_result_file_tells_what_kept_a_guest_from_running() {
    let dir = directory();
    let file = dir.path().join("result.json");
    let result = |command: &mut Command, status: i32, reason: &str| {
        fs::write(&file, "old").unwrap();
        run(command.arg("--result-file").arg(&file)).assert(status, "");
        let result: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!((&result["reason"], &result["status"]), (&reason.into(), &status.into()));
        assert!(result["time"].as_f64().unwrap() > 0.0, "{result}");
        result["message"].as_str().unwrap().to_owned()
    };
    let message = result(axvmm().args(["run", "-k", "/nonexistent"]), 35, "config");
    assert!(message.contains("/nonexistent"), "{message}");
    let mut command = axvmm();
    command.args(["run", "-k"]).arg(guest(HELLO)).env("AXVMM_KVM_DEVICE", "/dev/null");
    let message = result(&mut command, 37, "host");
    assert!(message.contains("/dev/null"), "{message}");
}

#[test]
fn a_result_file_that_cannot_be_is_told_before_anything_runs() {
    for path in ["/nonexistent/result.json", "/"] {
        let mut command = axvmm();
        command.args(["run", "--result-file", path, "-k"]).arg(guest(HELLO));
        run(&mut command).assert(35, "").assert_tells(&["--result-file", path]);
    }
}

#[test]
fn the_command_line_takes_what_is_no_text() {
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    run(axvmm().args(["run", "--config"]).arg(odd)).assert(35, "").assert_tells(&["axvmm: "]);
    run(axvmm().args(["run", "-k"]).arg(odd)).assert(35, "").assert_tells(&["axvmm: "]);
    run(axvmm().args(["init", "-o", "-", "-k"]).arg(odd)).assert(35, "").assert_tells(&["UTF-8"]);
}

#[test]
fn a_configuration_may_come_through_a_pipe_or_not_at_all() {
    // Whatever is said about it, it is said, and does not hang.
    let mut child = axvmm()
        .args(["check", "--config", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = format!("[kernel]\nkernel_path = {:?}\n", guest(HELLO).display().to_string());
    // It need not read all of it.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    let status = child.wait().unwrap().code();
    assert!(matches!(status, Some(0 | 35)), "{status:?}");
}

#[test]
fn a_wait_for_a_program_that_ends_is_over_with_it_and_tells_how_it_ended() {
    let running = start(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]));
    let waits = std::panic::AssertUnwindSafe(|| running.wait_for("more"));
    let panic = std::panic::catch_unwind(waits).unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    for part in ["\"more\"", "it ended with status 3", "stdout: out\n", "stderr: err\n"] {
        assert!(message.contains(part), "no {part:?} in {message}");
    }
}
