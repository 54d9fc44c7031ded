//! A device of another process and a guest: the crate's server (an example), and its interrupts all
//! the way to a processor.
#![cfg(target_arch = "x86_64")]

#[allow(dead_code, reason = "it is a program as well")]
#[path = "../examples/vfio_user_adder.rs"]
mod adder;
mod common;

use std::{fs, path::PathBuf, thread};

use common::{Finished, axvmm, guest, run, wait_until};

/// The guest with the server, and with more in its configuration and on its command line.
fn with_adder(keys: &str, options: &[&str]) -> (tempfile::TempDir, Finished) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let server = {
        let socket = socket.clone();
        thread::spawn(move || adder::serve(&socket))
    };
    wait_until("the server listens", || socket.exists());
    let text = format!(
        "[kernel]\nkernel_path = {:?}\nmemory = \"16M\"\n\
        [[devices.vfio_user]]\nname = \"adder\"\nsocket = \"socket\"\n{keys}",
        guest("msix")
    );
    fs::write(dir.path().join("guest.toml"), text).unwrap();
    let mut command = axvmm();
    command.args(["run", "--config", "guest.toml"]).args(options).current_dir(dir.path());
    let ended = run(&mut command);
    server.join().unwrap().unwrap();
    (dir, ended)
}

#[test]
fn a_message_of_a_device_reaches_the_processor() {
    let (_dir, ended) = with_adder("", &["--stats"]);
    ended.assert(0, "msix: 5\r\nmsix: 11\r\n");
    // Two reads of the sum; the sum, twice, and the entry of the table.
    let row = ended.stderr.lines().find(|line| line.contains("adder")).expect("it is counted");
    let words: Vec<_> = row.split_whitespace().collect();
    assert_eq!(words[..3], ["adder", "2", "6"]);
}

#[test]
fn its_accesses_are_recorded_and_can_go_wrong() {
    let fault = "[[devices.fault]]\ndevice = \"adder\"\naccess = \"read\"\n\
        action = \"bits\"\nvalue = 0x10\nmask = 0x10\n";
    let (dir, ended) = with_adder(fault, &["--record", "run.axt"]);
    ended.assert(0, "msix: 21\r\nmsix: 27\r\n").assert_tells(&["adder"]);
    let recording: PathBuf = dir.path().join("run.axt");
    let shown = run(axvmm().args(["trace", "show", "--device", "adder"]).arg(recording));
    shown.assert(0, "-> 0x00000015;").assert(0, "-> 0x0000001b;");
    assert_eq!(shown.stdout.lines().filter(|line| line.contains("adder")).count(), 8);
}
