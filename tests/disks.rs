//! Disks through the binary, with a tiny guest that drives one itself, on this machine's own KVM: what
//! is flushed survives anything, what the host cannot do is an error of the guest's, and what a
//! request costs.
#![cfg(target_arch = "x86_64")]

mod common;
#[path = "disks/qcow2.rs"]
mod qcow2;

use std::{
    fs::{self, File},
    io::Write,
    os::{fd::AsRawFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use common::{Finished, run, run_guest, start};
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        resource::{Resource, setrlimit},
        signal::Signal,
    },
};

const SECTORS: u32 = 16384;
const SIZE: u64 = SECTORS as u64 * 512;

/// The guest with these words on a disk, which is `--disk`'s value, over MMIO.
fn guest(words: &str, disk: &str) -> Command {
    let mut command = run_guest("disk", words);
    command.args(["--disk", &format!("{disk},transport=mmio")]);
    command
}

#[track_caller]
fn done(words: &str, disk: &str) -> Finished {
    let finished = run(&mut guest(words, disk));
    finished.assert(0, "disk: done").assert_tells(&[]);
    finished
}

struct Image {
    path: PathBuf,
    is_qcow2: bool,
    _dir: tempfile::TempDir,
}

impl Image {
    fn new(is_qcow2: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.img");
        match is_qcow2 {
            true => qcow2::create(&path, SIZE),
            false => File::create(&path).unwrap().set_len(SIZE).unwrap(),
        }
        Self { path, is_qcow2, _dir: dir }
    }

    fn option(&self) -> String {
        let format = if self.is_qcow2 { "qcow2" } else { "raw" };
        format!("{},format={format}", self.path.display())
    }

    /// For each sector the number that it is full of; one that is not full of one fails.
    #[track_caller]
    fn numbers(&self) -> Vec<u32> {
        let bytes = match self.is_qcow2 {
            true => qcow2::read(&self.path),
            false => fs::read(&self.path).unwrap(),
        };
        assert_eq!(bytes.len() as u64, SIZE);
        let number = |sector: &[u8]| {
            let words: Vec<_> =
                sector.chunks(4).map(|it| u32::from_le_bytes(it.try_into().unwrap())).collect();
            assert!(words.iter().all(|word| *word == words[0]), "torn: {words:x?}");
            words[0]
        };
        bytes.chunks(512).map(number).collect()
    }
}

/// Where the guest writes its n-th number.
fn sector(n: u32) -> usize {
    (n * 37 % SECTORS) as usize
}

/// What the guest has last said to be flushed.
fn flushed(stdout: &str) -> u32 {
    let lines = stdout.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let mut numbers = lines.filter_map(|line| line.trim().strip_prefix("flushed ")?.parse().ok());
    numbers.next_back().unwrap_or(0)
}

/// Kills axvmm while its guest writes, 50 times on the same image.
fn survives(is_qcow2: bool) {
    let image = Image::new(is_qcow2);
    let mut before = image.numbers();
    for round in 1..=50_u32 {
        let words = format!("write count=16000 round={round}");
        let running = start(&mut guest(&words, &image.option()));
        running.wait_for(&format!("flushed {}\r", 4 * (1 + round % 13)));
        running.signal(Signal::SIGKILL);
        let finished = running.finish();
        assert_eq!(finished.status, 128 + 9, "round {round}: {finished:#?}");
        let flushed = flushed(&finished.stdout);
        if is_qcow2 {
            qcow2::check(&image.path).unwrap_or_else(|wrong| panic!("round {round}: {wrong}"));
        }
        let after = image.numbers();
        for n in 1..=16000 {
            let (old, new) = (before[sector(n)], round << 16 | n);
            let found = after[sector(n)];
            match n <= flushed {
                true => assert_eq!(found, new, "round {round}: {n} is flushed"),
                // Not written, or not flushed, or flushed and not said to be: what the guest says is
                // on its way through axvmm for a moment.
                false => assert!(found == old || found == new, "round {round}: {n} is {found:#x}"),
            }
        }
        before = after;
    }
}

#[test]
fn what_is_flushed_to_a_raw_image_survives_50_kills_of_50() {
    survives(false);
}

#[test]
fn what_is_flushed_to_a_qcow2_image_survives_50_kills_of_50() {
    survives(true);
}

#[test]
fn an_image_is_whole_after_a_usual_end() {
    for is_qcow2 in [false, true] {
        let image = Image::new(is_qcow2);
        // The last two are not flushed.
        done("write count=402 round=1", &image.option());
        let numbers = image.numbers();
        assert!((1..=402).all(|n| numbers[sector(n)] == 1 << 16 | n));
        if is_qcow2 {
            assert_eq!(qcow2::check(&image.path), Ok(0), "no cluster is lost either");
        }
    }
}

/// Registers the guest writes itself, and each write is an exit; interrupts it has none.
#[test]
fn requests_cost_few_exits() {
    let image = Image::new(false);
    for (depth, most) in [(1, 1.0), (32, 0.2)] {
        let count = 2000.0;
        let finished = done(&format!("read count=2000 depth={depth}"), &image.option());
        let told = finished.stdout.split("notified ").nth(1).unwrap();
        let notified: f64 = told.split(' ').next().unwrap().parse().unwrap();
        assert!(notified > 0.0 && notified / count <= most, "depth {depth}: {notified}");
    }
}

