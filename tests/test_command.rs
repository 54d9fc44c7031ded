//! `axvmm test`: the right verdict for each kind of guest, told in each form, and nothing left behind
//! however it ends. Over this machine's own KVM, with tiny guests.

mod common;
#[path = "test_command/kinds.rs"]
mod kinds;

use std::{
    collections::BTreeMap,
    env::consts::ARCH,
    fs::{self, File},
    io::{Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use common::{Finished, Running, WORDS, axvmm, guest, run, start, wait_until};
use nix::sys::{
    signal::{Signal, kill},
    termios::tcgetattr,
};
use quick_junit::{NonSuccessKind, Report, TestCaseStatus};
use serde_json::Value;

const STOP: &str = "stop";
const ECHO: &str = "console-echo";
const HELLO: &str = "hello";

/// Guests in a directory of their own.
struct Guests {
    dir: tempfile::TempDir,
    files: Vec<PathBuf>,
}

impl Guests {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), files: Vec::new() }
    }

    /// Adds a guest whose file is called so, with these lines after its kernel.
    fn add(mut self, name: &str, kernel: &str, cmdline: &str, lines: &str) -> Self {
        let kernel = guest(kernel).canonicalize().unwrap();
        let file = self.dir.path().join(format!("{name}.toml"));
        let text = format!(
            "[kernel]\nkernel_path = {kernel:?}\nmemory = \"16M\"\ncmdline = \"{cmdline}\"\n{lines}"
        );
        fs::write(&file, text).unwrap();
        self.files.push(file);
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `axvmm test` of all, with its files in `out`.
    fn command(&self, options: &[&str]) -> Command {
        let mut command = axvmm();
        command.arg("test").args(&self.files).args(options);
        command.arg("--output").arg(self.path("out")).env_remove("GITHUB_ACTIONS");
        command
    }

    fn test(&self, options: &[&str]) -> Finished {
        run(&mut self.command(options))
    }

    /// All tests, with their lines of JSON by name.
    fn told(&self, options: &[&str], status: i32) -> BTreeMap<String, Value> {
        let file = self.path("lines.json");
        let finished = self.test(&[options, &["--json", file.to_str().unwrap()]].concat());
        assert_eq!(finished.status, status, "{finished:#?}");
        lines(&fs::read_to_string(file).unwrap())
    }
}

/// Lines of JSON by the names of their tests; the summary is `summary`.
fn lines(text: &str) -> BTreeMap<String, Value> {
    let line = |line| {
        let value: Value = serde_json::from_str(line).unwrap();
        (value["name"].as_str().unwrap_or("summary").to_owned(), value)
    };
    text.lines().map(line).collect()
}

/// A guest that halts for ever.
fn hanging(name: &str, guests: Guests) -> Guests {
    guests.add(name, STOP, "halt", "[test]\ntimeout = \"10m\"\n")
}

#[test]
fn what_failed_and_why_is_on_one_screen() {
    let guests = Guests::new().add("good", HELLO, "", "").add(
        "bad",
        STOP,
        WORDS.crash,
        "[test]\nexpect = 'never'\n",
    );
    let finished = guests.test(&[]);
    finished.assert(1, "ok    good").assert(1, "FAIL  bad").assert(1, "1 passed, 1 failed");
    for part in [
        "it ended with status 33, not 0: the guest crashed",
        "no line with \"never\" came",
        &format!("| stop: {}", WORDS.crash),
        // The beginning of the dump.
        match ARCH {
            "x86_64" => "RIP",
            "aarch64" => "PC",
            _ => "pc",
        },
        "out/bad",
    ] {
        finished.assert(1, "").assert(1, part);
    }
    assert!(finished.stdout.lines().count() < 50, "{finished:#?}");
    assert!(!finished.stdout.contains('\x1b'), "a pipe has plain lines: {finished:#?}");
    let passed = Guests::new().add("good", HELLO, "", "").test(&[]);
    passed.assert(0, "1 passed in");
}

