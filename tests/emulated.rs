//! Emulated hosts as axvmm brings them up: `axvmm host`, and `--host` of commands with guests.

mod common;

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::Duration,
};

use common::{Finished, axvmm, despite_svm, root, run, start, wait_until};
use nix::{pty::openpty, sys::signal::Signal};

/// Hosts take their time on a busy machine, and so does what is downloaded.
const LIMIT: Duration = Duration::from_secs(600);

/// An axvmm that needs no libraries, for hosts of this architecture.
fn program(arch: &str) -> PathBuf {
    static ALL: [OnceLock<PathBuf>; 2] = [const { OnceLock::new() }; 2];
    let number = usize::from(arch == "aarch64");
    let script = ". tests/hosts/lib/common.sh; load_arch $0; tests/hosts/setup $0 build; build_axvmm; \
        resources/guests/build $0 >&2; echo $axvmm";
    let build = || {
        let mut command = Command::new("bash");
        command.args(["-c", script, arch]).current_dir(root()).env("AXVMM_PROFILE", "hosts");
        let made = command.stderr(Stdio::inherit()).output().unwrap();
        String::from_utf8(made.stdout).unwrap().trim_end().into()
    };
    ALL[number].get_or_init(build).clone()
}

/// A tiny guest of this architecture, which [`program`] has built.
fn guest_of(name: &str, arch: &str) -> PathBuf {
    root().join(format!("configs/guests/{name}-{arch}.elf"))
}

/// `axvmm ARGUMENTS`, with nobody else's hosts.
fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = axvmm();
    command.args(arguments).env("XDG_RUNTIME_DIR", dir).current_dir(dir).stdin(Stdio::null());
    command
}

fn within(mut command: Command) -> Finished {
    start(&mut command).within(LIMIT).finish()
}

/// What is in a directory.
fn files(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().flatten().map(|it| it.file_name());
    names.map(|it| it.into_string().unwrap()).collect()
}

/// Whether QEMU runs for the host whose sessions are in a directory that begins so.
fn qemu_runs(sessions: &str) -> bool {
    let lines = fs::read_dir("/proc").unwrap().flatten();
    let mut lines = lines.filter_map(|it| fs::read(it.path().join("cmdline")).ok());
    lines.any(|line| {
        let line = String::from_utf8_lossy(&line);
        line.starts_with("qemu-system") && line.contains(sessions)
    })
}

#[test]
fn a_host_stays_until_it_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let own = program("x86_64");
    let up = ["host", "up", "x86_64", "--axvmm", own.to_str().unwrap(), "--memory", "1G"];
    within(command(dir.path(), &up)).assert(0, "");
    let host = |arguments: &[&str]| {
        let all: Vec<_> = ["host", "run", "x86_64"].iter().chain(arguments).copied().collect();
        command(dir.path(), &all)
    };
    // Streams are apart and unchanged, and the status is the command's.
    fs::write(dir.path().join("input"), vec![b'x'; 1_000_000]).unwrap();
    let script = "echo told >&2; [ -c /dev/kvm ] || exit 1; wc -c; exit 42";
    let mut counts = host(&["--", "sh", "-c", script]);
    counts.stdin(File::open(dir.path().join("input")).unwrap());
    within(counts).assert(42, "1000000").assert_tells(&["told"]);
    // What was put there is there for the next.
    fs::create_dir(dir.path().join("many")).unwrap();
    fs::write(dir.path().join("many/file"), "a file's text\n").unwrap();
    within(host(&["--with", "many:sub/dir", "--", "true"])).assert(0, "");
    let two = (0..2).map(|_| start(&mut host(&["--", "cat", "sub/dir/file"])).within(LIMIT));
    for running in two.collect::<Vec<_>>() {
        running.finish().assert(0, "a file's text");
    }
    within(host(&["--", "no-such-program"])).assert(127, "").assert_tells(&["no-such-program"]);
    // A signal is the command's.
    let trap = "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.1; done";
    let running = start(&mut host(&["--", "sh", "-c", trap])).within(LIMIT);
    running.wait_for("ready");
    running.signal(Signal::SIGINT);
    running.finish().assert(7, "caught");
    // A command that hears none holds nobody.
    let deaf = "trap '' INT; echo deaf; while :; do sleep 0.1; done";
    let running = start(&mut host(&["--", "sh", "-c", deaf])).within(LIMIT);
    running.wait_for("deaf");
    for _ in 0..8 {
        running.signal(Signal::SIGINT);
        // Three are enough, but two at once are one.
        thread::sleep(Duration::from_millis(300));
    }
    running.finish().assert(130, "deaf").assert_tells(&["came again"]);
    // Somebody who is gone leaves nothing running.
    let running =
        start(&mut host(&["--", "sh", "-c", "echo begun; exec sleep 3333"])).within(LIMIT);
    running.wait_for("begun");
    running.signal(Signal::SIGKILL);
    running.finish();
    wait_until("the command of somebody who is gone ends", || {
        within(host(&["--", "pidof", "sleep"])).status == 1
    });
    let again = ["host", "up", "x86_64", "--axvmm", own.to_str().unwrap()];
    within(command(dir.path(), &again)).assert(35, "").assert_tells(&["axvmm host down x86_64"]);
    assert!(qemu_runs(dir.path().to_str().unwrap()));
    within(command(dir.path(), &["host", "down", "x86_64"])).assert(0, "");
    assert!(!qemu_runs(dir.path().to_str().unwrap()));
    within(command(dir.path(), &["host", "down", "x86_64"]))
        .assert(1, "")
        .assert_tells(&["not up"]);
}

