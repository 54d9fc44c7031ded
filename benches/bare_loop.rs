//! The least that a VMM can do: a loop around `KVM_RUN` that answers every read with a constant.
//!
//!     bare_loop KERNEL CMDLINE
//!
//! Runs a tiny PVH guest with 128 MiB and one vCPU. What `side_by_side` measures of it is what an
//! exit costs before any VMM has done anything.

#[cfg(target_arch = "x86_64")]
#[path = "bare_loop/x86_64.rs"]
mod bare;

#[cfg(target_arch = "x86_64")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    bare::main()
}

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    println!("bare_loop is for x86_64");
}
