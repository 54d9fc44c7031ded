//! axvmm killed while Linux writes to its disks, in the emulated x86_64 host: what was flushed is
//! there, the file system is whole once its journal has been replayed, and so is the qcow2 image.
//!
//! `POWER_CUTS` says how often, on the same two images.
#![cfg(target_arch = "x86_64")]

mod common;
#[path = "disks/qcow2.rs"]
mod qcow2;

use std::{
    env,
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
    time::Duration,
};

use axvmm::virtio::block::{Block, BlockConfig, ImageFormat};

/// For the host, and for each round.
const PATIENCE: Duration = Duration::from_secs(120);

/// Of the disks, in bytes.
const SIZE: u64 = 32 << 20;
/// Room for an image, in MiB.
const SLOT: u64 = 48;

/// Whether the command ended with one of these statuses.
#[track_caller]
fn run(command: &mut Command, statuses: &[i32]) {
    let path = format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap());
    let ended = command.env("PATH", path).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(ended.status.code().is_some_and(|it| statuses.contains(&it)), "{command:?}: {ended:?}");
}

/// The file system has all of the files, whole.
fn check(dir: &Path, disk: &[u8], files: &[(String, String)]) {
    let (image, found) = (dir.join("disk"), dir.join("found"));
    fs::write(&image, disk).unwrap();
    // 1: the journal had something.
    run(Command::new("e2fsck").args(["-y", "-E", "journal_only"]).arg(&image), &[0, 1]);
    run(Command::new("e2fsck").args(["-f", "-n"]).arg(&image), &[0]);
    fs::create_dir(&found).unwrap();
    let dump = format!("rdump /files {}", found.display());
    run(Command::new("debugfs").args(["-R", &dump]).arg(&image), &[0]);
    for (name, line) in files {
        let bytes = fs::read(found.join("files").join(name)).unwrap_or_default();
        let wanted = line.bytes().cycle().take(50000);
        assert!(bytes.iter().copied().eq(wanted), "{name}: {} bytes, not {line:?}", bytes.len());
    }
    fs::remove_dir_all(&found).unwrap();
}

#[test]
fn what_linux_on_x86_64_has_flushed_survives_each_kill() {
    let rounds: u64 = env::var("POWER_CUTS").map_or(3, |it| it.parse().expect("a number"));
    let dir = tempfile::tempdir().unwrap();
    let [raw, cow, images] = ["raw", "cow", "images"].map(|name| dir.path().join(name));
    File::create(&raw).unwrap().set_len(SIZE).unwrap();
    run(Command::new("mke2fs").args(["-q", "-t", "ext4", "-b", "1024"]).arg(&raw), &[0]);
    qcow2::create(&cow, SIZE);
    qcow2::write(&cow, &fs::read(&raw).unwrap());
    File::create(&images).unwrap().set_len((rounds * 2 * SLOT) << 20).unwrap();

    let ended = common::despite_svm("x86_64", || {
        let mut command = common::host("x86_64");
        command.args(["--with", "tests/power_cut/host.sh", "--with", "tests/power_cut/guest.sh"]);
        command.arg("--with").arg(&cow).arg("--disk").arg(&raw).arg("--disk").arg(&images);
        command.args(["--", "sh", "host.sh", &rounds.to_string(), &SLOT.to_string()]);
        let patience = PATIENCE * (1 + rounds as u32);
        let ended = common::start(&mut command).within(patience).finish();
        ended.assert(0, &format!("killed {rounds}")).assert_tells(&[]);
        ended
    });

    let images = File::open(&images).unwrap();
    let mut places = 0..;
    for round in 1..=rounds {
        for disk in ["raw", "cow"] {
            let start = format!("flushed {round} {disk} ");
            let said = ended.stdout.lines().filter_map(|it| it.trim_end().strip_prefix(&start));
            let files: Vec<_> =
                said.map(|it| (it.replace(' ', "-"), format!("{round} {disk} {it}\n"))).collect();
            assert!(!files.is_empty(), "{ended:#?}");
            println!("round {round}, {disk}: {} files flushed", files.len());
            let mut bytes = vec![0; (SLOT << 20) as usize];
            images.read_exact_at(&mut bytes, (places.next().unwrap() * SLOT) << 20).unwrap();
            match disk {
                "raw" => bytes.truncate(SIZE as usize),
                _ => {
                    fs::write(&cow, &bytes).unwrap();
                    // What the next guest's start puts right.
                    let config = BlockConfig::new(cow.clone(), ImageFormat::Qcow2);
                    drop(Block::new("cow".to_owned(), &config, 1).unwrap());
                    qcow2::check(&cow).unwrap_or_else(|wrong| panic!("round {round}: {wrong}"));
                    bytes = qcow2::read(&cow);
                }
            }
            check(dir.path(), &bytes, &files);
        }
    }
}
