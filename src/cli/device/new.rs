//! `axvmm device new`: a program with a device, its tests, and a guest that has it.

use std::{
    fs, io,
    path::{Path, PathBuf, absolute},
};

use clap::Args;

use crate::{
    cli::{Failure, check::print},
    config::template,
    hal::Arch,
};

/// What is written; `NAME`, `TYPE` and `AXVMM` stand for the device's name, its type's name, and
/// where axvmm's source is.
const FILES: [(&str, &str); 3] = [
    ("Cargo.toml", include_str!("../../../resources/device/Cargo.toml")),
    ("src/main.rs", include_str!("../../../resources/device/src/main.rs")),
    ("src/device.rs", include_str!("../../../resources/device/src/device.rs")),
];

/// Where this program was made from.
const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

#[derive(Debug, Args)]
pub struct NewArgs {
    /// What the device and its directory are called: a word of small letters, digits and dashes
    #[arg(value_parser = name)]
    name: String,
    /// The kernel of the guest that has it
    #[arg(short, long, default_value = "vmlinuz")]
    kernel: PathBuf,
    /// Its initial RAM disk
    #[arg(short, long)]
    initrd: Option<PathBuf>,
    /// The directory of axvmm's source [default: where this axvmm was built]
    #[arg(long, value_name = "DIR")]
    axvmm: Option<PathBuf>,
}

fn name(text: &str) -> Result<String, String> {
    let is_part = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
    let is_name = text.starts_with(|it: char| it.is_ascii_lowercase())
        && text.chars().all(is_part)
        && text.len() <= 31;
    match is_name {
        true => Ok(text.to_owned()),
        false => {
            Err("a name is small letters, digits and dashes, 31 at most, a letter first".into())
        }
    }
}

/// Writes the files.
pub fn new(args: &NewArgs) -> Result<(), Failure> {
    let source = source(args.axvmm.as_deref())?;
    // The versions that axvmm is tested with.
    let versions = fs::read_to_string(Path::new(&source).join("Cargo.lock")).ok();
    let directory = Path::new(&args.name);
    match fs::create_dir(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let problem = format!("{} is there already\n  Choose another name.", args.name);
            return Err(Failure::usage(problem));
        }
        Err(error) => return Err(Failure::usage(format!("Failed to make {}: {error}", args.name))),
    }
    for (file, text) in FILES {
        let text = text
            .replace("NAME", &args.name)
            .replace("TYPE", &type_name(&args.name))
            .replace("\"AXVMM\"", &toml::Value::String(source.clone()).to_string());
        write(&directory.join(file), &text)?;
    }
    if let Some(versions) = versions {
        write(&directory.join("Cargo.lock"), &versions)?;
    }
    write(&directory.join("guest.toml"), &guest(args)?)?;
    let name = &args.name;
    print(&format!(
        "Wrote {name}/: the device is src/device.rs. To test it, and to run a guest that has it:
  cd {name}
  cargo test
  cargo run -- run --config guest.toml
"
    ))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let written = fs::create_dir_all(directory).and_then(|()| fs::write(path, text));
    written.map_err(|error| Failure::usage(format!("Failed to write {}: {error}", path.display())))
}

/// Where axvmm's source is.
fn source(given: Option<&Path>) -> Result<String, Failure> {
    let path = given.unwrap_or(Path::new(SOURCE));
    if !path.join("src/cli.rs").exists() {
        let problem = match given {
            Some(path) => format!("--axvmm {}: axvmm's source is not there", path.display()),
            None => "Failed to find axvmm's source, which the program is to link\n  Say where it \
                is with --axvmm DIR."
                .to_owned(),
        };
        return Err(Failure::usage(problem));
    }
    text_of(path)
}

/// A guest's file with the device in it.
fn guest(args: &NewArgs) -> Result<String, Failure> {
    let arch = Arch::host().unwrap_or(Arch::X86_64);
    let initrd = args.initrd.as_deref().map(text_of).transpose()?;
    let text = template(&text_of(&args.kernel)?, initrd.as_deref(), arch);
    let name = &args.name;
    Ok(format!(
        "{text}
# The device of src/device.rs. `axvmm check` shows where it stands.
[[devices.custom]]
kind = \"{name}\"
#at = 0xd000_0000
#irq = 17
tick_us = 1000
"
    ))
}

/// A path that means the same from anywhere.
fn text_of(path: &Path) -> Result<String, Failure> {
    let path = absolute(path)
        .map_err(|error| Failure::call("find the working directory", error))?
        .into_os_string();
    path.into_string().map_err(|path| {
        Failure::usage(format!("{path:?} is no UTF-8, which a TOML file cannot name: rename it"))
    })
}

/// `my-device` as a type is `MyDevice`.
fn type_name(name: &str) -> String {
    let capital = |part: &str| {
        let (first, rest) = part.split_at(1.min(part.len()));
        first.to_ascii_uppercase() + rest
    };
    name.split('-').map(capital).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_of_a_crate_and_of_a_type() {
        assert_eq!(type_name("my-2nd-device"), "My2ndDevice");
        for good in ["a", "my-device", "uart2"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for bad in ["", "-a", "2a", "My", "a/b", "a b", "ä", &"a".repeat(32)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
