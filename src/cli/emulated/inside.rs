//! This command again, in an emulated host: what it names is brought there, at the same places, and what
//! it writes is brought back.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    path::{Component, Path, PathBuf, absolute},
};

use super::{HostWish, attend, attend::terminal, for_now, wish::CPUS};
use crate::{
    boot,
    cli::Failure,
    emulated::{Item, MOST, Start, Wish},
    vm::config::{AxVMConfig, MemoryConfig},
};

/// Memory of a host beside what files and guests take.
const BASE: u64 = 1 << 30;

/// What goes along with a command.
#[derive(Debug, Default)]
pub struct Along {
    /// Files that it reads.
    pub reads: Vec<PathBuf>,
    /// Files and directories that it writes.
    pub writes: Vec<PathBuf>,
    /// Memory that its guests have at once, in bytes.
    pub memory: u64,
    /// The architecture that its guests are for, as far as can be told.
    pub arch: Option<String>,
}

impl Along {
    /// One of its guests.
    pub fn add(&mut self, guest: &AxVMConfig) {
        self.reads.extend(guest.files.iter().cloned());
        let memory = match &guest.memory {
            MemoryConfig::Size(size) | MemoryConfig::LazySize(size) => *size,
            MemoryConfig::OfDeviceTree { .. } => MemoryConfig::DEFAULT,
            MemoryConfig::Regions(regions) => {
                regions.iter().fold(0, |sum: u64, region| sum.saturating_add(region.size))
            }
        };
        self.memory = self.memory.saturating_add(memory);
        if self.arch.is_none() {
            self.arch = boot::arch_of(&guest.kernel.image.path).map(|arch| arch.to_string());
        }
    }
}

/// Runs this process's command in a host; the result is its status.
pub fn run_inside(wish: &HostWish, along: &Along) -> Result<u8, Failure> {
    let here = env::current_dir()
        .map_err(|error| Failure::call("find out the working directory", error))?;
    let items = items(&along.reads)?;
    let mut size = 0_u64;
    for item in &items {
        let of_item = item
            .size()
            .map_err(|error| Failure::usage(format!("--host: {}: {error}", item.from.display())))?;
        size = size.saturating_add(of_item);
    }
    if size > MOST {
        return Err(Failure::usage(format!(
            "--host: the guest's files have {} MiB, and an emulated host has them in its memory: {} MiB \
             are the most",
            size >> 20,
            MOST >> 20
        )));
    }
    let host = wish.host.clone().or_else(|| along.arch.clone());
    let host = host.unwrap_or_else(|| env::consts::ARCH.to_owned());
    // Half of its memory is for files.
    let memory = BASE.saturating_add(size.saturating_mul(2)).saturating_add(along.memory);
    let up = for_now(&Wish {
        host: host.clone(),
        cpus: wish.cpus.unwrap_or(CPUS),
        memory: wish.memory.unwrap_or(memory),
        axvmm: wish.axvmm.clone(),
    })?;
    let writes = along.writes.iter().map(|path| there(path)).collect::<Result<Vec<_>, _>>()?;
    let mut session = up.session()?;
    session.send(&items)?;
    let start = Start {
        command: command(env::args_os())?,
        directories: writes.iter().filter_map(|it| it.parent()).map(Path::to_owned).collect(),
        directory: here,
        tty: terminal(),
    };
    log::debug!("in the emulated {host} host: {:?}", start.command);
    let status = attend(&mut session, &start)?;
    session.fetch(&writes)?;
    Ok(status)
}

/// The command without its `--host`.
fn command(arguments: impl Iterator<Item = OsString>) -> Result<Vec<String>, Failure> {
    let mut command = vec!["axvmm".to_owned()];
    let mut has_come = false;
    let mut arguments = arguments.skip(1);
    while let Some(argument) = arguments.next() {
        let text = argument.into_string().map_err(|argument| {
            Failure::usage(format!("--host: {argument:?} is no UTF-8, as it is to be there"))
        })?;
        if !has_come && text == "--host" {
            arguments.next();
            has_come = true;
        } else if !has_come && text.starts_with("--host=") {
            has_come = true;
        } else {
            command.push(text);
        }
    }
    Ok(command)
}

/// Those that are there, of which each is brought once. What is neither a file nor a directory is not
/// brought: a device is another one there.
fn items(paths: &[PathBuf]) -> Result<Vec<Item>, Failure> {
    let mut items = BTreeSet::new();
    for path in paths {
        let is_there = path.metadata().is_ok_and(|it| it.is_file() || it.is_dir());
        if is_there {
            items.insert(Item { from: path.clone(), to: there(path)? });
        }
    }
    Ok(items.into_iter().collect())
}

/// Where a path of here is there: the same place, without `..`, which archives do not take.
fn there(path: &Path) -> Result<PathBuf, Failure> {
    let path =
        absolute(path).map_err(|error| Failure::call("find out the working directory", error))?;
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_there_is_this_one_without_its_host() {
        let of = |words: &[&str]| command(words.iter().map(OsString::from)).unwrap().join(" ");
        assert_eq!(of(&["/x/axvmm", "run", "--host", "emulated", "-k", "k"]), "axvmm run -k k");
        assert_eq!(of(&["a", "test", "--host=emulated:x", "a.toml"]), "axvmm test a.toml");
        assert_eq!(of(&["a", "--host", "e", "k", "--host", "x"]), "axvmm k --host x");
    }

    #[test]
    fn places_have_no_detours() {
        assert_eq!(there(Path::new("/a/b/../c/./d")).unwrap(), Path::new("/a/c/d"));
        assert_eq!(there(Path::new("/../x")).unwrap(), Path::new("/x"));
        assert!(there(Path::new("x")).unwrap().is_absolute());
    }
}
