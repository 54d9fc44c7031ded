//! What a guest's exits were for: `--stats`, SIGUSR1, `--metrics` and the result file.

mod common;

use std::{collections::BTreeMap, fs, path::Path};

use common::{Running, run, run_guest, start, wait_until};
use nix::sys::signal::Signal;

const GUEST: &str = "console-echo";

/// Starts a guest that gives back its input in capitals.
fn echo(options: &[&str]) -> Running {
    let mut command = run_guest(GUEST, "");
    command.args(["--set", "base.name=\"echo\""]);
    let running = start(command.args(options).stdin(std::process::Stdio::piped()));
    running.wait_for("console-echo: ready");
    running
}

/// What a table says of `name`: its numbers.
fn row(table: &str, name: &str) -> Vec<u64> {
    let row = table.lines().find(|line| line.split_whitespace().next() == Some(name));
    let row = row.unwrap_or_else(|| panic!("no {name} in\n{table}"));
    row.split_whitespace().skip(1).map_while(|cell| cell.parse().ok()).collect()
}

/// The samples of a file for Prometheus, by name and labels.
fn samples(file: &Path) -> BTreeMap<String, f64> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (what, value) = line.rsplit_once(' ').unwrap();
            (what.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// The device that has taken the most writes, with its name: it is the console.
fn console(result: &serde_json::Value) -> serde_json::Value {
    let devices = result["devices"].as_array().unwrap().iter();
    devices.max_by_key(|it| it["writes"].as_u64().unwrap()).unwrap().clone()
}

#[test]
fn a_table_at_the_end_agrees_with_the_result_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("result");
    let mut running = echo(&["--stats", "--result-file", file.to_str().unwrap()]);
    running.type_in("hello\n");
    running.wait_for("HELLO");
    running.type_in("quit\n");
    let ended = running.finish();
    ended.assert(0, "").assert_tells(&["exits of echo: "]);

    let result: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let console = console(&result);
    let number = |it: &serde_json::Value| it.as_u64().unwrap();
    assert!(number(&console["writes"]) >= ended.stdout.len() as u64, "{result}");
    let name = console["device"].as_str().unwrap();
    let counted = [number(&console["reads"]), number(&console["writes"])];
    assert_eq!(row(&ended.stderr, name)[..2], counted, "{result}");
    assert_eq!(console["by_vcpu"][0]["writes"], console["writes"], "{result}");
    let reasons = result["exits"][0]["by_reason"].as_object().unwrap();
    for (reason, count) in reasons {
        assert_eq!(row(&ended.stderr, reason), [number(count)]);
    }
    // Each access is one exit, and each exit that is one is somebody's or nobody's.
    let of_reasons: u64 =
        ["MmioRead", "MmioWrite", "IoRead", "IoWrite", "SysRegRead", "SysRegWrite"]
            .iter()
            .filter_map(|reason| reasons.get(*reason).map(number))
            .sum();
    let devices = result["devices"].as_array().unwrap().iter();
    let taken: u64 = devices.map(|it| number(&it["reads"]) + number(&it["writes"])).sum();
    let unowned = number(&result["unowned"]["reads"]) + number(&result["unowned"]["writes"]);
    assert_eq!(of_reasons, taken + unowned, "{result}");
}

#[test]
fn a_signal_tells_it_at_any_time_and_the_guest_goes_on() {
    let mut running = echo(&[]);
    for round in 1..=3 {
        running.signal(Signal::SIGUSR1);
        running.wait_until_told_times("exits of echo: ", round);
        running.type_in(&format!("round{round}\n"));
        running.wait_for(&format!("ROUND{round}"));
    }
    running.type_in("quit\n");
    let ended = running.finish();
    ended.assert(0, "");
    let totals: Vec<u64> = ended
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("exits of echo: "))
        .map(|rest| rest.split(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(totals.len(), 3, "none at the end: {ended:#?}");
    assert!(totals.is_sorted() && totals[0] < totals[2], "{totals:?}");
}

#[test]
fn a_file_for_prometheus_is_there_from_the_start_and_up_to_date_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (file, result) = (dir.path().join("axvmm.prom"), dir.path().join("result"));
    let options = ["--metrics", file.to_str().unwrap(), "--result-file", result.to_str().unwrap()];
    let mut running = echo(&options);
    wait_until("the file is there", || file.exists());
    let exits = || {
        let all = samples(&file).into_iter();
        all.filter(|(what, _)| what.starts_with("axvmm_exits_total{")).map(|(_, n)| n).sum::<f64>()
    };
    let before = exits();
    running.type_in("more\n");
    running.wait_for("MORE");
    running.signal(Signal::SIGUSR1);
    wait_until("it is written again", || exits() > before);
    running.type_in("quit\n");
    running.finish().assert(0, "");

    let result: serde_json::Value = serde_json::from_slice(&fs::read(&result).unwrap()).unwrap();
    assert_eq!(exits(), result["exits"][0]["total"].as_f64().unwrap());
    let console = console(&result);
    let text = |key: &str| console[key].as_str().unwrap().to_owned();
    let labels = format!(
        "vm=\"echo\",id=\"1\",vcpu=\"0\",device=\"{}\",bus=\"{}\",addresses=\"{}\"",
        text("device"),
        text("bus"),
        text("addresses")
    );
    let writes = format!("axvmm_device_accesses_total{{{labels},access=\"write\"}}");
    assert_eq!(samples(&file).get(&writes), Some(&console["writes"].as_f64().unwrap()));
    assert!(samples(&file)["axvmm_uptime_seconds{vm=\"echo\",id=\"1\"}"] > 0.0);
}

#[test]
fn each_of_several_guests_has_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = common::axvmm();
    command.args(["run", "--stats"]);
    for (name, cpus) in [("hello", 1), ("smp", 2)] {
        let (file, kernel) =
            (dir.path().join(format!("{name}.toml")), common::guest(name).canonicalize().unwrap());
        let text = format!(
            "[base]\ncpu_num = {cpus}\n[kernel]\nkernel_path = {kernel:?}\nmemory = \"16M\"\n"
        );
        fs::write(&file, text).unwrap();
        command.arg("--config").arg(file);
    }
    let ended = run(&mut command);
    ended.assert(0, "").assert_tells(&["exits of hello", "exits of smp", "vCPU 1"]);
}
