//! Each boot protocol, as a guest sees it: tiny guests on this machine's own KVM, through the public
//! API, from the files to what they print.
#![cfg(target_arch = "x86_64")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use axvmm::{
    addr::GuestPhysAddr,
    boot::Protocol,
    devices::console::ConsoleOut,
    hal::Platform,
    kvm::KvmHal,
    machine::{Machine, Plan},
    vm::{
        AxVMConfig, StopReason, VCpuThreads,
        config::{CpuConfig, DevicesConfig, ImageFile, KernelConfig, MemoryConfig, Module, Unpack},
    },
};

#[derive(Default)]
struct Screen(Mutex<Vec<u8>>);

impl ConsoleOut for Screen {
    fn put(&self, bytes: &[u8]) {
        self.0.lock().unwrap().extend(bytes);
    }
}

fn config(kernel: PathBuf) -> AxVMConfig {
    AxVMConfig {
        id: 1,
        name: "boot".into(),
        cpus: CpuConfig { num: 1, phys_cpu_ids: vec![], phys_cpu_sets: vec![] },
        memory: MemoryConfig::Size(32 << 20),
        kernel: KernelConfig {
            image: ImageFile { path: kernel, load_addr: None },
            entry_point: None,
            cmdline: None,
            ramdisk: None,
            bios: None,
            dtb: None,
            dtb_patch: vec![],
            modules: vec![],
            unpack: Unpack::default(),
        },
        devices: DevicesConfig::default(),
        notes: vec![],
        files: vec![],
    }
}

/// Boots it, twice from one plan as a reset does; the guest must print all of `expect` and power
/// off. Gives what it printed.
#[track_caller]
fn check(config: &AxVMConfig, protocol: Protocol, expect: &[&str]) -> String {
    let plan = Plan::new(config, &Platform::X86_64).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(plan.boot.as_ref().unwrap().protocol, protocol, "{plan}");
    let first = run(&plan);
    for part in expect {
        assert!(first.contains(part), "no {part:?} in {first:?}\n{plan}");
    }
    assert_eq!(run(&plan), first);
    first
}

#[track_caller]
fn run(plan: &Plan) -> String {
    let hal = KvmHal::new().unwrap_or_else(|error| panic!("these tests need /dev/kvm: {error}"));
    let screen = Arc::new(Screen::default());
    let machine = Machine::build(plan, hal, screen.clone(), &Arc::default()).unwrap();
    machine.vm.boot().unwrap();
    let (stopped, wait) = mpsc::channel();
    let on_stopped = move || stopped.send(()).unwrap_or_default(); // nobody listens after a minute
    let threads = VCpuThreads::spawn(&machine.vm, on_stopped).unwrap();
    if wait.recv_timeout(Duration::from_secs(60)).is_err() {
        machine.vm.stop(StopReason::Timeout);
    }
    let reason = threads.join();
    // The guests end lines as terminals want it.
    let printed = String::from_utf8_lossy(&screen.0.lock().unwrap()).replace('\r', "");
    assert_eq!(reason.exit_status(), 0, "{reason:?} after {printed:?}\n{plan}");
    printed
}

/// A directory with a file in it.
fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn with_initrd(mut config: AxVMConfig, path: &Path) -> AxVMConfig {
    config.kernel.ramdisk = Some(ImageFile { path: path.to_owned(), load_addr: None });
    config
}

#[test]
fn pvh() {
    let config = config(common::guest("hello-x86_64.elf"));
    check(&config, Protocol::Pvh, &["Hello from axvmm's guest"]);
}

#[test]
fn linux_64_bit_elf() {
    let mut config = config(common::guest("hello64-x86_64.elf"));
    let none = check(&config, Protocol::Linux64, &["Hello from long mode", "command line: \n"]);
    let kib = none.split("usable memory: ").nth(1).and_then(|rest| rest.split(' ').next());
    let kib: u64 = kib.and_then(|kib| kib.parse().ok()).expect("the e820 map was found");
    assert!((31 << 10..=32 << 10).contains(&kib), "{none}");
    config.kernel.cmdline = Some("one two=three".into());
    check(&config, Protocol::Linux64, &["command line: one two=three\n", "loader type: ff\n"]);
}

