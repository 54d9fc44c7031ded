//! `tests/hosts/host` itself: a command in the emulated KVM host is used as one on this machine.

mod common;

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{root, run, start};
use nix::sys::signal::Signal;

/// The host without axvmm, which these commands do not need.
fn host() -> Command {
    let mut command = common::host("x86_64");
    command.env("AXVMM", "");
    command
}

#[test]
fn streams_are_apart_and_unchanged_and_the_status_is_the_commands() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "a file's text\n").unwrap();
    let script =
        "cat; cat file sub/other >&2; [ -c /dev/kvm ] && [ -d configs ] || exit 1; exit 42";
    let mut child = host()
        .arg("--with")
        .arg(&file)
        .arg("--with")
        .arg(format!("{}:sub/other", file.display()))
        .args(["--", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Every byte there is, and enough of them to fill every buffer on the way.
    let input: Vec<u8> = (0..1 << 18).map(|i: u32| (i % 251 + i / 65536) as u8).collect();
    let mut stdin = child.stdin.take().unwrap();
    let copy = input.clone();
    let writer = thread::spawn(move || stdin.write_all(&copy).unwrap());
    let ended = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(42), "{stderr}");
    assert!(ended.stdout == input, "{} bytes of {}", ended.stdout.len(), input.len());
    assert_eq!(stderr, "a file's text\na file's text\n");
}

#[test]
fn a_signal_that_ends_the_command_is_its_status() {
    let ended = run(host().args(["--", "sh", "-c", "echo before; kill -9 $$"]));
    ended.assert(137, "before\n");
}

#[test]
fn output_comes_as_it_is_made_and_time_is_limited() {
    let running =
        start(host().args(["--timeout", "20", "--", "sh", "-c", "echo begun; sleep 999"]));
    running.wait_for("begun");
    let ended = running.finish();
    ended.assert(124, "begun\n").assert_tells(&["timeout", "20 s"]);
}

#[test]
fn what_cannot_be_done_is_told() {
    let tells = |args: &[&str], parts: &[&str]| {
        let mut command = Command::new(root().join("tests/hosts/host"));
        run(command.current_dir(root()).env("AXVMM", "").args(args))
            .assert(125, "")
            .assert_tells(parts);
    };
    tells(&[], &["Usage"]);
    tells(&["vax", "--", "true"], &["vax", "x86_64"]);
    tells(&["x86_64"], &["no command"]);
    tells(&["x86_64", "true"], &["unknown option 'true'"]);
    tells(&["x86_64", "--with", "no-such-file", "--", "true"], &["no-such-file"]);
    tells(&["x86_64", "--with", "Cargo.toml:../up", "--", "true"], &["../up"]);
    tells(&["x86_64", "--timeout", "soon", "--", "true"], &["soon"]);
    let missing = "/no/such/axvmm";
    run(common::host("x86_64").env("AXVMM", missing).args(["--", "true"]))
        .assert(125, "")
        .assert_tells(&[missing]);
}

#[test]
fn nothing_is_left_behind_by_a_signal() {
    for (signal, status) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGKILL, 137)]
    {
        let running = start(host().args(["--", "sh", "-c", "echo up; sleep 999"]));
        running.wait_for("up");
        let children = descendants(running.pid());
        let is_qemu = |pid: &i32| name(*pid).is_some_and(|name| name.starts_with("qemu"));
        assert!(children.iter().any(is_qemu), "no QEMU among {children:?}");
        running.signal(signal);
        running.finish().assert(status, "up");
        let sent = Instant::now();
        while let Some(pid) = children.iter().find(|pid| name(**pid).is_some()) {
            assert!(sent.elapsed() < Duration::from_secs(30), "{pid} ({:?}) lives on", name(*pid));
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The processes that `pid` has started, and those that they have.
fn descendants(pid: i32) -> Vec<i32> {
    let children = |pid: i32| {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children: Vec<i32> = children
            .unwrap_or_default()
            .split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect();
        children
    };
    let mut found = children(pid);
    let mut next = 0;
    while next < found.len() {
        found.extend(children(found[next]));
        next += 1;
    }
    found
}

/// What runs as this process; `None` if nothing does any more.
fn name(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
    (!rest.starts_with('Z')).then(|| name.to_owned())
}

#[test]
fn to_set_up_what_is_there_does_and_says_nothing() {
    let setup = || {
        let mut command = Command::new(root().join("tests/hosts/setup"));
        run(command.current_dir(root()).args(["x86_64", "host", "guest"]).stdin(Stdio::null()))
    };
    setup().assert(0, "");
    let again = setup();
    again.assert(0, "");
    // But for a wait for another test's turn.
    let said = again.stderr.lines().filter(|line| !line.contains("waiting for another"));
    assert_eq!(said.count() + again.stdout.len(), 0, "{again:#?}");
}
