//! `axvmm completions` and `axvmm man`: what packages have beside the program, made from the command
//! line's own definition.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, Command};
use clap_complete::Shell;

use super::{Failure, atomic_file, check::print};

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell that is to complete axvmm's command lines
    shell: Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Where a page for each command goes: axvmm.1, axvmm-run.1, …; without it axvmm's own goes to
    /// stdout, for `axvmm man | man -l -`
    dir: Option<PathBuf>,
}

/// Prints what a shell completes `command` with.
pub fn completions(args: &CompletionsArgs, mut command: Command) -> Result<u8, Failure> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

/// Prints the manual page of `command`, or writes those of all that it has.
pub fn man(args: &ManArgs, command: Command) -> Result<u8, Failure> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let Some(dir) = &args.dir else {
        let page = page(command).map_err(|error| Failure::call("make the page", error))?;
        print(&String::from_utf8_lossy(&page))?;
        return Ok(0);
    };
    write_all(command, dir).map_err(|error| {
        Failure::usage(format!("Failed to write the pages to {}: {error}", dir.display()))
    })?;
    Ok(0)
}

/// A page for a command and one for each that it has.
fn write_all(command: Command, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut commands = vec![command];
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands().filter(|it| !it.is_hide_set()).cloned());
        let mut name = OsString::from(full_name(&command));
        name.push(".1");
        atomic_file::replace(&dir.join(name), &page(command)?)?;
    }
    Ok(())
}

/// `axvmm-device-new`.
fn full_name(command: &Command) -> String {
    command.get_display_name().unwrap_or(command.get_name()).to_owned()
}

fn page(command: Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let version = concat!("axvmm ", env!("CARGO_PKG_VERSION"));
    clap_mangen::Man::new(command).source(version).manual("axvmm").render(&mut page)?;
    Ok(page)
}
