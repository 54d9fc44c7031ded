//! The guide in `resources/guide/`: what it shows is what there is. Every command of the
//! troubleshooting guide is run, over this machine's own KVM, and must say what the guide has it say.

mod common;

use std::{env, env::consts::ARCH, os::unix::fs::symlink, process::Command, process::Stdio};

use common::{Finished, axvmm, guest, root, run};

const TROUBLESHOOTING: &str = include_str!("../resources/guide/troubleshooting.md");
const CHANNELS: &str = include_str!("../resources/guide/channels.md");
const TESTING: &str = include_str!("../resources/guide/testing.md");

/// A command of the guide, and what stands below it there.
struct Shown {
    command: String,
    status: i32,
    lines: Vec<String>,
}

/// The commands in a text's blocks for this architecture. A block begins with ```` ```console ````,
/// after which may stand which architectures it is for; what follows a `$` is a command, and `$ echo $?`
/// asks for the status of the one before, which is 0 if nobody asks.
fn shown(text: &str) -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    let mut here = false;
    let mut asked = false;
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("```") {
            let archs = kind.strip_prefix("console").unwrap_or("none");
            here = !here && (archs.is_empty() || archs.split(' ').any(|arch| arch == ARCH));
            asked = false;
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| here) {
            asked = command == "echo $?";
            if !asked {
                found.push(Shown { command: command.to_owned(), status: 0, lines: Vec::new() });
            }
        } else if let Some(last) = found.last_mut().filter(|_| here) {
            match asked {
                true => last.status = line.parse().expect("a status"),
                false => last.lines.push(line.to_owned()),
            }
        }
    }
    found
}

/// Whether a line is as shown, where `…` stands for anything.
fn is_like(line: &str, shown: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or("")) else { return false };
    for part in parts {
        if part.is_empty() {
            rest = "";
        } else if let Some(at) = rest.find(part) {
            rest = &rest[at + part.len()..];
        } else {
            return false;
        }
    }
    rest.is_empty()
}

/// Runs a command as a reader would: by a shell, with axvmm in the path.
fn run_shown(command: &str) -> Finished {
    let dir = tempfile::tempdir().unwrap();
    let program = axvmm().get_program().to_owned();
    if program.to_str().unwrap().contains('/') {
        symlink(program, dir.path().join("axvmm")).unwrap();
    }
    let path = format!("{}:{}", dir.path().display(), env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(root()).env("PATH", path).env("NO_COLOR", "1");
    run(shell.stdin(Stdio::null()))
}

#[test]
fn every_case_of_the_troubleshooting_guide_is_as_it_says() {
    let cases = shown(TROUBLESHOOTING);
    assert!(cases.len() > 10, "the guide has no commands for {ARCH}");
    assert_are_as_shown(cases);
}

#[test]
fn channels_are_used_as_shown() {
    let cases = shown(CHANNELS);
    assert_eq!(cases.len(), 1);
    assert_are_as_shown(cases);
}

#[test]
fn tests_are_told_as_shown() {
    let cases = shown(TESTING);
    assert_eq!(cases.len(), if ARCH == "x86_64" { 2 } else { 0 });
    assert_are_as_shown(cases);
}

#[track_caller]
fn assert_are_as_shown(cases: Vec<Shown>) {
    guest("stop"); // builds them all
    for Shown { command, status, lines } in cases {
        let ended = run_shown(&command);
        assert_eq!(ended.status, status, "{command}: {ended:#?}");
        let said: Vec<&str> = ended.stdout.lines().chain(ended.stderr.lines()).collect();
        for wanted in lines.iter().filter(|line| *line != "…") {
            assert!(
                said.iter().any(|line| is_like(line.trim_end(), wanted)),
                "{command} does not say {wanted:?}: {ended:#?}"
            );
        }
        // Without a line of dots, that is all that it says.
        let shown_all = !lines.iter().any(|line| line == "…");
        for line in said.iter().map(|line| line.trim_end()).filter(|line| !line.is_empty()) {
            let known = lines.iter().any(|wanted| is_like(line, wanted));
            assert!(known || !shown_all, "{command} says more: {line:?}");
        }
    }
}

#[test]
fn a_shown_line_is_compared_whole() {
    for (line, shown, like) in [
        ("a pc 0x10 b", "a pc 0x… b", true),
        ("a pc 0x10 b", "a pc 0x…", true),
        ("a pc 0x10 b", "…b", true),
        ("a pc 0x10 b", "a pc 0x10", false),
        ("a pc 0x10 b", "a pc 0x11 …", false),
        ("a pc 0x10 b", "a … c", false),
        ("x a", "a", false),
    ] {
        assert_eq!(is_like(line, shown), like, "{line:?} like {shown:?}");
    }
}

#[test]
fn blocks_are_for_their_architectures() {
    let text = format!(
        "```toml\n$ no\n```\n```console {ARCH}\n$ one\nline\n$ two\n$ echo $?\n3\n```\n```console m68k\n$ no\n```\n"
    );
    let found = shown(&text);
    let all: Vec<_> =
        found.iter().map(|it| (it.command.as_str(), it.status, it.lines.len())).collect();
    assert_eq!(all, [("one", 0, 1), ("two", 3, 0)]);
}
