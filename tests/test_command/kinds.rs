//! Guests that end in each way that there is, each with the verdict that is right.

use std::fs;

use crate::{ECHO, Guests, HELLO, STOP, common::WORDS};

#[test]
fn each_kind_of_guest_gets_the_right_verdict() {
    let reset = WORDS.resets[0];
    let hello = "[test]\nexpect = ['^Hello from']\nforbid = 'panicked'\n";
    let talks = "[test]\nexpect = ['ONE', 'TWO']\nanswers = [['ready', \"one\\n\"], \
        ['ONE', \"two\\n\"], ['TWO', \"quit\\n\"]]\n";
    let reboots = "[test]\nreboots = 1\nexpect = ['ready', 'ready']\n\
        answers = [['ready', \"reset\\n\"], ['ready', \"quit\\n\"]]\n";
    let (exit, status) = WORDS.exit.unwrap_or(("panic", 34));
    let stopped = "[test]\nexpect = 'stop: halt'\nstop = true\n";
    let guests = Guests::new()
        .add("passes", HELLO, "", hello)
        .add("says-nothing-of-tests", STOP, "poweroff", "")
        .add("talks", ECHO, "", talks)
        .add("status", STOP, exit, &format!("[test]\nstatus = {status}\n"))
        .add("reboots", ECHO, "", reboots)
        .add("is-stopped", STOP, "halt", stopped)
        .add("has-processors", "smp", "", "[test]\nexpect = '^smp: 4 cpus'\n[base]\ncpu_num = 4\n")
        .add("runs-on", STOP, "halt", "[test]\nstatus = 124\ntimeout = \"1s\"\n")
        .add("panics", STOP, "panic", "")
        .add("crashes", STOP, WORDS.crash, "")
        .add("hangs", STOP, "loop", "[test]\ntimeout = \"2s\"\n")
        .add("wrong-status", STOP, "poweroff", "[test]\nstatus = 3\n")
        .add("misses-a-line", HELLO, "", "[test]\nexpect = ['Hello', 'Bye']\n")
        .add("ends-too-early", STOP, "poweroff", "[test]\nexpect = 'never'\nstop = true\n")
        .add(
            "says-it-the-wrong-way-round",
            ECHO,
            "",
            &talks.replace("['ONE', 'TWO']", "['TWO', 'ONE']"),
        )
        .add("has-a-bad-line", STOP, "halt", "[test]\nforbid = 'stop: h'\ntimeout = \"10m\"\n")
        .add("has-no-prompt", HELLO, "", "[test]\nanswers = [['login:', 'root']]\n")
        .add("floods", STOP, "flood", "[test]\ntimeout = \"3s\"\n")
        .add("resets-itself", STOP, reset, "")
        .add("resets-itself-for-ever", STOP, reset, "[test]\nreboots = 2\n");
    let told = guests.told(&[], 1);
    let verdict = |name: &str| {
        let told = &told[name];
        let kinds = told["why"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap());
        (told["verdict"].as_str().unwrap().to_owned(), kinds.collect::<Vec<_>>().join(" "))
    };
    for (name, kinds) in [
        ("passes", None),
        ("says-nothing-of-tests", None),
        ("talks", None),
        ("status", None),
        ("reboots", None),
        ("is-stopped", None),
        ("has-processors", None),
        ("runs-on", None),
        ("panics", Some("status")),
        ("crashes", Some("status")),
        ("hangs", Some("timeout")),
        ("wrong-status", Some("status")),
        ("misses-a-line", Some("missing-line")),
        ("ends-too-early", Some("status missing-line")),
        ("says-it-the-wrong-way-round", Some("missing-line")),
        ("has-a-bad-line", Some("forbidden-line")),
        ("has-no-prompt", Some("no-prompt")),
        ("floods", Some("timeout")),
        ("resets-itself", Some("status")),
        ("resets-itself-for-ever", Some("status")),
    ] {
        let expected = if kinds.is_none() { "passed" } else { "failed" };
        let found = verdict(name);
        assert_eq!(found, (expected.into(), kinds.unwrap_or("").into()), "{name}: {told:#?}");
    }
    assert_eq!(told["resets-itself-for-ever"]["reboots"], 2);
    assert_eq!(
        (&told["panics"]["status"], &told["panics"]["reason"]),
        (&34.into(), &"panic".into())
    );
    let summary = &told["summary"];
    assert_eq!((&summary["passed"], &summary["failed"]), (&8.into(), &12.into()), "{summary}");
    // Each has its own files.
    let read = |file: &str| fs::read_to_string(guests.path("out").join(file)).unwrap();
    assert!(read("passes/console.log").starts_with("Hello from"));
    assert!(read("crashes/messages.log").contains("latest exits"));
    assert!(read("talks/result.json").contains("shutdown"));
}
