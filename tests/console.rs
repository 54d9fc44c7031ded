//! The console and the end of a run, as a user meets them: stdin and stdout of every kind, keys,
//! signals, resets. Over this machine's own KVM, with tiny guests.
#![cfg(target_arch = "x86_64")]

mod common;

use std::{
    fs,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{Running, axvmm, guest, root, run, run_guest, start};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    pty::openpty,
    sys::{
        signal::Signal,
        termios::{LocalFlags, Termios, tcgetattr},
    },
};
use serde_json::Value;

const ECHO: &str = "console-echo-x86_64.elf";
const STOP: &str = "stop-x86_64.elf";
const HELLO: &str = "hello-x86_64.elf";
const CTRL_A: &str = "\x01";

/// A limit for what is waited for.
const LIMIT: Duration = Duration::from_secs(120);

#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < LIMIT, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The console-echo guest, started and ready, with a pipe to type into.
fn echo() -> Running {
    let running = start(run_guest(ECHO, "").stdin(Stdio::piped()));
    running.wait_for("console-echo: ready");
    running
}

/// A pipe, with its end to write to.
fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe().unwrap()
}

/// A pipe that takes nothing more: whoever writes to it waits. The reading end must be kept.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = pipe();
    fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while nix::unistd::write(&writer, &[b'.'; 4096]).is_ok() {}
    fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, writer)
}

/// The most memory that a process has had, in KiB; 0 when it has ended.
fn peak_memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

/// Waits for the end and gives the result file, with the most memory seen on the way.
fn result_of(command: &mut Command, status: i32) -> (Value, u64) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("result.json");
    let mut child = command.arg("--result-file").arg(&file).spawn().unwrap();
    let pid = child.id() as i32;
    let mut peak = 0;
    let started = Instant::now();
    let ended = loop {
        peak = peak.max(peak_memory(pid));
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        assert!(started.elapsed() < LIMIT, "never ended");
        thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(ended.code(), Some(status));
    (serde_json::from_slice(&fs::read(&file).unwrap()).unwrap(), peak)
}

// Output.

#[test]
fn what_the_guest_prints_comes_out_unaltered() {
    let finished = run(&mut run_guest(HELLO, ""));
    assert_eq!((finished.status, finished.stdout.as_str()), (0, "Hello from axvmm's guest\r\n"));
    assert_eq!(finished.stderr, "");
}

#[test]
fn the_guest_runs_on_when_stdout_takes_nothing() {
    for path in ["/dev/full", "/dev/null"] {
        let mut command = run_guest(HELLO, "");
        let full = fs::OpenOptions::new().write(true).open(path).unwrap();
        let output = command.stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        let told = String::from_utf8(output.stderr).unwrap();
        let expect = if path == "/dev/full" { 1 } else { 0 };
        assert_eq!(told.matches("output is dropped").count(), expect, "{told}");
    }
}

#[test]
fn the_guest_runs_on_when_the_reader_of_stdout_has_gone() {
    let (reader, writer) = pipe();
    drop(reader);
    let mut command = run_guest(ECHO, "");
    let lines = "many words\n".repeat(20) + "quit\n";
    let mut child =
        command.stdin(Stdio::piped()).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert_eq!(told.matches("output is dropped").count(), 1, "{told}");
}

#[test]
fn closed_standard_files_are_like_none() {
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let program = axvmm().get_program().to_str().unwrap().to_owned();
        let script = format!("exec {program} run -k {} -m 16M {closed}", guest(HELLO).display());
        run(Command::new("sh").current_dir(root()).args(["-c", &script])).assert(0, "");
    }
}

#[test]
fn a_flood_that_nobody_reads_is_dropped_and_counted() {
    let (_reader, writer) = full_pipe();
    let mut command = run_guest(STOP, "flood");
    command.args(["--timeout", "4s"]).stdout(writer).stderr(Stdio::null());
    let (result, peak) = result_of(&mut command, 124);
    assert_eq!(result["reason"], "timeout");
    // More than all buffers: the guest went on printing.
    let printed = result["exits"][0]["total"].as_u64().unwrap();
    let dropped = result["console_dropped"].as_u64().unwrap();
    assert!(dropped > 64 << 10 && printed > dropped, "{result}");
    assert!(peak < 64 << 10, "{peak} KiB");
}

