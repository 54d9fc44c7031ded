//! Networks through the binary, as far as no network is needed for that: what the host lacks is told
//! with what to do about it, before the guest runs.

mod common;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use common::{run, run_guest};
use tempfile::TempDir;

/// A guest with this card, where programs are looked for in `programs` only.
fn guest(card: &str, programs: &Path) -> Command {
    let mut command = run_guest("hello", "");
    command.args(["--net", card]).env("PATH", programs);
    command
}

/// A directory with a passt that is this script.
fn passt(script: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("passt");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

#[test]
fn who_has_no_passt_is_told_what_to_install() {
    let dir = TempDir::new().unwrap();
    let finished = run(&mut guest("user", dir.path()));
    finished.assert(37, "").assert_tells(&["net0: ", "is not installed", "apt install passt"]);
}

#[test]
fn a_passt_that_is_too_old_or_fails_is_told_with_its_own_words() {
    for (script, words) in [
        ("echo \"passt: unrecognized option '--fd'\" >&2; exit 1", "version 2023_03_09"),
        ("echo 'Usage: passt [OPTION]' >&2; exit 1", "it ended (exit status: 1)"),
        ("echo 'No such thing' >&2; exit 3", "passt does not run: No such thing"),
    ] {
        let dir = passt(script);
        run(&mut guest("user", dir.path())).assert(37, "").assert_tells(&["net0: ", words]);
    }
}

#[test]
fn what_can_be_no_network_is_the_users_to_change() {
    let dir = TempDir::new().unwrap();
    for (card, words) in [
        ("tap=a/b", "cannot be the name of an interface"),
        ("tap_fd=900", "file descriptor 900 is not open"),
        ("user,vhost=true", "vhost-net is for TAP interfaces"),
        ("user,ports=80-90:80", "11 ports of the host's cannot lead to 1"),
    ] {
        run(&mut guest(card, dir.path())).assert(35, "").assert_tells(&[words]);
    }
}
