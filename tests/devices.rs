//! `axvmm device`, and what resources/guide/devices.md says of it, word for word.

mod common;

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

use common::{axvmm, guest, root, run, start};

const GUIDE: &str = include_str!("../resources/guide/devices.md");

/// The command lines of the guide's first block.
fn commands() -> Vec<&'static str> {
    let lines = GUIDE.lines().skip_while(|line| !line.starts_with("    axvmm"));
    lines.map_while(|line| line.strip_prefix("    ")).collect()
}

#[test]
fn the_guides_walk_through_leads_to_a_device_that_is_planned() {
    let dir = tempfile::tempdir().unwrap();
    symlink(guest("hello").canonicalize().unwrap(), dir.path().join("vmlinuz")).unwrap();
    fs::write(dir.path().join("initrd"), "an initrd").unwrap();
    let commands = commands();
    assert_eq!(commands.len(), 7, "{commands:?}");
    let programs = Path::new(env!("CARGO_BIN_EXE_axvmm")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-exc", &commands.join("\n")]).current_dir(&dir).env("PATH", path);
    // What axvmm itself is made of is there already.
    let target = programs.parent().unwrap();
    let ended = run(shell.env("CARGO_TARGET_DIR", target).env("NO_COLOR", "1"));
    ended.assert(0, "2 passed").assert(0, "COUNT     0x4       32  read, write");
    ended.assert(0, "countdown: countdown, interrupt 16");
    ended.assert(0, "OK 0x000000006178766d");
    ended.assert(0, "no panic, no hang, no interrupt that stays");
    let session = GUIDE.lines().skip_while(|line| !line.starts_with("    irq_intercept"));
    let session = session.map_while(|line| line.strip_prefix("    ")?.split_once('#'));
    let (commands, told): (Vec<_>, Vec<_>) = session.unzip();
    assert_eq!(told.len(), 4);
    let mut qtest = Command::new(target.join("debug/countdown"));
    qtest.args(["qtest", "--config", "guest.toml"]).current_dir(dir.path().join("countdown"));
    let mut qtest = start(qtest.stdin(Stdio::piped()));
    qtest.type_in(&(commands.join("\n") + "\n"));
    let answers = "OK\nOK\nIRQ raise 16\nOK 3000000\nOK 0x0000000000000001\n";
    assert_eq!(qtest.finish().assert(0, "").stdout, answers);
    assert!(
        told[2].contains("IRQ raise 16, OK 3000000")
            && told[3].contains(answers.lines().last().unwrap())
    );
    // What the guide shows of guest.toml is understood there.
    let rows = GUIDE.lines().skip_while(|line| *line != "    [[devices.custom]]");
    let rows: Vec<_> = rows.map_while(|line| line.strip_prefix("    ")).collect();
    let config = "[kernel]\nkernel_path = \"../vmlinuz\"\nmemory = \"16M\"\n";
    let file = dir.path().join("countdown/guest.toml");
    let check = |row: &str| {
        fs::write(&file, format!("{config}{row}")).unwrap();
        let mut command = Command::new(target.join("debug/countdown"));
        run(command.arg("check").arg("--config").arg(&file))
    };
    let row = rows.join("\n");
    check(&row).assert(0, "0xd0000000-0xd000000b  timer: countdown, interrupt 17");
    let wrong = check(&row.replace("tick_us = 1000", "tick_us = \"x\""));
    let told =
        "guest.toml:9:11: devices.custom[0].tick_us: invalid type: string \"x\", expected u32";
    wrong.assert(35, "").assert_tells(&[told]);
}

/// What is in the place of a line of the device that `device new` writes.
const BUGS: [(&str, &str); 2] = [
    (
        "                state.end = self.parts.clock.now()",
        "                match std::env::var(\"BUG\").as_deref() {
                    Ok(\"panics\") => assert!(value < 0x8000_0000, \"too long\"),
                    Ok(\"hangs\") if value & 0x10 != 0 => std::thread::park(),
                    _ => {}
                }
                state.end = self.parts.clock.now()",
    ),
    ("self.parts.line.set(false)", "self.parts.line.set(std::env::var(\"BUG\").is_ok())"),
];

#[test]
fn a_device_that_is_wrong_is_found_with_the_fewest_accesses() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = axvmm();
    run(command.args(["device", "new", "wrong"]).current_dir(&dir)).assert(0, "");
    let source = dir.path().join("wrong/src/device.rs");
    let mut code = fs::read_to_string(&source).unwrap();
    for (right, wrong) in BUGS {
        assert!(code.contains(right), "{right}");
        code = code.replace(right, wrong);
    }
    fs::write(&source, code).unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_axvmm")).parent().unwrap();
    let target = programs.parent().unwrap();
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet"]).current_dir(dir.path().join("wrong"));
    run(cargo.env("CARGO_TARGET_DIR", target)).assert(0, "");
    let fuzz = |bug: &str, options: &[&str]| {
        let mut command = Command::new(target.join("debug/wrong"));
        command.args(["device", "fuzz", "wrong", "--seconds", "60"]).args(options);
        run(command.env("BUG", bug).env("NO_COLOR", "1"))
    };
    let panics = fuzz("panics", &["--seed", "1"]);
    panics.assert(1, "wrong: it panics (seed 1, sequence ").assert_tells(&["wrong: it panics"]);
    panics.assert(1, ". 1 are enough").assert(1, "    writel 0xd0000004 0x");
    panics.assert(1, "let bench = Bench::<Wrong>::new(\"\").unwrap();");
    panics.assert(1, "let _ = bench.try_write(0x4, AccessWidth::Dword, 0x").assert(1, "too long");
    assert_eq!(fuzz("panics", &["--seed", "1"]).stdout, panics.stdout, "once more the same");
    // With this seed it is not the sequence that makes it hang, but what is to take back its interrupt.
    for seed in ["2", "11666745359923594407"] {
        let hangs = fuzz("hangs", &["--seed", seed]);
        hangs.assert(1, "wrong: it hangs").assert(1, ". 1 are enough");
    }
    // It counts down, and then the interrupt is to be taken back.
    let stays = fuzz("stays", &["--key", "tick_us=1"]);
    stays.assert(1, "Bench::<Wrong>::new(\"tick_us=1\")");
    fuzz("", &["--key", "tick_us=0"]).assert(35, "").assert_tells(&["tick_us is 1 or more"]);
    stays.assert(1, "wrong: its interrupt stays up").assert(1, "assert!(!bench.interrupt());");
}

#[test]
fn a_device_with_queues_is_fuzzed_with_what_is_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk.raw");
    fs::write(&disk, [0; 1 << 20]).unwrap();
    let config = dir.path().join("guest.toml");
    let row = "[[devices.virtio]]\nkind = \"block\"\ntransport = \"mmio\"\npath = \"disk.raw\"\n";
    fs::write(&config, format!("[kernel]\nkernel_path = {:?}\n{row}", guest("hello"))).unwrap();
    // By chance some of the requests are writes that are right.
    let is_written = (0..12).any(|_| {
        let mut command = axvmm();
        command.args(["device", "fuzz", "disk0", "--seconds", "5", "--config"]).arg(&config);
        let ended = run(&mut command);
        ended.assert(0, "disk0: ").assert(0, " accesses in 5 s");
        let made: u64 = ended.stdout.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(made > 1000, "{ended:#?}");
        fs::read(&disk).unwrap().iter().any(|byte| *byte != 0)
    });
    assert!(is_written, "no request has been carried out");
}

#[test]
fn what_cannot_be_is_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("there")).unwrap();
    for (args, told) in [
        (&["new", "there"][..], "there is there already"),
        (&["new", "Timer"], "small letters, digits and dashes"),
        (&["new", "x", "--axvmm", "/no/such"], "axvmm's source is not there"),
        (&["fuzz", "nothing"], "there is no device \"nothing\"; there are"),
        (&["fuzz", "com1", "--key", "a=1"], "--key is for kinds of one's own"),
    ] {
        let mut command = axvmm();
        let ended = run(command.arg("device").args(args).current_dir(&dir));
        ended.assert(35, "").assert_tells(&[told]);
    }
    run(axvmm().args(["device", "list"])).assert(0, "axvmm device new");
    let mut command = axvmm();
    let row = "devices.custom=[{kind=\"uart\"}]";
    run(command.args(["check", "-k"]).arg(root().join("Cargo.toml")).args(["--set", row]))
        .assert(35, "")
        .assert_tells(&["there is no kind of device \"uart\"", "axvmm device new"]);
}
