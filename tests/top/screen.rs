//! On a terminal, as a person has it: another program, a terminal's model, tells what is to be seen.

use std::{
    fs::File,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use nix::{
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{LocalFlags, Termios, tcgetattr},
    },
    unistd::Pid,
};

use super::{Running, echo, start, top, wait_until};

/// What came to the terminal, and what that makes of its screen.
struct Seen {
    screen: vt100::Parser,
    bytes: Vec<u8>,
}

struct OnScreen {
    child: Child,
    keyboard: File,
    terminal: OwnedFd,
    before: Termios,
    seen: Arc<Mutex<Seen>>,
    reader: JoinHandle<()>,
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl OnScreen {
    /// `axvmm top` of a run on a terminal of this size.
    fn start(run: &Running, columns: u16, rows: u16, options: &[&str]) -> Self {
        let mut command = top(run, &["--interval", "100ms"]);
        command.args(options).env("TERM", "xterm");
        Self::start_command(command, columns, rows)
    }

    fn start_command(mut command: Command, columns: u16, rows: u16) -> Self {
        let pty = openpty(&size(columns, rows), None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        for set in [Command::stdin, Command::stdout, Command::stderr] {
            set(&mut command, Stdio::from(pty.slave.try_clone().unwrap()));
        }
        let child = command.spawn().unwrap();
        let keyboard = File::from(pty.master);
        let screen = vt100::Parser::new(rows, columns, 0);
        let seen = Arc::new(Mutex::new(Seen { screen, bytes: Vec::new() }));
        let (mut from, to) = (keyboard.try_clone().unwrap(), seen.clone());
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut bytes) {
                let mut seen = to.lock().unwrap();
                seen.screen.process(&bytes[..n]);
                seen.bytes.extend(&bytes[..n]);
            }
        });
        Self { child, keyboard, terminal: pty.slave, before, seen, reader }
    }

    fn lines(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.screen.screen().contents().lines().map(str::to_owned).collect()
    }

    /// Waits until it is so of the lines on the screen.
    #[track_caller]
    fn wait_until(&self, what: &str, condition: impl Fn(&[String]) -> bool) {
        wait_until(what, || condition(&self.lines()));
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        self.wait_until(text, |lines| lines.iter().any(|line| line.contains(text)));
    }

    fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    fn is_raw(&self) -> bool {
        let flags = tcgetattr(&self.terminal).unwrap().local_flags;
        !flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
    }

    /// The terminal is as it was.
    #[track_caller]
    fn assert_sane(&self) {
        assert_eq!(tcgetattr(&self.terminal).unwrap(), self.before);
        let leaves = || {
            let seen = self.seen.lock().unwrap();
            !seen.screen.screen().alternate_screen() && !seen.screen.screen().hide_cursor()
        };
        wait_until("the screen is as it was", leaves);
    }

    /// Waits for the end, with this status; gives all that came to the terminal.
    #[track_caller]
    fn finish(mut self, status: i32) -> String {
        let ended = self.child.wait().unwrap();
        assert_eq!(ended.code().or(ended.signal().map(|it| 128 + it)), Some(status));
        self.assert_sane();
        let Self { terminal, keyboard, seen, reader, .. } = self;
        drop((terminal, keyboard));
        reader.join().unwrap();
        let seen = seen.lock().unwrap();
        String::from_utf8_lossy(&seen.bytes).into_owned()
    }
}

#[test]
fn rows_are_shown_and_keys_change_them() {
    let run = echo(&[]);
    let mut on = OnScreen::start(&run, 100, 24, &[]);
    on.wait_until("tables", |lines| {
        let has = |begin: &str| lines.iter().any(|line| line.starts_with(begin));
        lines.first().is_some_and(|line| line.starts_with("echo Running "))
            && ["vCPU ", "0 ", "device ", "reason "].into_iter().all(has)
    });
    on.wait_for("█");
    on.wait_for("q quit  p pause  s sort:rate");
    on.type_in("d");
    on.wait_until("devices alone", |lines| {
        lines.get(1).is_some_and(|it| it.starts_with("device"))
            && !lines.iter().any(|it| it.starts_with("vCPU"))
    });
    on.type_in("r");
    on.wait_until("reasons", |lines| lines.get(1).is_some_and(|it| it.starts_with("reason")));
    on.type_in("v");
    on.wait_until("vCPUs", |lines| lines.get(1).is_some_and(|it| it.starts_with("vCPU")));
    on.type_in("as");
    on.wait_for("sort:time");
    on.type_in("s");
    on.wait_for("sort:name");
    on.type_in("p");
    on.wait_for("PAUSED");
    on.type_in("p");
    on.wait_until("it goes on", |lines| !lines[0].contains("PAUSED"));
    // Ctrl-L draws anew what something else has written over.
    on.type_in("\x0c");
    on.type_in("q");
    let text = on.finish(0);
    // There is no colour, as NO_COLOR is set: bold, dim, reversed and off.
    let styles = text.split("\x1b[").filter_map(|it| it.split_once('m')).map(|(style, _)| style);
    let numbers = styles.filter(|it| it.bytes().all(|byte| byte.is_ascii_digit() || byte == b';'));
    for style in numbers.flat_map(|it| it.split(';')) {
        assert!(matches!(style, "" | "0" | "1" | "2" | "7" | "22" | "27"), "{style}: {text:?}");
    }
}

