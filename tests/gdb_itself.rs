//! GDB itself against `axvmm run --gdb`: what it makes of the registers' description, of stops and of
//! the end. A tiny guest on this machine's own KVM.

#![cfg(target_arch = "x86_64")]

mod common;

use std::{path::Path, process::Command};

use common::{guest, run, run_guest, start};

/// `gdb-multiarch`, or the machine's own.
fn gdb() -> &'static str {
    let runs = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    ["gdb-multiarch", "gdb"].into_iter().find(runs).expect("gdb is not installed")
}

/// What GDB prints when it is given these commands, one after the other.
fn gdb_with(socket: &Path, commands: &[&str]) -> String {
    let mut gdb = Command::new(gdb());
    gdb.args(["-nx", "-batch", "-ex", "set confirm off", "-ex"]);
    gdb.arg(format!("target remote {}", socket.display()));
    for command in commands {
        gdb.args(["-ex", command]);
    }
    let ended = run(gdb.arg(guest("hello")));
    format!("{}{}", ended.stdout, ended.stderr)
}

#[test]
fn gdb_breaks_steps_watches_and_hears_of_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("gdb");
    let running = start(run_guest("hello", "").arg("--gdb").arg(&socket));
    running.wait_until_told("the guest waits for GDB");
    let commands = [
        "print/x $pc",
        "print/x $cr0 & 1",
        "stepi",
        "stepi",
        "set $rbx = 0x1234",
        "print/x $rbx",
        "print $xmm0.v4_int32[0]",
        "info threads",
        "tbreak *$pc",
        "delete",
        "monitor watch port:0x3f8 write",
        "continue",
        "monitor unwatch",
        "hbreak *($pc)",
        "continue",
        "delete",
        "x/i $pc",
        "x/wx 0x7000000000",
        "continue",
        "print $_exitcode",
    ];
    let printed = gdb_with(&socket, &commands);
    for wanted in [
        "$1 = 0x100000",
        "$2 = 0x1",
        "$3 = 0x1234",
        "$4 = 0",
        "Thread 1.1 (vCPU 0)",
        "axvmm: vCPU 0 wrote 0x48 (8 bits) at port 0x3f8: com1+0x0",
        "SIGTRAP",
        "Breakpoint 2, ",
        "=> 0x",
        "Cannot access memory at address 0x7000000000",
        "exited normally",
    ] {
        assert!(printed.contains(wanted), "no {wanted:?} in\n{printed}");
    }
    running.finish().assert(0, "Hello from axvmm's guest");
}
