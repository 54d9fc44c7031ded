//! How guests end, and what becomes of it: exit statuses, resets, timeouts, the result file. Tiny
//! guests on this machine's own KVM, through the binary.

mod common;

use std::{env::consts::ARCH, fs, process::Stdio, time::Duration};

use common::{WORDS, run, run_guest, start};
use nix::sys::signal::Signal;
use serde_json::json;

const STOP: &str = "stop";

/// How a dump names the program counter.
const PC: &str = match ARCH.as_bytes() {
    b"x86_64" => "RIP",
    b"aarch64" => "PC",
    _ => "pc",
};

/// More than any of these guests may cause to be logged: a page or two.
const BOUNDED_LOG: usize = 16 << 10;

/// The guest that ends in the way that `word` names, with more arguments for axvmm.
#[track_caller]
fn stops(word: &str, args: &[&str], status: i32) -> common::Finished {
    let ended = run(run_guest(STOP, word).args(args));
    let name = word.split('=').next().unwrap();
    ended.assert(status, &format!("stop: {name}")).assert_tells(&[]);
    assert!(!ended.stdout.contains("still here"), "{ended:#?}");
    ended
}

#[test]
fn a_guest_that_powers_off_is_a_success() {
    stops("poweroff", &[], 0);
    stops("poweroff", &["-n", "4"], 0);
}

#[test]
fn a_reset_is_a_status_where_no_reboot_is_wanted() {
    for word in WORDS.resets {
        stops(word, &["--no-reboot"], 32);
    }
}

