//! `axvmm run --record` and `axvmm trace`, through the binary.

mod common;

use std::{collections::BTreeMap, fs, path::Path, process::Stdio};

use common::{Finished, Running, axvmm, run, run_guest, start};
use serde_json::Value;

/// Starts a guest that gives back its input in capitals.
fn echo(recording: &Path, options: &[&str]) -> Running {
    let mut command = run_guest("console-echo", "");
    command.args(["--set", "base.name=\"echo\"", "--record"]).arg(recording).args(options);
    let running = start(command.stdin(Stdio::piped()));
    running.wait_for("console-echo: ready");
    running
}

#[track_caller]
fn trace(what: &[&str], recording: &Path) -> Finished {
    let mut command = axvmm();
    let ended = run(command.arg("trace").args(what).arg(recording));
    ended.assert(0, "");
    ended
}

fn rows(recording: &Path, filter: &[&str]) -> Vec<BTreeMap<String, String>> {
    let ended = trace(&[&["export", "--format", "csv"], filter].concat(), recording);
    let mut table = csv::Reader::from_reader(ended.stdout.as_bytes());
    table.deserialize().map(|row| row.unwrap()).collect()
}

#[test]
fn every_exit_is_recorded_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (file, result) = (dir.path().join("t.axt"), dir.path().join("result"));
    let mut running = echo(&file, &["--result-file", result.to_str().unwrap()]);
    running.type_in("hello\n");
    running.wait_for("HELLO");
    running.type_in("quit\n");
    running.finish().assert(0, "");

    let result: Value = serde_json::from_slice(&fs::read(result).unwrap()).unwrap();
    let all = rows(&file, &[]);
    let mut counts = BTreeMap::<_, u64>::new();
    all.iter().for_each(|row| *counts.entry(row["reason"].as_str()).or_default() += 1);
    assert_eq!(counts.remove("Started"), Some(1));
    let counted = result["exits"][0]["by_reason"].as_object().unwrap();
    let counted: BTreeMap<_, _> =
        counted.iter().map(|(name, count)| (name.as_str(), count.as_u64().unwrap())).collect();
    assert_eq!(counts, counted);
    let times: Vec<u64> = all.iter().map(|row| row["time_ns"].parse().unwrap()).collect();
    assert!(times.is_sorted());

    // The bytes that the console's data register took are what the guest has said.
    let devices = result["devices"].as_array().unwrap().iter();
    let console = devices.max_by_key(|it| it["writes"].as_u64().unwrap()).unwrap();
    let console = console["device"].as_str().unwrap();
    let of_console = rows(&file, &["--device", console]);
    let said: String = of_console
        .iter()
        .filter(|row| row["reason"].ends_with("Write"))
        .map(|row| u8::from_str_radix(&row["value"][2..], 16).unwrap() as char)
        .collect();
    assert!(said.contains("HELLO"), "{said:?}");
    // Each was made by an instruction of the guest's.
    assert!(of_console.iter().all(|row| row["pc"] != "0x0"), "{of_console:?}");
}

#[test]
fn exits_are_shown_counted_chosen_and_exported() {
    let dir = tempfile::tempdir().unwrap();
    let (file, part) = (dir.path().join("t.axt"), dir.path().join("part.axt"));
    let mut running = echo(&file, &[]);
    running.type_in("reset\n");
    running.wait_for_times("console-echo: ready", 2);
    running.type_in("quit\n");
    running.finish().assert(0, "");

    let shown = trace(&["show"], &file).stdout;
    let all = rows(&file, &[]);
    assert_eq!(shown.lines().count(), all.len());
    assert_eq!(shown.lines().filter(|line| line.ends_with(" started")).count(), 2, "a reset");
    assert_eq!(trace(&["show", "-n", "3"], &file).stdout.lines().count(), 3);

    let write = all.iter().find(|row| row["reason"].ends_with("Write")).unwrap();
    let (reason, at) = (write["reason"].as_str(), write["addr"].as_str());
    let chosen = rows(&file, &["--reason", reason, "--at", at, "--vcpu", "0", "--vm", "echo"]);
    assert!(!chosen.is_empty() && chosen.len() < all.len());
    assert!(chosen.iter().all(|row| row["reason"] == reason && row["addr"] == at));
    let half = all[all.len() / 2]["time_ns"].parse::<f64>().unwrap() / 1e6;
    let time = format!("{half}ms");
    let (early, late) = (rows(&file, &["--to", &time]), rows(&file, &["--from", &time]));
    assert!(early.len() + late.len() >= all.len() && early.len() < all.len());

    let part_name = part.to_str().unwrap();
    trace(&["filter", "--reason", reason, "--at", at, "-o", part_name], &file);
    assert_eq!(rows(&part, &[]), chosen);

    let told = trace(&["stats"], &part).stdout;
    assert!(told.starts_with(&format!("{} exits in ", chosen.len())), "{told}");
    for part in ["p99 ns", "hottest registers", at, reason] {
        assert!(told.contains(part), "{told}");
    }

    let chrome = trace(&["export", "--format", "chrome"], &file).stdout;
    let chrome: Value = serde_json::from_str(&chrome).unwrap();
    let slices = chrome["traceEvents"].as_array().unwrap().iter();
    let slices: Vec<_> = slices.filter(|it| it["ph"] == "X").collect();
    assert_eq!(slices.len(), all.len() - 2);
    assert!(slices.iter().all(|it| it["dur"].is_number() && it["pid"] == 1 && it["tid"] == 0));
}

