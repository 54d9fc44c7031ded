//! Files in the form that AxVisor's guests have: what `axvmm check` says becomes of each row, and
//! that guests run from them.

mod common;

use std::{env::consts::ARCH, fs, path::PathBuf, process::Command};

use common::{axvmm, guest, run};
use serde_json::Value;

/// A file of `tests/axvisor/`, for guests of this architecture.
struct File {
    arch: &'static str,
    text: &'static str,
    /// Of each row: the key, the name, what became of it, and words of what is said.
    rows: &'static [(&'static str, &'static str, &'static str, &'static str)],
}

const MEMORY: &str = "memory_regions";
const EMULATED: &str = "emu_devices";
const PASSED: &str = "passthrough_devices";
const ADDRESSES: &str = "passthrough_addresses";
const EXCLUDED: &str = "excluded_devices";
const MODE: &str = "interrupt_mode";

const AS_ASKED: &str = "as-asked";
const INSTEAD: &str = "instead";
const LEFT_OUT: &str = "left-out";

const ARCEOS_AARCH64: File = File {
    arch: "aarch64",
    text: include_str!("axvisor/arceos-aarch64.toml"),
    rows: &[
        (MEMORY, "0x80000000-0x83ffffff", INSTEAD, "memory of its own at the same guest address"),
        (MODE, "", INSTEAD, "interrupts are emulated, by a GICv3"),
        (PASSED, "/", INSTEAD, "the board's own: pl011, pl031, pl061, pvpanic, and a GICv3"),
        (EXCLUDED, "/pcie@10000000, /timer", AS_ASKED, "not passed through"),
    ],
};

const LINUX_AARCH64: File = File {
    arch: "aarch64",
    text: include_str!("axvisor/linux-aarch64.toml"),
    rows: &[
        (MEMORY, "0x80000000-0x87ffffff", AS_ASKED, "memory of its own"),
        (MEMORY, "0xa0000000-0xa0ffffff", INSTEAD, "MapReserved"),
        (MODE, "", AS_ASKED, "a GICv3 with ITS in the host kernel"),
        (EMULATED, "gppt-gicd", INSTEAD, "gic-distributor at 0x8000000-0x800ffff"),
        (EMULATED, "gppt-gicr", INSTEAD, "gic-redistributors at 0x80a0000-0x80dffff"),
        (EMULATED, "gppt-gits", INSTEAD, "gic-its at 0x8080000-0x809ffff"),
        (PASSED, "intc@8000000", INSTEAD, "gic-distributor (in the host kernel) at 0x8000000"),
        (
            PASSED,
            "pl011@9000000",
            INSTEAD,
            "pl011 (PL011 serial port) at 0x9000000-0x9000fff, interrupt 33",
        ),
        (PASSED, "pl031@9010000", INSTEAD, "pl031 (PL031 real-time clock) at 0x9010000"),
        (PASSED, "virtio_mmio", LEFT_OUT, "nothing is at 0xa000000-0xa003fff: reads give all ones"),
    ],
};

const BOARD_AARCH64: File = File {
    arch: "aarch64",
    text: include_str!("axvisor/board-aarch64.toml"),
    rows: &[
        (MEMORY, "0x90000000-0x91ffffff", INSTEAD, "MapIdentical"),
        (MODE, "", INSTEAD, "physical ones cannot be passed through"),
        (
            PASSED,
            "uart1",
            INSTEAD,
            "pl011 (PL011 serial port) at 0x2800d000-0x2800dfff, interrupt 116",
        ),
        (PASSED, "uart2", INSTEAD, "the guest's serial port is pl011"),
        (PASSED, "gic", INSTEAD, "gic-distributor at 0x8000000-0x800ffff"),
        (PASSED, "ddma0", LEFT_OUT, "nothing is at 0x28003000-0x28003fff"),
        (PASSED, "/soc/clk48mhz", LEFT_OUT, "nothing of the host's"),
    ],
};

const LINUX_RISCV64: File = File {
    arch: "riscv64",
    text: include_str!("axvisor/linux-riscv64.toml"),
    rows: &[
        (MEMORY, "0x90000000-0x93ffffff", INSTEAD, "MapIdentical"),
        (MODE, "", INSTEAD, "interrupts are emulated"),
        (EMULATED, "plic", INSTEAD, "plic at 0xc000000"),
        (PASSED, "/soc/serial@10000000", INSTEAD, "the guest's serial port is serial (16550"),
        (PASSED, "/soc/virtio_mmio@10001000", LEFT_OUT, "nothing of the host's"),
        (
            ADDRESSES,
            "0x10000000-0x10000fff",
            INSTEAD,
            "serial (16550 serial port) at 0x10000000-0x100000ff, interrupt 10; elsewhere",
        ),
        (ADDRESSES, "0x10001000-0x10008fff", LEFT_OUT, "reads give all ones"),
    ],
};

