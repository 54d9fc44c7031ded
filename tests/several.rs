//! Several guests in one process: each with a console, an end and resets of its own. Over this
//! machine's own KVM, with tiny guests.

mod common;

use std::{
    fs,
    io::{Read, Write},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use common::{
    Finished, Running, WORDS, axvmm, full_pipe, guest, on_terminal::OnTerminal, run, start,
    wait_until,
};
use nix::{
    pty::openpty,
    sys::{
        signal::{Signal, kill},
        termios::tcgetattr,
    },
    unistd::Pid,
};
use serde_json::Value;

const ECHO: &str = "console-echo";
const STOP: &str = "stop";
const HELLO: &str = "hello";
const CTRL_A: &str = "\x01";

/// Enough for two guests to get going; other hosts than PCs are emulated.
const A_WHILE: &str = if cfg!(target_arch = "x86_64") { "5s" } else { "15s" };

/// Configurations in a directory of their own.
struct Files {
    dir: tempfile::TempDir,
    files: Vec<PathBuf>,
}

impl Files {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), files: Vec::new() }
    }

    /// Adds a guest whose file is called after it.
    fn add(mut self, name: &str, kernel: &str, cmdline: &str) -> Self {
        let text = format!(
            "[kernel]\nkernel_path = {:?}\ncmdline = {cmdline:?}\nmemory = \"16M\"\n",
            guest(kernel).canonicalize().unwrap()
        );
        self.files.push(self.path(&format!("{name}.toml")));
        fs::write(self.files.last().unwrap(), text).unwrap();
        self
    }

    /// Adds lines to the `[base]` table of the guest that was added last.
    fn with(self, base: &str) -> Self {
        let file = self.files.last().unwrap();
        let text = fs::read_to_string(file).unwrap();
        fs::write(file, format!("[base]\n{base}\n{text}")).unwrap();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `axvmm COMMAND --config A --config B …`.
    fn command(&self, command: &str) -> Command {
        let mut axvmm = axvmm();
        axvmm.arg(command);
        for file in &self.files {
            axvmm.arg("--config").arg(file);
        }
        axvmm
    }

    fn run(&self, args: &[&str]) -> Finished {
        run(self.command("run").args(args))
    }

    /// Runs with a result file, which is given back.
    #[track_caller]
    fn result(&self, args: &[&str], status: i32) -> (Finished, Value) {
        let file = self.path("result.json");
        let mut command = self.command("run");
        let ended = run(command.args(args).arg("--result-file").arg(&file));
        ended.assert(status, "");
        (ended, serde_json::from_slice(&fs::read(&file).unwrap()).unwrap())
    }
}

/// A guest that echoes lines, and one that does what `word` says.
fn echo_and(word: &str) -> Files {
    Files::new().add("a", ECHO, "").add("b", STOP, word)
}

/// What a guest printed, of an output with prefixes. One that the host holds up in the midst of a line
/// has it cut by another's: with no carriage return, as the guests of the tests have one.
fn printed(output: &str, name: &str) -> String {
    let prefix = format!("[{name}] ");
    let pieces = output.split_inclusive('\n').filter_map(|line| line.strip_prefix(&prefix));
    let whole = |piece: &str| piece.ends_with("\r\n");
    pieces.map(|it| if whole(it) { it } else { it.trim_end_matches('\n') }).collect()
}

/// Waits until a guest has printed this.
#[track_caller]
fn wait_for(running: &Running, name: &str, wanted: &str) {
    running.wait_until(&format!("{wanted:?} of {name}"), |all| printed(all, name).contains(wanted));
}

// Ends.

#[test]
fn each_guest_runs_to_its_own_end_and_all_are_told() {
    let files = Files::new().add("a", HELLO, "").add("b", HELLO, "").add("c", STOP, "poweroff");
    let ended = files.run(&[]);
    ended.assert(0, "").assert_tells(&["axvmm: [a] the guest powered off", "[b] ", "[c] "]);
    for name in ["a", "b"] {
        assert_eq!(printed(&ended.stdout, name), "Hello from axvmm's guest\r\n", "{ended:#?}");
    }
    assert_eq!(printed(&ended.stdout, "c"), "stop: poweroff\r\n");
    let is_ones = |line: &str| ["[a] ", "[b] ", "[c] "].iter().any(|it| line.starts_with(it));
    assert!(ended.stdout.lines().all(is_ones), "{ended:#?}");
}

