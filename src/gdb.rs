//! A server for GDB: `axvmm run --gdb`. One guest, one client at a time; vCPUs are its threads.
//!
//! - `endpoint`: where it listens.
//! - `inbox`: what guests tell it, from their own threads.
//! - `server`: its thread: waits for clients, guests and their ends.
//! - `session`: one client from its first packet to its last.
//! - `debuggee`: the guest as `gdbstub` wants it: registers, memory, threads.
//! - `resume`: how it goes on, and what of it is told when it stops.
//! - `stops`: what it is to stop at: breakpoints, watchpoints.
//! - `planted`: breakpoint instructions in the guest's memory.
//! - `watches`: registers of devices that are watched.
//! - `monitor`: GDB's `monitor` commands.
//! - `description`: the registers in GDB's words.
//!
//! The protocol is GDB's manual, appendix E, "GDB Remote Serial Protocol".

mod debuggee;
mod description;
mod endpoint;
mod inbox;
mod monitor;
mod planted;
mod resume;
mod server;
mod session;
mod stops;
mod watches;

pub use endpoint::Endpoint;
pub use server::Server;