#[test]
fn a_matrix_is_a_test_for_each_combination_and_filters_choose() {
    let matrix =
        "[test]\nexpect = ['^smp: ']\nmatrix = { cpu_num = [1, 2], memory = ['16M', '32M'] }\n";
    let arguments = "[test.matrix]\narguments = ['poweroff', 'panic']\n";
    let guests = Guests::new().add("smp", "smp", "", matrix).add("args", STOP, "", arguments);
    let names = |options: &[&str]| {
        let finished = guests.test(&[&["--list"], options].concat());
        finished.assert(0, "").stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let all = names(&[]);
    assert_eq!(all[..2], ["smp cpu_num=1 memory=16M", "smp cpu_num=1 memory=32M"]);
    assert_eq!(all[2..4], ["smp cpu_num=2 memory=16M", "smp cpu_num=2 memory=32M"]);
    assert_eq!(all[4..], ["args arguments=\"poweroff\"", "args arguments=\"panic\""]);
    assert_eq!(names(&["--filter", "^smp.*32M$"]), [all[1].clone(), all[3].clone()]);
    assert!(!guests.path("out").exists(), "a list runs nothing");
    let told = guests.told(&["--filter", "32M", "--filter", "args"], 1);
    assert_eq!(told.len(), 5, "{told:#?}");
    for (name, verdict) in [(&all[1], "passed"), (&all[3], "passed"), (&all[4], "passed")] {
        assert_eq!(told[name]["verdict"], verdict, "{told:#?}");
    }
    assert_eq!(told[&all[5]]["status"], 34);
    let console = fs::read_to_string(guests.path("out/smp_cpu_num=2_memory=32m/console.log"));
    assert!(console.unwrap().contains("smp: 2 cpus"));
    let none = guests.test(&["--filter", "nothing"]);
    none.assert(35, "").assert_tells(&["--filter finds none of the tests", &all[0]]);
}

#[test]
fn guests_of_the_same_name_are_told_apart_by_their_files() {
    let guests = Guests::new().add("a", HELLO, "", "[base]\nname = \"x\"\n").add(
        "b",
        HELLO,
        "",
        "[base]\nname = \"x\"\n",
    );
    let finished = guests.test(&["--list"]);
    finished.assert(0, "a.toml").assert(0, "b.toml");
}

#[test]
fn junit_has_what_failed_as_a_ci_shows_it() {
    let guests = Guests::new().add("good", HELLO, "", "").add(
        "bad",
        STOP,
        "panic",
        "[test]\nexpect = ['<never> & \"nowhere\"']\n",
    );
    let file = guests.path("junit.xml");
    guests.test(&["--junit", file.to_str().unwrap()]).assert(1, "");
    let report = Report::deserialize(&*fs::read(&file).unwrap()).unwrap();
    assert_eq!((report.tests, report.failures, report.errors), (2, 1, 0), "{report:#?}");
    let cases: Vec<_> = report.test_suites.iter().flat_map(|suite| &suite.test_cases).collect();
    assert_eq!(cases[0].name.as_str(), "good");
    assert!(matches!(cases[0].status, TestCaseStatus::Success { .. }));
    let TestCaseStatus::NonSuccess { kind, message, ty, .. } = &cases[1].status else {
        panic!("{report:#?}")
    };
    let message = message.as_ref().unwrap().as_str();
    assert_eq!((kind, ty.as_ref().unwrap().as_str()), (&NonSuccessKind::Failure, "status"));
    assert!(message.starts_with("it ended with status 34, not 0: "), "{message}");
    assert!(message.contains("no line with \"<never> & "), "{message}");
    assert_eq!(cases[1].system_out.as_ref().unwrap().as_str(), "stop: panic");
    assert!(cases[1].classname.as_ref().unwrap().as_str().ends_with("bad.toml"));
}

#[test]
fn annotations_are_for_github_and_json_has_stdout_for_itself() {
    let guests = Guests::new().add("bad", STOP, "panic", "\n[test]\n");
    let annotation = format!(
        "::error file={},line=6,title=bad::it ended with status 34",
        guests.files[0].display()
    );
    run(guests.command(&[]).env("GITHUB_ACTIONS", "true")).assert(1, &annotation);
    guests.test(&["--github"]).assert(1, &annotation);
    assert!(!guests.test(&[]).stdout.contains("::error"));
    let finished = guests.test(&["--github", "--json", "-"]);
    finished.assert(1, "").assert_tells(&["FAIL  bad", &annotation]);
    assert_eq!(lines(&finished.stdout).into_keys().collect::<Vec<_>>(), ["bad", "summary"]);
}

#[test]
fn a_flood_has_a_log_of_bounded_length_that_says_so() {
    let guests = Guests::new().add(
        "flood",
        STOP,
        "flood",
        "[test]\nexpect = ['stop: flood$', 'and more']\nstatus = 124\ntimeout = \"5s\"\n",
    );
    guests.test(&["--log-size", "256"]).assert(0, "ok    flood");
    let log = fs::read_to_string(guests.path("out/flood/console.log")).unwrap();
    assert!(log.len() < 1000, "{} bytes", log.len());
    assert!(
        log.starts_with("stop: flood\r\n") && log.contains("bytes are left out here]"),
        "{log}"
    );
}

/// The processes that a program has started, and which run.
fn children(pid: i32) -> Vec<i32> {
    let is_child = |child: &i32| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        // After the name, which may have anything in it: the state, and the parent.
        let mut fields = stat.rsplit(") ").next().unwrap_or("").split(' ');
        !matches!(fields.next(), Some("Z") | None) && fields.next() == Some(&pid.to_string())
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_child).collect()
}

