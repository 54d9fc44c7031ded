//! Guests under a debugger: `axvmm run --gdb`, driven by a client of the protocol. Tiny guests on this
//! machine's own KVM, through the binary.

#[path = "gdb/client.rs"]
mod client;
mod common;

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use client::Client;
use common::{Running, WORDS, guest, run, run_guest, start};
use nix::sys::signal::Signal;

/// The program counter's number, one of a register that takes any value, and the length of a breakpoint
/// instruction.
const PC: usize = if IS_X86 { 16 } else { 32 };
const SOME: usize = if IS_X86 { 2 } else { 9 };
const BREAKPOINT: usize = match ARCH.as_bytes() {
    b"x86_64" => 1,
    b"aarch64" => 4,
    _ => 2,
};
const IS_X86: bool = matches!(ARCH.as_bytes(), b"x86_64");

/// The console's data register: its device, its address as `monitor` takes it.
const DATA: (&str, &str) = match ARCH.as_bytes() {
    b"x86_64" => ("com1", "port:0x3f8"),
    b"aarch64" => ("pl011", "0x9000000"),
    _ => ("serial", "0x10000000"),
};

/// Whether breakpoint instructions stop: not where KVM runs all of the guest's kernel in its emulator,
/// nor on QEMU's emulated SVM, which leaves `int3` to the guest. That one does not save where the next
/// instruction is.
fn has_breakpoints() -> bool {
    let nrips = fs::read_to_string("/sys/module/kvm_amd/parameters/nrips");
    !Path::new("/sys/module/kvm_pvm").exists()
        && !nrips.is_ok_and(|it| ["N", "0"].contains(&it.trim()))
}

/// `Z` packets of this host: by an instruction, and where there is none by the hardware.
fn breakpoint() -> u8 {
    if has_breakpoints() { 0 } else { 1 }
}

/// A guest that waits for a debugger at a socket in `dir`.
fn debugged(mut command: Command, dir: &Path) -> (Running, PathBuf) {
    let socket = dir.join("gdb");
    let running = start(command.arg("--gdb").arg(&socket));
    (running, socket)
}

fn hello(dir: &Path) -> (Running, Client) {
    let (running, socket) = debugged(run_guest("hello", ""), dir);
    (running, Client::connect(&socket))
}

