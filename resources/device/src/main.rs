//! axvmm with a device of its own. It has all of axvmm's commands: `cargo run -- run --config
//! guest.toml`.

mod device;

use std::process::ExitCode;

use axvmm::devices::custom::Kinds;

fn main() -> ExitCode {
    axvmm::cli::main_with(&Kinds::new().with::<device::TYPE>())
}
