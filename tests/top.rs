//! `axvmm top` and the control socket that it asks. Over this machine's own KVM, with tiny guests.

mod common;

#[path = "top/alone.rs"]
mod alone;
#[path = "top/screen.rs"]
mod screen;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixStream},
    },
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use common::{Running, axvmm, guest, run, run_guest, start, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

const ECHO: &str = "console-echo";

/// A guest that gives back its input in capitals, and polls its console all the time.
fn echo(options: &[&str]) -> Running {
    echo_by(run_guest(ECHO, ""), options)
}

fn echo_by(mut command: Command, options: &[&str]) -> Running {
    command.args(["--set", "base.name=\"echo\""]).args(options);
    let running = start(command.stdin(Stdio::piped()));
    running.wait_for("console-echo: ready");
    running
}

/// `axvmm top` of a run.
fn top(run: &Running, options: &[&str]) -> Command {
    let mut command = axvmm();
    command.arg("top").arg(run.pid().to_string()).args(options);
    command
}

/// A connection to a run's control socket.
fn connect(pid: i32) -> UnixStream {
    let name = SocketAddr::from_abstract_name(format!("axvmm/{pid}")).unwrap();
    let stream = UnixStream::connect_addr(&name).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// The answer to a request.
fn ask(stream: &UnixStream, request: &[u8]) -> Value {
    let (mut to, mut line) = (stream, String::new());
    to.write_all(request).unwrap();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// Lines of JSON.
fn values(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_name<'a>(list: &'a Value, key: &str, name: &str) -> &'a Value {
    let mut all = list.as_array().unwrap().iter();
    all.find(|it| it[key] == name).unwrap_or_else(|| panic!("no {name} in {list}"))
}

#[test]
fn the_figures_agree_with_the_runs_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("result");
    let mut run = echo(&["--stats", "--result-file", file.to_str().unwrap()]);
    let seen = start(&mut top(&run, &["--json", "--interval", "100ms"]));
    for n in 1..=5 {
        run.type_in(&format!("line{n}\n"));
        run.wait_for(&format!("LINE{n}"));
        seen.wait_for_times("\"interval\":", n);
    }
    run.type_in("quit\n");
    run.finish().assert(0, "");
    let ended = seen.finish();
    ended.assert(0, "").assert_tells(&["echo has ended: the guest powered off (status 0)"]);

    let result: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let lines = values(&ended.stdout);
    let last = &lines.last().unwrap()["vms"][0];
    assert_eq!(last["total"], result["exits"][0]["total"], "{last}");
    assert_eq!((&last["status"], &last["ended"]["reason"]), (&"ended".into(), &"shutdown".into()));
    let devices = result["devices"].as_array().unwrap();
    for it in devices {
        let shown = of_name(&last["devices"], "device", it["device"].as_str().unwrap());
        assert_eq!(number(&shown["total"]), number(&it["reads"]) + number(&it["writes"]));
    }
    for (reason, count) in result["exits"][0]["by_reason"].as_object().unwrap() {
        assert_eq!(&of_name(&last["reasons"], "reason", reason)["total"], count);
    }

    // What came in each interval is what all are more than before.
    for pair in lines.windows(2) {
        let (before, now) = (&pair[0]["vms"][0], &pair[1]["vms"][0]);
        let came = number(&now["exits"]) * number(&pair[1]["interval"]);
        let more = number(&now["total"]) - number(&before["total"]);
        assert!((came - more).abs() < 0.01, "{came} {more}");
        assert!(number(&pair[1]["time"]) >= number(&pair[0]["time"]));
    }
    let busy = &lines[1]["vms"][0];
    assert!(number(&busy["exits"]) > 0.0, "{busy}");
    let shares = busy["vcpus"][0]["shares"].as_object().unwrap();
    let all: f64 = shares.values().map(number).sum();
    assert!((all - 1.0).abs() < 0.01 && number(&shares["handling"]) > 0.0, "{shares:?}");
    let most = devices.iter().max_by_key(|it| it["reads"].as_u64()).unwrap();
    let console = of_name(&busy["devices"], "device", most["device"].as_str().unwrap());
    let [mean, p50, p99, max] =
        ["mean_ns", "p50_ns", "p99_ns", "max_ns"].map(|key| number(&console["handling"][key]));
    assert!(0.0 < mean && mean <= max && p50 <= p99 && p99 <= max, "{console}");
}

#[test]
fn a_pipe_gets_a_block_for_each_interval_and_may_be_closed() {
    let run = echo(&[]);
    let once = common::run(&mut top(&run, &["--once", "--interval", "200ms"]));
    once.assert(0, "echo: Running, ");
    for part in ["vCPU  exits/s  guest %", "device", "reason", "mean us"] {
        assert!(once.stdout.contains(part), "{once:#?}");
    }
    assert_eq!(once.stdout.matches("process ").count(), 1, "{once:#?}");
    assert!(!once.stdout.contains('\x1b'), "{once:#?}");
    let mut seen = top(&run, &["--interval", "100ms"]);
    let mut seen = seen.stdout(Stdio::piped()).spawn().unwrap();
    let mut some = [0; 200];
    seen.stdout.take().unwrap().read_exact(&mut some).unwrap();
    assert!(seen.wait().unwrap().success());
}

#[test]
fn resets_go_on_being_counted() {
    let mut run = echo(&[]);
    let seen = start(&mut top(&run, &["--json", "--interval", "100ms"]));
    seen.wait_for("\"interval\":");
    run.type_in("reset\n");
    run.wait_for_times("console-echo: ready", 2);
    seen.wait_for("\"reboots\":1");
    let after = |text: &str| text.lines().filter(|it| it.contains("\"reboots\":1")).count();
    seen.wait_until("more", |text| after(text) > 3);
    run.type_in("quit\n");
    run.finish().assert(0, "");
    let lines = values(&seen.finish().stdout);
    let totals: Vec<_> = lines.iter().map(|it| number(&it["vms"][0]["total"])).collect();
    assert!(totals.is_sorted(), "{totals:?}");
    let after = lines.iter().filter(|it| it["vms"][0]["reboots"] == 1).skip(1);
    let handled = after.map(|it| number(&it["vms"][0]["vcpus"][0]["shares"]["handling"]));
    let handled: Vec<_> = handled.collect();
    assert!(handled.iter().any(|it| *it > 0.0), "times are counted after a reset: {handled:?}");
}

#[test]
fn a_run_that_was_killed_is_gone() {
    let run = echo(&[]);
    let seen = start(&mut top(&run, &["--interval", "100ms"]));
    seen.wait_for("exits/s");
    run.signal(Signal::SIGKILL);
    seen.finish().assert(1, "").assert_tells(&["it is gone, and has not said how it ended"]);
}

#[test]
fn a_signal_that_ends_the_run_is_told() {
    let run = echo(&[]);
    let seen = start(&mut top(&run, &["--interval", "100ms"]));
    seen.wait_for("exits/s");
    run.signal(Signal::SIGTERM);
    run.finish().assert(143, "");
    seen.finish().assert(0, "").assert_tells(&["echo has ended: ", "(status 143)"]);
}

/// A file with a guest for `--config`.
fn config(dir: &Path, name: &str, kernel: &str) -> std::path::PathBuf {
    let (file, kernel) = (dir.join(format!("{name}.toml")), guest(kernel).canonicalize().unwrap());
    fs::write(&file, format!("[kernel]\nkernel_path = {kernel:?}\nmemory = \"16M\"\n")).unwrap();
    file
}

#[test]
fn one_of_several_guests_in_a_process_is_looked_at_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["top-a", "top-b"];
    let mut command = axvmm();
    command.args(["run", "--console", "prefix"]);
    for name in names {
        command.arg("--config").arg(config(dir.path(), name, ECHO));
    }
    let mut run = start(command.stdin(Stdio::piped()));
    run.wait_for_times("console-echo: ready", 2);
    let both = start(&mut top(&run, &["--json", "--interval", "100ms"]));
    let mut one = axvmm();
    let one = start(one.args(["top", "top-a", "--json", "--interval", "100ms"]));
    one.wait_for("\"interval\":");
    both.wait_for("\"interval\":");
    run.type_in("quit\n");
    let one = one.finish();
    one.assert(0, "").assert_tells(&["top-a has ended: "]);
    assert!(!one.stdout.contains("top-b"), "{one:#?}");
    both.wait_for("\"status\":\"ended\"");
    run.signal(Signal::SIGTERM);
    run.finish().assert(143, "");
    let both = both.finish();
    both.assert(0, "").assert_tells(&["top-a has ended: ", "top-b has ended: "]);
    let last = values(&both.stdout).pop().unwrap();
    assert_eq!(last["vms"].as_array().unwrap().len(), 2, "{last}");
}

