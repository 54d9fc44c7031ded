//! The riscv64 board.

use std::process::Stdio;

use crate::{
    Example,
    common::{run_guest, start},
    prints,
};

pub const EXAMPLES: [Example; 2] = [
    ("axvisor-riscv64.toml", "", 0, &["Hello from axvmm's guest"]),
    ("hello-riscv64.toml", "", 0, &["Hello from axvmm's guest"]),
];

/// What `memory` prints of RAM beyond 4 GiB.
pub const BEYOND_4_GIB: &str = "0x0000000080000000 to 0x00000001bfffffff";

/// What `hypercall` says of its calls, and how many of them are exits of their own.
pub const HYPERCALLS: &[&str] = &[
    "2 by the doorbell: 0xffffffffffffffff",
    "119 by the doorbell: 0xfffffffffffffffe",
    "2 by 32 bits: 0xffffffffffffffff",
    "2 by ecall: 0xffffffffffffffff",
    "119 by ecall: 0xfffffffffffffffe",
    "2 by AxVisor's own: 0xfffffffffffffffe",
];
pub const NATIVE_HYPERCALLS: u64 = 2;

/// What `smp` says of a processor.
pub fn of_cpu(id: usize, _: usize) -> String {
    format!("cpu: hart {id}\r\n")
}

#[test]
fn the_timer_wakes_a_halted_processor() {
    prints(&mut run_guest("timer", ""), &["timer: 3 interrupts, none early"]);
}

#[test]
fn csrs_are_there_as_the_device_tree_says() {
    prints(&mut run_guest("csr", ""), &["csr: an unknown one is illegal"]);
}

#[test]
fn the_sbi_has_a_console() {
    let mut running = start(run_guest("sbi-console", "").stdin(Stdio::piped()));
    running.wait_for("sbi-console: bytes by DBCN");
    running.type_in("typed\nquit\n");
    running.finish().assert(0, "sbi-console: a line by DBCN").assert(0, "TYPED");
}