#[test]
fn the_others_run_on_when_one_crashes_or_panics_or_powers_off() {
    let ends =
        [(WORDS.crash, 33, "crashed: vCPU 0"), ("panic", 34, "panicked"), ("poweroff", 0, "off")];
    for (word, status, told) in ends {
        let files = echo_and(word);
        let mut running = start(files.command("run").stdin(Stdio::piped()));
        wait_for(&running, "a", "console-echo: ready");
        running.wait_until_told(&format!(
            "axvmm: [b] the guest {}",
            if status == 0 { "powered" } else { told }
        ));
        let lines: String = (0..50).map(|i| format!("line {i}\n")).collect();
        running.type_in(&lines);
        wait_for(&running, "a", "LINE 49");
        running.type_in("quit\n");
        let ended = running.finish();
        ended.assert(status, "").assert_tells(&["axvmm: [a] the guest powered off", told]);
        let text = printed(&ended.stdout, "a").replace('\r', "");
        assert_eq!(text, format!("console-echo: ready\n{}QUIT\n", lines.to_uppercase()));
        assert_eq!(printed(&ended.stdout, "b"), format!("stop: {word}\r\n"));
    }
}

#[test]
fn the_worst_end_gives_the_status() {
    let statuses = [("poweroff", 0), ("panic", 34), (WORDS.crash, 33)];
    for (i, (worse, status)) in statuses.into_iter().enumerate() {
        for (better, _) in &statuses[..i] {
            let files = Files::new().add("a", STOP, worse).add("b", STOP, better);
            files.run(&[]).assert(status, "");
            let files = Files::new().add("a", STOP, better).add("b", STOP, worse);
            files.run(&[]).assert(status, "");
        }
    }
    if let Some((word, status)) = WORDS.exit {
        Files::new().add("a", STOP, "poweroff").add("b", STOP, word).run(&[]).assert(status, "");
        Files::new().add("a", STOP, "panic").add("b", STOP, word).run(&[]).assert(34, "");
    }
    let reset = Files::new().add("a", STOP, WORDS.resets[0]).add("b", STOP, "poweroff");
    reset.run(&["--no-reboot"]).assert(32, "").assert_tells(&["[a] the guest reset the machine"]);
}

#[test]
fn the_time_is_up_for_all_at_once() {
    let files =
        Files::new().add("a", STOP, "halt").add("b", STOP, "spin").add("c", STOP, "poweroff");
    let ended = files.run(&["--timeout", A_WHILE]);
    ended.assert(124, "[a] stop: halt").assert(124, "[b] stop: spin");
    ended.assert_tells(&["the time allowed was up", "[c] the guest powered off"]);
    assert_eq!(ended.stderr.matches("time allowed").count(), 1, "{ended:#?}");
}

#[test]
fn signals_end_all() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let files = Files::new().add("a", STOP, "halt").add("b", STOP, "spin");
        let running = start(&mut files.command("run"));
        wait_for(&running, "a", "stop: halt");
        wait_for(&running, "b", "stop: spin");
        running.signal(signal);
        let ended = running.finish();
        ended.assert(128 + signal as i32, "");
        assert_eq!(ended.stderr.matches("ended by signal").count(), 1, "{ended:#?}");
    }
}

