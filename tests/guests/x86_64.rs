//! PCs: their boot protocols and their devices.

use std::{fs, process::Command};

use crate::{
    BOUNDED_LOG, Example,
    common::{self, guest, run_guest},
    prints,
};

pub const EXAMPLES: [Example; 6] = [
    ("axvisor-x86_64.toml", "", 0, &["Hello from real mode"]),
    ("console-x86_64.toml", "shout\nquit\n", 0, &["SHOUT"]),
    ("exit-status-x86_64.toml", "", 43, &["stop: exit"]),
    ("hello-x86_64.toml", "", 0, &["Hello from axvmm's guest"]),
    (
        "multiboot-x86_64.toml",
        "",
        0,
        &[
            "Hello from multiboot",
            "command line: from a file",
            "modules: 2",
            "'first'",
            "'second module'",
        ],
    ),
    ("smp-x86_64.toml", "", 0, &["smp: 4 cpus\r\n"]),
];

/// What `memory` prints of RAM beyond 4 GiB.
pub const BEYOND_4_GIB: &str = "0x0000000100000000";

/// What `hypercall` says of its calls, and how many of them are exits of their own.
pub const HYPERCALLS: &[&str] =
    &["2 by the doorbell: 0xffffffff", "119 by the doorbell: 0xffffffff"];
pub const NATIVE_HYPERCALLS: u64 = 0;

/// What `smp` says of a processor.
pub fn of_cpu(id: usize, cpus: usize) -> String {
    format!("cpu: apic id {id}, x2apic id {id}, threads in a core 1, in a package {cpus}\r\n")
}

/// `axvmm run -k GUEST`, without a command line.
fn bare(file: &str) -> Command {
    let mut command = common::axvmm();
    command.args(["run", "-m", "16M", "-k"]).arg(guest(file));
    command
}

#[test]
fn an_elf_with_a_pvh_note() {
    let dir = tempfile::tempdir().unwrap();
    let initrd = dir.path().join("initrd");
    fs::write(&initrd, b"initial bytes").unwrap();
    let mut command = run_guest("pvh-info", "one two=three");
    let parts = [
        "command line: one two=three\r\n",
        "modules: 1\r\n",
        ", 13 bytes, ",
        "signature and checksum right",
    ];
    prints(command.arg("-i").arg(initrd), &parts);
}

#[test]
fn a_guest_without_a_command_line() {
    prints(&mut bare("pvh-info"), &["command line: \r\n", "modules: 0\r\n"]);
    prints(&mut bare("hello64"), &["command line: \r\n"]);
}

#[test]
fn an_elf_by_the_64_bit_linux_protocol() {
    let parts = ["Hello from long mode", "command line: quiet root=/dev/vda\r\n"];
    prints(&mut run_guest("hello64", "quiet root=/dev/vda"), &parts);
}

#[test]
fn a_bzimage_with_an_initrd() {
    let dir = tempfile::tempdir().unwrap();
    let initrd = dir.path().join("initrd");
    fs::write(&initrd, b"initial bytes").unwrap();
    let mut command = run_guest("hello-bzimage-x86_64.bin", "quiet");
    let parts = ["Hello from a bzImage", "command line: quiet\r\n", "13 bytes, "];
    prints(command.arg("-i").arg(initrd), &parts);
}

#[test]
fn the_clock_tells_the_hosts_time_in_utc() {
    let ended = prints(&mut run_guest("rtc", ""), &["rtc: 2"]);
    let told = ended.stdout.split("rtc: ").nth(1).unwrap().trim();
    let date = Command::new("date").args(["-u", "-d", told, "+%s"]).output().unwrap();
    let seconds: i64 = String::from_utf8(date.stdout).unwrap().trim().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!((now.as_secs() as i64 - seconds).abs() < 120, "{told:?} is not now");
}

#[test]
fn the_keyboard_controller_and_its_keyboard_answer() {
    let parts = ["self test: 0x55\r\n", "keyboard reset: 0xfa 0xaa\r\n", "id: 0xfa 0xab 0x41\r\n"];
    prints(&mut run_guest("i8042", ""), &parts);
}

#[test]
fn the_debug_console_prints_lines_and_strings() {
    let ended = prints(&mut run_guest("debug-ports", ""), &["0xe9 reads 0xe9"]);
    let all = ended.stdout + &ended.stderr;
    assert!(all.contains("debug-ports: a line on port 0xe9"), "{all:?}");
    assert!(all.contains("debug-ports: a string on port 0xe9"), "{all:?}");
}

#[test]
fn the_acpi_tables_say_how_to_power_off() {
    prints(&mut run_guest("acpi", ""), &["FACP", "sleep control register"]);
}

#[test]
fn accesses_where_nobody_is_are_answered_as_nobody_answers() {
    let ended = prints(&mut run_guest("wild", ""), &["wild: ok"]);
    assert!(ended.stderr.len() < BOUNDED_LOG, "{ended:#?}");
}

#[test]
fn a_guest_that_writes_everywhere_fills_no_log() {
    let ended = prints(&mut run_guest("everywhere", ""), &["everywhere: ok"]);
    ended.assert_tells(&["counted, not told"]);
    assert!(ended.stderr.len() < BOUNDED_LOG, "{} bytes", ended.stderr.len());
}
