//! What of instruction sets a debugger must know and no host tells: how processors translate
//! addresses, and where an instruction leads.

pub mod aarch64;
pub mod riscv64;
