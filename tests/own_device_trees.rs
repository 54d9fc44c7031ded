//! Device trees that users bring along: taken as they are, patched where that is asked for, refused
//! where the guest could not work with them.

mod common;

use std::{fs, path::PathBuf};

use axvmm::{
    addr::GuestPhysAddr,
    hal::{Arch, Platform},
    machine::Plan,
    vm::{
        AxVMConfig,
        config::{CpuConfig, DevicesConfig, ImageFile, KernelConfig, MemoryConfig, Unpack},
    },
};
use common::{Finished, axvmm, run};

const ARCHS: [(Arch, u64); 2] = [(Arch::Aarch64, 0x4000_0000), (Arch::Riscv64, 0x8000_0000)];

/// A directory with a kernel, an initrd, and the device tree that a machine with these vCPUs and so
/// many MiB of memory has.
struct Guest {
    dir: tempfile::TempDir,
    arch: Arch,
    base: u64,
}

impl Guest {
    fn with_tree_of((arch, base): (Arch, u64), cpus: usize, mib: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kernel.bin");
        fs::write(&path, [0; 64]).unwrap();
        fs::write(dir.path().join("initrd"), [1; 4096]).unwrap();
        let config = AxVMConfig {
            id: 1,
            name: "theirs".into(),
            cpus: CpuConfig { num: cpus, phys_cpu_ids: vec![], phys_cpu_sets: vec![] },
            memory: MemoryConfig::Size(mib << 20),
            kernel: KernelConfig {
                image: ImageFile { path, load_addr: Some(GuestPhysAddr(base + 0x20_0000)) },
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
        };
        let plan = Plan::new(&config, &Platform::usual(arch)).unwrap();
        fs::write(dir.path().join("my.dtb"), plan.tables[0].bytes()).unwrap();
        Self { dir, arch, base }
    }

    fn dtb(&self) -> PathBuf {
        self.dir.path().join("my.dtb")
    }

    /// `axvmm check` for a guest with 2 vCPUs and 64 MiB.
    fn check(&self, kernel: &str) -> Finished {
        self.check_with("memory = \"64M\"", kernel)
    }

    fn check_with(&self, base: &str, kernel: &str) -> Finished {
        let text = format!(
            "[base]\ncpu_num = 2\n{base}\n[kernel]\nkernel_path = \"kernel.bin\"\n\
             kernel_load_addr = {:#x}\ndtb_path = \"my.dtb\"\n{kernel}\n",
            self.base + 0x20_0000
        );
        let file = self.dir.path().join("guest.toml");
        fs::write(&file, text).unwrap();
        let arch = self.arch.name();
        run(axvmm().args(["check", "--arch", arch, "--config"]).arg(file))
    }
}

#[test]
fn a_tree_that_fits_is_taken_as_it_is() {
    for arch in ARCHS {
        let guest = Guest::with_tree_of(arch, 2, 64);
        let size = fs::metadata(guest.dtb()).unwrap().len();
        let finished = guest.check("");
        let line = format!("table       {:#x}   {:#10x}  device tree", arch.1, size);
        assert!(!finished.assert(0, &line).stdout.contains("note"), "{finished:#?}");
        let at = arch.1 + 0x100_0000;
        let moved = guest.check(&format!("dtb_load_addr = {at:#x}"));
        moved.assert(0, &format!("table       {at:#x}"));
    }
}

/// As files of AxVisor's leave it to the tree.
#[test]
fn a_tree_tells_of_the_memory_if_nothing_else_does() {
    for arch in ARCHS {
        let guest = Guest::with_tree_of(arch, 2, 48);
        for kernel in ["", "memory_regions = []"] {
            let finished = guest.check_with("", kernel);
            assert!(!finished.assert(0, "rwx, 48 MiB").stdout.contains("note"), "{finished:#?}");
        }
        guest.check_with("", "dtb_patch = [\"memory\"]").assert(0, "rwx, 512 MiB");
    }
}

#[test]
fn a_file_that_is_no_tree_is_told_with_its_name() {
    for arch in ARCHS {
        let guest = Guest::with_tree_of(arch, 2, 64);
        let good = fs::read(guest.dtb()).unwrap();
        let with_total = |total: u32| [&good[..4], &total.to_be_bytes(), &good[8..]].concat();
        let big = [with_total(3 << 20), vec![0; 3 << 20]].concat();
        let mut damaged = good.clone();
        damaged[0x40..0x44].fill(0xee);
        for (bytes, tells) in [
            (&b"x"[..], "truncated"),
            (b"/dts-v1/; / { compatible = \"a source, not a blob\"; };", "0xd00dfeed"),
            (&good[..good.len() / 2], "truncated"),
            (&with_total(u32::MAX), "truncated"),
            (&damaged, "damaged at"),
            (&big, "more than 2097152 bytes"),
        ] {
            fs::write(guest.dtb(), bytes).unwrap();
            guest.check("").assert(35, "").assert_tells(&["axvmm: Device tree", "my.dtb", tells]);
        }
        fs::remove_file(guest.dtb()).unwrap();
        guest.check("").assert(35, "").assert_tells(&["guest.toml:", "my.dtb", "No such file"]);
    }
}

#[test]
fn a_tree_of_a_larger_machine_is_refused_until_it_is_patched() {
    for arch in ARCHS {
        let guest = Guest::with_tree_of(arch, 4, 128);
        let memory = guest.check("");
        memory.assert(35, "").assert_tells(&["my.dtb", "add \"memory\" to dtb_patch"]);
        let cpus = guest.check("dtb_patch = [\"memory\"]");
        cpus.assert(35, "").assert_tells(&["tells of 4 CPUs, and the guest has 2"]);
        let patched = guest.check("dtb_patch = [\"memory\", \"cpus\"]");
        assert!(!patched.assert(0, "device tree").stdout.contains("note"), "{patched:#?}");
    }
}

#[test]
fn a_tree_of_a_smaller_machine_is_taken_and_noted() {
    for arch in ARCHS {
        let guest = Guest::with_tree_of(arch, 1, 32);
        let keys = "cmdline = \"quiet\"\nramdisk_path = \"initrd\"";
        guest
            .check(keys)
            .assert(0, "note      the device tree tells of 32 MiB of memory, and the guest has 64")
            .assert(0, "note      the device tree tells of 1 CPUs, and the guest has 2")
            .assert(0, "\"initrd\" in dtb_patch")
            .assert(0, "\"chosen\" in dtb_patch");
        let all = format!("{keys}\ndtb_patch = [\"memory\", \"cpus\", \"chosen\", \"initrd\"]");
        let patched = guest.check(&all);
        assert!(!patched.assert(0, "device tree").stdout.contains("note"), "{patched:#?}");
    }
}

#[test]
fn what_is_to_be_patched_is_a_word_that_is_known() {
    let guest = Guest::with_tree_of(ARCHS[0], 2, 64);
    for (keys, tells) in [
        ("dtb_patch = [\"cpu\"]", "did you mean \"cpus\""),
        ("dtb_patch = \"cpus\"", "expected a list"),
        ("dtb_patch = [1]", "found an integer"),
        ("dtb_patchs = []", "did you mean \"dtb_patch\""),
        ("dtb_load_addr = 0x40200001", "multiple of 8"),
        ("dtb_load_addr = 0x40200000", "overlaps"),
        ("dtb_load_addr = 0x1000", "0x40000000"),
    ] {
        guest.check(keys).assert(35, "").assert_tells(&["axvmm: ", tells]);
    }
}
