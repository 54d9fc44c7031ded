//! What can be a disk, and what cannot.

use std::{fs, os::unix::fs::symlink};

use super::*;
/// Another's judgement.
#[path = "../../../../tests/disks/qcow2.rs"]
#[allow(dead_code)] // whole programs use the rest
mod judge;
use crate::virtio::block::{Backing, ImageError};

#[track_caller]
fn refused(config: &BlockConfig, what: &str) {
    let error = open(config).err().unwrap_or_else(|| panic!("{config:?} is a disk"));
    let text = error.to_string();
    assert!(text.contains(what), "{text}");
    assert!(text.contains(&*config.path.to_string_lossy()), "{text}");
}

fn raw(path: PathBuf) -> BlockConfig {
    BlockConfig::new(path, ImageFormat::Raw)
}

fn qcow2(path: PathBuf) -> BlockConfig {
    BlockConfig::new(path, ImageFormat::Qcow2)
}

#[test]
fn formats_are_plain_or_said() {
    for (name, format) in [
        ("disk.raw", Some(ImageFormat::Raw)),
        ("disk.img", Some(ImageFormat::Raw)),
        ("disk.ISO", Some(ImageFormat::Raw)),
        ("disk.qcow2", None),
        ("disk", None),
        ("raw", None),
        ("/dev/null", None),
    ] {
        assert_eq!(ImageFormat::of(Path::new(name)), format, "{name}");
    }
}

#[test]
fn what_is_no_disk() {
    let images = Images::new();
    refused(&raw(images.path("none")), "No such file");
    refused(&raw(images.path(".")), "a directory");
    refused(&raw("/dev/null".into()), "a device of characters");
    refused(&raw(images.raw("empty", 0)), "is empty");
    refused(&raw(images.raw("odd", 513)), "513 bytes, which is no multiple of 512");
    let fifo = images.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused(&raw(fifo), "a pipe");
    for (name, contents) in
        [("no.qcow2", &b"no qcow2 at all"[..]), ("cut.qcow2", b"QFI\xfb\0\0\0\x03")]
    {
        fs::write(images.path(name), contents).unwrap();
        refused(&qcow2(images.path(name)), "cannot be used as a qcow2 image");
    }
    refused(&qcow2(images.qcow2("empty.qcow2", 0, None)), "is empty");
    // Root may do all of it.
    if !nix::unistd::geteuid().is_root() {
        let path = images.raw("mine", 512);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
        refused(&raw(path), "readonly = true");
    }
}

#[test]
fn a_raw_disk_that_begins_like_qcow2_is_raw() {
    let images = Images::new();
    let path = images.qcow2("secret", SIZE, Some(("/etc/passwd", "raw")));
    let bytes = fs::read(&path).unwrap();
    let mut driver = DiskDriver::new(disk(Way::Raw, &raw(path)));
    assert_eq!(driver.read(0, 512), (bytes[..512].to_vec(), OK));
}

#[test]
fn two_disks_are_not_one_file() {
    for way in WAYS {
        let images = Images::new();
        let config = images.config(way);
        let first = disk(way, &config);
        refused(&config, "in use by another program");
        refused(&BlockConfig { readonly: true, ..config.clone() }, "which writes to it");
        let link = images.path("link");
        symlink(&config.path, &link).unwrap();
        refused(&BlockConfig { path: link, ..config.clone() }, "in use");
        drop(first);
        open(&config).unwrap();
    }
}

#[test]
fn other_files_only_back_an_image_that_may_have_them() {
    let images = Images::new();
    let base = images.raw("base.raw", SIZE);
    fs::write(&base, vec![0x5a; SIZE as usize]).unwrap();
    let top = images.qcow2("top.qcow2", SIZE, Some(("base.raw", "raw")));
    let config = qcow2(top);
    refused(&config, "wants the file \"base.raw\"");

    let named = BlockConfig { backing: Backing::AsNamed, ..config.clone() };
    let mut driver = DiskDriver::new(disk(Way::Qcow2, &named));
    assert_eq!(driver.read(9, 512), (vec![0x5a; 512], OK));
    assert_eq!(driver.write(9, &[1; 512]), OK);
    assert_eq!(driver.read(8, 1536).0, [vec![0x5a; 512], vec![1; 512], vec![0x5a; 512]].concat());
    // What backs it is not written, neither by this one nor by others.
    assert!(fs::read(&base).unwrap().iter().all(|byte| *byte == 0x5a));
    refused(&raw(base), "in use");
    drop(driver);

    let other = images.raw("other", SIZE);
    let at = BlockConfig { backing: Backing::At(other, ImageFormat::Raw), ..config };
    let mut driver = DiskDriver::new(disk(Way::Qcow2, &at));
    assert_eq!(driver.read(9, 512).0, [1; 512], "its own");
    assert_eq!(driver.read(1000, 512).0, [0; 512], "the other's");
}

