//! Tiny guests on this machine's own KVM, through the binary: what each boot protocol hands over,
//! what the board's devices do, and that a guest's mischief stays its own. How guests end is
//! `ends.rs`' subject.
#![cfg(target_arch = "x86_64")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{Running, guest, root, run, run_guest, start};
use nix::sys::signal::Signal;

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

/// `axvmm run -k GUEST`, without a command line.
fn bare(file: &str) -> Command {
    let mut command = common::axvmm();
    command.args(["run", "-m", "16M", "-k"]).arg(guest(file));
    command
}

/// A guest whose stdin is a pipe.
fn typed(command: &mut Command) -> Running {
    start(command.stdin(Stdio::piped()))
}

// What a guest is given at its start.

#[test]
fn an_elf_with_a_pvh_note() {
    let dir = tempfile::tempdir().unwrap();
    let initrd = dir.path().join("initrd");
    fs::write(&initrd, b"initial bytes").unwrap();
    let mut command = run_guest("pvh-info-x86_64.elf", "one two=three");
    let parts = [
        "command line: one two=three\r\n",
        "modules: 1\r\n",
        ", 13 bytes, ",
        "signature and checksum right",
    ];
    prints(command.arg("-i").arg(initrd), &parts);
}

#[test]
fn a_guest_without_a_command_line() {
    prints(&mut bare("pvh-info-x86_64.elf"), &["command line: \r\n", "modules: 0\r\n"]);
    prints(&mut bare("hello64-x86_64.elf"), &["command line: \r\n"]);
}

#[test]
fn an_elf_by_the_64_bit_linux_protocol() {
    let parts = ["Hello from long mode", "command line: quiet root=/dev/vda\r\n"];
    prints(&mut run_guest("hello64-x86_64.elf", "quiet root=/dev/vda"), &parts);
}

#[test]
fn a_bzimage_with_an_initrd() {
    let dir = tempfile::tempdir().unwrap();
    let initrd = dir.path().join("initrd");
    fs::write(&initrd, b"initial bytes").unwrap();
    let mut command = run_guest("hello-bzimage-x86_64.bin", "quiet");
    let parts = ["Hello from a bzImage", "command line: quiet\r\n", "13 bytes, "];
    prints(command.arg("-i").arg(initrd), &parts);
}