#[test]
fn the_result_file_has_each_guest() {
    let files = Files::new()
        .add("a", STOP, "panic")
        .with("id = 7")
        .add("b", STOP, WORDS.crash)
        .add("c", HELLO, "");
    let (_, result) = files.result(&[], 33);
    assert_eq!(result["status"], 33);
    assert!(result["time"].as_f64().unwrap() > 0.0, "{result}");
    let vms = result["vms"].as_array().unwrap();
    let told: Vec<_> = vms
        .iter()
        .map(|vm| {
            (
                vm["id"].as_u64().unwrap(),
                vm["name"].as_str().unwrap(),
                &vm["reason"],
                &vm["status"],
                &vm["vcpu"],
            )
        })
        .collect();
    let null = Value::Null;
    let [panic, fault, shutdown] = ["panic", "fault", "shutdown"].map(Value::from);
    let expect = [
        (7, "a", &panic, &34.into(), &null),
        (1, "b", &fault, &33.into(), &0.into()),
        (2, "c", &shutdown, &0.into(), &null),
    ];
    assert_eq!(told, expect, "{result}");
    for vm in vms {
        assert!(vm["exits"][0]["total"].as_u64().unwrap() > 10, "{vm}");
        assert_eq!((&vm["reboots"], &vm["console_dropped"]), (&0.into(), &0.into()));
        assert!(vm["message"].as_str().unwrap().starts_with("the guest"), "{vm}");
    }
}

// Resets.

/// The process's threads, by their names.
fn threads(pid: i32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    let mut names: Vec<_> = tasks.filter_map(|task| name(task.ok()?)).collect();
    names.iter_mut().for_each(|name| *name = name.trim().to_owned());
    names.sort();
    names
}

#[test]
fn each_vm_has_its_own_threads() {
    let files =
        Files::new().add("a", STOP, "spin").add("b", STOP, "halt").with("id = 5\ncpu_num = 2");
    let running = start(&mut files.command("run"));
    wait_for(&running, "a", "stop: spin");
    wait_for(&running, "b", "stop: halt");
    // A thread has its name when it has begun, and until then that of the one that made it.
    wait_until("each vCPU has its thread", || {
        let names = threads(running.pid());
        let vcpus = names.iter().filter(|name| name.starts_with("VM["));
        vcpus.eq(["VM[1]-VCpu[0]", "VM[5]-VCpu[0]", "VM[5]-VCpu[1]"])
    });
    running.signal(Signal::SIGTERM);
    running.finish().assert(143, "");
}

/// The memory that a process has now, in KiB.
fn memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[test]
fn one_that_resets_itself_again_and_again_leaks_nothing_beside_one_that_runs() {
    let configs = echo_and(WORDS.resets[0]);
    let mut running = start(configs.command("run").stdin(Stdio::piped()));
    let pid = running.pid();
    let files = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let line = format!("[b] stop: {}\r\n", WORDS.resets[0]);
    wait_for(&running, "a", "console-echo: ready");
    running.wait_for_times(&line, 20);
    let before = (files(), threads(pid).len(), memory(pid));
    for round in 1..=4 {
        running.wait_for_times(&line, 20 + 25 * round);
        running.type_in(&format!("steady {round}\n"));
        wait_for(&running, "a", &format!("STEADY {round}"));
    }
    // One may be in the midst of a start.
    let after = (files(), threads(pid).len(), memory(pid));
    assert!(after.0 <= before.0 + 8, "{before:?} became {after:?}");
    assert!(after.1 <= before.1 + 3, "{before:?} became {after:?}");
    assert!(after.2 <= before.2 + (8 << 10), "{before:?} became {after:?}");
    running.type_in("quit\n");
    running.wait_until_told("[a] the guest powered off");
    running.signal(Signal::SIGTERM);
    let ended = running.finish();
    ended.assert(143, "").assert_tells(&["[b] the guest reset itself", "reboot 1"]);
    assert!(ended.stderr.lines().count() < 40, "{ended:#?}");
    assert_eq!(ended.stdout.matches("console-echo: ready").count(), 1, "{ended:#?}");
}

// The console with prefixes.