fn stop(word: &str, dir: &Path) -> (Running, Client) {
    let (running, socket) = debugged(run_guest("stop", word), dir);
    (running, Client::connect(&socket))
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Where the guest's greeting is in its memory, by its ELF file's program headers.
fn greeting() -> u64 {
    let elf = fs::read(guest("hello")).unwrap();
    let field = |at: usize, len: usize| {
        elf[at..at + len].iter().rev().fold(0, |all: u64, byte| all << 8 | u64::from(*byte))
    };
    let text = elf.windows(10).position(|it| it == b"Hello from").unwrap() as u64;
    let (headers, count) = (field(32, 8) as usize, field(56, 2) as usize);
    (0..count)
        .map(|number| headers + 56 * number)
        .map(|at| (field(at + 8, 8), field(at + 24, 8), field(at + 32, 8)))
        .find_map(|(from, addr, len)| {
            (from..from + len).contains(&text).then(|| addr + text - from)
        })
        .unwrap()
}

#[test]
fn a_guest_waits_before_its_first_instruction_and_tells_its_end() {
    let dir = dir();
    let (running, mut gdb) = hello(dir.path());
    running.wait_until_told("the guest waits for GDB: target remote ");
    gdb.expect("?", "T05thread:01;");
    let features = gdb.ask("qSupported:multiprocess-;swbreak+;hwbreak+");
    assert!(features.contains("qXfer:features:read+"), "{features}");
    let description = gdb.ask("qXfer:features:read:target.xml:0,fff");
    assert!(
        description.contains("<reg name=") && description.contains("pc\"")
            || description.contains("rip"),
        "{description}"
    );
    assert_eq!(gdb.go_on(), "W00");
    running.finish().assert(0, "Hello from axvmm's guest");
}

#[test]
fn the_exit_status_is_told() {
    let dir = dir();
    if let Some((word, status)) = WORDS.exit {
        let (running, mut gdb) = stop(word, dir.path());
        assert_eq!(gdb.go_on(), format!("W{status:02x}"));
        running.finish().assert(status, "stop:");
    }
    let (running, mut gdb) = stop(WORDS.crash, dir.path());
    assert_eq!(gdb.go_on(), "W21");
    running.finish().assert(33, "stop:");
}

#[test]
fn steps_go_through_the_guest_and_a_breakpoint_stops_where_one_was() {
    let places = {
        let dir = dir();
        let (running, mut gdb) = hello(dir.path());
        let mut places = vec![gdb.register(PC)];
        for _ in 0..40 {
            gdb.step(1);
            places.push(gdb.register(PC));
        }
        assert!(places.windows(2).all(|pair| pair[0] != pair[1]), "{places:x?}");
        assert_eq!(gdb.go_on(), "W00");
        running.finish().assert(0, "Hello from");
        places
    };
    // The first place that it comes to once more is in a loop, so the last new one is later.
    let is_once = |it: &&u64| places.iter().filter(|other| other == it).count() == 1;
    let far = *places.iter().rfind(is_once).unwrap();
    let dir = dir();
    let (running, mut gdb) = hello(dir.path());
    let before = gdb.memory(far, 4);
    let (set, kind) = (breakpoint(), BREAKPOINT);
    gdb.expect(&format!("Z{set},{far:x},{kind}"), "OK");
    gdb.expect(&format!("Z{set},{far:x},{kind}"), "OK");
    assert_eq!(gdb.memory(far, 4), before, "the guest's own bytes are seen");
    let stopped = gdb.go_on();
    assert!(stopped.starts_with("T05thread:01;"), "{stopped}");
    assert_eq!(gdb.register(PC), far);
    gdb.expect(&format!("z{set},{far:x},{kind}"), "OK");
    gdb.step(1);
    assert_ne!(gdb.register(PC), far);
    assert_eq!(gdb.go_on(), "W00");
    running.finish().assert(0, "Hello from");
}

#[test]
fn registers_and_memory_are_read_and_written() {
    let dir = dir();
    let (running, mut gdb) = hello(dir.path());
    gdb.set_register(SOME, 0x1234_5678_9abc_def0);
    assert_eq!(gdb.register(SOME), 0x1234_5678_9abc_def0);
    let all = gdb.ask("g");
    assert!(all.contains("f0debc9a78563412"), "{all}");
    gdb.expect(&format!("G{}", all.replace("xx", "00")), "OK");
    assert_eq!(gdb.register(SOME), 0x1234_5678_9abc_def0);
    assert!(gdb.ask("p7fffffff").starts_with('E'));
    let greeting = greeting();
    assert_eq!(gdb.memory(greeting, 5), b"Hello");
    gdb.set_memory(greeting, b"HELLO");
    // Nothing is there, and where a device is nothing is asked.
    for nowhere in ["m7000000000,4", "M7000000000,1:00", "mffffffffffffffff,8"] {
        assert!(gdb.ask(nowhere).starts_with('E'), "{nowhere}");
    }
    let device = DATA.1.trim_start_matches("port:").trim_start_matches("0x");
    if !IS_X86 {
        assert!(gdb.ask(&format!("m{device},4")).starts_with('E'));
        assert!(gdb.ask(&format!("M{device},4:21212121")).starts_with('E'));
    }
    assert_eq!(gdb.go_on(), "W00");
    let ended = running.finish();
    ended.assert(0, "HELLO from axvmm's guest");
    assert!(!ended.stdout.contains("!!!!"), "{ended:?}");
}

#[test]
fn a_devices_register_is_watched() {
    let dir = dir();
    let (running, mut gdb) = hello(dir.path());
    let (device, data) = DATA;
    let listed = gdb.monitor("devices");
    assert!(listed.contains(device), "{listed}");
    gdb.monitor(&format!("watch {data} write"));
    let told = "vCPU 0 wrote 0x48 (";
    assert_eq!(gdb.go_on(), "T05thread:01;");
    assert!(gdb.printed.contains(told) && gdb.printed.contains(device), "{}", gdb.printed);
    running.wait_for("H");
    let after = gdb.register(PC);
    assert!(gdb.monitor("why").contains(told));
    assert_eq!(gdb.go_on(), "T05thread:01;");
    assert!(gdb.printed.contains("wrote 0x65 ("), "{}", gdb.printed);
    assert_eq!(gdb.register(PC), after, "right behind the same instruction");
    assert_eq!(gdb.monitor("unwatch"), "1 removed\n");
    // The same by GDB's own packets, where the register is in memory.
    if let Some(addr) = data.strip_prefix("0x") {
        gdb.expect(&format!("Z2,{addr},1"), "OK");
        let stopped = gdb.go_on();
        let at = stopped.strip_prefix("T05thread:01;watch:").and_then(|it| it.strip_suffix(';'));
        let at = at.map(|it| it.trim_start_matches('0'));
        assert_eq!(at, Some(addr.trim_start_matches('0')), "{stopped}");
        assert!(gdb.printed.contains("wrote 0x6c ("), "{}", gdb.printed);
        gdb.expect(&format!("z2,{addr},1"), "OK");
    }
    gdb.monitor(&format!("watch {device} read"));
    let stopped = gdb.go_on();
    assert!(stopped.starts_with("T05") && gdb.printed.contains(" read 0x"), "{}", gdb.printed);
    for wrong in ["watch nobody", "watch 0x7000000000", "watch com1 sometimes", "frob"] {
        let told = gdb.monitor(wrong);
        assert!(told.contains("monitor") || told.contains("kind"), "{wrong}: {told}");
    }
    gdb.monitor("unwatch");
    assert_eq!(gdb.go_on(), "W00");
    running.finish().assert(0, "Hello from axvmm's guest");
}

#[test]
fn a_guest_is_interrupted_let_go_attached_again_and_killed() {
    let dir = dir();
    let (running, socket) = debugged(run_guest("stop", "spin"), dir.path());
    let mut gdb = Client::connect(&socket);
    gdb.send("vCont;c");
    running.wait_for("stop: spin");
    gdb.send_bytes(&[3]);
    assert_eq!(gdb.packet().unwrap(), "T02thread:01;");
    let at = gdb.register(PC);
    gdb.expect(&format!("Z{},{at:x},{BREAKPOINT}", breakpoint()), "OK");
    gdb.expect("D", "OK");
    // Detached, it runs on with no breakpoint, or there would be nothing to interrupt.
    for _ in 0..2 {
        let mut gdb = Client::connect(&socket);
        gdb.expect("?", "T05thread:01;");
        gdb.send("vCont;c");
        gdb.send_bytes(&[3]);
        assert_eq!(gdb.packet().unwrap(), "T02thread:01;");
        // Hangs up, and the guest stays as it is.
    }
    let mut gdb = Client::connect(&socket);
    gdb.expect("?", "T05thread:01;");
    gdb.send("k");
    assert_eq!(gdb.packet(), None);
    let ended = running.finish();
    ended.assert(128 + 9, "stop: spin").assert_tells(&["gdb has killed the guest"]);
}

#[test]
fn every_vcpu_is_a_thread() {
    let dir = dir();
    let mut command = run_guest("smp", "");
    command.args(["-n", "2"]);
    let (running, socket) = debugged(command, dir.path());
    let mut gdb = Client::connect(&socket);
    gdb.expect("qfThreadInfo", "m01,02");
    gdb.expect("qsThreadInfo", "l");
    gdb.expect("Hg2", "OK");
    gdb.ask("g");
    gdb.expect("Hg1", "OK");
    for _ in 0..10 {
        gdb.step(1);
    }
    let told = client::bytes(&gdb.ask("qThreadExtraInfo,2"));
    assert_eq!(told, b"vCPU 1");
    assert_eq!(gdb.go_on(), "W00");
    running.finish().assert(0, "2 cpus");
}

#[test]
fn a_guest_that_resets_itself_stops_before_its_first_instruction() {
    let dir = dir();
    let (running, socket) = debugged(run_guest("stop", WORDS.resets[0]), dir.path());
    let mut gdb = Client::connect(&socket);
    let entry = gdb.register(PC);
    gdb.step(1);
    assert_ne!(gdb.register(PC), entry);
    assert_eq!(gdb.go_on(), "T05thread:01;");
    assert!(gdb.printed.contains("the guest has reset itself"), "{}", gdb.printed);
    assert_eq!(gdb.register(PC), entry);
    gdb.send("k");
    running.finish().assert(137, "stop:");
}

#[test]
fn what_ends_a_guest_ends_it_under_a_debugger_as_well() {
    let dir = dir();
    // Nobody has come.
    let timeout = |mut command: Command| {
        command.args(["--timeout", "1s"]);
        command
    };
    let (running, _) = debugged(timeout(run_guest("hello", "")), dir.path());
    let ended = running.finish();
    assert!(ended.status == 124 && ended.stdout.is_empty(), "{ended:?}");
    // Somebody has, and does nothing; or has let it run.
    let (running, socket) = debugged(timeout(run_guest("stop", "spin")), dir.path());
    let mut gdb = Client::connect(&socket);
    gdb.expect("?", "T05thread:01;");
    assert_eq!(running.finish().status, 124);
    assert_eq!(gdb.packet(), None);
    let (running, socket) = debugged(timeout(run_guest("stop", "spin")), dir.path());
    assert_eq!(Client::connect(&socket).go_on(), "W7c");
    assert_eq!(running.finish().status, 124);
    // A signal, in any order.
    for runs in [false, true] {
        let (running, mut gdb) = stop("spin", dir.path());
        gdb.expect("?", "T05thread:01;");
        if runs {
            gdb.send("vCont;c");
            running.wait_for("stop: spin");
        }
        running.signal(Signal::SIGINT);
        assert_eq!(gdb.packet(), runs.then(|| "W82".to_owned()));
        let ended = running.finish();
        assert!(ended.status == 130 && ended.took < Duration::from_secs(60), "{ended:?}");
    }
    assert!(!dir.path().join("gdb").exists(), "the socket is taken away");
}

#[test]
fn it_does_not_have_to_wait() {
    let dir = dir();
    let mut command = run_guest("stop", "spin");
    command.arg("--gdb-no-wait");
    let (running, socket) = debugged(command, dir.path());
    running.wait_for("stop: spin");
    let mut gdb = Client::connect(&socket);
    gdb.expect("?", "T05thread:01;");
    let at = gdb.register(PC);
    assert_eq!(gdb.register(PC), at, "it is stopped");
    gdb.send("k");
    assert_eq!(running.finish().status, 137);
}

#[test]
fn bad_packets_hurt_nobody() {
    let dir = dir();
    let (running, socket) = debugged(run_guest("hello", ""), dir.path());
    let long = format!("M0,8000:{}", "00".repeat(0x8000));
    let bad = [
        "",
        "vCont;s",
        "vCont;c:p9.9;x",
        "vCont;s:ff",
        "Z9,0,0",
        "Z0,7000000000,1",
        "Z1,1,1",
        "z0,1,1",
        "Z2,0,ffffffffffffffff",
        "P",
        "P99999999=00",
        "G00",
        "Gzz",
        "p",
        "m",
        "m0,ffffffffffffffff",
        "M0,4:00",
        "M0,ffffffff:",
        "Hgffff",
        "T99",
        "qRcmd,zz",
        "qRcmd,",
        "qXfer:features:read:a:0,1",
        "qXfer:features:read:target.xml:ffffffffffffffff,ffffffffffffffff",
        "X0,4:ab",
        "vFile:open:2f",
        "!",
        "QStartNoAckMode",
        &long,
    ];
    for packet in bad {
        let mut gdb = Client::connect(&socket);
        gdb.send(packet);
        // Some are answered, and some end the session: both are right.
        gdb.send_bytes(&[3]);
        gdb.send("?");
        drop(gdb);
    }
    let mut gdb = Client::connect(&socket);
    gdb.send_bytes(b"$g#00$$$###}*\xff\x00----");
    drop(gdb);
    let mut gdb = Client::connect(&socket);
    gdb.expect("?", "T05thread:01;");
    assert_eq!(gdb.ask("g").len() % 2, 0);
    gdb.send("vCont;c");
    while gdb.packet().is_some_and(|packet| packet != "W00") {
        gdb.send("vCont;c");
    }
    running.finish().assert(0, "Hello from axvmm's guest").assert_tells(&[]);
}

#[test]
fn addresses_that_are_none_are_told() {
    for (wrong, told) in [
        ("notaport", "write a port, HOST:PORT, or a socket's path"),
        ("/nowhere/at/all", "cannot listen there"),
    ] {
        let ended = run(run_guest("hello", "").args(["--gdb", wrong]));
        ended.assert(35, "").assert_tells(&[told]);
    }
    let config = format!("configs/hello-{ARCH}.toml");
    let two = ["run", "--gdb", "0", "--config", &config, "--config", &config];
    let ended = run(common::axvmm().args(two).args(["--set", "base.name=one"]));
    ended.assert(35, "").assert_tells(&["--gdb"]);
}
