//! The console on stdin and stdout of every kind. Over this machine's own KVM, with tiny guests.

mod common;

use std::{
    fs,
    io::{Read, Write},
    os::fd::AsFd,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use common::{
    Running, WORDS, axvmm, full_pipe, guest, pipe, result_of, root, run, run_guest, start,
};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::signal::Signal,
};

const ECHO: &str = "console-echo";
const STOP: &str = "stop";
const HELLO: &str = "hello";

/// The console-echo guest, started and ready, with a pipe to type into.
fn echo() -> Running {
    let running = start(run_guest(ECHO, "").stdin(Stdio::piped()));
    running.wait_for("console-echo: ready");
    running
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

#[cfg(target_arch = "x86_64")]
#[test]
fn a_flood_that_nobody_reads_is_dropped_and_counted() {
    #[rustfmt::skip]
    let code = [
        0xba, 0xe9, 0x00,       // the debug console's port
        0xbb, 0x04, 0x00,       // 4 times
        0xb9, 0xff, 0xff,       // 65535 bytes
        0xbe, 0x00, 0x00,
        0xf3, 0x6e,             // rep outsb
        0x4b, 0x75, 0xf5,
        0xba, 0x04, 0x06,       // power off
        0xb8, 0x00, 0x20, 0xef,
        0xf4,
    ];
    let dir = tempfile::tempdir().unwrap();
    let (_reader, writer) = full_pipe();
    let mut command = common::run_code(dir.path(), &code);
    let (result, peak) = result_of(command.stdout(writer).stderr(Stdio::null()), 0);
    assert_eq!(result["console_dropped"], 4 * 65535, "{result}");
    assert!(peak < 64 << 10, "{peak} KiB");
}

#[test]
fn a_stderr_that_nobody_reads_holds_nothing_up() {
    let (_reader, writer) = full_pipe();
    let mut command = run_guest(STOP, "spin"); // which is told of
    command.args(["--timeout", "1s"]);
    let output = command.stderr(writer).stdout(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(124), "{output:?}");
}

#[test]
fn what_was_printed_before_a_crash_comes_before_the_message() {
    let (reader, writer) = pipe();
    let mut command = run_guest(STOP, WORDS.crash);
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut text = String::new();
    fs::File::from(reader).read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(33));
    let printed = text.find(&format!("stop: {}", WORDS.crash)).expect(&text);
    let told = text.find("axvmm: the guest crashed: vCPU 0: ").expect(&text);
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
    for guest in [ECHO, "serial-irq"] {
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