/// A guest's file in a directory of its own, with its kernel beside that directory.
fn guest_file(dir: &Path, name: &str, arch: &str, rest: &str) -> PathBuf {
    let kernel = format!("{name}.elf");
    fs::copy(guest_of(name, arch), dir.join(&kernel)).unwrap();
    fs::create_dir_all(dir.join("guests")).unwrap();
    let file = dir.join("guests").join(format!("{name}.toml"));
    let text = format!("[kernel]\nmemory = \"32M\"\nkernel_path = \"../{kernel}\"\n{rest}");
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn guests_of_another_architecture_are_tested_in_a_host_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let program = program("aarch64");
    let host = format!("emulated,axvmm={}", program.display());
    let expect = "[test]\nexpect = [\"Hello from axvmm's guest\"]\nmatrix = { cpu_num = [1, 2] }\n";
    guest_file(dir.path(), "hello", "aarch64", expect);
    guest_file(dir.path(), "smp", "aarch64", "[test]\nexpect = ['^never$']\ntimeout = \"2m\"\n");
    let arguments = [
        "test",
        "--host",
        &host,
        "guests/hello.toml",
        "guests/smp.toml",
        "--junit",
        "guests/j.xml",
        "--output",
        "out",
    ];
    let finished = within(command(dir.path(), &arguments));
    finished.assert(1, "ok    hello cpu_num=2").assert(1, "smp");
    let junit = fs::read_to_string(dir.path().join("guests/j.xml")).unwrap();
    assert!(junit.contains("tests=\"3\"") && junit.contains("failures=\"1\""), "{junit}");
    let log = fs::read_to_string(dir.path().join("out/hello_cpu_num=2/console.log")).unwrap();
    assert!(log.contains("Hello from axvmm's guest"), "{log}");
    // The same, one guest.
    let arguments =
        ["run", "--host", &host, "--config", "guests/hello.toml", "--result-file", "r.json"];
    within(command(dir.path(), &arguments)).assert(0, "Hello from axvmm's guest");
    let result = fs::read_to_string(dir.path().join("r.json")).unwrap();
    assert!(result.contains("\"shutdown\""), "{result}");
}

#[test]
fn ctrl_c_ends_the_guest_and_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let host = format!("emulated:x86_64,memory=1G,axvmm={}", program("x86_64").display());
    let kernel = guest_of("console-echo", "x86_64");
    despite_svm("x86_64", || {
        let arguments = ["run", "--host", &host, "-k", kernel.to_str().unwrap(), "-m", "16M"];
        let mut command = command(dir.path(), &arguments);
        command.env("TMPDIR", dir.path()).stdin(Stdio::piped());
        let mut running = start(&mut command).within(LIMIT);
        running.wait_for("console-echo");
        running.type_in("typed\n");
        running.wait_for("TYPED");
        running.signal(Signal::SIGINT);
        running.finish().assert(130, "TYPED");
    });
    assert!(!qemu_runs(dir.path().to_str().unwrap()));
    assert_eq!(files(dir.path()), [""; 0]);
}

