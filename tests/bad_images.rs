//! Images that cannot be booted, from the command line: each is refused at once with status 35 and
//! a message that names the file. None of this needs KVM.

mod common;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use common::Finished;

/// To refuse a file takes milliseconds; this is for a busy machine, and still far from reading
/// 100 GiB or waiting for a pipe's other end.
const SOON: Duration = Duration::from_secs(20);

const GIB: u64 = 1 << 30;

/// A directory of bad files.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn with(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// All zeros, none of them on the disk.
    fn sparse(&self, name: &str, size: u64) -> PathBuf {
        let path = self.path(name);
        File::create(&path).unwrap().set_len(size).unwrap();
        path
    }

    /// A guest's image, changed.
    fn changed(&self, guest: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
        let mut image = fs::read(common::guest(guest)).unwrap();
        change(&mut image);
        self.with(&format!("changed-{guest}"), &image)
    }

    fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        path
    }
}

/// `run` with these arguments is refused soon: usage, naming `file`, with the reason.
#[track_caller]
fn refused(args: &[&str], file: &Path, reason: &str) -> Finished {
    let ended = common::run(common::axvmm().arg("run").args(args));
    ended.assert(35, "").assert_tells(&[file.file_name().unwrap().to_str().unwrap(), reason]);
    assert_eq!(ended.stdout, "", "nothing ran");
    assert!(ended.took < SOON, "{ended:#?}");
    ended
}

#[track_caller]
fn kernel_refused(kernel: &Path, reason: &str) {
    refused(&["-k", kernel.to_str().unwrap(), "-m", "64M"], kernel, reason);
}

#[track_caller]
fn initrd_refused(initrd: &Path, reason: &str) {
    let kernel = common::guest("hello-bzimage-x86_64.bin");
    let (kernel, path) = (kernel.to_str().unwrap(), initrd.to_str().unwrap());
    refused(&["-k", kernel, "-i", path, "-m", "64M"], initrd, reason);
}

#[test]
fn kernels_that_are_no_files() {
    let files = Files::new();
    kernel_refused(&files.path("missing"), "No such file");
    kernel_refused(files.0.path(), "a directory");
    kernel_refused(&files.fifo("pipe"), "a pipe");
    kernel_refused(Path::new("/dev/zero"), "a device");
}

#[test]
fn kernels_with_nothing_in_them() {
    let files = Files::new();
    kernel_refused(&files.with("empty", b""), "is empty");
    kernel_refused(&files.with("one-byte", b"\x7f"), "one-byte");
    kernel_refused(&files.with("text", b"#!/bin/sh\necho hello\n"), "text");
    kernel_refused(&files.sparse("zeros", 100 * GIB), "zeros");
}

#[test]
fn kernels_cut_off_anywhere() {
    let files = Files::new();
    for guest in ["hello-x86_64.elf", "hello64-x86_64.elf", "hello-bzimage-x86_64.bin"] {
        let image = fs::read(common::guest(guest)).unwrap();
        // An ELF file's section headers may be missing.
        let end = |at: usize| (number(&image, at + 8) + number(&image, at + 32)) as usize;
        let needed = segments(&image).map(end).max().unwrap_or(image.len());
        // A bzImage counts in units of 16 bytes.
        for len in [2, 16, 63, 119, needed / 2, needed - 20] {
            kernel_refused(&files.changed(guest, |image| image.truncate(len)), "");
        }
    }
}

fn number(image: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(image[at..at + 8].try_into().unwrap())
}

/// The offsets of the program headers of what is loaded of a 64-bit ELF file; none of another.
fn segments(image: &[u8]) -> impl DoubleEndedIterator<Item = usize> {
    const PT_LOAD: [u8; 4] = [1, 0, 0, 0];
    let count = if image.starts_with(b"\x7fELF") { image[56].into() } else { 0 };
    let first = number(image, 32) as usize;
    (0..count).map(move |i: usize| first + 56 * i).filter(|at| image[*at..].starts_with(&PT_LOAD))
}

#[test]
fn kernels_for_other_machines_are_named_as_such() {
    let files = Files::new();
    let mut image = vec![0; 4096];
    image[0x38..0x3c].copy_from_slice(b"ARM\x64");
    kernel_refused(&files.with("arm64-image", &image), "aarch64");
    image[0x38..0x3c].copy_from_slice(b"RSC\x05");
    image[0x30..0x38].copy_from_slice(b"RISCV\0\0\0");
    kernel_refused(&files.with("riscv-image", &image), "riscv64");
    for (machine, name) in [(183, "aarch64"), (243, "RISC-V")] {
        let elf = files.changed("hello-x86_64.elf", |image| image[18] = machine);
        kernel_refused(&elf, name);
    }
}

#[test]
fn bzimages_whose_header_is_wrong() {
    let files = Files::new();
    let changes: [(&str, usize, &[u8]); 4] = [
        ("setup_sects", 0x1f1, &[255]),
        ("version", 0x206, &[0x01, 0x02]),
        ("needs 0xffffffff bytes", 0x260, &[0xff; 4]), // init_size
        ("kernel_alignment", 0x230, &[0xff, 0xff, 0xff, 0xff, 1]), // and relocatable
    ];
    for (reason, at, bytes) in changes {
        let path = files.changed("hello-bzimage-x86_64.bin", |image| {
            image[at..at + bytes.len()].copy_from_slice(bytes);
        });
        kernel_refused(&path, reason);
    }
    let path = files.changed("hello-bzimage-x86_64.bin", |image| image[0x202] = b'X');
    kernel_refused(&path, "");
}

#[test]
fn kernels_that_need_more_memory_than_there_is() {
    let kernel = common::guest("hello-x86_64.elf");
    refused(&["-k", kernel.to_str().unwrap(), "-m", "1M"], &kernel, "RAM");
    let files = Files::new();
    let huge = files.changed("hello64-x86_64.elf", |image| {
        let p_memsz = segments(image).next_back().unwrap() + 40;
        image[p_memsz..p_memsz + 8].copy_from_slice(&(64 * GIB).to_le_bytes());
    });
    kernel_refused(&huge, "RAM");
}

#[test]
fn initrds() {
    let files = Files::new();
    initrd_refused(&files.path("missing"), "No such file");
    initrd_refused(files.0.path(), "a directory");
    initrd_refused(&files.fifo("pipe"), "a pipe");
    initrd_refused(Path::new("/dev/zero"), "a device");
    initrd_refused(&files.with("empty", b""), "is empty");
    // Both sizes: what it has and what there is.
    initrd_refused(&files.sparse("large", GIB), "1073741824");
    initrd_refused(&files.sparse("huge", 100 * GIB), "give the guest more memory");
}

#[test]
fn modules() {
    let files = Files::new();
    let config = files.with("guest.toml", b"");
    for (module, reason) in [("missing", "No such file"), ("pipe", "a pipe"), (".", "a directory")]
    {
        if module == "pipe" {
            files.fifo(module);
        }
        let kernel = common::guest("hello-multiboot-x86_64.elf");
        let text = format!("[kernel]\nkernel_path = {kernel:?}\nmodules = [\"{module}\"]\n");
        fs::write(&config, text).unwrap();
        refused(&["--config", config.to_str().unwrap()], &files.path(module), reason);
    }
}