#[test]
fn it_has_room_on_a_narrow_terminal_and_follows_its_size() {
    let run = echo(&[]);
    let mut on = OnScreen::start(&run, 40, 6, &[]);
    on.wait_until("it fits", |lines| lines.len() == 6 && lines[1].starts_with("vCPU  exits/s"));
    on.type_in("\x1b[F");
    on.wait_until("the end", |lines| lines[1..5].iter().all(|it| !it.starts_with("vCPU")));
    on.type_in("\x1b[H");
    on.wait_until("the begin", |lines| lines[1].starts_with("vCPU"));
    for (columns, rows) in [(20, 3), (120, 30), (1, 1), (80, 24)] {
        on.seen.lock().unwrap().screen.set_size(rows, columns);
        let size =
            rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&on.terminal, size).unwrap();
        on.signal(Signal::SIGWINCH);
    }
    on.wait_for("r reasons  a all");
    on.type_in("\x03");
    on.finish(0);
}

#[test]
fn the_end_of_the_run_is_told_on_the_terminal_as_it_was() {
    let mut run = echo(&[]);
    let on = OnScreen::start(&run, 80, 24, &[]);
    on.wait_for("device");
    run.type_in("quit\n");
    run.finish().assert(0, "");
    let text = on.finish(0);
    assert!(
        text.ends_with("axvmm: echo has ended: the guest powered off (status 0)\r\n"),
        "{text:?}"
    );
    let run = echo(&[]);
    let on = OnScreen::start(&run, 80, 24, &[]);
    on.wait_for("device");
    run.signal(Signal::SIGKILL);
    assert!(on.finish(1).contains("it is gone"));
}

#[test]
fn every_death_leaves_the_terminal_as_it_was() {
    let run = echo(&[]);
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        // Those that one dies of on the spot.
        Signal::SIGSEGV,
        Signal::SIGABRT,
    ] {
        let on = OnScreen::start(&run, 80, 24, &[]);
        on.wait_for("device");
        assert!(on.is_raw());
        on.signal(signal);
        on.finish(128 + signal as i32);
    }
}

#[test]
fn a_stop_gives_the_terminal_back_and_going_on_takes_it_again() {
    let run = echo(&[]);
    let mut on = OnScreen::start(&run, 80, 24, &[]);
    on.wait_for("device");
    for key in [None, Some("\x1a")] {
        match key {
            None => on.signal(Signal::SIGTSTP),
            Some(key) => on.type_in(key),
        }
        let stat = format!("/proc/{}/stat", on.child.id());
        wait_until("it stops", || {
            std::fs::read_to_string(&stat).unwrap().rsplit(") ").next().unwrap().starts_with('T')
        });
        on.assert_sane();
        on.signal(Signal::SIGCONT);
        on.wait_until("it is there again", |lines| {
            lines.iter().any(|line| line.starts_with("device"))
        });
        wait_until("it is raw again", || on.is_raw());
    }
    on.type_in("q");
    on.finish(0);
}

#[test]
fn a_run_that_is_stopped_is_said_to_owe_an_answer() {
    let run = echo(&[]);
    let mut on = OnScreen::start(&run, 80, 24, &[]);
    on.wait_for("device");
    run.signal(Signal::SIGSTOP);
    on.wait_for("NO ANSWER for 3 s");
    run.signal(Signal::SIGCONT);
    on.wait_until("it answers", |lines| lines[0].starts_with("echo Running"));
    on.type_in("q");
    on.finish(0);
}

#[test]
fn on_a_terminal_that_can_do_nothing_it_prints() {
    let run = echo(&[]);
    for (term, options) in [("dumb", &["--once"][..]), ("xterm", &["--plain", "--once"])] {
        let mut command = top(&run, &["--interval", "100ms"]);
        command.args(options).env("TERM", term);
        let text = OnScreen::start_command(command, 80, 24).finish(0);
        assert!(text.contains("echo: Running, ") && !text.contains('\x1b'), "{text:?}");
    }
    // Without keys it prints as well.
    let mut command = top(&run, &["--once", "--interval", "100ms"]);
    let printed = start(command.env("TERM", "xterm").stdin(Stdio::null())).finish();
    printed.assert(0, "echo: Running, ");
}