fn wait_for_children(running: &Running, number: usize) -> Vec<i32> {
    wait_until("the guests run", || children(running.pid()).len() == number);
    children(running.pid())
}

fn is_there(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn repetition_finds_a_flaky_test_and_says_how_often() {
    let lines = "[test]\nstatus = 124\ntimeout = \"3s\"\n";
    let guests = Guests::new().add("flaky", STOP, "halt", lines);
    let junit = guests.path("junit.xml");
    let options = ["--repeat", "3", "--jobs", "1", "--junit", junit.to_str().unwrap()];
    let running = start(&mut guests.command(&options));
    // What makes it fail once.
    kill(nix::unistd::Pid::from_raw(wait_for_children(&running, 1)[0]), Signal::SIGTERM).unwrap();
    let finished = running.finish();
    finished.assert(1, "FAIL  flaky #1").assert(1, "ok    flaky #2").assert(1, "ok    flaky #3");
    finished.assert(1, "flaky: failed 1 of 3 times: it is flaky, first in run 1");
    assert!(guests.path("out/flaky/3/console.log").exists());
    assert!(fs::read_to_string(junit).unwrap().contains("message=\"failed 1 of 3 times"));
    let steady = Guests::new().add("steady", HELLO, "", "");
    steady.test(&["--repeat", "4"]).assert(0, "ok    steady #4");
}

#[test]
fn the_first_failure_ends_all_if_asked_to() {
    let guests = hanging("hangs", Guests::new().add("fails", STOP, "panic", ""));
    let told = guests.told(&["--fail-fast", "--jobs", "2"], 1);
    let summary = &told["summary"];
    assert_eq!((&summary["failed"], &summary["cancelled"]), (&1.into(), &1.into()), "{told:#?}");
    // One after the other, the second is not begun.
    let told = guests.told(&["--fail-fast", "--jobs", "1"], 1);
    assert!(!told.contains_key("hangs"), "{told:#?}");
}

#[test]
fn a_signal_ends_all_guests_and_the_report_is_written() {
    for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let guests = hanging("b", hanging("a", Guests::new()));
        let junit = guests.path("junit.xml");
        let running =
            start(&mut guests.command(&["--jobs", "2", "--junit", junit.to_str().unwrap()]));
        let children = wait_for_children(&running, 2);
        running.signal(signal);
        let finished = running.finish();
        finished.assert(status, "2 not run to their ends").assert(status, "ended by signal");
        assert!(!children.into_iter().any(is_there), "guests are left behind");
        let report = Report::deserialize(&*fs::read(&junit).unwrap()).unwrap();
        let cases = report.test_suites.iter().flat_map(|suite| &suite.test_cases);
        let skipped = cases.filter(|it| matches!(it.status, TestCaseStatus::Skipped { .. }));
        assert_eq!(skipped.count(), 2, "{report:#?}");
    }
}