#[test]
fn a_stderr_that_nobody_reads_holds_nothing_up() {
    let (_reader, writer) = full_pipe();
    let mut command = run_guest("wild-x86_64.elf", "");
    let output = command.stderr(writer).stdout(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn what_was_printed_before_a_crash_comes_before_the_message() {
    let (reader, writer) = pipe();
    let mut command = run_guest(STOP, "triple");
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut text = String::new();
    fs::File::from(reader).read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(33));
    let printed = text.find("stop: triple").expect(&text);
    let told = text.find("axvmm: the guest crashed: vCPU 0: triple fault").expect(&text);
    assert!(printed < told, "{text}");
}

// Input.

#[test]
fn the_end_of_a_pipe_is_not_the_end_of_the_guest() {
    let (reader, writer) = pipe();
    nix::unistd::write(&writer, b"first\n").unwrap();
    drop(writer);
    let running = start(run_guest(ECHO, "").stdin(reader));
    running.wait_for("FIRST");
    running.signal(Signal::SIGTERM);
    running.finish().assert(143, "ready").assert_tells(&["signal 15"]);
}

#[test]
fn a_file_is_read_to_its_end() {
    for guest in [ECHO, "serial-irq-x86_64.elf"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("input");
        // Many times what any FIFO or chunk holds.
        let lines: String = (0..200).map(|i| format!("line {i}\n")).collect();
        fs::write(&path, lines.clone() + "quit\n").unwrap();
        let finished = run(run_guest(guest, "").stdin(fs::File::open(&path).unwrap()));
        finished.assert(0, "");
        let printed = finished.stdout.replace('\r', "");
        assert!(printed.contains(&lines.to_uppercase()), "{finished:#?}");
    }
}

#[test]
fn a_pipe_that_comes_in_pieces_is_read_as_it_comes() {
    let mut running = echo();
    for i in 0..50 {
        running.type_in(&format!("{i} {}\n", "x".repeat(i * 4)));
        running.wait_for(&format!("{i} {}\r\n", "X".repeat(i * 4)));
    }
    // What is a command on a terminal is input here.
    running.type_in("\x01x\n");
    running.wait_for("\x01X");
    running.type_in("quit\n");
    running.finish().assert(0, "");
}

#[test]
fn input_that_the_guest_never_reads_costs_nothing() {
    let zero = fs::File::open("/dev/zero").unwrap();
    let mut command = run_guest(STOP, "halt");
    command.args(["--timeout", "1s"]).stdin(zero).stdout(Stdio::null()).stderr(Stdio::null());
    let (_, peak) = result_of(&mut command, 124);
    assert!(0 < peak && peak < 64 << 10, "{peak} KiB");

    let (reader, writer) = pipe();
    fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let running = start(run_guest(STOP, "halt").stdin(reader));
    running.wait_for("stop: halt");
    let mut taken = 0;
    let mut refused = 0;
    // It is read as far as it ever will be when the pipe stays full.
    while refused < 200 {
        match nix::unistd::write(&writer, &[b'x'; 512]) {
            Ok(n) => (taken, refused) = (taken + n, 0),
            Err(_) => refused += 1,
        }
        thread::sleep(Duration::from_millis(1));
    }
    assert!(taken < 128 << 10, "{taken} bytes of a pipe that holds 64 KiB");
    running.signal(Signal::SIGTERM);
    running.finish().assert(143, "");
}

#[test]
fn a_stdin_that_cannot_be_read_is_no_input() {
    let null = fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
    run(run_guest(HELLO, "").stdin(null)).assert(0, "Hello");
    let (_reader, writer) = pipe();
    let running = start(run_guest(ECHO, "").stdin(writer));
    running.wait_for("ready");
    running.signal(Signal::SIGTERM);
    running.finish().assert(143, "");
}

// A terminal.

/// A guest whose stdin is a terminal, and that terminal.
struct OnTerminal {
    running: Running,
    keyboard: fs::File,
    terminal: OwnedFd,
    before: Termios,
}

impl OnTerminal {
    fn start(file: &str, cmdline: &str) -> Self {
        Self::start_command(run_guest(file, cmdline))
    }

    fn start_command(mut command: Command) -> Self {
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let stdin = pty.slave.try_clone().unwrap();
        let running = start(command.stdin(stdin));
        let on = Self { running, keyboard: pty.master.into(), terminal: pty.slave, before };
        on.wait_until_raw(true);
        on
    }

    #[track_caller]
    fn wait_until_raw(&self, raw: bool) {
        wait_until("the terminal changes", || {
            let flags = tcgetattr(&self.terminal).unwrap().local_flags;
            flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG) != raw
        });
    }

    fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the end, at which the terminal must be as it was.
    #[track_caller]
    fn finish(self) -> common::Finished {
        let finished = self.running.finish();
        assert_eq!(tcgetattr(&self.terminal).unwrap(), self.before, "{finished:#?}");
        finished
    }
}

