//! What holds of a VM's vCPUs whatever the hardware beneath: the loop, the states, the threads, by
//! the public API over scripts. It needs no KVM, and is run on every architecture's build.

#[path = "conformance/debug.rs"]
mod debug;
#[path = "conformance/errors.rs"]
mod errors;
#[path = "conformance/fixture.rs"]
mod fixture;
#[path = "conformance/hypercalls.rs"]
mod hypercalls;
#[path = "conformance/interrupts.rs"]
mod interrupts;
#[path = "conformance/memory.rs"]
mod memory;
#[path = "conformance/races.rs"]
mod races;
#[path = "conformance/reasons.rs"]
mod reasons;
#[path = "conformance/states.rs"]
mod states;
#[path = "conformance/threads.rs"]
mod threads;
#[path = "conformance/upstream.rs"]
mod upstream;
