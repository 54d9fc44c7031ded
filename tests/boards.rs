//! `axvmm check` for any architecture, on any host and without KVM.

mod common;

use std::{fs, path::PathBuf};

use common::{Finished, axvmm, run};
use serde_json::Value;

/// A directory with a `guest.toml` for a flat kernel of 2 vCPUs.
struct Guest {
    dir: tempfile::TempDir,
}

impl Guest {
    fn new(base: &str, kernel: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("kernel.bin"), [0; 64]).unwrap();
        let text = format!(
            "[base]\ncpu_num = 2\n{base}\n[kernel]\nkernel_path = \"kernel.bin\"\n{kernel}\n"
        );
        fs::write(dir.path().join("guest.toml"), text).unwrap();
        Self { dir }
    }

    fn at(load_addr: &str) -> Self {
        Self::new("", &format!("kernel_load_addr = {load_addr}"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `axvmm check` on a host without KVM.
    fn check(&self, args: &[&str]) -> Finished {
        let mut command = axvmm();
        command.arg("check").args(args).arg("--config").arg(self.path("guest.toml"));
        run(command.env("AXVMM_KVM_DEVICE", "/nonexistent"))
    }
}

const AARCH64: &str = "0x40200000";
const RISCV64: &str = "0x80200000";

#[test]
fn each_board_is_planned_on_any_host() {
    let aarch64 = Guest::at(AARCH64).check(&["--arch", "aarch64"]);
    for line in [
        "machine   guest: aarch64, 2 vCPUs",
        "memory      0x40000000   0x20000000  rwx, 512 MiB",
        "device       0x9000000-0x9000fff  pl011: PL011 serial port, interrupt 33",
        "device       0x80a0000-0x80dffff  gic-redistributors: in the host kernel",
        "interrupts by a GICv3 with ITS in the host kernel",
    ] {
        aarch64.assert(0, line);
    }
    let riscv64 = Guest::at(RISCV64).check(&["--arch", "riscv64"]);
    for line in [
        "machine   guest: riscv64, 2 vCPUs",
        "memory      0x80000000   0x20000000  rwx, 512 MiB",
        "device     0x10000000-0x100000ff  serial: 16550 serial port, interrupt 10",
        "device       0xc000000-0xc201fff  plic: interrupt controller (PLIC)",
        "device tree",
    ] {
        riscv64.assert(0, line);
    }
    let x86_64 = Guest::at("0x8000").check(&["--arch", "x86_64"]);
    x86_64.assert(0, "machine   guest: x86_64, 2 vCPUs").assert(0, "com1").assert(0, "RSDP");
}

#[test]
fn a_program_reads_the_same_plan_each_time() {
    let guest = Guest::at(RISCV64);
    let json = || guest.check(&["--arch", "riscv64", "--json"]).assert(0, "{").stdout.clone();
    assert_eq!(json(), json());
    let plan: Value = serde_json::from_str(&json()).unwrap();
    assert_eq!((&plan["arch"], &plan["cpus"]["num"]), (&"riscv64".into(), &2.into()));
    assert_eq!(plan["interrupt_controller"]["kind"], "board");
    let devices = plan["devices"].as_array().unwrap();
    let serial = devices.iter().find(|device| device["name"] == "serial").unwrap();
    assert_eq!((&serial["bus"], &serial["first"]), (&"mmio".into(), &0x1000_0000_u64.into()));
    assert_eq!(plan["tables"][0]["name"], "device tree");
    assert_eq!(plan["tables"][0]["gpa"], plan["boot"]["dtb"]["gpa"]);
}

#[test]
fn a_host_without_kvm_is_planned_for_as_a_usual_one_and_says_so() {
    let load_addr = match std::env::consts::ARCH {
        "aarch64" => AARCH64,
        "riscv64" => RISCV64,
        _ => "0x8000",
    };
    let finished = Guest::at(load_addr).check(&[]);
    finished.assert(0, "note      made for a usual").assert(0, std::env::consts::ARCH);
    finished.assert(0, "there is no /nonexistent");
    // What was asked for by name needs no word about this host.
    let named = Guest::at(load_addr).check(&["--arch", std::env::consts::ARCH]);
    assert!(!named.assert(0, "machine").stdout.contains("usual"), "{named:#?}");
}

#[test]
fn what_is_wrong_with_the_configuration_comes_before_what_is_wrong_with_the_host() {
    let guest = Guest::new("", "kernel_load_addr = 0xfffffffffff00000");
    let mut command = axvmm();
    command.args(["run", "--config"]).arg(guest.path("guest.toml"));
    let finished = run(command.env("AXVMM_KVM_DEVICE", "/nonexistent"));
    finished.assert(35, "").assert_tells(&["axvmm: ", "kernel.bin"]);
}

#[test]
fn architectures_that_there_are_not_are_wrong_usage() {
    for name in ["arm", "x86", "riscv", "AARCH64", ""] {
        let finished = Guest::at(AARCH64).check(&["--arch", name]);
        finished.assert(35, "").assert_tells(&["--arch", "x86_64, aarch64, riscv64"]);
    }
}

#[test]
fn what_a_board_cannot_have_is_status_35_and_says_what_it_can() {
    let gic = "[devices]\nemu_devices = [[\"pic\", 0xfec00000, 0x1000, 0, 0x23]]";
    for (arch, base, kernel, tells) in [
        ("aarch64", "memory = \"2T\"", "kernel_load_addr = 0x40200000", "40 bits"),
        ("riscv64", "memory = \"4T\"", "kernel_load_addr = 0x80200000", "41 bits"),
        ("aarch64", "", "memory_regions = [[0x09000000, 0x1000, 7, 0]]", "overlaps guest memory"),
        ("aarch64", "", gic, "belongs to another architecture than aarch64"),
        ("riscv64", "", "kernel_load_addr = 0x40200000", "0x80000000"),
        ("aarch64", "", "", "kernel_load_addr"),
    ] {
        let finished = Guest::new(base, kernel).check(&["--arch", arch]);
        finished.assert(35, "").assert_tells(&["axvmm: ", tells]);
    }
    let many = Guest::at(AARCH64).check(&["--arch", "aarch64", "--set", "base.cpu_num=200"]);
    many.assert(35, "").assert_tells(&["200 vCPUs", "set cpu_num to 123 or less"]);
}

#[test]
fn ids_that_vcpus_do_not_get_are_told() {
    for (arch, load_addr) in [("aarch64", AARCH64), ("riscv64", RISCV64), ("x86_64", "0x8000")] {
        let check = |ids: &str| {
            let set = format!("base.phys_cpu_ids={ids}");
            Guest::at(load_addr).check(&["--arch", arch, "--set", &set])
        };
        check("[0x100, 0x200]").assert(0, "note      phys_cpu_ids [100, 200]");
        assert!(!check("[0, 1]").assert(0, "").stdout.contains("note"), "{arch}");
    }
}

#[test]
fn memory_that_comes_on_first_touch_is_told_as_such() {
    for (arch, load_addr) in [("aarch64", AARCH64), ("riscv64", RISCV64), ("x86_64", "0x8000")] {
        let guest = Guest::new("lazy_memory = true", &format!("kernel_load_addr = {load_addr}"));
        let check = |args: &[&str]| guest.check(&[&["--arch", arch], args].concat());
        check(&[]).assert(0, "rwx, 512 MiB, on first touch");
        let plan: Value = serde_json::from_str(&check(&["--json"]).stdout).unwrap();
        assert_eq!(plan["ram"][0]["lazy"], true);
        let eager = check(&["--set", "base.lazy_memory=false"]);
        assert!(!eager.assert(0, "512 MiB").stdout.contains("first touch"), "{eager:#?}");
    }
}

/// As an AxVisor user's file has it: rows for devices that are the host's there.
#[test]
fn rows_of_axvisors_find_the_boards_own_devices() {
    let rows = "kernel_load_addr = 0x40200000\n[devices]\nemu_devices = [\n\
        [\"gppt-gicd\", 0x08000000, 0x10000, 0, 0x21, []],\n\
        [\"gppt-gicr\", 0x080a0000, 0x20000, 0, 0x20, [1, 0x20000, 0]],\n\
        [\"gppt-gits\", 0x08080000, 0x20000, 0, 0x22, [0x08080000]],\n\
        [\"uart\", 0x09000000, 0x1000, 33, 0x2, []],\n]\n";
    let finished = Guest::new("", rows).check(&["--arch", "aarch64"]);
    for (line, words) in [
        (9, "\"gppt-gicd\": instead: nothing of the host's interrupt controller"),
        (10, "\"gppt-gicr\": instead: "),
        (11, "\"gppt-gits\": instead: "),
        (12, "\"uart\": as asked: pl011 (PL011 serial port) at 0x9000000-0x9000fff, interrupt 33"),
    ] {
        finished.assert(0, &format!("guest.toml:{line}: emu_devices {words}"));
    }
    let plic = "kernel_load_addr = 0x80200000\n[devices]\nemu_devices = [\n\
        [\"plic\", 0x0c000000, 0x4000000, 0, 0x30, [2]],\n]\n";
    let finished = Guest::new("", plic).check(&["--arch", "riscv64"]);
    finished.assert(0, "emu_devices \"plic\": instead: nothing of the host's interrupt controller");
}

#[test]
fn rows_for_virtio_are_cards_and_consoles() {
    let rows = "kernel_load_addr = 0x40200000\n[devices]\nemu_devices = [\n\
        [\"eth\", 0x0a000000, 0x200, 48, 0xe2, []],\n\
        [\"tty\", 0x0a000200, 0x200, 49, 0xe3, []],\n\
        [\"tap\", 0x0a000400, 0x200, 50, 0xe2, []],\n]\n\
        [[devices.virtio]]\nkind = \"net\"\nname = \"tap\"\ntap = \"tap7\"\n";
    let finished = Guest::new("", rows).check(&["--arch", "aarch64"]);
    for words in [
        "guest.toml:9: emu_devices \"eth\": as asked: eth (virtio over MMIO) at 0xa000000-0xa0001ff",
        "guest.toml:10: emu_devices \"tty\": as asked: tty (virtio over MMIO) at 0xa000200-",
        "virtio    eth: user network, by mmio",
        "virtio    tty: terminal at stdio, by mmio",
        "virtio    tap: TAP interface tap7, by mmio",
    ] {
        finished.assert(0, words);
    }
}

#[test]
fn rows_that_cannot_be_are_told_with_their_places() {
    let rows = "kernel_load_addr = 0x40200000\n[devices]\nemu_devices = [\n\
        [\"disk\", 0x0a000000, 0x200, 48, 0xe1, []],\n\
        [\"uart\", 0x09000000, 0x1000, 33, 0x2, []],\n]\n\
        passthrough_devices = [[\"eth\", 0x40000000, 0x40000000, 0x1000, 7]]\n";
    let guest = Guest::new("", rows);
    let finished = guest.check(&["--arch", "aarch64", "--json"]);
    let wrong: Value = serde_json::from_str(&finished.assert(35, "{").stdout).unwrap();
    let places = |key: &str| {
        wrong["problems"].as_array().unwrap().iter().map(|it| it[key].clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (places("line"), places("column")),
        (vec![9.into(), 12.into()], vec![1.into(), 24.into()])
    );
    finished.assert_tells(&[
        "guest.toml:9: emu_devices \"disk\": cannot be",
        "guest.toml:12: ",
        "lies over",
    ]);
    assert!(!finished.stderr.contains("uart"), "{finished:#?}");
}