const BOARD_RISCV64: File = File {
    arch: "riscv64",
    text: include_str!("axvisor/board-riscv64.toml"),
    rows: &[
        (MEMORY, "0x80000000-0x80ffffff", AS_ASKED, "memory of its own"),
        (MODE, "", AS_ASKED, ""),
        (
            PASSED,
            "uart3",
            INSTEAD,
            "serial (16550 serial port) at 0x12000000-0x120000ff, interrupt 45",
        ),
        (PASSED, "gmac0", LEFT_OUT, "nothing is at 0x16030000-0x1603ffff"),
    ],
};

const NIMBOS_X86_64: File = File {
    arch: "x86_64",
    text: include_str!("axvisor/nimbos-x86_64.toml"),
    rows: &[
        (MEMORY, "0x0-0xffffff", AS_ASKED, "memory of its own"),
        (MODE, "", INSTEAD, "all the same"),
        (PASSED, "IO APIC", INSTEAD, "ioapic (in the host kernel) at 0xfec00000-0xfec00fff"),
        (PASSED, "Local APIC", INSTEAD, "local-apic (in the host kernel)"),
        (PASSED, "HPET", LEFT_OUT, "nothing is at 0xfed00000-0xfed00fff"),
        (PASSED, "serial", INSTEAD, "com1 (16550 serial port) at ports 0x3f8-0x3ff, interrupt 4"),
    ],
};

const LINUX_X86_64: File = File {
    arch: "x86_64",
    text: include_str!("axvisor/linux-x86_64.toml"),
    rows: &[
        (MEMORY, "0x0-0x7ffffff", INSTEAD, "MapIdentical"),
        (MEMORY, "0xfee00000-0xfee00fff", INSTEAD, "local-apic (in the host kernel)"),
        (MODE, "", INSTEAD, "all the same"),
        (EMULATED, "x86-com1", AS_ASKED, "com1 (16550 serial port) at ports 0x3f8-0x3ff"),
        (EMULATED, "x86-ioapic", AS_ASKED, "in the host kernel"),
        (EMULATED, "x86-pit", AS_ASKED, "ports 0x40-0x43"),
        (EMULATED, "meta", LEFT_OUT, "meta device"),
    ],
};

/// The file in a directory of its own, with the images that it names, which are nothing but zeros.
struct Written {
    dir: tempfile::TempDir,
}

impl Written {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("image"), [0; 64]).unwrap();
        fs::write(dir.path().join("guest.toml"), text).unwrap();
        Self { dir }
    }

    /// `axvmm COMMAND` on it; `images` are in the place of those of AxVisor's file system.
    fn axvmm(&self, command: &[&str], images: &[(&str, PathBuf)]) -> Command {
        let mut axvmm = axvmm();
        axvmm.args(command).arg("--config").arg(self.dir.path().join("guest.toml"));
        for (key, path) in images {
            axvmm.arg("--set").arg(format!("kernel.{key}={:?}", path.display().to_string()));
        }
        axvmm
    }

    /// Each image that the text names, as a file that is there.
    fn images(&self, text: &str) -> Vec<(&'static str, PathBuf)> {
        let keys = ["kernel_path", "ramdisk_path", "bios_path", "disk_path"].into_iter();
        let named = keys.filter(|key| text.lines().any(|line| line.starts_with(key)));
        named.map(|key| (key, self.dir.path().join("image"))).collect()
    }
}