#[test]
fn a_disk_that_is_only_read_stays_as_it_is() {
    let image = Image::new(false);
    let finished = done("write count=4", &format!("{},readonly", image.option()));
    assert_eq!(finished.stdout.matches("error ").count(), 4, "{finished:#?}");
    assert!(fs::read(&image.path).unwrap().iter().all(|byte| *byte == 0));
}

/// A memory file that may not grow is a full disk.
#[test]
fn a_full_host_is_an_error_of_the_guests_and_one_line() {
    let file = File::from(memfd_create("full", MFdFlags::MFD_ALLOW_SEALING).unwrap());
    let image = Image::new(true);
    (&file).write_all(&fs::read(&image.path).unwrap()).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW)).unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let finished = done("write count=100", &format!("{path},format=qcow2"));
    assert!(finished.stdout.matches("error ").count() >= 100, "{finished:#?}");
    finished.assert_tells(&["disk0: write of 512 bytes at 0x"]);
    assert!((1..=3).contains(&finished.stderr.matches("failed").count()), "{finished:#?}");
}

/// `ulimit -f`: the kernel would end a program that does not expect it.
#[test]
fn a_file_that_may_not_grow_is_an_error_of_the_guests() {
    let image = Image::new(true);
    let limit = fs::metadata(&image.path).unwrap().len();
    let mut command = guest("write count=100", &image.option());
    let limited = move || Ok(setrlimit(Resource::RLIMIT_FSIZE, limit, limit)?);
    // SAFETY: all that the child does before it is another program is a system call.
    unsafe { command.pre_exec(limited) };
    let finished = run(&mut command);
    finished.assert(0, "disk: done").assert_tells(&["disk0: write of 512 bytes", "File too large"]);
    assert!(finished.stdout.matches("error ").count() >= 100, "{finished:#?}");
}

#[test]
fn an_image_that_is_cut_while_the_guest_runs() {
    let image = Image::new(false);
    let running = start(&mut guest("read count=1000000 depth=4", &image.option()));
    running.wait_for("sectors");
    File::options().write(true).open(&image.path).unwrap().set_len(512).unwrap();
    running.wait_for("error");
    running.finish().assert(0, "error").assert_tells(&["the image has become shorter"]);
}

#[test]
fn two_guests_do_not_have_one_file() {
    let image = Image::new(false);
    let mut command = run_guest("console-echo", "");
    command.args(["--disk", &image.option()]).stdin(Stdio::piped());
    let mut first = start(&mut command);
    first.wait_for("ready");
    let second = run(&mut guest("read", &image.option()));
    second.assert(35, "").assert_tells(&["--disk ", "disk0", "in use by another program"]);
    // A reset gives the file back, and has it again.
    first.type_in("reset\n");
    first.wait_for_times("ready", 2);
    first.type_in("quit\n");
    first.finish().assert(0, "").assert_tells(&["reboot 1"]);
    done("read", &image.option());
}

#[test]
fn two_guests_do_not_write_to_one_persistent_memory() {
    let image = Image::new(false);
    let guest = |keys: &str| {
        let mut command = run_guest("console-echo", "");
        let row = format!("devices.virtio+={{kind='pmem', path={:?}{keys}}}", image.path);
        command.args(["--set", &row]).stdin(Stdio::piped());
        command
    };
    let mut first = start(&mut guest(""));
    first.wait_for("ready");
    let told = ["--set #1", "pmem0", "in use by another program"];
    run(&mut guest("")).assert(35, "").assert_tells(&told);
    run(&mut guest(", readonly=true")).assert(35, "").assert_tells(&told);
    // A reset gives the file back, and has it again.
    first.type_in("reset\n");
    first.wait_for_times("ready", 2);
    first.type_in("quit\n");
    first.finish().assert(0, "").assert_tells(&["reboot 1"]);
}

#[test]
fn what_is_no_disk_is_told_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        fs::write(dir.path().join(name), bytes).unwrap();
        dir.path().join(name).display().to_string()
    };
    for (disk, words) in [
        (file("odd.img", &[0; 513]), "no multiple of 512"),
        (file("empty.img", &[]), "is empty"),
        (file("plain", &[0; 512]), "write format = \"raw\" or format = \"qcow2\""),
        (file("no.qcow2", &[0; 512]) + ",format=qcow2", "cannot be used as a qcow2 image"),
        (file("a.img", &[0; 512]) + ",fast=true", "unknown key \"fast\""),
        (dir.path().display().to_string(), "is a directory, and no disk"),
        ("/nowhere.img".to_owned(), "No such file"),
    ] {
        let finished = run(&mut guest("read", &disk));
        finished.assert(35, "").assert_tells(&[words]);
    }
}

#[test]
fn axvisors_disk_is_where_its_row_has_it() {
    let image = Image::new(false);
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("guest.toml");
    let kernel = common::guest("disk");
    write_config(&config, &kernel, &image.path, "0xe100_0000");
    let mut command = common::axvmm();
    run(command.args(["run", "--config"]).arg(&config)).assert(0, "disk: 16384 sectors");
}

fn write_config(config: &Path, kernel: &Path, disk: &Path, at: &str) {
    let at_word = at.replace('_', "");
    let text = format!(
        "[base]\nmemory = \"16M\"\n[kernel]\nkernel_path = {kernel:?}\ncmdline = \"at={at_word}\"\n\
         disk_path = {disk:?}\n[devices]\nemu_devices = [[\"blk\", {at}, 0x200, 5, 0xe1, []]]\n"
    );
    fs::write(config, text).unwrap();
}