#[test]
fn requests_are_words_and_answers_lines() {
    let mut run = echo(&[]);
    let stream = connect(run.pid());
    let counts = ask(&stream, b"counts\n");
    assert_eq!((&counts["version"], &counts["pid"]), (&1.into(), &run.pid().into()));
    let vm = &counts["vms"][0];
    assert_eq!((&vm["name"], &vm["status"]), (&"echo".into(), &"Running".into()));
    assert!(vm.get("times").is_none() && vm["ended"].is_null(), "{vm}");
    let handled = |it: &Value| number(&it["vms"][0]["times"]["vcpus"][0]["handling_ns"]);
    assert_eq!(handled(&ask(&stream, b"times\n")), 0.0, "nobody has asked before");
    wait_until("times are counted", || handled(&ask(&stream, b"times\n")) > 0.0);
    let mut refused = ask(&stream, b"frob\n");
    assert!(refused["error"].as_str().unwrap().contains("counts, times"), "{refused}");
    // A script that asks once, without an end of line, and says no more.
    let mut script = connect(run.pid());
    script.write_all(b"counts").unwrap();
    script.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    script.read_to_string(&mut text).unwrap();
    refused = serde_json::from_str(&text).unwrap();
    assert_eq!(refused["vms"][0]["name"], "echo");
    // The last word comes unasked.
    run.type_in("quit\n");
    let mut last = String::new();
    BufReader::new(&stream).read_line(&mut last).unwrap();
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(last["vms"][0]["ended"]["reason"], "shutdown", "{last}");
    run.finish().assert(0, "");
}

