//! `axvmm run` from start to end: time, resets, the result file, the log, and hosts that lack
//! something. Over this machine's own KVM, with tiny guests.

mod common;

use std::{
    fs,
    process::{Command, Stdio},
};

use common::{WORDS, axvmm, guest, result_of, root, run, run_guest, start};
use nix::sys::signal::Signal;
use serde_json::Value;

const ECHO: &str = "console-echo";
const STOP: &str = "stop";
const HELLO: &str = "hello";

/// The exit that a byte for the console is.
const WRITE: &str = if cfg!(target_arch = "x86_64") { "IoWrite" } else { "MmioWrite" };

/// Enough for a guest to get going; other hosts than PCs are emulated.
const A_WHILE: &str = if cfg!(target_arch = "x86_64") { "2s" } else { "5s" };

// Time and resets.

#[test]
fn a_timeout_is_status_124() {
    for word in ["spin", "halt", "flood"] {
        let finished = run(run_guest(STOP, word).args(["--timeout", A_WHILE]));
        finished.assert(124, &format!("stop: {word}")).assert_tells(&[A_WHILE]);
    }
}

#[test]
fn a_reset_starts_the_guest_again_and_keeps_the_console() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("result.json");
    let mut command = run_guest(ECHO, "");
    let mut running = start(command.arg("--result-file").arg(&file).stdin(Stdio::piped()));
    running.wait_for("console-echo: ready");
    running.type_in("one\nreset\n");
    running.wait_for("RESET\r\nconsole-echo: ready");
    running.type_in("two\nreset\n");
    running.wait_for("TWO\r\nRESET\r\nconsole-echo: ready");
    running.type_in("three\nquit\n");
    let finished = running.finish();
    finished.assert(0, "THREE").assert_tells(&["reboot 1", "reboot 2"]);
    assert_eq!(finished.stdout.matches("console-echo: ready").count(), 3, "{finished:#?}");
    let result: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!((&result["reason"], &result["reboots"]), (&"shutdown".into(), &2.into()));
}

#[test]
fn a_reset_ends_the_run_if_asked_to() {
    for word in WORDS.resets {
        let finished = run(run_guest(STOP, word).arg("--no-reboot"));
        finished.assert(32, &format!("stop: {word}")).assert_tells(&["reset"]);
    }
}

#[test]
fn a_guest_may_reset_itself_only_so_often() {
    let (result, _) = result_of(run_guest(STOP, WORDS.resets[0]).args(["--reboots", "3"]), 32);
    assert_eq!((&result["reason"], &result["reboots"]), (&"reset".into(), &3.into()));
}

#[test]
fn a_loop_of_resets_leaks_nothing_and_can_be_ended() {
    let running = start(&mut run_guest(STOP, WORDS.resets[0]));
    let pid = running.pid();
    let open = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let line = format!("stop: {}\r\n", WORDS.resets[0]);
    running.wait_for(&line.repeat(20));
    let files = open();
    running.wait_for(&line.repeat(100));
    assert!(open() <= files + 8, "{files} files became {}", open());
    running.signal(Signal::SIGTERM);
    let finished = running.finish();
    finished.assert(143, "");
    assert!(finished.stderr.lines().count() < 40, "{finished:#?}");
}

// What else there is to a run.

#[test]
fn the_result_file_tells_how_the_guest_ended() {
    let ends = [("poweroff", 0, "shutdown"), (WORDS.crash, 33, "fault"), ("panic", 34, "panic")];
    let exit = WORDS.exit.map(|(word, status)| (word, status, "test-exit"));
    for (word, status, reason) in ends.into_iter().chain(exit) {
        let mut command = run_guest(STOP, word);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let (result, _) = result_of(&mut command, status);
        assert_eq!((&result["reason"], &result["status"]), (&reason.into(), &status.into()));
        let exits = &result["exits"][0];
        assert!(exits["by_reason"][WRITE].as_u64().unwrap() > 4, "{result}");
        assert!(exits["total"].as_u64() >= exits["by_reason"][WRITE].as_u64(), "{result}");
        assert_eq!(result["vcpu"].as_u64(), (reason == "fault").then_some(0), "{result}");
        assert_eq!(result["console_dropped"], 0);
    }
    let mut command = run_guest(STOP, "spin");
    command.args(["--timeout", A_WHILE]).stdout(Stdio::null()).stderr(Stdio::null());
    let (result, _) = result_of(&mut command, 124);
    assert!(result["unowned"]["reads"].as_u64().unwrap() > 100, "{result}");
}

