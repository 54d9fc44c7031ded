//! `axvmm import`: the `guest.toml` of a guest that another VMM is configured for.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failure, check::print, init, log_output::tell};
use crate::{
    devices::custom::Kinds,
    import::{Imported, firecracker, qemu},
};

/// To stdout.
const STDOUT: &str = "-";

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Firecracker's configuration file (--config-file), whose paths are relative to the working
    /// directory
    #[arg(required_unless_present = "qemu", conflicts_with = "qemu")]
    file: Option<PathBuf>,
    /// A command line of QEMU's instead, which comes after --
    #[arg(long, requires = "command")]
    qemu: bool,
    /// QEMU's command line, such as `qemu-system-x86_64 -m 512 -kernel bzImage`
    #[arg(last = true, requires = "qemu", value_name = "COMMAND")]
    command: Vec<String>,
    /// The file to write; - is stdout
    #[arg(short, long, value_name = "FILE", default_value = STDOUT)]
    output: PathBuf,
    /// Takes the place of a file that is there
    #[arg(long)]
    force: bool,
}

/// Writes the file, and tells what is not in it.
pub fn import(args: &ImportArgs, kinds: &Kinds) -> Result<u8, Failure> {
    let (from, imported) = match &args.file {
        Some(file) => (file.display().to_string(), firecracker::import(file)?),
        None => ("a command line of QEMU's".to_owned(), qemu::import(&args.command)?),
    };
    write(args, imported, &from, kinds)?;
    Ok(0)
}

fn write(args: &ImportArgs, guest: Imported, from: &str, kinds: &Kinds) -> Result<(), Failure> {
    let seen = |path: &str| init::seen_from(&args.output, Path::new(path));
    let written = guest.guest_toml::<Failure>(from, kinds, &seen)?;
    let to_stdout = args.output.as_os_str() == STDOUT;
    if to_stdout {
        print(&written.text)?;
    } else {
        init::write(&args.output, &written.text, args.force)?;
    }
    written.notes.iter().for_each(|note| tell(&format!("warning: {note}")));
    let options: String = written.run_options.iter().map(|option| format!(" {option}")).collect();
    if to_stdout && !options.is_empty() {
        tell(&format!("note: to be run with `axvmm run{options} --config` and the file"));
    }
    if !to_stdout {
        let name = args.output.display();
        print(&format!("Wrote {name}. To run it: axvmm run{options} --config {name}\n"))?;
    }
    Ok(())
}
