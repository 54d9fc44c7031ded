//! Files that are none, and files that do not fit together.

use std::{
    fs::{self, File},
    os::unix::net::UnixListener,
};

use crate::{
    addr::GuestPhysAddr,
    boot::testing::*,
    vm::config::{ImageFile, Module},
};

fn pvh_kernel() -> Vec<u8> {
    let note = Part::note(xen_note(18, &0x10_0000u64.to_le_bytes()));
    elf64(0x10_0000, &[Part::load(0x10_0000, &[0x90; 0x100], 0), note])
}

#[track_caller]
fn check(bench: &Bench, expect: &str) {
    let error = bench.refused();
    assert!(error.contains(expect), "{expect:?} is not in: {error}");
}

#[test]
fn what_is_not_a_regular_file_is_refused_at_once() {
    let mut bench = Bench::new(b"x");
    let dir = bench.dir.path().to_owned();
    nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(dir.join("socket")).unwrap();
    fs::write(dir.join("empty"), b"").unwrap();
    for (path, expect) in [
        (dir.clone(), "is a directory"),
        (dir.join("fifo"), "is a pipe"),
        (dir.join("socket"), "cannot be opened"),
        ("/dev/zero".into(), "is a device"),
        (dir.join("none"), "No such file"),
        (dir.join("empty"), "is empty"),
    ] {
        bench.config.image.path = path;
        check(&bench, expect);
    }
}

#[test]
fn a_huge_sparse_file_costs_nothing() {
    let bench = Bench::new(b"x").load_addr(0x8000);
    File::options().write(true).open(&bench.config.image.path).unwrap().set_len(100 << 30).unwrap();
    check(
        &bench,
        "needs 0x1900000000 bytes at 0x8000, but the guest has RAM at 0x0-0x3ffffff only",
    );
}

#[test]
fn a_file_that_is_cut_short_after_the_check_is_an_error() {
    let bench = Bench::new(&pvh_kernel()).initrd(&[1; 0x50_0000]);
    let plan = bench.prepare().unwrap();
    plan.load(&memory(), &firmware()).unwrap();
    let path = bench.config.ramdisk.as_ref().unwrap().path.clone();
    File::options().write(true).open(path).unwrap().set_len(0x30_0001).unwrap();
    let error = plan.load(&memory(), &firmware()).unwrap_err().to_string();
    assert!(
        error.contains("Failed to read 5242880 bytes of a file into guest memory at 0x3b00000"),
        "{error}"
    );
}

#[test]
fn an_initrd_must_fit() {
    check(&Bench::new(&pvh_kernel()).initrd(b""), "is empty");
    let mut bench = Bench::new(&pvh_kernel()).initrd(b"x");
    let path = bench.config.ramdisk.as_ref().unwrap().path.clone();
    let sized = |size: u64| File::options().write(true).open(&path).unwrap().set_len(size).unwrap();
    sized(RAM);
    check(&bench, "Initrd \"");
    check(&bench, "the initrd has 67108864 bytes, but the largest free piece of RAM");
    sized(RAM - 0x10_1000);
    bench.prepare().unwrap();
    sized(RAM - 0x10_0fff); // one byte into the kernel's page
    check(&bench, "give the guest more memory");
    sized(0x1000);
    let mut at = |gpa| bench.config.ramdisk.as_mut().unwrap().load_addr = Some(GuestPhysAddr(gpa));
    at(0x10_0000);
    check(&bench, "overlaps segment 0 of the kernel at 0x100000-0x1000ff");
    let mut at = |gpa| bench.config.ramdisk.as_mut().unwrap().load_addr = Some(GuestPhysAddr(gpa));
    at(0xe_0000);
    check(&bench, "overlaps the ACPI tables");
    let mut at = |gpa| bench.config.ramdisk.as_mut().unwrap().load_addr = Some(GuestPhysAddr(gpa));
    at(u64::MAX - 10);
    check(&bench, "must end below 0x100000000");
    fs::remove_file(&path).unwrap();
    check(&bench, "No such file");
}

#[test]
fn an_initrd_stays_below_initrd_addr_max() {
    let mut image = bzimage(b"");
    put(&mut image, 0x22c, &0x2ff_ffffu32.to_le_bytes());
    let mut bench = Bench::new(&image).initrd(&[1; 100]);
    assert_eq!(bench.prepare().unwrap().initrd.unwrap().gpa.0, 0x2ff_f000);
    bench.config.ramdisk.as_mut().unwrap().load_addr = Some(GuestPhysAddr(0x2ff_ffff));
    check(&bench, "the initrd at 0x2ffffff has 100 bytes, but must end below 0x3000000");
}

#[test]
fn a_command_line_must_fit() {
    let bench = Bench::new(&bzimage(b"")).cmdline(&"x".repeat(2047));
    bench.prepare().unwrap();
    check(
        &bench.cmdline(&"x".repeat(2050)),
        "The command line has 2050 bytes, this kernel takes 2047 at most: leave out 3 of them",
    );
    check(&Bench::new(&pvh_kernel()).cmdline("a\0b"), "a NUL byte at offset 1");
}

#[test]
fn modules_need_a_protocol_that_has_them() {
    let mut bench = Bench::new(&bzimage(b""));
    bench.config.modules =
        vec![Module { path: bench.file("module", b"bytes"), cmdline: String::new() }];
    check(&bench, "the Linux protocol, which has no modules");
}

#[test]
fn a_flat_binary_needs_addresses_that_make_sense() {
    check(&Bench::new(b"anything"), "is of no known format");
    check(&Bench::new(b"code").load_addr(0x1_0000), "it must be below 0x10000");
    check(&Bench::new(b"code").load_addr(RAM), "the guest has RAM at 0x0-0x3ffffff only");
    check(&Bench::new(b"code").load_addr(0xe_0000), "overlaps the ACPI tables");
    let mut bench = Bench::new(b"code").load_addr(0x8000);
    bench.config.entry_point = Some(GuestPhysAddr(0x8004));
    check(&bench, "entry_point = 0x8004 lies outside of what is loaded");
    bench.config.entry_point = None;
    let path = bench.file("bios", b"bios");
    bench.config.bios = Some(ImageFile { path, load_addr: None });
    check(&bench, "needs a bios_load_addr");
    bench.config.bios.as_mut().unwrap().load_addr = Some(GuestPhysAddr(0x8003));
    check(&bench, "the firmware at 0x8003-0x8006 overlaps the kernel at 0x8000-0x8003");
}

#[test]
fn what_is_no_kernel_is_named() {
    let mut arm = vec![0; 64];
    put(&mut arm, 0x38, b"ARM\x64");
    let mut boot_sector = vec![0; 512];
    put(&mut boot_sector, 0x1fe, &[0x55, 0xaa]);
    for (image, expect) in [
        (&arm[..], "is an aarch64 Image: this guest is x86_64"),
        (b"070701000000", "is a cpio archive: is it the initrd"),
        (&[0x1f, 0x8b, 8, 0], "is compressed with gzip: unpack it"),
        (&boot_sector, "is a boot sector"),
        (b"x", "a flat binary needs a kernel_load_addr"),
    ] {
        check(&Bench::new(image), expect);
    }
}