#[test]
fn lines_of_guests_that_print_at_once_are_never_mixed() {
    let files =
        Files::new().add("a", STOP, "flood").add("b", STOP, "flood").add("c", STOP, "flood");
    let ended = files.run(&["--timeout", A_WHILE]);
    ended.assert(124, "");
    let lines: Vec<_> = ended.stdout.split_inclusive('\n').collect();
    for name in ["a", "b", "c"] {
        let whole = format!("[{name}] stop: flood, and more of it\r\n");
        let count = lines.iter().filter(|line| **line == whole).count();
        assert!(count > 20, "{count} lines of {name}");
    }
    // A guest that the host holds up for long in the midst of a line has it cut; the end cuts, too.
    for line in &lines[..lines.len() - 1] {
        let text = line.strip_prefix('[').and_then(|line| line.split_once("] ")).expect(line).1;
        let text = text.trim_end();
        let known =
            ["stop: flood, and more of it", "stop: flood"].iter().any(|it| it.contains(text));
        assert!(known, "{line:?}");
    }
}

#[test]
fn what_is_piped_in_is_for_the_first() {
    let files = Files::new().add("a", ECHO, "").add("b", ECHO, "");
    let mut running = start(files.command("run").stdin(Stdio::piped()));
    wait_for(&running, "b", "console-echo: ready");
    running.type_in("one\n\x012\nquit\n");
    running.wait_until_told("[a] the guest powered off");
    running.signal(Signal::SIGTERM);
    let ended = running.finish();
    ended.assert(143, "[a] ONE");
    assert_eq!(printed(&ended.stdout, "b"), "console-echo: ready\r\n");
    assert_eq!(printed(&ended.stdout, "a"), "console-echo: ready\r\nONE\r\n\x012\r\nQUIT\r\n");
}

#[test]
fn keys_go_to_the_selected_one_with_prefixes_as_well() {
    let files = Files::new().add("a", ECHO, "").add("b", ECHO, "").add("c", STOP, "halt");
    let mut on = OnTerminal::start(files.command("run"));
    for name in ["a", "b"] {
        wait_for(&on.running, name, "console-echo: ready");
    }
    on.type_in("first\n");
    wait_for(&on.running, "a", "FIRST");
    // In one piece: what follows is for the other one already.
    on.type_in(&format!("{CTRL_A}2second\n{CTRL_A}1third\n"));
    wait_for(&on.running, "b", "SECOND");
    wait_for(&on.running, "a", "THIRD");
    on.type_in(&format!("{CTRL_A}9{CTRL_A}h"));
    on.running.wait_until_told("there is no guest 9: 3 is the last");
    on.running.wait_until_told("Ctrl-A 2       the keys go to [b]");
    // When it ends, the keys go to the next one that runs.
    on.type_in("quit\n");
    on.running.wait_until_told("[a] the guest powered off\naxvmm: the keys go to [b]\n");
    on.type_in("fourth\n");
    wait_for(&on.running, "b", "FOURTH");
    on.type_in(&format!("{CTRL_A}x"));
    on.finish().assert(130, "").assert_tells(&["[a] the guest powered off", "quit at the console"]);
}

#[test]
fn a_signal_ends_guests_whose_output_nobody_reads() {
    for style in ["prefix", "switch"] {
        let files = Files::new().add("a", STOP, "flood").add("b", STOP, "flood");
        let (_reader, writer) = full_pipe();
        let mut command = files.command("run");
        command.args(["--console", style]).stdout(writer).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let pid = child.id() as i32;
        // In the midst of it: both vCPUs, the main thread and the one that writes.
        wait_until("the guests print", || threads(pid).len() >= 4);
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        let started = Instant::now();
        assert_eq!(child.wait().unwrap().code(), Some(143), "{style}");
        assert!(started.elapsed() < Duration::from_secs(20), "{style}: {:?}", started.elapsed());
    }
}

// The console that is switched.

