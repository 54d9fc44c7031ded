use std::{fs, io::Write, os::unix::fs::PermissionsExt, thread::sleep, time::Duration};

use super::{super::testing::*, *};
use crate::vm::config::Unpack;

/// A bench whose kernel is old enough to be cached.
fn bench() -> Bench {
    let bench = Bench::new(&bzimage(&lz4(&inner_elf(true)))).unpack(Unpack::Host);
    sleep(TIMESTAMP_TICK + Duration::from_millis(20));
    bench
}

/// The cached file that a start used, and whether it was there before.
#[track_caller]
fn start(bench: &Bench) -> (PathBuf, bool) {
    let plan = bench.prepare_cached().unwrap();
    let mem = memory();
    plan.load(&mem, &firmware()).unwrap();
    assert_eq!(bytes_at(&mem, 0x100_0000, 64), inner_elf(true)[4096..4096 + 64]);
    let unpacked = plan.unpacked.unwrap();
    (unpacked.cache.unwrap(), unpacked.cache_hit)
}

fn entries(bench: &Bench) -> usize {
    fs::read_dir(bench.dir.path().join("cache")).unwrap().count()
}

#[test]
fn a_kernel_is_unpacked_once() {
    let bench = bench();
    let (path, hit) = start(&bench);
    assert!(!hit);
    assert_eq!(start(&bench), (path, true));
    assert_eq!(entries(&bench), 1);
}

#[test]
fn left_to_itself_a_kernel_is_unpacked_when_it_is_started_again() {
    let bench = bench().unpack(Unpack::Auto);
    let plan = bench.prepare_cached().unwrap();
    assert_eq!((plan.unpacked, plan.notes), (None, vec![]));
    let (path, hit) = start(&bench);
    assert!(!hit);
    assert_eq!(start(&bench), (path, true));
    // Not in a cache that is gone tomorrow, but one that is there is used.
    let cache = Cache { lasting: false, ..bench.cache() };
    let prepare = || {
        super::super::BootPlan::prepare_with(
            crate::hal::Arch::X86_64,
            &bench.config,
            &bench.ram,
            0,
            Some(&cache),
        )
        .unwrap()
    };
    assert!(prepare().unpacked.is_some_and(|unpacked| unpacked.cache_hit));
    fs::remove_dir_all(bench.dir.path().join("cache")).unwrap();
    assert_eq!((prepare().unpacked, prepare().unpacked), (None, None));
    assert!(!bench.dir.path().join("cache").exists());
}

#[test]
fn a_changed_kernel_is_unpacked_again() {
    let bench = bench();
    let (path, _) = start(&bench);
    let image = fs::read(&bench.config.image.path).unwrap();
    fs::write(&bench.config.image.path, image).unwrap();
    assert_eq!(bench.prepare_cached().unwrap().unpacked.unwrap().cache, None, "too fresh");
    sleep(TIMESTAMP_TICK + Duration::from_millis(20));
    let (other, hit) = start(&bench);
    assert!(!hit && other != path);
}

#[test]
fn a_damaged_entry_is_found_out_and_replaced() {
    let bench = bench();
    let (path, _) = start(&bench);
    let whole = fs::read(&path).unwrap();
    let writable_by_all = fs::Permissions::from_mode(0o666);
    for damage in [
        &(|| fs::write(&path, &whole[..whole.len() - 1]).unwrap()) as &dyn Fn(),
        &|| fs::write(&path, vec![0; whole.len()]).unwrap(),
        &|| fs::set_permissions(&path, writable_by_all.clone()).unwrap(),
        &|| {
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            fs::remove_dir(&path).unwrap();
        },
    ] {
        damage();
        assert_eq!(start(&bench), (path.clone(), false));
        assert_eq!(start(&bench), (path.clone(), true));
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}

#[test]
fn only_the_entries_used_last_are_kept() {
    let bench = bench();
    let (path, _) = start(&bench);
    let cache = bench.cache();
    for i in 0..2 * KEPT {
        let key = Key { name: format!("{i}.elf"), size: 1 };
        let entry = cache.create(&key).unwrap();
        entry.file().write_all(b"x").unwrap();
        entry.keep().unwrap();
        sleep(Duration::from_millis(5));
    }
    assert_eq!(entries(&bench), KEPT);
    assert!(!path.exists());
    drop(cache.create(&Key { name: "never.elf".into(), size: 1 }).unwrap());
    assert_eq!(entries(&bench), KEPT, "what is not kept leaves nothing behind");
}
