//! `axvmm init`: a commented `guest.toml` to begin with.

use std::{
    io,
    path::{Path, PathBuf, absolute},
};

use clap::Args;

use super::{
    Failure, atomic_file,
    check::{self, print},
    log_output::tell,
};
use crate::{config::template, hal::Arch};

#[derive(Debug, Args)]
pub struct InitArgs {
    /// The kernel that the guest is to run
    #[arg(short, long, default_value = "vmlinuz")]
    kernel: PathBuf,
    /// Its initial RAM disk
    #[arg(short, long)]
    initrd: Option<PathBuf>,
    /// The guest's architecture, where it is not this host's
    #[arg(long, value_parser = check::arch)]
    arch: Option<Arch>,
    /// The file to write; - is stdout
    #[arg(short, long, value_name = "FILE", default_value = "guest.toml")]
    output: PathBuf,
    /// Takes the place of a file that is there
    #[arg(long)]
    force: bool,
}

/// Writes the file.
pub fn init(args: &InitArgs) -> Result<u8, Failure> {
    let arch = args.arch.or(Arch::host()).unwrap_or(Arch::X86_64);
    let kernel = seen_from(&args.output, &args.kernel)?;
    let initrd = args.initrd.as_deref().map(|path| seen_from(&args.output, path)).transpose()?;
    let text = template(&kernel, initrd.as_deref(), arch);
    if args.output == Path::new("-") {
        print(&text)?;
        return Ok(0);
    }
    write(&args.output, &text, args.force)?;
    let name = args.output.display();
    if !args.kernel.exists() {
        tell(&format!("note: there is no kernel {} yet", args.kernel.display()));
    }
    print(&format!("Wrote {name}. To run it: axvmm run --config {name}\n"))?;
    Ok(0)
}

/// Writes a guest.toml, in the place of one that is there if that is wanted.
pub fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let name = path.display();
    let write = if force { atomic_file::replace } else { atomic_file::create };
    write(path, text.as_bytes()).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::usage(format!(
            "{name} is there already\n  Give --force to write over it, or -o with another name."
        )),
        _ => Failure::usage(format!("Failed to write {name}: {error}")),
    })
}

/// The path as it is written in a file whose relative paths are relative to itself.
pub fn seen_from(file: &Path, path: &Path) -> Result<String, Failure> {
    let same_directory = file.parent().is_none_or(|parent| parent.as_os_str().is_empty());
    let seen = match same_directory || path.is_absolute() {
        true => path.to_owned(),
        false => {
            absolute(path).map_err(|error| Failure::call("find the working directory", error))?
        }
    };
    seen.into_os_string().into_string().map_err(|path| {
        Failure::usage(format!("{path:?} is no UTF-8, which a TOML file cannot name: rename it"))
    })
}
