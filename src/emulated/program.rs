//! The axvmm that goes into a host: one for its architecture, with all that it needs inside.

use std::{
    env,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::{Error, scripts};

/// ELF (System V ABI, chapters 4 and 5): what these places of a 64-bit little-endian file say.
const ELF64_LSB: &[u8] = b"\x7fELF\x02\x01";
const E_MACHINE: usize = 18;
const E_PHOFF: usize = 32;
const E_PHENTSIZE: usize = 54;
const E_PHNUM: usize = 56;
const PT_INTERP: u32 = 3;
/// Program headers stand at a program's beginning.
const HEAD: u64 = 64 << 10;

/// What a file is, for a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Yes,
    /// It is for another architecture, or no program.
    Other,
    /// It needs libraries, which the host has not.
    Dynamic,
}

/// The program for a host of architecture `arch`: the one that is `given`, or one that is found.
pub fn find(arch: &str, given: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(path) = given {
        return match fit(path, arch) {
            Ok(Fit::Yes) => Ok(path.to_owned()),
            Ok(Fit::Other) => Err(Error::Usage(format!(
                "{} is no program for {arch}; the host needs an axvmm for its own architecture",
                path.display()
            ))),
            Ok(Fit::Dynamic) => Err(Error::Usage(format!(
                "{} needs libraries, which an emulated host has not; a release's axvmm needs none",
                path.display()
            ))),
            Err(error) => Err(Error::Usage(format!("{}: {error}", path.display()))),
        };
    }
    let places = places(arch)?;
    let found = places.iter().find(|path| fit(path, arch).is_ok_and(|it| it == Fit::Yes));
    found.cloned().ok_or_else(|| {
        let dirs: Vec<_> = places[1..].iter().filter_map(|path| path.parent()).collect();
        let dirs: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        let own = if arch == env::consts::ARCH {
            "This one needs libraries, which the host has not, as a release's does not. "
        } else {
            ""
        };
        Error::Usage(format!(
            "an emulated {arch} host needs an axvmm for {arch}\n  {own}Take {} of a release (or make \
             it: resources/release.sh {arch}), and put it into {}, or name it (--axvmm FILE; \
             axvmm=FILE of --host)",
            name(arch),
            dirs.join(" or ")
        ))
    })
}

/// What releases call it.
fn name(arch: &str) -> String {
    format!("axvmm-{}-{arch}-linux", env!("CARGO_PKG_VERSION"))
}

fn places(arch: &str) -> Result<Vec<PathBuf>, Error> {
    let own = env::current_exe().map_err(Error::call("find out where this program is"))?;
    let beside = own.parent().unwrap_or(Path::new("/")).join(name(arch));
    let in_cache = scripts::cache()?.join("programs").join(name(arch));
    Ok(vec![own, beside, in_cache])
}

fn fit(path: &Path, arch: &str) -> std::io::Result<Fit> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    Ok(fit_of(&head, arch))
}

fn fit_of(head: &[u8], arch: &str) -> Fit {
    let machine = match arch {
        "x86_64" => 62,
        "aarch64" => 183,
        "riscv64" => 243,
        _ => return Fit::Other,
    };
    let u16_at = |at| array(head, at).map(u16::from_le_bytes);
    let (Some(of), Some(offset), Some(size), Some(count)) = (
        u16_at(E_MACHINE),
        array(head, E_PHOFF).map(u64::from_le_bytes),
        u16_at(E_PHENTSIZE),
        u16_at(E_PHNUM),
    ) else {
        return Fit::Other;
    };
    if !head.starts_with(ELF64_LSB) || of != machine {
        return Fit::Other;
    }
    let is_interpreter = |number: u16| {
        let at = usize::try_from(offset).ok()?.checked_add(number as usize * size as usize)?;
        array(head, at).map(|it| u32::from_le_bytes(it) == PT_INTERP)
    };
    match (0..count).any(|number| is_interpreter(number).unwrap_or(false)) {
        true => Fit::Dynamic,
        false => Fit::Yes,
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(machine: u8, types: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 64 + 56 * types.len()];
        file[..6].copy_from_slice(ELF64_LSB);
        (file[E_MACHINE], file[E_PHOFF], file[E_PHENTSIZE]) = (machine, 64, 56);
        file[E_PHNUM] = types.len() as u8;
        for (number, kind) in types.iter().enumerate() {
            file[64 + 56 * number] = *kind;
        }
        file
    }

    #[test]
    fn a_program_is_for_one_architecture_and_needs_no_interpreter() {
        assert_eq!(fit_of(&elf(183, &[1, 1]), "aarch64"), Fit::Yes);
        assert_eq!(fit_of(&elf(183, &[1, 1]), "riscv64"), Fit::Other);
        assert_eq!(fit_of(&elf(183, &[6, 3, 1]), "aarch64"), Fit::Dynamic);
        assert_eq!(fit_of(b"#!/bin/sh\n", "aarch64"), Fit::Other);
        assert_eq!(fit_of(&[], "aarch64"), Fit::Other);
    }

    #[test]
    fn what_is_missing_is_told_with_where_to_put_it() {
        let other = if env::consts::ARCH == "aarch64" { "riscv64" } else { "aarch64" };
        let told = find(other, None).unwrap_err().to_string();
        for part in [other, "release", "axvmm=FILE", "programs"] {
            assert!(told.contains(part), "no {part:?} in {told}");
        }
        let told = find(other, Some(Path::new("/nonexistent"))).unwrap_err().to_string();
        assert!(told.contains("/nonexistent"), "{told}");
    }
}