#[test]
fn a_crash_shows_the_registers_and_what_came_before() {
    let ended = stops(WORDS.crash, &[], 33);
    ended.assert_tells(&["vCPU 0", PC, "code at 0x", "latest exits"]);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_ends_that_only_a_pc_has() {
    stops("sleep", &[], 0);
    stops("triple", &[], 33).assert_tells(&["triple fault"]);
    stops("exit501=3", &[], 7);
    run(run_guest("acpi", "reset").arg("--no-reboot")).assert(32, "FACP");
}

#[cfg(target_arch = "riscv64")]
#[test]
fn the_ends_that_only_riscv64_has() {
    stops("pass", &[], 0);
    stops("exit=0", &[], 1); // a failure all the same
    stops("exit=255", &[], 255);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn what_kvm_cannot_go_on_with_is_a_crash() {
    stops("internal-error", &[], 33).assert_tells(&["RIP", "code at 0x"]);
    stops("jump", &[], 33).assert_tells(&["RIP"]);
}

#[cfg(target_arch = "aarch64")]
#[test]
fn what_kvm_cannot_go_on_with_is_a_crash() {
    stops("pair", &[], 33).assert_tells(&[PC, "code at 0x"]);
    stops("post-index", &[], 33).assert_tells(&[PC, "code at 0x"]);
}

#[cfg(target_arch = "riscv64")]
#[test]
fn what_kvm_cannot_go_on_with_is_a_crash() {
    for word in ["jump", "misaligned", "atomic"] {
        stops(word, &[], 33).assert_tells(&[PC]);
    }
}

#[test]
fn a_panic_of_the_guest_has_its_own_status() {
    stops("panic", &[], 34).assert_tells(&["panic"]);
}

#[test]
fn a_test_exit_device_gives_its_own_status() {
    if let Some((word, status)) = WORDS.exit {
        stops(word, &[], status);
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_test_exit_device_stands_where_the_configuration_says() {
    stops("exit501=3", &["--set", "devices.debug_exit=0x501"], 7);
    for none_at_0xf4 in ["devices.debug_exit=0x501", "devices.debug_exit=false"] {
        let ended =
            run(run_guest(STOP, "exit=21").args(["--set", none_at_0xf4, "--timeout", "2s"]));
        ended.assert(124, "stop: still here");
    }
}

#[test]
fn a_guest_that_does_not_end_is_ended_when_its_time_is_up() {
    for word in ["halt", "spin", "flood"] {
        // In its second a guest may not come to a word, on a host that is busy with others.
        let has_begun =
            |time| !run(run_guest(STOP, word).args(["--timeout", time])).stdout.is_empty();
        let time = if has_begun("1s") { "1s" } else { "15s" };
        let ended = stops(word, &["--timeout", time], 124);
        assert!(ended.took >= Duration::from_secs(1), "{word}: {:?}", ended.took);
        assert!(ended.took < Duration::from_secs(45), "{word}: {:?}", ended.took);
        assert!(ended.stderr.len() < BOUNDED_LOG, "{ended:#?}");
    }
}

#[test]
fn a_processor_that_repeats_one_exit_is_told_with_its_pc_and_address() {
    let (status, nobody) = match ARCH {
        "x86_64" => ("IoRead of port 0x3fd (com1)", "0xfb000000"),
        "aarch64" => ("MmioRead of 0x9000018 (pl011)", "0xb000000"),
        _ => ("MmioRead of 0x10000005 (serial)", "0x40000000"),
    };
    let nobody = format!("MmioRead of {nobody} (nobody there)");
    for (word, access, answer) in
        [("poll", status, "always answered 0x"), ("spin", &nobody, "always answered 0xffffffff")]
    {
        // Where it was at its end is told at this level, if a signal ends it.
        let running = start(run_guest(STOP, word).args(["--log-level", "debug"]));
        running.wait_until_told("repeats one exit");
        running.signal(Signal::SIGTERM);
        let ended = running.finish();
        ended.assert(143, &format!("stop: {word}"));
        let parts = ["VM[1]-VCpu[0] repeats one exit: ", access, " times in ", answer, "; pc 0x"];
        ended.assert_tells(&parts);
        assert_eq!(ended.stderr.matches("repeats one exit").count(), 1, "{ended:#?}");
        // Where it said it is, it is until the end, give or take the loop's few instructions.
        let (first, last) = (number_after(&ended.stderr, "; pc 0x"), at_the_end(&ended.stderr, 0));
        assert!(first.abs_diff(last) < 32, "{first:#x}, {last:#x}: {ended:#?}");
        ended.assert_tells(&[&format!("exits, the last {access}")]);
    }
}

#[test]
fn when_the_time_is_up_each_processor_is_told_with_where_it_was() {
    for word in ["loop", "halt"] {
        let ended = stops(word, &["-n", "2", "--timeout", "1s"], 124);
        // A guest that makes no exits is told of all the same; its text was the last thing it did.
        assert!(!ended.stderr.contains("repeats one exit"), "{ended:#?}");
        ended.assert_tells(&["VM[1]-VCpu[0] was at pc 0x", "exits, the last ", "VM[1]-VCpu[1]"]);
        assert_ne!(at_the_end(&ended.stderr, 0), at_the_end(&ended.stderr, 1), "{ended:#?}");
    }
    // Whoever ends a guest by hand wants to know only if asked.
    for (level, told) in [("info", false), ("debug", true)] {
        let running = start(run_guest(STOP, "loop").args(["--log-level", level]));
        running.wait_for("stop: loop");
        running.signal(Signal::SIGTERM);
        let ended = running.finish();
        assert_eq!(ended.stderr.contains("VCpu[0] was at pc 0x"), told, "{ended:#?}");
    }
    // Whoever is told no more than errors has not asked.
    let ended = stops("loop", &["--timeout", "1s", "--quiet"], 124);
    assert!(!ended.stderr.contains("VCpu"), "{ended:#?}");
}

/// Where a processor was, as told at the end.
#[track_caller]
fn at_the_end(stderr: &str, vcpu: usize) -> u64 {
    number_after(stderr, &format!("VCpu[{vcpu}] was at pc 0x"))
}

/// The hexadecimal number right behind this.
#[track_caller]
fn number_after(text: &str, what: &str) -> u64 {
    let rest = text.split_once(what).unwrap_or_else(|| panic!("no {what:?} in {text}")).1;
    let digits = rest.split(|c: char| !c.is_ascii_hexdigit()).next().unwrap();
    u64::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("no number after {what:?} in {text}"))
}

#[test]
fn a_guest_that_ends_in_time_is_not_kept_waiting() {
    let ended = stops("poweroff", &["--timeout", "1h"], 0);
    assert!(ended.took < Duration::from_secs(30), "{ended:#?}");
}

#[test]
fn a_reset_restarts_the_guest_in_the_same_process() {
    for guest in ["console-echo", "serial-irq"] {
        let mut running = start(run_guest(guest, "").stdin(Stdio::piped()));
        running.wait_for(&format!("{guest}: ready"));
        running.type_in("before\n");
        running.wait_for("BEFORE");
        running.type_in("reset\n");
        running.wait_for_times(&format!("{guest}: ready"), 2);
        // Input, and the interrupts for it, reach the new guest.
        running.type_in("after\n");
        running.wait_for("AFTER");
        running.type_in("quit\n");
        running.finish().assert(0, "").assert_tells(&[]);
    }
}

#[test]
fn a_reset_by_all_processors_at_once_is_one_reset() {
    let mut command = run_guest("smp", "reset");
    run(command.args(["-n", "4", "--no-reboot"])).assert(32, "smp: 4 cpus").assert_tells(&[]);

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("result");
    let mut command = run_guest("smp", "reset");
    command.args(["-n", "4", "--timeout", "3s", "--result-file"]).arg(&file);
    let ended = run(&mut command);
    ended.assert(124, "smp: 4 cpus").assert_tells(&[]);
    let boots = ended.stdout.matches("smp: 4 cpus").count() as u64;
    let resets = result(&file)["reboots"].as_u64().unwrap();
    // The time may be up before or after the last one's line.
    assert!(boots > 1 && (boots - 1..=boots).contains(&resets), "{resets}: {ended:#?}");
}

#[test]
fn a_power_off_by_all_processors_at_once_is_clean() {
    let mut command = run_guest("smp", "poweroff");
    run(command.args(["-n", "4"])).assert(0, "smp: 4 cpus").assert_tells(&[]);
}

#[test]
fn the_result_file_says_how_it_went() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("result.json");
    let path = file.to_str().unwrap();
    for (word, args, reason, status, vcpu) in [
        ("poweroff", &[] as &[_], "shutdown", 0, json!(null)),
        (WORDS.resets[0], &["--no-reboot"], "reset", 32, json!(null)),
        (WORDS.crash, &[], "fault", 33, json!(0)),
        ("panic", &[], "panic", 34, json!(null)),
        ("spin", &["--timeout", "1s"], "timeout", 124, json!(null)),
    ]
    .into_iter()
    .chain(WORDS.exit.map(|(word, status)| (word, &[] as &[_], "test-exit", status, json!(null))))
    {
        let ended = stops(word, &[args, &["--result-file", path]].concat(), status);
        let result = result(&file);
        let told = [&result["reason"], &result["status"], &result["vcpu"], &result["reboots"]];
        assert_eq!(told, [&json!(reason), &json!(status), &vcpu, &json!(0)], "{result}");
        assert!(result["time"].as_f64().unwrap() <= ended.took.as_secs_f64(), "{result}");
        // Each byte printed was one exit at least.
        let exits = result["exits"][0]["total"].as_u64().unwrap();
        assert!(exits > ended.stdout.len() as u64 / 2, "{result}");
        assert_eq!(result["console_dropped"], 0, "{result}");
        fs::remove_file(&file).unwrap();
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_result_file_tells_of_accesses_that_nobody_took() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("result.json");
    let mut command = run_guest("everywhere", "");
    run(command.arg("--result-file").arg(&file)).assert(0, "everywhere: ok");
    let result = result(&file);
    // Nearly every one of 65536 ports, and every 64 KiB of the address space above RAM.
    assert!(result["unowned"]["reads"].as_u64().unwrap() > 60_000, "{result}");
    assert!(result["unowned"]["writes"].as_u64().unwrap() > 60_000, "{result}");
}

#[test]
fn a_file_that_cannot_be_written_is_told_before_the_guest_runs() {
    let dir = tempfile::tempdir().unwrap();
    for option in ["--result-file", "--metrics", "--record"] {
        for place in ["", "no/such/directory"] {
            let mut command = run_guest(STOP, "poweroff");
            let ended = run(command.arg(option).arg(dir.path().join(place)));
            ended.assert(35, "").assert_tells(&[option]);
            assert_eq!(ended.stdout, "", "nothing ran");
        }
    }
}

#[test]
fn a_guest_that_never_starts_has_a_result_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("result.json");
    let mut command = run_guest(STOP, "poweroff");
    run(command.args(["-i", "missing", "--result-file"]).arg(&file)).assert(35, "");
    let result = result(&file);
    assert_eq!((&result["reason"], &result["status"]), (&json!("config"), &json!(35)));
    assert!(result["message"].as_str().unwrap().contains("missing"), "{result}");
}

fn result(file: &std::path::Path) -> serde_json::Value {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}
