//! The aarch64 board.

use crate::{Example, common::run_guest, prints};

pub const EXAMPLES: [Example; 2] = [
    ("axvisor-aarch64.toml", "", 0, &["Hello from axvmm's guest"]),
    ("hello-aarch64.toml", "", 0, &["Hello from axvmm's guest"]),
];

/// What `memory` prints of RAM beyond 4 GiB.
pub const BEYOND_4_GIB: &str = "0x0000000040000000 to 0x000000017fffffff";

/// What `hypercall` says of its calls, and how many of them are exits of their own.
pub const HYPERCALLS: &[&str] = &[
    "2 by the doorbell: 0xffffffffffffffff",
    "119 by the doorbell: 0xffffffffffffffff",
    "2 by 32 bits: 0xffffffffffffffff",
    "2 by hvc: 0xffffffffffffffff",
    "119 by hvc: 0xffffffffffffffff",
];
pub const NATIVE_HYPERCALLS: u64 = 1;

/// What `smp` says of a processor.
pub fn of_cpu(id: usize, _: usize) -> String {
    format!("cpu: mpidr {id:#018x}\r\n")
}

#[test]
fn the_timer_wakes_a_halted_processor() {
    prints(&mut run_guest("timer", ""), &["timer: 3 interrupts, none early"]);
}