#[track_caller]
fn check(file: &File) {
    let written = Written::new(file.text);
    let images = written.images(file.text);
    let finished = run(&mut written.axvmm(&["check", "--arch", file.arch, "--json"], &images));
    let plan: Value = serde_json::from_str(&finished.assert(0, "{").stdout).unwrap();
    let rows = plan["requests"].as_array().unwrap();
    let found: Vec<_> = rows
        .iter()
        .map(|row| ["kind", "name", "outcome"].map(|key| row[key].as_str().unwrap()))
        .collect();
    let expected: Vec<_> =
        file.rows.iter().map(|(kind, name, outcome, _)| [*kind, *name, *outcome]).collect();
    assert_eq!(found, expected);
    let text = run(&mut written.axvmm(&["check", "--arch", file.arch], &images));
    for (row, (kind, name, outcome, words)) in rows.iter().zip(file.rows) {
        let sentence = row["sentence"].as_str().unwrap();
        assert!(sentence.contains(words), "no {words:?} in {row:#}");
        // The line has the row: its name, or for what has none the key.
        let line = row["at"]["line"].as_u64().unwrap() as usize;
        let source = file.text.lines().nth(line - 1).unwrap();
        let is_table = source.starts_with("[[");
        let told = [*name, *kind].into_iter().any(|part| !part.is_empty() && source.contains(part));
        assert!(
            told || is_table || source.trim().starts_with(['[', '{']),
            "{kind} {name}: {source}"
        );
        let outcome = outcome.replace('-', " ");
        text.assert(0, &format!("guest.toml:{line}: {kind}"))
            .assert(0, &format!("{outcome}: {sentence}"));
    }
    assert_eq!(text.stdout.matches("\nasked ").count(), rows.len());
}

#[test]
fn every_row_of_an_aarch64_file_has_its_outcome() {
    [ARCEOS_AARCH64, LINUX_AARCH64, BOARD_AARCH64].iter().for_each(check);
}

#[test]
fn every_row_of_a_riscv64_file_has_its_outcome() {
    [LINUX_RISCV64, BOARD_RISCV64].iter().for_each(check);
}

#[test]
fn every_row_of_an_x86_64_file_has_its_outcome() {
    [NIMBOS_X86_64, LINUX_X86_64].iter().for_each(check);
}

/// Runs the guest of a file, which is told of at the start: each row that is not as asked.
#[track_caller]
fn runs(file: &File, images: &[(&str, PathBuf)], prints: &str) {
    let written = Written::new(file.text);
    let finished = run(written.axvmm(&["run"], images).args(["--log-level", "info"]));
    finished.assert(0, prints).assert_tells(&[]);
    for (kind, name, outcome, _) in file.rows {
        // What is said in the place of each depends on the host.
        let row = match *name {
            "" => format!("{kind}: "),
            name => format!("{kind} {name:?}: "),
        };
        let told = finished.stderr.contains(&format!("{row}{}: ", outcome.replace('-', " ")));
        assert_eq!(told, *outcome != AS_ASKED, "{kind} {name}: {finished:#?}");
    }
}

#[test]
fn guests_run_from_these_files() {
    guest("hello"); // has them built
    let image = |name: &str| guest(&format!("{name}-{ARCH}.bin"));
    let hello = "Hello from axvmm's guest";
    match ARCH {
        "aarch64" => {
            runs(&ARCEOS_AARCH64, &[("kernel_path", image("hello-flat"))], hello);
            runs(&BOARD_AARCH64, &[("kernel_path", image("hello-elsewhere-flat"))], hello);
        }
        "riscv64" => {
            runs(&LINUX_RISCV64, &[("kernel_path", image("hello-flat"))], hello);
            runs(&BOARD_RISCV64, &[("kernel_path", image("hello-elsewhere-flat"))], hello);
        }
        _ => {
            let bios = image("hello-real");
            let images = [("kernel_path", bios.clone()), ("bios_path", bios.clone())];
            runs(&NIMBOS_X86_64, &images, "Hello from real mode");
            runs(&LINUX_X86_64, &[("kernel_path", bios)], "Hello from real mode");
        }
    }
}

#[test]
fn files_of_other_versions_are_told_once() {
    for (text, place, tells) in [
        (
            include_str!("axvisor/resolved-0.8.toml"),
            "guest.toml:4:1: this file is of axvmconfig 0.8",
            "line 22: virtual \"disk\"",
        ),
        (
            include_str!("axvisor/extended-0.5.toml"),
            "guest.toml:11:1: this file is of axvmconfig 0.5",
            "line 12: boot_protocol",
        ),
        (
            include_str!("axvisor/flat.toml"),
            "guest.toml:1:1: this file has no tables",
            "[kernel]  entry_point, kernel_path",
        ),
    ] {
        let written = Written::new(text);
        for command in [&["run"][..], &["check", "--arch", "x86_64"]] {
            let finished = run(&mut written.axvmm(command, &written.images(text)));
            finished.assert(35, "").assert_tells(&[place, tells]);
            assert_eq!(finished.stderr.matches("guest.toml:").count(), 1, "{finished:#?}");
        }
    }
}
