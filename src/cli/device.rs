//! `axvmm device`: devices of one's own.

mod fuzz;
mod new;

use std::fmt::Write;

use clap::{Args, Subcommand};

use super::{Failure, check::print, columns::lay_out};
use crate::devices::custom::{About, Allowed, Kinds};

#[derive(Debug, Args)]
pub struct DeviceArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Writes a program that is axvmm with a device of its own, to begin with
    New(new::NewArgs),
    /// Uses a device by chance until it panics, hangs or leaves its interrupt up, and shows the
    /// fewest accesses that do it
    Fuzz(fuzz::FuzzArgs),
    /// Lists the kinds of devices that this program brings along, with their registers
    List,
}

/// Does what is asked.
pub fn device(args: &DeviceArgs, kinds: &Kinds) -> Result<u8, Failure> {
    match &args.what {
        What::New(args) => new::new(args)?,
        What::Fuzz(args) => fuzz::fuzz(args, kinds)?,
        What::List => print(&list(kinds))?,
    }
    Ok(0)
}

fn list(kinds: &Kinds) -> String {
    let mut text = String::new();
    for about in kinds.iter() {
        if !text.is_empty() {
            text.push('\n');
        }
        let About { kind, size, compatible, has_interrupt, registers, .. } = about;
        let _ = write!(text, "{kind}: {size:#x} bytes");
        if let Some(compatible) = compatible {
            let _ = write!(text, ", {compatible:?} to drivers");
        }
        let _ = writeln!(text, "{}", if *has_interrupt { ", an interrupt" } else { "" });
        let mut rows = vec![["register", "offset", "bits", "access"].map(str::to_owned).to_vec()];
        rows.extend(registers.iter().map(|register| {
            let name = match register.count {
                1 => register.name.to_owned(),
                count => format!("{}[{count}]", register.name),
            };
            let access = match register.allowed {
                Allowed::ReadWrite => "read, write",
                Allowed::Read => "read",
                Allowed::Write => "write",
            };
            let bits = (register.width.size() * 8).to_string();
            vec![name, format!("{:#x}", register.offset), bits, access.to_owned()]
        }));
        lay_out(&mut text, &rows);
    }
    if text.is_empty() {
        text.push_str(
            "This program has no kinds of its own. `axvmm device new NAME` writes one that has.\n",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_kinds_says_how_to_get_one() {
        assert!(list(&Kinds::new()).contains("axvmm device new"));
    }
}