#[test]
fn times_are_counted_only_while_somebody_wants_them() {
    let run = echo(&[]);
    let exits = || {
        let counts = ask(&connect(run.pid()), b"counts\n");
        number(&counts["vms"][0]["exits"][0]["total"])
    };
    // How many have a time; nobody wants one any more a moment later.
    let timed = || {
        let reasons = ask(&connect(run.pid()), b"times\n")["vms"][0]["times"]["reasons"].clone();
        reasons.as_object().unwrap().values().map(|it| number(&it["count"])).sum::<f64>()
    };
    wait_until("times are counted", || timed() > 0.0);
    wait_until("they are not", || {
        let (exits_before, timed_before) = (exits(), timed());
        wait_until("exits come", || exits() > exits_before + 5000.0);
        timed() - timed_before < (exits() - exits_before) / 2.0
    });
    let stays = connect(run.pid());
    ask(&stays, b"times\n");
    let (exits_before, timed_before) = (exits(), timed());
    wait_until("exits come", || exits() > exits_before + 5000.0);
    assert!(timed() - timed_before > 4000.0);
}

#[test]
fn who_floods_it_or_says_nothing_does_it_no_harm() {
    let mut run = echo(&[]);
    let mut clients: Vec<_> = (0..7).map(|_| connect(run.pid())).collect();
    let served = connect(run.pid());
    ask(&served, b"counts\n");
    let refused = connect(run.pid());
    let mut line = String::new();
    BufReader::new(&refused).read_line(&mut line).unwrap();
    assert!(line.contains("8 ask already"), "{line}");
    // Rubbish without an end, and requests whose answers nobody takes.
    for (client, what) in clients.iter_mut().zip([&[0xff; 1000][..], b"\n", b"times\n", b"counts"])
    {
        client.set_nonblocking(true).unwrap();
        let mut written = 0;
        while written < 4 << 20 {
            match client.write(what) {
                Ok(n) => written += n,
                Err(_) => break,
            }
        }
    }
    let status = format!("/proc/{}/status", run.pid());
    let memory = || {
        let status = fs::read_to_string(&status).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = memory();
    for n in 0..20 {
        run.type_in(&format!("well{n}\n"));
        run.wait_for(&format!("WELL{n}"));
        ask(&served, b"times\n");
    }
    assert!(memory() < before + 4096, "{before} {}", memory());
    drop(clients);
    wait_until("there is room again", || {
        let stream = connect(run.pid());
        ask(&stream, b"counts\n").get("vms").is_some()
    });
    run.type_in("quit\n");
    run.finish().assert(0, "");
}

#[test]
fn a_file_is_made_removed_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("control");
    let path = file.to_str().unwrap();
    let killed = echo(&["--control", path]);
    let looked = || common::run(axvmm().args(["top", path, "--once", "--interval", "100ms"]));
    looked().assert(0, "echo: Running");
    let mut second = run_guest("hello", "");
    let second = run(second.args(["--control", path]));
    second.assert(35, "").assert_tells(&["--control ", "somebody listens there"]);
    killed.signal(Signal::SIGKILL);
    killed.finish();
    assert!(file.exists());
    looked().assert(35, "").assert_tells(&[path, "nobody listens there any more"]);
    let mut again = echo(&["--control", path]);
    looked().assert(0, "echo: Running");
    again.type_in("quit\n");
    again.finish().assert(0, "");
    assert!(!file.exists());
    looked().assert(35, "").assert_tells(&[path]);
    fs::write(&file, "mine").unwrap();
    let refused = run(run_guest("hello", "").args(["--control", path]));
    refused.assert(35, "").assert_tells(&["no socket"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let nowhere = dir.path().join("nowhere/control");
    let refused = run(run_guest("hello", "").args(["--control", nowhere.to_str().unwrap()]));
    refused.assert(35, "").assert_tells(&["--control"]);
}

#[test]
fn usage_is_told() {
    for (args, tells) in [
        (&["--interval", "10ms"][..], "at least 100ms"),
        (&["--interval", "soon"], "--interval"),
        (&["1", "2"], "unexpected"),
    ] {
        run(axvmm().arg("top").args(args)).assert(35, "").assert_tells(&[tells]);
    }
}