#[test]
fn bzimage_by_both_entries() {
    let image = common::guest("hello-bzimage-x86_64.bin");
    let (_dir, initrd) = file("initrd", b"initial bytes");
    let mut config = with_initrd(config(image.clone()), &initrd);
    config.kernel.cmdline = Some("quiet".into());
    let expect = ["Hello from a bzImage", "command line: quiet\n", "13 bytes, "];
    let long = check(&config, Protocol::Linux64, &expect);
    // Without XLF_KERNEL_64 it is the 32-bit entry's turn, which leads to the same.
    let mut old = fs::read(image).unwrap();
    old[0x236] &= !1;
    let (_dir, path) = file("vmlinuz", &old);
    config.kernel.image.path = path;
    assert_eq!(check(&config, Protocol::Linux32, &expect), long);
}

#[test]
fn bzimage_unpacked_on_the_host() {
    // The payload is a kernel of its own, packed as Linux packs them with LZ4.
    let kernel = fs::read(common::guest("hello-x86_64.elf")).unwrap();
    let block = lz4_flex::block::compress(&kernel);
    let (block_len, len) = (block.len() as u32, kernel.len() as u32);
    let words = |word: u32| word.to_le_bytes().to_vec();
    let payload = [words(0x184c_2102), words(block_len), block, words(len)].concat();

    let mut image = fs::read(common::guest("hello-bzimage-x86_64.bin")).unwrap();
    let start = 512 * (u32::from(image[0x1f1]) + 1);
    let put = |image: &mut Vec<u8>, at: usize, word: u32| {
        image[at..at + 4].copy_from_slice(&word.to_le_bytes());
    };
    let offset = image.len() as u32 - start;
    put(&mut image, 0x248, offset); // payload_offset
    put(&mut image, 0x24c, payload.len() as u32); // payload_length
    put(&mut image, 0x260, 1 << 20); // init_size
    image.extend(payload);
    image.resize(image.len().next_multiple_of(16), 0);
    let size = image.len() as u32 - start;
    put(&mut image, 0x1f4, size / 16); // syssize
    let (_dir, path) = file("vmlinuz", &image);

    let mut config = config(path);
    config.kernel.unpack = Unpack::Host;
    check(&config, Protocol::Pvh, &["Hello from axvmm's guest"]);
    config.kernel.unpack = Unpack::Guest;
    check(&config, Protocol::Linux64, &["Hello from a bzImage"]);
}

#[test]
fn multiboot_with_modules() {
    let mut config = config(common::guest("hello-multiboot-x86_64.elf"));
    let (_dir, first) = file("first", b"first module");
    let (_dir2, second) = file("second", b"2nd");
    config.kernel.cmdline = Some("kernel arguments".into());
    config.kernel.modules = vec![
        Module { path: first, cmdline: "first string".into() },
        Module { path: second, cmdline: "second string".into() },
    ];
    let expect = [
        "Hello from multiboot",
        "command line: kernel arguments\n",
        "upper memory: 31744 KiB\n",
        "modules: 2\n",
        "module: 'first string' at ",
        ", 12 bytes, ",
        "module: 'second string' at ",
        ", 3 bytes, ",
    ];
    check(&config, Protocol::Multiboot, &expect);
}

#[test]
fn flat_binary_in_real_mode() {
    let mut config = config(common::guest("hello-real-x86_64.bin"));
    config.kernel.image.load_addr = Some(GuestPhysAddr(0x8000));
    config.kernel.entry_point = Some(GuestPhysAddr(0x8000));
    check(&config, Protocol::Real, &["Hello from real mode"]);
}

#[test]
fn a_file_that_changes_is_loaded_as_it_was_found() {
    // Replaced, as an installer or a build does it: the plan goes on with the file it checked.
    let (dir, path) = file("kernel", &fs::read(common::guest("hello-x86_64.elf")).unwrap());
    let plan = Plan::new(&config(path.clone()), &Platform::X86_64).unwrap();
    fs::write(dir.path().join("new"), b"something else").unwrap();
    fs::rename(dir.path().join("new"), path).unwrap();
    let printed = thread::spawn(move || run(&plan)).join().unwrap();
    assert!(printed.contains("Hello from axvmm's guest"), "{printed:?}");
}