#[test]
fn a_host_ends_with_whoever_brought_it_up() {
    let dir = tempfile::tempdir().unwrap();
    let own = program("x86_64");
    let arguments = [
        "host",
        "run",
        "x86_64",
        "--axvmm",
        own.to_str().unwrap(),
        "--memory",
        "512M",
        "--",
        "sh",
        "-c",
        "echo begun; exec sleep 3333",
    ];
    let mut command = command(dir.path(), &arguments);
    let running = start(command.env("TMPDIR", dir.path())).within(LIMIT);
    running.wait_for("begun");
    assert!(qemu_runs(dir.path().to_str().unwrap()));
    running.signal(Signal::SIGKILL);
    running.finish();
    wait_until("QEMU ends", || !qemu_runs(dir.path().to_str().unwrap()));
}

#[test]
fn a_host_that_is_not_waited_for_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let own = program("x86_64");
    let sessions = dir.path().to_str().unwrap();
    for (how, what) in [("run", &["--", "sleep", "3333"][..]), ("up", &[])] {
        let arguments = ["host", how, "x86_64", "--axvmm", own.to_str().unwrap()];
        let mut command = command(dir.path(), &[&arguments, what].concat());
        let running = start(command.env("TMPDIR", dir.path())).within(LIMIT);
        wait_until("QEMU begins", || qemu_runs(sessions));
        running.signal(Signal::SIGTERM);
        let finished = running.finish();
        // It may have been up already.
        if how == "run" || finished.status != 0 {
            finished.assert(143, "");
        }
        within(self::command(dir.path(), &["host", "down", "x86_64"]));
        assert!(!qemu_runs(sessions));
    }
    assert_eq!(files(dir.path()), ["axvmm"]);
}

#[test]
fn a_terminal_here_is_one_there() {
    let dir = tempfile::tempdir().unwrap();
    let own = program("x86_64");
    let arguments = ["host", "run", "x86_64", "--axvmm", own.to_str().unwrap(), "--memory", "512M"];
    let pty = openpty(None, None).unwrap();
    let slave = || pty.slave.try_clone().unwrap();
    let mut command = command(dir.path(), &arguments);
    command.env("TERM", "vt102").stdin(slave()).stdout(slave()).stderr(slave());
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut keyboard = File::from(pty.master);
    let mut screen = keyboard.try_clone().unwrap();
    let seen = Arc::new(Mutex::new(String::new()));
    let sees = seen.clone();
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = screen.read(&mut bytes) {
            sees.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    });
    let wait_for = |what: &str| {
        wait_until(&format!("{what:?} is seen"), || seen.lock().unwrap().contains(what));
    };
    wait_for("# ");
    keyboard.write_all(b"echo $TERM-$((40 + 2)) $(tty)\n").unwrap();
    wait_for("vt102-42 /dev/pts/");
    // Said by the process that is to be interrupted.
    keyboard.write_all(b"sh -c 'echo sl\"\"eeps; exec sleep 3333'\n").unwrap();
    wait_for("\nsleeps");
    keyboard.write_all(b"\x03").unwrap();
    keyboard.write_all(b"exit 9\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9), "{}", seen.lock().unwrap());
}

#[test]
fn what_cannot_be_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let tells = |arguments: &[&str], status: i32, parts: &[&str]| {
        let mut command = command(dir.path(), arguments);
        command.env("XDG_CACHE_HOME", dir.path());
        run(&mut command).assert(status, "").assert_tells(parts);
    };
    tells(&["host", "up", "vax"], 35, &["vax", "x86_64", "riscv64-aia"]);
    tells(&["host", "run", "aarch64", "--axvmm", "/bin/true"], 35, &["/bin/true", "aarch64"]);
    tells(&["host", "run", "aarch64", "--with", "/none", "--", "true"], 35, &["/none"]);
    tells(&["host", "up", "riscv64"], 35, &["riscv64", "release", "programs"]);
    let kernel = guest_of("hello", "x86_64");
    let kernel = kernel.to_str().unwrap();
    tells(&["run", "--host", "emulated:vax", "-k", kernel], 35, &["--host", "emulated:HOST"]);
    tells(&["run", "--host", "emulated,cpus=0", "-k", kernel], 35, &["cpus"]);
    tells(&["run", "--host", "emulated", "-k", "none"], 35, &["none"]);
    tells(&["run", "--host", "emulated", "-k", kernel, "--gdb", "1"], 35, &["--gdb", "--host"]);
    tells(&["host", "serve"], 1, &["emulated host"]);
    tells(&["host", "down", "x86_64"], 1, &["not up"]);
}
