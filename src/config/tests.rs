//! Whole files, good and bad.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::{
    addr::{GuestPhysAddr, MappingFlags, Port},
    devices::EmuDeviceType,
    hal::Arch,
    vm::config::{DtbPatch, MemoryConfig, Unpack, VMInterruptMode, VmMemMappingType},
};

mod bad;
mod cards;
mod custom;
mod disks;
mod generations;
mod kinds;
mod mutated;
mod overrides;
mod rows;
mod sockets;
mod test_table;
mod vfio_user;
mod written;

/// A directory with the files that the tests' configurations name.
fn files() -> TempDir {
    let dir = TempDir::new().unwrap();
    for name in ["vmlinuz", "initrd", "bios", "dtb", "mod"] {
        fs::write(dir.path().join(name), "content").unwrap();
    }
    dir
}

/// What `text` means; file names in it are those of [`files`].
fn read(text: &str) -> Result<AxVMConfig, Error> {
    parse(text, "guest.toml", files().path())
}

#[track_caller]
fn good(text: &str) -> AxVMConfig {
    match read(text) {
        Ok(config) => config,
        Err(error) => panic!("{error}"),
    }
}

/// The one problem of a file, as it is shown.
#[track_caller]
fn problem(text: &str) -> String {
    let error = read(text).expect_err("this file should be refused");
    assert_eq!(error.problems().len(), 1, "{error}");
    error.to_string()
}
