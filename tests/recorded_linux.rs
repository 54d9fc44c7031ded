//! What Linux' drivers did to axvmm's devices from boot to power off, on each board
//! (`tests/recordings/make`), is answered now as it was then. No guest runs, and no KVM is needed.

mod common;

use std::{fs::File, io};

use common::{axvmm, root, run};
use flate2::read::GzDecoder;

/// Recordings, their devices, and the least that was read. Goldfish's clock is not among them: it
/// counts nanoseconds, of which the recording has those when the exit came.
const RECORDINGS: [(&str, &[&str], u64); 4] = [
    ("x86_64", &["com1", "cmos", "i8042-data", "i8042-command", "pvpanic", "acpi-sleep"], 270),
    ("aarch64", &["pl011", "rtc", "gpio"], 390),
    ("riscv64", &["serial", "plic", "sifive-test"], 300),
    ("riscv64-aia", &["serial", "sifive-test"], 160),
];

#[test]
fn devices_answer_linux_as_they_did() {
    let dir = tempfile::tempdir().unwrap();
    for (name, devices, least) in RECORDINGS {
        let packed = root().join(format!("tests/recordings/linux-{name}.axt.gz"));
        let file = dir.path().join(name);
        let mut packed = GzDecoder::new(File::open(packed).unwrap());
        io::copy(&mut packed, &mut File::create(&file).unwrap()).unwrap();
        let devices = devices.iter().flat_map(|device| ["--device", device]);
        let ended = run(axvmm().arg("replay").arg(&file).args(devices));
        ended.assert(0, "").assert_tells(&[]);
        let rows = ended.stdout.lines().skip(1);
        let reads = rows.map(|row| row.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap());
        assert!(reads.sum::<u64>() >= least, "{name}: {ended:#?}");
    }
}