#[test]
fn guests_do_not_outlive_a_runner_that_is_killed() {
    let guests = hanging("a", Guests::new());
    let running = start(&mut guests.command(&[]));
    let children = wait_for_children(&running, 1);
    running.signal(Signal::SIGKILL);
    assert_eq!(running.finish().status, 137);
    wait_until("the guest is gone", || !children.iter().any(|child| is_there(*child)));
}

#[test]
fn on_a_terminal_it_shows_progress_and_ctrl_c_leaves_it_as_it_was() {
    let guests = hanging("hangs", Guests::new().add("good", HELLO, "", ""));
    let pty = nix::pty::openpty(None, None).unwrap();
    let before = tcgetattr(&pty.slave).unwrap();
    let mut command = guests.command(&["--jobs", "2"]);
    let stdio = || pty.slave.try_clone().unwrap();
    command.stdin(stdio()).stdout(stdio()).stderr(stdio()).env("TERM", "xterm");
    let own_terminal = || {
        nix::unistd::setsid()?;
        // SAFETY: the call takes no pointer; 0 asks for what is usual.
        nix::errno::Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })?;
        Ok(())
    };
    // SAFETY: all that the child does before it is another program is system calls.
    unsafe { command.pre_exec(own_terminal) };
    let mut child = command.spawn().unwrap();
    let mut keyboard: File = pty.master.into();
    let (mut said, mut buffer) = (String::new(), [0; 4096]);
    while !said.contains("1 of 2 done after") {
        let n = keyboard.read(&mut buffer).unwrap();
        said.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    assert!(said.contains("ok    good") && said.contains("hangs 0 s"), "{said}");
    wait_until("the guest runs", || children(child.id() as i32).len() == 1);
    keyboard.write_all(b"\x03").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(tcgetattr(&pty.slave).unwrap(), before);
    drop((command, pty.slave));
    while let Ok(n @ 1..) = keyboard.read(&mut buffer) {
        said.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    assert!(said.contains("ended by signal 2"), "{said}");
}

#[test]
fn what_is_wrong_is_told_with_its_place_before_anything_starts() {
    for (lines, tells) in [
        (
            "[test]\nexpect = ['(']\n",
            "bad.toml:6:11: test.expect[0]: this is no regular expression",
        ),
        ("[test]\ntimeout = 0\n", "bad.toml:6:11: test.timeout: it must be more than 0"),
        ("[test]\nexpcet = 'x'\n", "bad.toml:6:1: unknown key \"expcet\""),
        ("test = 1\n", "bad.toml:5:1: unknown key \"test\""),
        ("[test]\nstop = true\n", "bad.toml:6:8: test.stop: there is no line in expect"),
        (
            "[test.matrix]\ncpu_num = [1, 100000]\n",
            "bad.toml:6:15: test.matrix.cpu_num[1]: expected",
        ),
        ("[test.matrix]\nmemory = ['1M', '1000000G']\n", "bad.toml:6:17: "),
        ("[devices]\nx = 1\n", "bad.toml:6:1: unknown key \"x\""),
    ] {
        let guests = Guests::new().add("good", HELLO, "", "").add("bad", HELLO, "", lines);
        guests.test(&[]).assert(35, "").assert_tells(&[tells]);
        assert!(!guests.path("out").exists(), "{lines}");
        if !lines.contains("1000000G") {
            let check = |command| run(axvmm().args([command, "--config"]).arg(&guests.files[1]));
            check("check").assert(35, "").assert_tells(&[tells]);
            check("run").assert(35, "").assert_tells(&[tells]);
        }
    }
    let list = |range: std::ops::Range<u32>| {
        let list: Vec<_> = range.map(|number| format!("'{number}'")).collect();
        list.join(", ")
    };
    let cpus: Vec<_> = (1..=500).map(|number| number.to_string()).collect();
    let million = format!(
        "[test.matrix]\ncpu_num = [{}]\narguments = [{}]\n",
        cpus.join(", "),
        list(0..1000)
    );
    let guests = Guests::new().add("many", HELLO, "", &million);
    guests.test(&[]).assert(35, "").assert_tells(&["many.toml:5:1: ", "500000 tests"]);
}

#[test]
fn files_that_are_the_same_guest_twice_are_refused() {
    let guests = Guests::new().add("a", HELLO, "", "");
    let link = guests.path("link.toml");
    std::os::unix::fs::symlink(&guests.files[0], &link).unwrap();
    let finished = guests.test(&[link.to_str().unwrap()]);
    finished.assert(35, "").assert_tells(&["link.toml: this guest is given twice", "a.toml"]);
}

#[test]
fn a_guest_of_another_architecture_is_told_with_what_to_do() {
    let guests = Guests::new().add("other", HELLO, "", "");
    let (machine, arch) = if ARCH == "aarch64" { (62, "x86_64") } else { (183, "aarch64") };
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(64, 0);
    elf[16..20].copy_from_slice(&[2, 0, machine, 0]);
    fs::write(guests.path("kernel"), elf).unwrap();
    fs::write(&guests.files[0], "[kernel]\nkernel_path = \"kernel\"\n").unwrap();
    let told = format!("is a kernel for {arch}, and this host is {ARCH}");
    let what_to_do = format!("Test it on a host that is {arch}");
    let finished = guests.test(&[]);
    finished.assert(35, "").assert_tells(&["other.toml:2:15: ", &told, &what_to_do]);
}

#[test]
fn wrong_options_are_refused() {
    let guests = Guests::new().add("a", HELLO, "", "");
    for (options, tells) in [
        (&["--filter", "("][..], "--filter"),
        (&["--jobs", "0"], "--jobs"),
        (&["--repeat", "0"], "--repeat"),
        (&["--repeat", "4000000"], "4000000 runs"),
        (&["--junit", "/nonexistent/j.xml"], "--junit /nonexistent/j.xml"),
        (&["--json", "/"], "--json /"),
        (&["--log-size", "much"], "--log-size"),
        (&["--set", "base.cpus=1"], "--set #1"),
        (&["/nonexistent.toml"], "/nonexistent.toml"),
    ] {
        guests.test(options).assert(35, "").assert_tells(&[tells]);
    }
    let fifo = guests.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    guests.test(&["--json", fifo.to_str().unwrap()]).assert(35, "").assert_tells(&["--json "]);
    run(axvmm().arg("test")).assert(35, "").assert_tells(&["<FILE>"]);
    let output = guests.path("a.toml");
    let finished = run(axvmm().arg("test").args(&guests.files).arg("--output").arg(output));
    finished.assert(35, "").assert_tells(&["--output"]);
}

#[test]
fn a_stdout_that_nobody_reads_keeps_no_test_from_its_verdict() {
    let guests = Guests::new().add("bad", STOP, "panic", "").add("good", HELLO, "", "");
    let (_kept, full) = common::full_pipe();
    let file = guests.path("lines.json");
    let mut command = guests.command(&["--json", file.to_str().unwrap()]);
    assert_eq!(command.stdout(full).status().unwrap().code(), Some(1));
    let summary = &lines(&fs::read_to_string(file).unwrap())["summary"];
    assert_eq!((&summary["passed"], &summary["failed"]), (&1.into(), &1.into()), "{summary}");
    let (_kept, full) = common::full_pipe();
    let mut command = guests.command(&["--filter", "good", "--json", "-"]);
    let status = command.stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(1), "lines for a program are lost");
}

#[test]
fn other_commands_pass_over_the_table() {
    let guests = Guests::new().add("a", HELLO, "", "[test]\nexpect = 'never'\nstatus = 9\n");
    for command in ["run", "check"] {
        run(axvmm().args([command, "--config"]).arg(&guests.files[0])).assert(0, "");
    }
    guests.test(&["--set", "test.expect=Hello", "--set", "test.status=0"]).assert(0, "ok");
}
