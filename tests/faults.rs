//! `[[devices.fault]]`: devices that go wrong on purpose, in a guest that uses them.

mod common;

use std::{env::consts::ARCH, fs, path::PathBuf, process::Stdio, thread, time::Duration};

use common::{Running, axvmm, guest, run, start};

/// The console, and the address of its data register.
const CONSOLE: (&str, u64) = match ARCH.as_bytes() {
    b"x86_64" => ("com1", 0x3f8),
    b"aarch64" => ("pl011", 0x900_0000),
    _ => ("serial", 0x1000_0000),
};

/// A guest with a fault; the directory goes with it.
struct Broken {
    dir: tempfile::TempDir,
    file: PathBuf,
}

impl Broken {
    fn new(kernel: &str, fault: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("guest.toml");
        let kernel = guest(kernel).canonicalize().unwrap();
        let fault = fault.replace("CONSOLE", CONSOLE.0).replace("DATA", &CONSOLE.1.to_string());
        let text = format!(
            "[kernel]\nkernel_path = {kernel:?}\nmemory = \"16M\"\n[[devices.fault]]\n{fault}"
        );
        fs::write(&file, text).unwrap();
        Self { dir, file }
    }

    fn start(&self, options: &[&str]) -> Running {
        let mut command = axvmm();
        command.args(["run", "--config"]).arg(&self.file).args(options);
        start(command.stdin(Stdio::piped()))
    }
}

#[test]
fn bits_of_a_register_are_others() {
    let fault = "device = \"CONSOLE\"\nat = DATA\naccess = \"write\"\naction = \"bits\"\n\
        value = 0x58\nmask = 0xff";
    let broken = Broken::new("hello", fault);
    let ended = broken.start(&[]).finish();
    ended.assert(0, "XXXXXXXX");
    assert_eq!(
        ended.stderr.matches("fault on purpose: ").count(),
        3,
        "no more are told: {ended:#?}"
    );
    assert!(ended.stdout.trim_end().bytes().all(|byte| byte == b'X'), "{ended:#?}");
}

#[test]
fn a_write_that_fails_is_lost_and_counted() {
    let whole = run(&mut common::run_guest("hello", "")).stdout.clone();
    let fault = "device = \"CONSOLE\"\nat = DATA\naccess = \"write\"\naction = \"fail\"\nnth = 3";
    let broken = Broken::new("hello", fault);
    let result = broken.dir.path().join("result");
    let ended = broken.start(&["--result-file", result.to_str().unwrap()]).finish();
    let mut expect = whole;
    expect.remove(2);
    ended.assert(0, &expect);
    let result: serde_json::Value = serde_json::from_slice(&fs::read(result).unwrap()).unwrap();
    assert_eq!(result["unowned"]["writes"], 1, "{result}");
}

#[test]
fn a_slow_device_is_slow_and_a_recording_shows_it() {
    let fault = "device = \"CONSOLE\"\nat = DATA\naccess = \"write\"\naction = \"delay\"\n\
        delay_us = 300_000\nnth = 5";
    let broken = Broken::new("hello", fault);
    let file = broken.dir.path().join("t.axt");
    broken.start(&["--record", file.to_str().unwrap()]).finish().assert(0, "");
    let mut command = axvmm();
    command.args(["trace", "export", "--format", "csv"]).arg(&file);
    let table = run(&mut command).stdout.clone();
    let writes = table.lines().filter(|line| line.contains(CONSOLE.0) && line.contains("Write,"));
    let took = |line: &str| line.rsplit(',').next().unwrap().parse().unwrap();
    let mut times: Vec<u64> = writes.map(took).collect();
    assert!(times.remove(4) >= 300_000_000, "{table}");
    times.sort_unstable();
    assert!(times[times.len() / 2] < 300_000_000, "{table}");
}

#[test]
fn an_interrupt_is_lost_until_the_next_one() {
    let fault = "device = \"CONSOLE\"\naction = \"lose-interrupt\"";
    let broken = Broken::new("serial-irq", fault);
    let mut running = broken.start(&["--timeout", "4s"]);
    running.wait_for("serial-irq: ready");
    // What is typed before the guest sleeps it sees without an interrupt; then it sleeps on.
    for line in 1..=20 {
        running.type_in(&format!("line{line}\n"));
        thread::sleep(Duration::from_millis(100));
    }
    let ended = running.finish();
    ended.assert(124, "").assert_tells(&["interrupts are lost"]);
    assert!(!ended.stdout.contains("LINE20"), "{ended:#?}");
}

#[test]
fn check_shows_the_fault_and_what_cannot_be_is_told_with_its_place() {
    let fault = "device = \"CONSOLE\"\naction = \"fail\"\none_in = 100\nseed = 7";
    let broken = Broken::new("hello", fault);
    let check = |broken: &Broken| run(axvmm().args(["check", "--config"]).arg(&broken.file));
    let line = format!("{}: accesses fail, one in 100 by chance (seed 7)", CONSOLE.0);
    check(&broken).assert(0, &line);
    for (fault, told) in [
        (
            "device = \"nothing\"\naction = \"fail\"",
            "no device \"nothing\" that could have a fault",
        ),
        ("device = \"CONSOLE\"\naction = \"fail\"\nat = 0x77", "is not at 0x77, but at"),
        ("device = \"CONSOLE\"", "a fault needs an action"),
        ("action = \"fail\"", "a fault needs the name of a device"),
        ("device = \"CONSOLE\"\naction = \"delay\"", "needs delay_us"),
        ("device = \"CONSOLE\"\naction = \"bits\"\nmask = 1", "needs a value"),
        ("device = \"CONSOLE\"\naction = \"fail\"\nvalue = 1", "value is of action"),
        ("device = \"CONSOLE\"\naction = \"fail\"\nnth = 1\nevery = 2", "only one of nth"),
        ("device = \"CONSOLE\"\naction = \"fail\"\nnth = 0", "expected an integer"),
        ("device = \"CONSOLE\"\naction = \"fail\"\nseed = 1", "a seed is of one_in"),
        ("device = \"CONSOLE\"\naction = \"fail\"\nat = [2, 1]", "the first and the last address"),
        ("device = \"CONSOLE\"\naction = \"explode\"", "lose-interrupt"),
        ("device = \"CONSOLE\"\naction = \"lose-interrupt\"\nat = 1", "neither an address"),
    ] {
        let ended = check(&Broken::new("hello", fault));
        ended.assert(35, "").assert_tells(&[told, "guest.toml:"]);
    }
}
