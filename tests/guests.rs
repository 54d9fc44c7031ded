//! Tiny guests on this machine's own KVM, through the binary: what each boot protocol hands over,
//! what the board's devices do, and that a guest's mischief stays its own. How guests end is
//! `ends.rs`' subject.

mod common;

/// The tests that only this architecture's board has, and how it tells of what all have.
#[cfg_attr(target_arch = "x86_64", path = "guests/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "guests/aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "guests/riscv64.rs")]
mod board;

use std::{
    collections::BTreeMap,
    env::consts::ARCH,
    fs,
    io::Read,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{Running, guest, root, run, run_guest, start};
use nix::sys::signal::Signal;

/// A file in configs/: what it is fed, ends with, and prints.
type Example = (&'static str, &'static str, i32, &'static [&'static str]);

/// More than any of these guests may cause to be logged: a page or two.
const BOUNDED_LOG: usize = 16 << 10;

/// Runs a guest that ends by itself, cleanly, having printed all of this.
#[track_caller]
fn prints(command: &mut Command, parts: &[&str]) -> common::Finished {
    let ended = run(command);
    for part in parts {
        ended.assert(0, part);
    }
    ended.assert_tells(&[]);
    ended
}

/// A guest whose stdin is a pipe.
fn typed(command: &mut Command) -> Running {
    start(command.stdin(Stdio::piped()))
}

// What a guest is given at its start.

#[test]
fn memory_on_both_sides_of_4_gib() {
    let mut command = run_guest("memory", "");
    let ended = prints(command.args(["--set", "base.memory=5G"]), &["memory: ok"]);
    ended.assert(0, board::BEYOND_4_GIB);
    let kib = number_before(&ended.stdout, " KiB");
    // What the board keeps for itself is less than a MiB.
    assert!((5 << 20) - kib < 1 << 10, "{ended:#?}");
}

/// The number that stands right before `what`.
#[track_caller]
fn number_before(text: &str, what: &str) -> u64 {
    let before = text.split(what).next().unwrap();
    let digits = before.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    before[digits..].parse().unwrap_or_else(|_| panic!("no number before {what:?} in {text:?}"))
}

#[test]
fn every_processor_comes_up_and_sees_what_it_is() {
    for cpus in [1, 2, 4, 16] {
        let mut command = run_guest("smp", "");
        let ended =
            prints(command.args(["-n", &cpus.to_string()]), &[&format!("smp: {cpus} cpus\r\n")]);
        for id in 0..cpus {
            let line = board::of_cpu(id, cpus);
            assert!(ended.stdout.contains(&line), "no {line:?} in {ended:#?}");
        }
    }
}

// The board's devices.

#[test]
fn a_line_of_input_wakes_a_halted_processor() {
    let mut running = typed(&mut run_guest("serial-irq", ""));
    running.wait_for("serial-irq: ready");
    wait_until_idle(running.pid());
    running.type_in("first\n");
    running.wait_for("FIRST");
    // So that it does not find what is typed next while it still looks for more.
    wait_until_idle(running.pid());
    running.type_in("quit\n");
    let ended = running.finish();
    ended.assert(0, "interrupts");
    assert!(number_before(&ended.stdout, " interrupts") >= 2, "{ended:#?}");
}

#[test]
fn input_that_is_there_from_the_beginning_is_not_lost() {
    let mut running = typed(&mut run_guest("serial-irq", ""));
    running.type_in("early line\nquit\n");
    running.finish().assert(0, "EARLY LINE");
}

// Hypercalls.

#[test]
fn hypercalls_come_by_the_doorbell_and_as_the_architecture_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let result = dir.path().join("result.json");
    let mut command = run_guest("hypercall", "");
    command.args(["--set", "devices.hypercalls=true", "--result-file"]).arg(&result);
    let ended = prints(&mut command, &["hypercall: doorbell 1\r\n", "blocks are no calls\r\n"]);
    for line in board::HYPERCALLS {
        ended.assert(0, &format!("hypercall: {line}\r\n"));
    }
    ended.assert_tells(&["rang for a hypercall at", "which is none"]);
    // What the host kernel has answered itself never came here.
    let result: serde_json::Value = serde_json::from_slice(&fs::read(result).unwrap()).unwrap();
    let exits = &result["exits"][0]["by_reason"]["Hypercall"];
    assert_eq!(exits.as_u64().unwrap_or(0), board::NATIVE_HYPERCALLS, "{result}");
}

#[test]
fn a_guest_without_a_doorbell_goes_on() {
    prints(&mut run_guest("hypercall", ""), &["hypercall: no doorbell\r\n"]);
}

// Guests that behave badly.

#[test]
fn a_guest_that_spins_on_an_exit_can_be_ended() {
    let running = start(&mut run_guest("stop", "spin"));
    running.wait_for("stop: spin");
    let ended = ends_soon_by(running, Signal::SIGTERM);
    assert!(ended.stderr.len() < BOUNDED_LOG, "{ended:#?}");
}

#[test]
fn a_guest_that_floods_the_console_can_be_ended() {
    let running = start(&mut run_guest("stop", "flood"));
    running.wait_for_times("and more of it", 100);
    let ended = ends_soon_by(running, Signal::SIGTERM);
    assert!(ended.stderr.len() < BOUNDED_LOG, "{ended:#?}");
}