#[test]
fn one_guest_is_shown_at_a_time() {
    let files = Files::new().add("a", ECHO, "").add("b", ECHO, "").add("c", STOP, "poweroff");
    let mut command = files.command("run");
    command.args(["--console", "switch"]);
    let mut on = OnTerminal::start(command);
    on.running.wait_for("axvmm: showing [a], 1 of 3");
    on.running.wait_for("console-echo: ready");
    on.type_in("first\n");
    on.running.wait_for("FIRST\r\n");
    on.running.wait_until_told("[c] the guest powered off");
    on.type_in(&format!("{CTRL_A}3"));
    on.running.wait_for("axvmm: showing [c], 3 of 3, which has ended\nstop: poweroff\r\n");
    on.type_in(&format!("{CTRL_A}2second\n"));
    on.running.wait_for("showing [b], 2 of 3\nconsole-echo: ready\r\nSECOND\r\n");
    // While b is shown, a goes on.
    on.type_in(&format!("{CTRL_A}1third\n{CTRL_A}2fourth\n"));
    on.running.wait_for("FOURTH\r\n");
    on.type_in(&format!("{CTRL_A}1"));
    on.running.wait_for_times("showing [a]", 3);
    on.running.wait_for("THIRD\r\n");
    on.type_in("quit\n");
    // The next one that runs is shown then.
    on.running.wait_for_times("showing [b], 2 of 3", 3);
    on.type_in("quit\n");
    let ended = on.finish();
    ended.assert(0, "QUIT").assert_tells(&["[a] the guest powered off", "[b] the guest"]);
    assert!(!ended.stdout.contains("[a] "), "{ended:#?}");
}

#[test]
fn what_was_never_shown_is_shown_at_the_end_and_no_more_than_the_latest() {
    let files = Files::new().add("a", ECHO, "").add("b", HELLO, "").add("c", STOP, "flood");
    let mut command = files.command("run");
    let mut running = start(command.args(["--console", "switch"]).stdin(Stdio::piped()));
    running.wait_for("console-echo: ready");
    running.wait_until_told("[b] the guest powered off");
    running.type_in("quit\n");
    running.wait_until_told("[a] the guest powered off");
    running.signal(Signal::SIGTERM);
    // Who is in a hurry is not kept waiting by that.
    running.finish().assert(143, "QUIT");

    let files = Files::new().add("a", HELLO, "").add("b", STOP, "panic");
    let ended = files.run(&["--console", "switch"]);
    ended.assert(34, "axvmm: what [b] has printed unseen:\nstop: panic\r\n");
}

#[test]
fn on_a_terminal_guests_are_switched_and_it_is_as_it_was_after_every_end() {
    for end in ["key", "signal"] {
        let files = Files::new().add("a", ECHO, "").add("b", ECHO, "");
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let slave = || pty.slave.try_clone().unwrap();
        let mut command = files.command("run");
        let mut child = command.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
        let mut keyboard = fs::File::from(pty.master);
        let screen = watch(keyboard.try_clone().unwrap());
        let shows = |wanted: &str| {
            wait_until(wanted, || screen.lock().unwrap().contains(wanted));
        };
        shows("showing [a], 1 of 2: Ctrl-A 2");
        shows("console-echo: ready");
        keyboard.write_all(format!("{CTRL_A}2over there\n").as_bytes()).unwrap();
        shows("showing [b], 2 of 2\r\n");
        shows("OVER THERE");
        match end {
            "key" => keyboard.write_all(format!("{CTRL_A}x").as_bytes()).unwrap(),
            _ => kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap(),
        }
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert_eq!(tcgetattr(&pty.slave).unwrap(), before, "{end}");
    }
}

/// What a terminal shows, as it grows.
fn watch(mut terminal: fs::File) -> Arc<Mutex<String>> {
    let shown = Arc::new(Mutex::new(String::new()));
    let seen = shown.clone();
    thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = terminal.read(&mut buffer) {
            seen.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    });
    shown
}

// What keeps them from running.