#[test]
fn chains_of_images() {
    let images = Images::new();
    images.raw("base", SIZE);
    images.qcow2("middle", SIZE, Some(("base", "raw")));
    let named = |path| BlockConfig { backing: Backing::AsNamed, ..qcow2(path) };
    let top = named(images.qcow2("top", SIZE, Some(("middle", "qcow2"))));
    open(&top).unwrap();
    // Named by the user, an image may not want a further one.
    let middle = Backing::At(images.path("middle"), ImageFormat::Qcow2);
    let error = open(&BlockConfig { backing: middle, ..top.clone() }).err().unwrap();
    assert!(matches!(error, ImageError::Backing { .. }), "{error}");
    // Formats are not guessed, and circles end.
    let vague = named(images.qcow2("vague", SIZE, Some(("base", "vdi"))));
    refused(&vague, "\"vdi\"");
    let circle = named(images.qcow2("circle", SIZE, Some(("circle", "qcow2"))));
    refused(&circle, "in use");
    let readonly = BlockConfig { readonly: true, ..circle };
    refused(&readonly, "more than 64 images");
    let gone = named(images.qcow2("gone", SIZE, Some(("nowhere", "raw"))));
    let error = open(&gone).err().unwrap().to_string();
    assert!(error.contains("nowhere: No such file"), "{error}");
}

#[test]
fn past_the_page_cache_where_the_host_can() {
    let images = Images::new();
    for way in WAYS {
        let config = BlockConfig { direct: true, ..images.config(way) };
        match open(&config) {
            Ok(image) => {
                let block = image.block_size();
                assert!(block == 512 || block == 4096, "{block}");
                drop(image);
                let mut driver = DiskDriver::new(disk(way, &config));
                let data = vec![0x42; 8192];
                // Buffers of a driver's that are no block's: an error, or done by copying.
                let status = driver.write(8, &data);
                assert!(status == OK || status == IOERR);
                if status == OK {
                    assert_eq!(driver.read(8, 8192), (data, OK));
                }
            }
            Err(error) => assert!(matches!(error, ImageError::NotDirect { .. }), "{error}"),
        }
    }
}

#[test]
fn a_qcow2_image_is_whole_whatever_is_written_beside_a_flush() {
    let images = Images::new();
    let path = images.path("disk");
    // 128 tables of 512 clusters of 4 KiB: a flush has much to write, and for a while.
    judge::create(&path, 256 << 20);
    let mut driver = DiskDriver::new(disk(Way::Qcow2, &qcow2(path.clone())));
    for batch in 0..20 {
        for n in 0..80 {
            if n == 40 {
                driver.0.push(0, &[&header(FLUSH, 0)], &[1]);
            }
            let cluster = n * 37 % 128 * 512 + batch;
            driver.0.push(0, &[&header(OUT, cluster * 8), &[1; 512]], &[1]);
        }
        driver.0.kick(0);
        for _ in 0..81 {
            driver.0.wait_used(0);
        }
        if batch == 0 {
            // The tables themselves are referred to at once.
            assert_eq!(driver.flush(), OK);
        }
        // As if it were killed now.
        judge::check(&path).unwrap_or_else(|wrong| panic!("batch {batch}: {wrong}"));
    }
}

#[test]
fn tables_that_a_kill_has_left_uncounted_are_counted_before_the_image_is_written() {
    let images = Images::new();
    let (path, killed) = (images.path("disk"), images.path("killed"));
    judge::create(&path, 256 << 20);
    let mut driver = DiskDriver::new(disk(Way::Qcow2, &qcow2(path.clone())));
    // A table each, and nothing flushed.
    let clusters = [0_u64, 1, 2, 40, 127].map(|table| table * 512);
    for cluster in clusters {
        assert_eq!(driver.write(cluster * 8, &[7; 4096]), OK);
    }
    std::fs::copy(&path, &killed).unwrap();
    let wrong = judge::check(&killed).unwrap_err();
    assert!(wrong.contains("1 uses and the count 0"), "{wrong}");
    let mut driver = DiskDriver::new(disk(Way::Qcow2, &qcow2(killed.clone())));
    judge::check(&killed).unwrap();
    // What is written now takes no table's place.
    for cluster in clusters {
        assert_eq!(driver.write((cluster + 1) * 8, &[9; 4096]), OK);
    }
    assert_eq!(driver.flush(), OK);
    judge::check(&killed).unwrap();
    for cluster in clusters {
        assert_eq!(driver.read((cluster + 1) * 8, 4096), (vec![9; 4096], OK));
    }
    // Who only reads changes nothing.
    std::fs::copy(&path, images.path("read")).unwrap();
    let before = std::fs::read(images.path("read")).unwrap();
    drop(disk(Way::Qcow2, &BlockConfig { readonly: true, ..qcow2(images.path("read")) }));
    assert!(before == std::fs::read(images.path("read")).unwrap());
}
