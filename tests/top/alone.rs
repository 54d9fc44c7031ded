//! Which runs there are, where only this test's are: in a network of its own, which is where the names
//! of sockets are.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::{
        fd::AsFd,
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr, UnixListener},
            process::CommandExt,
        },
    },
    process::{Child, Command, Stdio},
    thread,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    unistd::{Uid, dup, geteuid},
};

use super::{ECHO, axvmm, echo, echo_by, run, run_guest};

/// A network, for as long as a process is in it.
struct Network {
    keeper: Child,
    spaces: CloneFlags,
}

impl Network {
    fn new() -> Self {
        let mut spaces = CloneFlags::CLONE_NEWNET;
        // Whoever is not root may have one among users of its own.
        spaces.set(CloneFlags::CLONE_NEWUSER, !geteuid().is_root());
        let mut keeper = Command::new("sh");
        keeper.args(["-c", "echo here; read _"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        // SAFETY: all that the child does before it is another program is a system call.
        unsafe { keeper.pre_exec(move || Ok(unshare(spaces)?)) };
        let mut keeper = keeper.spawn().expect("a network of one's own (unshare)");
        let mut line = String::new();
        BufReader::new(keeper.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "here\n");
        Self { keeper, spaces }
    }

    /// Has a program run in it.
    fn with(&self, mut command: Command) -> Command {
        let all = [("user", CloneFlags::CLONE_NEWUSER), ("net", CloneFlags::CLONE_NEWNET)];
        for (name, space) in all.into_iter().filter(|(_, space)| self.spaces.contains(*space)) {
            let file = File::open(format!("/proc/{}/ns/{name}", self.keeper.id())).unwrap();
            // SAFETY: all that the child does before it is another program is a system call.
            unsafe { command.pre_exec(move || Ok(setns(&file, space)?)) };
        }
        command
    }

    fn top(&self, args: &[&str]) -> Command {
        let mut command = axvmm();
        command.arg("top").args(args);
        self.with(command)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

#[test]
fn with_no_run_it_says_what_to_do() {
    let network = Network::new();
    let none = run(&mut network.top(&[]));
    none.assert(1, "").assert_tells(&["no run of yours", "`axvmm run` starts one", "--control"]);
    let mut hidden = run_guest(ECHO, "");
    hidden.args(["--control", "none"]);
    let _hidden = echo_by(network.with(hidden), &[]);
    run(&mut network.top(&[])).assert(1, "");
    run(&mut network.top(&["nobody"])).assert(1, "").assert_tells(&["nobody"]);
}

#[test]
fn with_one_run_that_is_it_and_with_more_they_are_listed() {
    let network = Network::new();
    let one = echo_by(network.with(run_guest(ECHO, "")), &[]);
    let once = ["--once", "--interval", "100ms"];
    run(&mut network.top(&once)).assert(0, &format!("process {} ", one.pid()));
    let mut other = run_guest(ECHO, "");
    // As a directory that is here.
    other.args(["--set", "base.name=\"configs\""]);
    let mut other = super::start(network.with(other).stdin(Stdio::piped()));
    other.wait_for("console-echo: ready");
    let (first, second) = (one.pid().to_string(), other.pid().to_string());
    let both = run(&mut network.top(&once));
    both.assert(35, "").assert_tells(&["axvmm top PID", &first, &second, "configs", "guests"]);
    for which in [&second, "configs"] {
        let args = [&[which][..], &once].concat();
        run(&mut network.top(&args)).assert(0, "configs: Running");
    }
    let unknown = run(&mut network.top(&["frob"]));
    unknown.assert(35, "").assert_tells(&["frob", "there are:", &first]);
    other.type_in("quit\n");
    other.finish().assert(0, "");
    run(&mut network.top(&once)).assert(0, &format!("process {first} "));
    // Nothing of a run that is killed stays behind.
    drop(one);
    run(&mut network.top(&[])).assert(1, "").assert_tells(&["no run of yours"]);
}

/// Takes the name that the process's own socket is to have, and keeps it in the program that follows.
fn take_own_name() -> io::Result<()> {
    let name = SocketAddr::from_abstract_name(format!("axvmm/{}", std::process::id()))?;
    let listener = UnixListener::bind_addr(&name)?;
    // Of a duplicate, the new program has it as well.
    std::mem::forget(dup(listener.as_fd())?);
    Ok(())
}

#[test]
fn a_run_whose_name_is_taken_goes_on_and_says_so() {
    let mut command = run_guest("hello", "");
    // SAFETY: what the child does before it is another program is system calls, and memory for a name.
    unsafe { command.pre_exec(take_own_name) };
    let ended = run(&mut command);
    ended.assert(0, "Hello").assert_tells(&["warning: no control socket", "--control FILE"]);
}

/// What the socket of a run says to a user of this number.
fn heard_by(user: u32, pid: i32) -> String {
    let asks = move || {
        let (keep, user) = (u32::MAX, Uid::from_raw(user).as_raw());
        // SAFETY: it takes numbers; called so, it is about this thread alone, which ends with it.
        let done = unsafe { libc::syscall(libc::SYS_setresuid, keep, user, keep) };
        assert_eq!(done, 0);
        let mut text = String::new();
        // It is closed when all is said.
        let _ = super::connect(pid).read_to_string(&mut text);
        text
    };
    thread::spawn(asks).join().unwrap()
}

#[test]
fn another_user_is_told_nothing() {
    assert!(
        geteuid().is_root(),
        "needs root, to be two users: run it as root, or leave it out by its name"
    );
    let mut run_of_root = echo(&[]);
    let told = heard_by(65534, run_of_root.pid());
    assert!(told.contains("only the user whose run this is"), "{told}");
    assert!(!told.contains("vms"), "{told}");
    // Where others may get at it. By a program of its own: were the copy open for writing here, a test
    // that starts a program at this moment would keep it busy.
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("axvmm");
    // It may be one that is found in PATH.
    let copies = "cp \"$(command -v \"$0\")\" \"$1\"";
    let program = axvmm().get_program().to_owned();
    let copied = Command::new("sh").args(["-c", copies]).arg(program).arg(&copy).status();
    assert!(copied.unwrap().success());
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let mut top = Command::new(&copy);
    top.current_dir("/").stdin(Stdio::null()).uid(65534);
    top.arg("top").arg(run_of_root.pid().to_string());
    run(&mut top).assert(35, "").assert_tells(&["user 0's"]);
    run_of_root.type_in("quit\n");
    run_of_root.finish().assert(0, "");
}