/// Nothing runs, and all of it is told.
#[track_caller]
fn refused(files: &Files, tells: &[&str]) {
    for command in ["run", "check"] {
        let ended = run(&mut files.command(command));
        ended.assert(35, "").assert_tells(tells);
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn ids_and_names_that_clash_are_told_with_both_files() {
    let two = || Files::new().add("a", HELLO, "").with("id = 3").add("b", HELLO, "");
    let (a, b) = ("a.toml", "b.toml: ");
    refused(&two().with("id = 3"), &[a, b, "base.id is 3", "write another base.id"]);
    refused(
        &two().with("name = \"a\""),
        &[a, b, "the VM's name is \"a\"", "write another base.name"],
    );
    let mut twice = two();
    twice.files[1] = twice.files[0].clone();
    refused(&twice, &["base.id is 3", "given more than once"]);
}

#[test]
fn the_same_file_twice_is_two_guests() {
    let mut files = Files::new().add("a", HELLO, "");
    files.files.push(files.files[0].clone());
    let (ended, result) = files.result(&[], 0);
    for name in ["a", "a-2"] {
        assert_eq!(printed(&ended.stdout, name), "Hello from axvmm's guest\r\n", "{ended:#?}");
    }
    let vms = &result["vms"];
    assert_eq!(
        (&vms[0]["id"], &vms[1]["id"], &vms[1]["name"]),
        (&1.into(), &2.into(), &"a-2".into())
    );
}

#[test]
fn nothing_starts_if_one_cannot_be_built_and_all_problems_are_told() {
    let files = Files::new().add("a", HELLO, "").add("b", HELLO, "").add("c", HELLO, "");
    fs::write(&files.files[1], "[kernel]\nkernel_pth = \"x\"\n").unwrap();
    fs::write(&files.files[2], "[kernel]\nkernel_path = \"/nonexistent\"\n").unwrap();
    refused(&files, &["b.toml:2:1: ", "c.toml:2:15: ", "/nonexistent"]);

    // What is wrong with a kernel is found later.
    fs::write(files.path("empty"), "").unwrap();
    fs::write(&files.files[2], "[kernel]\nkernel_path = \"empty\"\n").unwrap();
    refused(&files, &["b.toml:2:1: ", "[c] ", "empty"]);
    let (_, result) = files.result(&[], 35);
    assert_eq!((&result["reason"], &result["status"]), (&"config".into(), &35.into()));

    let files = Files::new().add("a", HELLO, "").add("b", HELLO, "");
    let ended = run(files.command("run").env("AXVMM_KVM_DEVICE", "/dev/null"));
    ended.assert(37, "").assert_tells(&["/dev/null"]);
    assert_eq!(ended.stdout, "");
}

#[test]
fn a_key_that_is_set_is_set_in_each_and_told_once_if_it_is_wrong() {
    let files = Files::new().add("a", STOP, "halt").add("b", STOP, "halt");
    files.run(&["--set", "kernel.cmdline=\"poweroff\""]).assert(0, "[b] stop: poweroff");
    let ended = files.run(&["--set", "base.memroy=1G"]);
    ended.assert(35, "").assert_tells(&["--set"]);
    assert_eq!(ended.stderr.matches("memroy").count(), 2, "{ended:#?}"); // and where it stands
}

#[test]
fn options_of_a_guest_without_a_file_are_for_one_guest_only() {
    let files = Files::new().add("a", HELLO, "").add("b", HELLO, "");
    for args in [&["-m", "1G"][..], &["-c", "x"], &["-n", "2"], &["-i", "x"], &["-k", "x"]] {
        files.run(args).assert(35, "").assert_tells(&["cannot be used with", "--config"]);
    }
}

#[test]
fn check_prints_each_plan() {
    let files = Files::new().add("a", HELLO, "").add("b", HELLO, "").with("id = 9");
    let text = run(&mut files.command("check"));
    text.assert(0, "machine   a: ").assert(0, "machine   b: ").assert(0, "VM        9\n");
    let json = run(files.command("check").arg("--json"));
    let plans: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&plans[0]["id"], &plans[1]["id"]), (&1.into(), &9.into()));
    assert_eq!((&plans[0]["name"], &plans[1]["name"]), (&"a".into(), &"b".into()));
}

#[test]
fn a_guest_that_is_alone_has_the_console_to_itself() {
    let files = Files::new().add("a", HELLO, "");
    for style in ["prefix", "switch"] {
        let ended = files.run(&["--console", style]);
        assert_eq!(ended.assert(0, "").stdout, "Hello from axvmm's guest\r\n");
        assert_eq!(ended.stderr, "");
    }
}
