//! `axvmm run -k KERNEL --root DIR -- COMMAND…`: one command in a guest whose root is a directory.
//!
//! The guest boots from an initramfs that is made here and has nothing but a small program
//! (`resources/command-init`), which enters the root, runs the command, and tells its status. If there
//! is an initrd as well, its files come first: that program has its `modprobe` load virtio's drivers,
//! if they are modules.

use std::{
    env, fs,
    io::{self, IsTerminal, Write},
    os::fd::AsRawFd,
    path::PathBuf,
    sync::OnceLock,
};

use clap::Args;
use nix::sys::memfd::{MFdFlags, memfd_create};
use rustix::termios;

use super::{Failure, guest_args::FILES};
use crate::{
    boot::cpio::Archive,
    hal::Arch,
    virtio::{
        DeviceConfig,
        fs::command::{CommandConfig, ROOT_TAG, Window},
    },
    vm::{
        AxVMConfig,
        config::{ImageFile, VirtioConfig},
    },
};

/// What PID 1 is called in the initramfs: not as an initrd's own.
const INIT: &str = "axvmm-init";

/// Directories that PID 1 mounts on.
const DIRECTORIES: [&str; 5] = ["dev", "proc", "sys", "axvmm", "axvmm-root"];

/// A command in a directory.
#[derive(Clone, Debug, Args)]
pub struct InRoot {
    /// Runs one command in a guest whose root is this directory; what the command changes there is
    /// lost at its end. The command's status becomes that of axvmm
    #[arg(long, value_name = "DIR", requires = "command", conflicts_with_all = FILES)]
    pub root: Option<String>,
    /// What the command changes in its root is changed in the directory
    #[arg(long, requires = "root")]
    pub root_rw: bool,
    /// The command to run in the root, and its arguments
    #[arg(last = true, requires = "root", value_name = "COMMAND")]
    pub command: Vec<String>,
}

impl InRoot {
    /// Adds what the guest needs beside its root.
    ///
    /// # Errors
    /// An initrd that cannot be read, and a host without memory.
    pub fn add_to(&self, config: &mut AxVMConfig) -> Result<(), Failure> {
        if self.root.is_none() {
            return Ok(());
        }
        let has_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        let command = CommandConfig {
            arguments: self.command.clone(),
            environment: environment(),
            directory: "/".to_owned(),
            terminal: has_terminal.then(window),
        };
        let row = config.devices.virtio.iter().find(|row| row.name == "root");
        let at = row.map(|row| row.at.clone()).unwrap_or_default();
        config.devices.virtio.push(VirtioConfig {
            name: "command".to_owned(),
            device: DeviceConfig::Command(command),
            transport: None,
            place: None,
            at,
        });
        let given = config.kernel.ramdisk.take().map(|image| image.path);
        let path = initramfs(given)?;
        config.kernel.ramdisk = Some(ImageFile { path, load_addr: None });
        config.kernel.cmdline = Some(command_line(config.kernel.cmdline.take()));
        Ok(())
    }
}

/// The `--set` that a `--root` stands for.
pub fn root_as_set(dir: &str, is_changed: bool) -> String {
    let (path, discard) = (toml::Value::String(dir.to_owned()), !is_changed);
    format!(
        "devices.virtio+={{kind = \"fs\", name = \"root\", path = {path}, tag = \"{ROOT_TAG}\", \
         discard = {discard}}}"
    )
}

/// What is said to the kernel: what it prints is seldom of interest, and a panic is the end.
fn command_line(given: Option<String>) -> String {
    // Where there is a device tree, that names the console.
    let console = if Arch::host() == Some(Arch::X86_64) { "console=ttyS0 " } else { "" };
    let given = given.map(|given| format!(" {given}")).unwrap_or_default();
    format!("{console}quiet panic=-1 rdinit=/{INIT}{given}")
}

/// What of our own environment is of use in any root.
fn environment() -> Vec<String> {
    const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let kept = ["TERM", "LANG"].iter().filter_map(|name| Some((name, env::var(name).ok()?)));
    let kept = kept.map(|(name, value)| format!("{name}={value}"));
    [PATH.to_owned(), "HOME=/root".to_owned()].into_iter().chain(kept).collect()
}

/// The terminal as it is now.
fn window() -> Window {
    let size = termios::tcgetwinsize(io::stdout());
    size.map_or(Window::new(0, 0), |size| Window::new(size.ws_row, size.ws_col))
}

/// The initramfs: a name by which the process can open it, for as long as it lives.
fn initramfs(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    /// Stays open, as its name is that of the descriptor.
    static FILE: OnceLock<fs::File> = OnceLock::new();
    let failed = |error: io::Error| Failure::call("make the initramfs", error);
    let init: &[u8] = match Arch::host() {
        Some(Arch::X86_64) => include_bytes!("../../resources/command-init/init-x86_64.elf"),
        Some(Arch::Aarch64) => include_bytes!("../../resources/command-init/init-aarch64.elf"),
        Some(Arch::Riscv64) => include_bytes!("../../resources/command-init/init-riscv64.elf"),
        None => return Err(Failure::usage("no guest is of this host's architecture")),
    };
    let file = memfd_create("initramfs", MFdFlags::MFD_CLOEXEC);
    let mut file = fs::File::from(file.map_err(|errno| failed(errno.into()))?);
    let mut len = 0;
    if let Some(given) = given {
        let opened = fs::File::open(&given);
        let copied = opened.and_then(|mut from| io::copy(&mut from, &mut file));
        len = copied.map_err(|error| {
            Failure::usage(format!("cannot read the initrd {}: {error}", given.display()))
        })?;
    }
    let mut archive = Archive::default();
    DIRECTORIES.iter().for_each(|name| archive.directory(name));
    archive.program(INIT, init);
    // An archive behind another one begins at a multiple of 4.
    let padding = [0; 4];
    file.write_all(&padding[..(len.next_multiple_of(4) - len) as usize]).map_err(failed)?;
    file.write_all(&archive.finish()).map_err(failed)?;
    let path = format!("/proc/self/fd/{}", FILE.get_or_init(|| file).as_raw_fd());
    Ok(path.into())
}