#[test]
fn the_log_can_be_turned_down_and_up() {
    let lines = |args: &[&str], variable: Option<&str>| {
        let mut command = run_guest(STOP, "spin");
        command.args(["--timeout", A_WHILE]).args(args);
        if let Some(level) = variable {
            command.env("AXVMM_LOG", level);
        }
        run(&mut command).stderr.lines().filter(|line| line.contains("nobody takes")).count()
    };
    assert_eq!(lines(&[], None), 1);
    assert_eq!(lines(&["-q"], None), 0);
    assert_eq!(lines(&["--log-level", "error"], Some("trace")), 0);
    assert_eq!(lines(&[], Some("off")), 0);
}

#[test]
fn doctor_says_that_guests_can_run_here() {
    let finished = run(axvmm().arg("doctor"));
    finished.assert(0, "Guests can run here").assert(0, "Linux kernels");
    let json: Value =
        serde_json::from_str(&run(axvmm().args(["doctor", "--json"])).stdout).unwrap();
    assert_eq!(json["guests"], true);
    let kernels = json["findings"].as_array().unwrap().iter();
    let kernels = kernels.clone().find(|f| f["subject"] == "Linux kernels").unwrap();
    assert_eq!(kernels["level"] == "ok", json["linux"] == true, "{json}");
}

#[test]
fn memory_that_the_host_has_not_is_status_37_with_the_size() {
    let script = format!(
        "ulimit -v 500000; exec {} run -k {} -m 4G",
        axvmm().get_program().to_str().unwrap(),
        guest(HELLO).display()
    );
    let finished = run(Command::new("sh").current_dir(root()).args(["-c", &script]));
    finished.assert(37, "").assert_tells(&["axvmm: ", "bytes of memory", "os error 12"]);
}

#[test]
fn too_few_files_are_a_message_and_never_a_panic() {
    let program = axvmm().get_program().to_str().unwrap().to_owned();
    let mut works = false;
    for limit in 4..40 {
        let script = format!(
            "exec 2>&1; ulimit -n {limit}; exec {program} run -k {} -m 16M",
            guest(HELLO).display()
        );
        let finished = run(Command::new("sh").current_dir(root()).args(["-c", &script]));
        assert!(!finished.stdout.contains("panicked") && !finished.stdout.contains("internal"));
        match finished.status {
            0 => works = true,
            1 | 35 | 37 if !works => assert!(finished.stdout.contains("axvmm: "), "{finished:#?}"),
            127 if !works => {} // the shell or the loader could not even start it
            _ => panic!("{limit}: {finished:#?}"),
        }
    }
    assert!(works, "40 files are enough");
}

/// A status that a crash has as well is a success only if the guest chose it.
#[test]
fn a_kernel_under_cargo_succeeds_by_its_own_status_alone() {
    let cargo_test = |options: &[&str], words: &str| {
        run(axvmm().arg("cargo-test").args(options).arg(guest("stop")).arg(words)).status
    };
    assert_eq!(cargo_test(&["--success", "33"], WORDS.crash), 33);
    if let Some((word, status)) = WORDS.exit {
        let status = status.to_string();
        assert_eq!(cargo_test(&["--success", &status], word), 0);
        assert_eq!(cargo_test(&[], word).to_string(), status);
    }
}