#[test]
fn keys_on_a_terminal_go_to_the_guest_and_some_to_axvmm() {
    let mut on = OnTerminal::start(ECHO, "");
    on.running.wait_for("ready");
    on.type_in("typed\n");
    on.running.wait_for("TYPED");
    // Ctrl-C and Ctrl-Z are the guest's.
    on.type_in("a\x03b\x1ac\n");
    on.running.wait_for("A\x03B\x1aC");
    on.type_in(&format!("{CTRL_A}ad{CTRL_A}{CTRL_A}e{CTRL_A}zf{CTRL_A}hg\n"));
    on.running.wait_for("\x01D\x01EFG");
    on.type_in(&format!("{CTRL_A}x"));
    on.finish().assert(130, "").assert_tells(&["Ctrl-A x", "quit at the console"]);
}

#[test]
fn ctrl_alt_del_is_pressed_on_the_guests_keyboard() {
    #[rustfmt::skip]
    let code = [
        0xb0, 0x60, 0xe6, 0x64, // write the keyboard controller's configuration:
        0xb0, 0x41, 0xe6, 0x60, // scan code set 1, interrupt
        0xb0, 0xf4, 0xe6, 0x60, // enable the keyboard
        0xb0, b'R', 0xe6, 0xe9, // print
        0xe4, 0x64, 0xa8, 0x01, // is there a byte?
        0x74, 0xfa,
        0xe4, 0x60, 0x3c, 0x53, // is it Del?
        0x75, 0xf4,
        0xe6, 0xf4,             // end with 2 * 0x53 + 1
        0xf4,
    ];
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("code.bin"), code).unwrap();
    let file = dir.path().join("guest.toml");
    let text = "kernel_path = \"code.bin\"\nkernel_load_addr = 0x8000\nentry_point = 0x8000\n";
    fs::write(&file, format!("[kernel]\nmemory = \"16M\"\n{text}")).unwrap();
    let mut command = axvmm();
    command.args(["run", "--config"]).arg(&file);
    let mut on = OnTerminal::start_command(command);
    on.running.wait_for("R");
    on.type_in(&format!("{CTRL_A}d"));
    on.finish().assert(2 * 0x53 + 1, "R");
}

#[test]
fn a_guest_that_does_not_read_its_keyboard_is_told_of() {
    let mut on = OnTerminal::start(ECHO, "");
    on.running.wait_for("ready");
    on.type_in(&format!("{CTRL_A}dquit\n"));
    on.finish().assert(0, "QUIT").assert_tells(&["no Ctrl-Alt-Del"]);
}

#[test]
fn a_guest_that_never_listens_can_be_quit() {
    for word in ["spin", "halt", "flood"] {
        let mut on = OnTerminal::start(STOP, word);
        on.running.wait_for(&format!("stop: {word}"));
        on.type_in(&"x".repeat(1000));
        on.type_in(&format!("{CTRL_A}x"));
        on.finish().assert(130, "");
    }
}

#[test]
fn every_end_leaves_the_terminal_as_it_was() {
    for (word, status) in [("poweroff", 0), ("triple", 33), ("panic", 34), ("exit=3", 7)] {
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let stdin = pty.slave.try_clone().unwrap();
        run(run_guest(STOP, word).stdin(stdin)).assert(status, "stop: ");
        assert_eq!(tcgetattr(&pty.slave).unwrap(), before, "{word}");
    }
}

#[test]
fn signals_end_the_run_with_their_status_and_the_terminal_as_it_was() {
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGALRM,
        // Those that one dies of on the spot.
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGABRT,
    ] {
        for word in ["spin", "halt"] {
            let on = OnTerminal::start(STOP, word);
            on.running.wait_for(&format!("stop: {word}"));
            on.running.signal(signal);
            on.finish().assert(128 + signal as i32, "");
        }
    }
}

#[test]
fn a_signal_ends_a_guest_whose_output_nobody_reads() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (_reader, writer) = full_pipe();
        let mut command = run_guest(STOP, "flood");
        let mut child = command.stdout(writer).stderr(Stdio::null()).spawn().unwrap();
        let pid = child.id() as i32;
        // In the midst of it: the vCPU's thread has begun to spend time.
        wait_until("the guest prints", || {
            fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|tasks| tasks.count() >= 3)
        });
        let sent = Instant::now();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
        let ended = child.wait().unwrap();
        assert_eq!(ended.code(), Some(128 + signal as i32));
        assert!(sent.elapsed() < Duration::from_secs(20), "{:?}", sent.elapsed());
    }
}

#[test]
fn an_ignored_signal_stays_ignored() {
    let program = axvmm().get_program().to_str().unwrap().to_owned();
    let script = format!("trap '' HUP; exec {program} run -k {} -m 16M", guest(ECHO).display());
    let mut command = Command::new("sh");
    command.current_dir(root()).args(["-c", &script]).stdin(Stdio::piped());
    let mut running = start(&mut command);
    running.wait_for("ready");
    running.signal(Signal::SIGHUP);
    running.signal(Signal::SIGPIPE);
    running.signal(Signal::SIGWINCH);
    running.type_in("still here\nquit\n");
    running.finish().assert(0, "STILL HERE");
}

