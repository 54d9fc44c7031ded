//! The console on a terminal: keys, signals, and the terminal as it was before after every end. Over
//! this machine's own KVM, with tiny guests.

mod common;

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{
    WORDS, axvmm, full_pipe, guest, on_terminal::OnTerminal, root, run, run_guest, start,
    wait_until,
};
use nix::{
    pty::openpty,
    sys::{signal::Signal, termios::tcgetattr},
};

const ECHO: &str = "console-echo";
const STOP: &str = "stop";
const CTRL_A: &str = "\x01";

#[test]
fn keys_on_a_terminal_go_to_the_guest_and_some_to_axvmm() {
    let mut on = OnTerminal::start(run_guest(ECHO, ""));
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

#[cfg(target_arch = "x86_64")]
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
    let command = common::run_code(dir.path(), &code);
    let mut on = OnTerminal::start(command);
    on.running.wait_for("R");
    on.type_in(&format!("{CTRL_A}d"));
    on.finish().assert(2 * 0x53 + 1, "R");
}

#[cfg(target_arch = "aarch64")]
#[test]
fn the_power_button_is_pressed() {
    let mut on = OnTerminal::start(run_guest("power-button", ""));
    on.running.wait_for("power-button: ready");
    on.type_in(&format!("{CTRL_A}d"));
    on.finish().assert(0, "power-button: pressed").assert(0, "power-button: released");
}

#[test]
fn a_guest_that_never_listens_can_be_quit() {
    for word in ["spin", "halt", "flood"] {
        let mut on = OnTerminal::start(run_guest(STOP, word));
        on.running.wait_for(&format!("stop: {word}"));
        on.type_in(&"x".repeat(1000));
        on.type_in(&format!("{CTRL_A}x"));
        on.finish().assert(130, "");
    }
}

#[test]
fn every_end_leaves_the_terminal_as_it_was() {
    let ends = [("poweroff", 0), (WORDS.crash, 33), ("panic", 34)];
    for (word, status) in ends.into_iter().chain(WORDS.exit) {
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
        Signal::SIGUSR2,
        Signal::SIGALRM,
        // Those that one dies of on the spot.
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGABRT,
    ] {
        for word in ["spin", "halt"] {
            let on = OnTerminal::start(run_guest(STOP, word));
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
    let mut on = OnTerminal::start(run_guest(ECHO, ""));
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
    let on = OnTerminal::start(run_guest(ECHO, ""));
    on.running.wait_for("ready");
    let OnTerminal { running, keyboard, terminal, .. } = on;
    drop((keyboard, terminal));
    // The guest polls, so its thread spends all the time that there is; the main thread waits.
    let pid = running.pid();
    let spent = || {
        let (all, main) = (format!("/proc/{pid}/stat"), format!("/proc/{pid}/task/{pid}/stat"));
        (ticks(&all), ticks(&main))
    };
    let before = spent();
    wait_until("half a second is spent", || spent().0 >= before.0 + 50);
    let main = spent().1 - before.1;
    assert!(main < 25, "{main} ticks");
    running.signal(Signal::SIGTERM);
    running.finish().assert(143, "");
}
