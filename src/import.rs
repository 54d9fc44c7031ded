//! What other VMMs are configured with, as the `guest.toml` that it means.
//!
//! - `json`: JSON whose every value knows its place, read key by key, so that none is passed over.
//! - [`firecracker`]: Firecracker's configuration file.
//! - [`qemu`]: a command line of QEMU's.
//! - `draft`: what they make: the same tree that a `guest.toml` becomes, whose places are those in the
//!   text that it was made of, so that [`crate::config`] reads it as any other and what it finds wrong
//!   is shown where a person has written it.
//! - `text`: the tree as a file.

mod draft;
pub mod firecracker;
mod json;
pub mod qemu;
#[cfg(test)]
mod tests;
mod text;

pub use draft::Imported;
pub use text::Written;