/// The processor time that a process or thread has spent, in ticks of 10 ms.
fn ticks(stat: &str) -> u64 {
    let stat = fs::read_to_string(stat).unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    [11, 12].into_iter().map(|i| fields[i].parse::<u64>().unwrap()).sum()
}

/// The state of a process, as `ps` has it.
fn state(pid: i32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap()
}

#[test]
fn a_stop_gives_the_terminal_back_and_going_on_takes_it_again() {
    let mut on = OnTerminal::start(ECHO, "");
    on.running.wait_for("ready");
    for i in 0..3 {
        on.running.signal(Signal::SIGTSTP);
        let pid = on.running.pid();
        wait_until("it stops", || state(pid) == 'T');
        assert_eq!(tcgetattr(&on.terminal).unwrap(), on.before);
        on.running.signal(Signal::SIGCONT);
        on.wait_until_raw(true);
        on.type_in(&format!("again {i}\n"));
        on.running.wait_for(&format!("AGAIN {i}"));
    }
    on.type_in("quit\n");
    on.finish().assert(0, "");
}

#[test]
fn a_terminal_that_hangs_up_is_the_end_of_input_only() {
    let on = OnTerminal::start(ECHO, "");
    on.running.wait_for("ready");
    let OnTerminal { running, keyboard, terminal, .. } = on;
    drop((keyboard, terminal));
    // The guest polls, so its thread spends all the time that there is; the main thread waits.
    let pid = running.pid();
    wait_until("half a second is spent", || ticks(&format!("/proc/{pid}/stat")) >= 50);
    let main = ticks(&format!("/proc/{pid}/task/{pid}/stat"));
    assert!(main < 25, "{main} ticks");
    running.signal(Signal::SIGTERM);
    running.finish().assert(143, "");
}

// Time and resets.

#[test]
fn a_timeout_is_status_124() {
    for word in ["spin", "halt", "flood"] {
        let finished = run(run_guest(STOP, word).args(["--timeout", "300ms"]));
        finished.assert(124, &format!("stop: {word}")).assert_tells(&["300ms"]);
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
    for word in ["reset-cf9", "reset-i8042"] {
        let finished = run(run_guest(STOP, word).arg("--no-reboot"));
        finished.assert(32, &format!("stop: {word}")).assert_tells(&["reset"]);
    }
}

#[test]
fn a_loop_of_resets_leaks_nothing_and_can_be_ended() {
    let on = OnTerminal::start(STOP, "reset-cf9");
    let pid = on.running.pid();
    let open = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    on.running.wait_for(&"stop: reset-cf9\r\n".repeat(20));
    let files = open();
    on.running.wait_for(&"stop: reset-cf9\r\n".repeat(100));
    assert!(open() <= files + 8, "{files} files became {}", open());
    on.running.signal(Signal::SIGTERM);
    let finished = on.finish();
    finished.assert(143, "");
    assert!(finished.stderr.lines().count() < 40, "{finished:#?}");
}

// What else there is to a run.

#[test]
fn the_result_file_tells_how_the_guest_ended() {
    for (word, status, reason) in [
        ("poweroff", 0, "shutdown"),
        ("exit=5", 11, "test-exit"),
        ("triple", 33, "fault"),
        ("panic", 34, "panic"),
    ] {
        let mut command = run_guest(STOP, word);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let (result, _) = result_of(&mut command, status);
        assert_eq!((&result["reason"], &result["status"]), (&reason.into(), &status.into()));
        let exits = &result["exits"][0];
        assert!(exits["by_reason"]["IoWrite"].as_u64().unwrap() > 4, "{result}");
        assert!(exits["total"].as_u64() >= exits["by_reason"]["IoWrite"].as_u64(), "{result}");
        assert_eq!(result["vcpu"].as_u64(), (reason == "fault").then_some(0), "{result}");
        assert_eq!(result["console_dropped"], 0);
    }
    let mut command = run_guest(STOP, "spin");
    command.args(["--timeout", "300ms"]).stdout(Stdio::null()).stderr(Stdio::null());
    let (result, _) = result_of(&mut command, 124);
    assert!(result["unowned"]["reads"].as_u64().unwrap() > 100, "{result}");
}

#[test]
fn the_log_can_be_turned_down_and_up() {
    let lines = |args: &[&str], variable: Option<&str>| {
        let mut command = run_guest(STOP, "spin");
        command.args(["--timeout", "200ms"]).args(args);
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
