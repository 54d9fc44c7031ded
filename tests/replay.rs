//! `axvmm replay`: recordings fed to devices that no guest uses.

mod common;

use std::{env::consts::ARCH, fs, path::Path};

use common::{Finished, axvmm, guest, root, run, run_guest};

/// The console, a register of it that a guest reads for each byte that it prints, and a bit of that
/// which never is up: an error of the 16550's, or one that the PL011 has not.
const CONSOLE: (&str, u64, u32) = match ARCH.as_bytes() {
    b"x86_64" => ("com1", 0x3fd, 0x4),
    b"aarch64" => ("pl011", 0x900_0018, 0x1_0000),
    _ => ("serial", 0x1000_0005, 0x4),
};

fn replay(recording: &Path, options: &[&str]) -> Finished {
    run(axvmm().arg("replay").arg(recording).args(options))
}

/// What the table of a replay says of a device: reads, those that differ, writes.
#[track_caller]
fn row(ended: &Finished, device: &str) -> [u64; 3] {
    let mut rows = ended.stdout.lines().filter_map(|line| line.split_once(device));
    let cells = rows.next_back().unwrap_or_else(|| panic!("no {device} in {ended:#?}")).1;
    let numbers: Vec<_> = cells.split_whitespace().map(|cell| cell.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

#[test]
fn devices_answer_as_they_did_also_after_a_reset() {
    let dir = tempfile::tempdir().unwrap();
    let (file, config) = (dir.path().join("t.axt"), dir.path().join("guest.toml"));
    // Its disk is locked by each machine that has it.
    fs::write(dir.path().join("disk.raw"), [0; 4096]).unwrap();
    let text = format!(
        "[base]\ncpu_num = 2\n[kernel]\nkernel_path = {:?}\nmemory = \"16M\"\n\
         cmdline = \"reset\"\n[[devices.virtio]]\nkind = \"block\"\npath = \"disk.raw\"\n",
        guest("smp").canonicalize().unwrap()
    );
    fs::write(&config, text).unwrap();
    let mut command = axvmm();
    command.args(["run", "--config"]).arg(&config);
    // Enough for a second boot; other hosts than PCs are emulated.
    let a_while = if cfg!(target_arch = "x86_64") { "2s" } else { "8s" };
    command.args(["--timeout", a_while, "--record"]).arg(&file);
    let ended = run(&mut command);
    assert!(ended.stdout.matches("smp: 2 cpus").count() > 1, "{ended:#?}");
    for options in [&[][..], &["--config", config.to_str().unwrap()]] {
        let ended = replay(&file, &[&["--device", CONSOLE.0], options].concat());
        ended.assert(0, "").assert_tells(&[]);
        let [reads, differ, writes] = row(&ended, CONSOLE.0);
        assert!(reads > 20 && differ == 0 && writes > 20, "{ended:#?}");
    }
}

#[test]
fn what_differs_is_shown_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.axt");
    let (device, at, bit) = CONSOLE;
    let fault = format!(
        "devices.fault=[{{device={device:?},at={at},access=\"read\",action=\"bits\",value={bit},\
         mask={bit},nth=3}}]"
    );
    let mut command = run_guest("hello", "");
    run(command.args(["--set", &fault, "--record"]).arg(&file)).assert(0, "");
    let ended = replay(&file, &[]);
    let place = format!("{} {:#x} -> 0x", CONSOLE.0, CONSOLE.1);
    ended.assert(1, &place).assert_tells(&[" answers differ from the recording"]);
    assert_eq!((ended.stdout.matches(", recorded 0x").count(), row(&ended, CONSOLE.0)[1]), (1, 1));
    let ended = replay(&file, &["-n", "0"]);
    assert_eq!(ended.assert(1, "").stdout.matches(", recorded 0x").count(), 0, "{ended:#?}");
}

#[test]
fn what_cannot_be_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.axt");
    let rng = "devices.virtio=[{kind=\"rng\",transport=\"mmio\"}]";
    let mut command = run_guest("hello", "");
    run(command.args(["--set", rng, "--record"]).arg(&file)).assert(0, "");
    let config = root().join("configs/guests.toml");
    for (options, told) in [
        (&["--device", "nothing"][..], "--device nothing: the recording has"),
        (&["--device", "rng0"], "Give the guest's with --config"),
        (&["--vm", "nobody"], "--vm nobody: the recording has hello"),
        (&["--config", config.to_str().unwrap()], "configs/guests.toml"),
    ] {
        replay(&file, options).assert(35, "").assert_tells(&[told]);
    }
    replay(&file, &[]).assert(0, "").assert_tells(&["left out, as there is no --config: rng0"]);
    replay(&dir.path().join("none"), &[]).assert(35, "").assert_tells(&["No such file"]);
}