/// Nobody reads: the guest goes on or waits, and axvmm keeps what it cannot print within bounds.
#[test]
fn a_flood_that_nobody_reads_stays_out_of_memory() {
    let mut child =
        run_guest("stop", "flood").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut first = [0; 16];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    let pid = child.id() as i32;
    thread::sleep(Duration::from_secs(1)); // a second's flood, were it kept, is tens of MB
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    let kib = number_before(&status[status.find("RssAnon").unwrap()..], " kB");
    assert!(kib < 16 << 10, "{status}");
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn a_halted_guest_costs_nothing_and_can_be_ended() {
    let running = start(&mut run_guest("stop", "halt"));
    running.wait_for("stop: halt");
    wait_until_idle(running.pid());
    ends_soon_by(running, Signal::SIGTERM);
}

#[test]
fn sixteen_halted_processors_can_be_ended() {
    let running = start(run_guest("stop", "halt").args(["-n", "16"]));
    running.wait_for("stop: halt");
    ends_soon_by(running, Signal::SIGINT);
}

/// Sends the signal: the process is gone within seconds, with the status that says so.
#[track_caller]
fn ends_soon_by(running: Running, signal: Signal) -> common::Finished {
    let sent = Instant::now();
    running.signal(signal);
    let ended = running.finish();
    assert_eq!(ended.status, 128 + signal as i32, "{ended:#?}");
    assert!(sent.elapsed() < Duration::from_secs(10), "{ended:#?}");
    ended.assert_tells(&[]);
    ended
}

/// Waits until the process takes no more than a few per cent of a CPU.
#[track_caller]
fn wait_until_idle(pid: i32) {
    let window = Duration::from_millis(500);
    let begun = Instant::now();
    let mut before = cpu_ticks(pid);
    loop {
        thread::sleep(window);
        let now = cpu_ticks(pid);
        // A tick is a hundredth of a second.
        if now - before <= 2 {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "busy: {} ticks", now - before);
        before = now;
    }
}

/// User and system time of a process (proc(5), /proc/PID/stat, fields 14 and 15).
fn cpu_ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

// Threads.

#[test]
fn each_vcpu_is_a_thread_with_its_name_on_its_host_cpus() {
    let host_cpus = thread::available_parallelism().unwrap().get();
    let second = if host_cpus > 1 { 2 } else { 1 };
    let mut command = run_guest("console-echo", "");
    let sets = format!("base.phys_cpu_sets=[1, {second}]");
    let running = typed(command.args(["-n", "2", "--set", "base.id=7", "--set", &sets]));
    running.wait_for("console-echo: ready");
    // The first may have printed before the second has begun.
    let expected = [("VM[7]-VCpu[0]", 1), ("VM[7]-VCpu[1]", second)];
    let begun = Instant::now();
    loop {
        let threads = threads(running.pid());
        if expected.iter().all(|(name, mask)| threads.get(*name) == Some(mask)) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{threads:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The name of each thread of a process, and the host CPUs that it may use.
fn threads(pid: i32) -> BTreeMap<String, u64> {
    let status = |dir: &Path| fs::read_to_string(dir.join("status")).unwrap();
    let field = |status: &str, name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once('\t').unwrap().1.to_owned()
    };
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let statuses = tasks.map(|task| status(&task.unwrap().path()));
    statuses
        .map(|status| {
            let mask = field(&status, "Cpus_allowed:").replace(',', "");
            (field(&status, "Name:"), u64::from_str_radix(&mask, 16).unwrap())
        })
        .collect()
}

#[test]
fn host_cpus_that_are_not_there_are_refused() {
    let mut command = run_guest("hello", "");
    let ended = run(command.args(["--set", "base.phys_cpu_sets=[0x8000000000000000]"]));
    ended.assert(35, "").assert_tells(&["0x8000000000000000"]);
}

// The host.

#[test]
fn doctor_tells_whether_a_linux_kernel_can_run_here() {
    let ended = run(common::axvmm().arg("doctor"));
    ended.assert(0, "Guests can run here").assert_tells(&[]);
    let json = run(common::axvmm().args(["doctor", "--json"]));
    let verdict: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(verdict["guests"], true, "{verdict}");
    let told = if verdict["linux"] == true { "among them" } else { "but no unmodified Linux" };
    ended.assert(0, told);
    // Without such hardware all of a guest's ring 0 is emulated, and Linux needs more than that.
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap();
    let pc_can = cpu.split_whitespace().any(|flag| ["vmx", "svm"].contains(&flag));
    if ARCH == "x86_64" && !pc_can {
        assert_eq!(verdict["linux"], false, "{verdict}");
        ended.assert(0, "cmpxchg16b").assert(0, "axvmm run --host emulated");
    }
}

// The examples.

#[test]
fn every_example_runs() {
    guest("hello"); // has them built
    for (file, input, status, parts) in board::EXAMPLES {
        let config = root().join("configs").join(file);
        let mut running = typed(common::axvmm().args(["run", "--config"]).arg(config));
        running.type_in(input);
        let ended = running.finish();
        for part in parts {
            ended.assert(status, part);
        }
        ended.assert_tells(&[]);
    }
}

#[test]
fn no_example_is_forgotten() {
    let mut found: Vec<String> = fs::read_dir(root().join("configs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(&format!("-{ARCH}.toml")))
        .collect();
    found.sort();
    // By linux.rs, and by ivc.rs.
    let elsewhere = ["debian", "ivc-receive", "ivc-send"].map(|name| format!("{name}-{ARCH}.toml"));
    let named = board::EXAMPLES.iter().map(|example| example.0.to_owned());
    let mut named: Vec<_> = named.chain(elsewhere).collect();
    named.sort();
    assert_eq!(found, named);
}