#[test]
fn of_a_flood_the_latest_exits_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.axt");
    // Enough to go round the least that a recording can be; other hosts than PCs are emulated.
    let a_while = if cfg!(target_arch = "x86_64") { "2s" } else { "8s" };
    let mut command = run_guest("stop", "flood");
    command.args(["--timeout", a_while, "--record-size", "64K", "--record"]).arg(&file);
    run(&mut command).assert(124, "");
    assert!(fs::metadata(&file).unwrap().len() <= 256 << 10);
    let all = rows(&file, &[]);
    let time = |row: &BTreeMap<String, String>| row["time_ns"].parse::<u64>().unwrap();
    assert!(all.len() > 1000 && time(&all[0]) > 0, "{}", all.len());
    assert!(all.iter().all(|row| row["reason"] != "Started"), "the first are gone");
}

/// What else a page tells is in `tests/report.rs`.
#[test]
fn a_run_is_looked_at_as_a_page_with_the_names_of_its_registers() {
    let dir = tempfile::tempdir().unwrap();
    let (file, page) = (dir.path().join("t.axt"), dir.path().join("t.html"));
    let mut command = run_guest("hello", "");
    run(command.arg("--record").arg(&file)).assert(0, "");
    run(axvmm().arg("report").arg(&file)).assert(0, "").assert_tells(&[]);
    let page = fs::read_to_string(page).unwrap();
    let exits = trace(&["stats"], &file).stdout;
    let exits = exits.split(' ').next().unwrap();
    assert!(page.contains(&format!("<data id=\"exits\" value=\"{exits}\">")), "{exits}");
    let register = if cfg!(target_arch = "aarch64") { "UARTDR" } else { "RBR/THR" };
    for told in [register, "machine started", "Hello from axvmm&#39;s guest"] {
        assert!(page.contains(told) || page.contains(&told.replace("&#39;", "'")), "{told}");
    }
    assert!(trace(&["show"], &file).stdout.contains(&format!(" {register} <- 0x")));
    assert!(trace(&["stats"], &file).stdout.contains(register));
    let recorded = fs::read(&file).unwrap();
    let about = String::from_utf8_lossy(&recorded[..4096]);
    assert!(about.contains(register), "the recording has the names");
}

#[test]
fn several_guests_are_in_one_recording() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.axt");
    let mut command = axvmm();
    command.args(["run", "--record"]).arg(&file);
    for name in ["hello", "smp"] {
        let (config, kernel) =
            (dir.path().join(format!("{name}.toml")), common::guest(name).canonicalize().unwrap());
        let text = format!("[kernel]\nkernel_path = {kernel:?}\nmemory = \"16M\"\n");
        fs::write(&config, text).unwrap();
        command.arg("--config").arg(config);
    }
    run(&mut command).assert(0, "");
    for (name, other) in [("hello", "smp"), ("smp", "hello")] {
        let shown = trace(&["show", "--vm", name], &file).stdout;
        assert!(shown.contains(&format!(" {name} ")) && !shown.contains(&format!(" {other} ")));
    }
}

#[test]
fn what_cannot_be_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (file, other) = (dir.path().join("t.axt"), dir.path().join("other"));
    let mut command = run_guest("hello", "");
    run(command.arg("--record").arg(&file)).assert(0, "");
    fs::write(&other, "no recording").unwrap();
    let path = file.to_str().unwrap();
    for (what, recording, told) in [
        (&["show"][..], other.as_path(), "is no recording of axvmm's"),
        (&["stats"], &dir.path().join("none"), "No such file"),
        (&["show", "--device", "nothing"], &file, "--device nothing: the recording has"),
        (&["show", "--vm", "nobody"], &file, "--vm nobody: the recording has"),
        (&["show", "--at", "com1"], &file, "is no address"),
        (&["show", "--reason", "Nonsense"], &file, "IoRead"),
        (&["filter", "-o", path], &file, "this is the recording that is read"),
    ] {
        let mut command = axvmm();
        run(command.arg("trace").args(what).arg(recording)).assert(35, "").assert_tells(&[told]);
    }
}

/// The commands of the guide's walk-through, as they stand there.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_guides_walk_through_tells_a_driver_that_polls_from_one_that_waits() {
    let dir = tempfile::tempdir().unwrap();
    // Has them built.
    let guests = [common::guest("console-echo"), common::guest("serial-irq")];
    let configs = guests[0].parent().unwrap().parent().unwrap().canonicalize().unwrap();
    std::os::unix::fs::symlink(configs, dir.path().join("configs")).unwrap();
    let guide = include_str!("../resources/guide/recordings.md");
    let walk = guide.split("## A walk through").nth(1).unwrap().split("\n## ").next().unwrap();
    let commands: Vec<_> = walk.lines().filter_map(|it| it.strip_prefix("    axvmm ")).collect();
    let mut status_reads = Vec::new();
    for command in &commands {
        let mut program = axvmm();
        let ended = run(program.args(command.split(' ')).current_dir(&dir));
        ended.assert(if command.starts_with("run ") { 124 } else { 0 }, "");
        if command.starts_with("trace stats") {
            let row = ended.stdout.lines().find(|line| line.contains("com1 0x3fd"));
            let row = row.unwrap_or_else(|| panic!("{ended:#?}"));
            status_reads.push(row.split_whitespace().last().unwrap().parse::<u64>().unwrap());
        }
    }
    assert_eq!(commands.len(), 5);
    assert!(status_reads[0] > 1000 && status_reads[1] < 100, "{status_reads:?}");
}