#[test]
fn memory_on_both_sides_of_the_hole() {
    let mut command = run_guest("memory-x86_64.elf", "");
    let ended =
        prints(command.args(["--set", "base.memory=5G"]), &["memory: ok", "0x0000000100000000"]);
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
fn every_processor_comes_up_and_sees_the_topology() {
    for cpus in [1, 2, 4, 16] {
        let mut command = run_guest("smp-x86_64.elf", "");
        let ended =
            prints(command.args(["-n", &cpus.to_string()]), &[&format!("smp: {cpus} cpus\r\n")]);
        for id in 0..cpus {
            let line = format!(
                "cpu: apic id {id}, x2apic id {id}, threads in a core 1, in a package {cpus}\r\n"
            );
            assert!(ended.stdout.contains(&line), "no {line:?} in {ended:#?}");
        }
    }
}

// The board's devices.

#[test]
fn the_clock_tells_the_hosts_time_in_utc() {
    let ended = prints(&mut run_guest("rtc-x86_64.elf", ""), &["rtc: 2"]);
    let told = ended.stdout.split("rtc: ").nth(1).unwrap().trim();
    let date = Command::new("date").args(["-u", "-d", told, "+%s"]).output().unwrap();
    let seconds: i64 = String::from_utf8(date.stdout).unwrap().trim().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!((now.as_secs() as i64 - seconds).abs() < 120, "{told:?} is not now");
}

#[test]
fn the_keyboard_controller_and_its_keyboard_answer() {
    let parts = ["self test: 0x55\r\n", "keyboard reset: 0xfa 0xaa\r\n", "id: 0xfa 0xab 0x41\r\n"];
    prints(&mut run_guest("i8042-x86_64.elf", ""), &parts);
}

#[test]
fn the_debug_console_prints_lines_and_strings() {
    let ended = prints(&mut run_guest("debug-ports-x86_64.elf", ""), &["0xe9 reads 0xe9"]);
    let all = ended.stdout + &ended.stderr;
    assert!(all.contains("debug-ports: a line on port 0xe9"), "{all:?}");
    assert!(all.contains("debug-ports: a string on port 0xe9"), "{all:?}");
}

#[test]
fn the_acpi_tables_say_how_to_power_off() {
    prints(&mut run_guest("acpi-x86_64.elf", ""), &["FACP", "sleep control register"]);
}

#[test]
fn a_line_of_input_wakes_a_halted_processor() {
    let mut running = typed(&mut run_guest("serial-irq-x86_64.elf", ""));
    running.wait_for("serial-irq: ready");
    wait_until_idle(running.pid());
    running.type_in("first\n");
    running.wait_for("FIRST");
    running.type_in("quit\n");
    let ended = running.finish();
    ended.assert(0, "interrupts");
    assert!(number_before(&ended.stdout, " interrupts") >= 2, "{ended:#?}");
}

#[test]
fn input_that_is_there_from_the_beginning_is_not_lost() {
    let mut running = typed(&mut run_guest("serial-irq-x86_64.elf", ""));
    running.type_in("early line\nquit\n");
    running.finish().assert(0, "EARLY LINE");
}

// Guests that behave badly.

#[test]
fn accesses_where_nobody_is_are_answered_as_nobody_answers() {
    let ended = prints(&mut run_guest("wild-x86_64.elf", ""), &["wild: ok"]);
    assert!(ended.stderr.len() < BOUNDED_LOG, "{ended:#?}");
}

#[test]
fn a_guest_that_writes_everywhere_fills_no_log() {
    let ended = prints(&mut run_guest("everywhere-x86_64.elf", ""), &["everywhere: ok"]);
    ended.assert_tells(&["counted, not told"]);
    assert!(ended.stderr.len() < BOUNDED_LOG, "{} bytes", ended.stderr.len());
}

#[test]
fn a_guest_that_spins_on_an_exit_can_be_ended() {
    let running = start(&mut run_guest("stop-x86_64.elf", "spin"));
    running.wait_for("stop: spin");
    let ended = ends_soon_by(running, Signal::SIGTERM);
    assert!(ended.stderr.len() < BOUNDED_LOG, "{ended:#?}");
}

#[test]
fn a_guest_that_floods_the_console_can_be_ended() {
    let running = start(&mut run_guest("stop-x86_64.elf", "flood"));
    running.wait_for_times("and more of it", 100);
    let ended = ends_soon_by(running, Signal::SIGTERM);
    assert!(ended.stderr.len() < BOUNDED_LOG, "{ended:#?}");
}

/// Nobody reads: the guest goes on or waits, and axvmm keeps what it cannot print within bounds.
#[test]
fn a_flood_that_nobody_reads_stays_out_of_memory() {
    let mut child = run_guest("stop-x86_64.elf", "flood")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
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
    let running = start(&mut run_guest("stop-x86_64.elf", "halt"));
    running.wait_for("stop: halt");
    wait_until_idle(running.pid());
    ends_soon_by(running, Signal::SIGTERM);
}

#[test]
fn sixteen_halted_processors_can_be_ended() {
    let running = start(run_guest("stop-x86_64.elf", "halt").args(["-n", "16"]));
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
    let mut command = run_guest("console-echo-x86_64.elf", "");
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
    let mut command = run_guest("hello-x86_64.elf", "");
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
    if !cpu.split_whitespace().any(|flag| ["vmx", "svm"].contains(&flag)) {
        assert_eq!(verdict["linux"], false, "{verdict}");
        ended.assert(0, "cmpxchg16b").assert(0, "tests/hosts/host");
    }
}

// The examples.

/// What each file in configs/ is fed, ends with, and prints.
const EXAMPLES: [(&str, &str, i32, &[&str]); 6] = [
    ("axvisor-x86_64.toml", "", 0, &["Hello from real mode"]),
    ("console-x86_64.toml", "shout\nquit\n", 0, &["SHOUT"]),
    ("exit-status-x86_64.toml", "", 43, &["stop: exit"]),
    ("hello-x86_64.toml", "", 0, &["Hello from axvmm's guest"]),
    (
        "multiboot-x86_64.toml",
        "",
        0,
        &[
            "Hello from multiboot",
            "command line: from a file",
            "modules: 2",
            "'first'",
            "'second module'",
        ],
    ),
    ("smp-x86_64.toml", "", 0, &["smp: 4 cpus\r\n"]),
];

/// Those that other tests run.
const ELSEWHERE: [&str; 1] = ["debian-x86_64.toml"]; // linux.rs

#[test]
fn every_example_runs() {
    guest("hello-x86_64.elf"); // has them built
    for (file, input, status, parts) in EXAMPLES {
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
        .filter(|name| name.ends_with("-x86_64.toml"))
        .collect();
    found.sort();
    let mut named: Vec<_> = EXAMPLES.iter().map(|example| example.0).chain(ELSEWHERE).collect();
    named.sort();
    assert_eq!(found, named);
}
