//! Persistent memory, as its driver sees it.

use std::{io::Write, sync::atomic::AtomicU32};

use parking_lot::{Condvar, Mutex};

use super::*;
use crate::{
    addr::AccessWidth,
    virtio::testing::{Driver, memory},
};

const PLACE: GuestPhysAddr = GuestPhysAddr(1 << 32);
const FLUSH_REQUEST: &[u8] = &[0; 4];

fn file(size: u64) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"contents").unwrap();
    file.as_file().set_len(size).unwrap();
    file
}

fn config(file: &tempfile::NamedTempFile, readonly: bool) -> PmemConfig {
    let path = file.path().to_owned();
    let size = open(&path, readonly).unwrap().1;
    PmemConfig { path, readonly, size, place: PLACE }
}

fn over(sync: impl Fn() -> io::Result<()> + Send + std::marker::Sync + 'static) -> Driver {
    Driver::new(Arc::new(Pmem::over("pmem0".to_owned(), UNIT, PLACE, Arc::new(sync))), 0)
}

#[test]
fn a_file_is_memory_and_its_place_is_told() {
    for (readonly, size, reaches) in [(false, UNIT, true), (true, UNIT + 1, false)] {
        let (file, memory) = (file(size), memory());
        let pmem = Pmem::new("pmem0".to_owned(), &config(&file, readonly), &memory).unwrap();
        let mut bytes = [0; 8];
        memory.read(PLACE, &mut bytes).unwrap();
        assert_eq!(&bytes, b"contents");
        memory.write(PLACE, b"C").unwrap();
        let mut driver = Driver::new(Arc::new(pmem), 0);
        assert_eq!(driver.request(0, &[FLUSH_REQUEST], &[4]), [0; 4]);
        assert_eq!(std::fs::read(file.path()).unwrap()[0] == b'C', reaches);
        assert_eq!(file.as_file().metadata().unwrap().len(), size);
        let field = |offset| driver.control.read_config(offset, AccessWidth::Qword);
        assert_eq!([field(0), field(8), field(16)], [PLACE.0, size.next_multiple_of(UNIT), 0]);
    }
}

#[test]
fn files_of_which_no_memory_comes() {
    #[track_caller]
    fn refused(path: &Path, readonly: bool, expect: &str, help: Option<&str>) {
        let error = open(path, readonly).unwrap_err();
        assert!(error.to_string().contains(expect), "{error}");
        let given = error.help();
        assert_eq!(given.is_some(), help.is_some(), "{given:?}");
        assert!(given.unwrap_or_default().contains(help.unwrap_or_default()));
    }
    let dir = tempfile::tempdir().unwrap();
    refused(&dir.path().join("none"), false, "No such file", None);
    refused(dir.path(), true, "is no file", None);
    refused(Path::new("/dev/null"), false, "is no file", None);
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused(&fifo, true, "is no file", None);
    for readonly in [false, true] {
        refused(file(0).path(), readonly, "is empty", Some("truncate -s 64M"));
    }
    for size in [1, UNIT - 1, UNIT + 4096] {
        let larger = format!("truncate -s {}M", size.next_multiple_of(UNIT) >> 20);
        refused(file(size).path(), false, "no multiple of 2 MiB", Some(&larger));
    }
}

#[test]
fn a_file_that_has_changed_its_size_is_refused() {
    let file = file(UNIT);
    let config = config(&file, false);
    file.as_file().set_len(2 * UNIT).unwrap();
    let error = Pmem::new("pmem0".to_owned(), &config, &memory()).unwrap_err();
    assert!(error.to_string().contains("from 2097152 to 4194304"), "{error}");
}

#[test]
fn a_file_has_one_writer_or_any_number_of_readers() {
    let file = file(UNIT);
    let new = |readonly| {
        let memory = memory();
        // What keeps it is the device: of what only reads the memory has no file any more.
        Pmem::new("pmem0".to_owned(), &config(&file, readonly), &memory).map(|pmem| (pmem, memory))
    };
    let refused = |readonly| new(readonly).unwrap_err().to_string();
    let writer = new(false).unwrap();
    assert!(refused(false).contains("in use by another program"), "{}", refused(false));
    assert!(refused(true).contains(", which writes to it"), "{}", refused(true));
    drop(writer);
    let readers = [new(true).unwrap(), new(true).unwrap()];
    assert!(refused(false).contains("two writers would destroy it"), "{}", refused(false));
    drop(readers);
    new(false).unwrap();
}

#[test]
fn what_is_no_flush_fails_and_does_nothing() {
    let mut driver = over(|| panic!("nobody has asked for it"));
    assert_eq!(driver.request(0, &[&[1, 0, 0, 0]], &[4]), [0xff; 4]);
    assert_eq!(driver.request(0, &[&[0, 0, 0]], &[4]), [0xff; 4]);
    assert_eq!(driver.request(0, &[], &[4]), [0xff; 4]);
    let mut driver = over(|| Ok(()));
    // No room for an answer, and more than it needs.
    assert_eq!(driver.request(0, &[FLUSH_REQUEST], &[3]), [0; 0]);
    assert_eq!(driver.request(0, &[FLUSH_REQUEST], &[]), [0; 0]);
    assert_eq!(driver.request(0, &[FLUSH_REQUEST, b"more"], &[1, 100]), [0; 4]);
}

#[test]
fn after_a_flush_that_failed_none_succeeds() {
    let calls = Arc::<AtomicU32>::default();
    let count = calls.clone();
    let mut driver = over(move || match count.fetch_add(1, Ordering::SeqCst) {
        1 => Err(io::Error::from_raw_os_error(libc::EIO)),
        _ => Ok(()),
    });
    let results = [0; 4].map(|_| driver.request(0, &[FLUSH_REQUEST], &[4])[0]);
    assert_eq!(results, [0, 0xff, 0xff, 0xff]);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    // Also not after a reset: the data are as lost as before.
    driver.begin(0);
    assert_eq!(driver.request(0, &[FLUSH_REQUEST], &[4]), [0xff; 4]);
}

#[test]
fn requests_that_wait_have_one_flush_together() {
    let calls = Arc::<AtomicU32>::default();
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let (count, closed) = (calls.clone(), gate.clone());
    let mut driver = over(move || {
        count.fetch_add(1, Ordering::SeqCst);
        closed.1.wait_while(&mut closed.0.lock(), |open| !*open);
        Ok(())
    });
    driver.push(0, &[FLUSH_REQUEST], &[4]);
    driver.kick(0);
    while calls.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    for _ in 0..20 {
        driver.push(0, &[FLUSH_REQUEST], &[4]);
    }
    driver.kick(0);
    assert_eq!(driver.used(0), None, "before it is done");
    *gate.0.lock() = true;
    gate.1.notify_all();
    for _ in 0..21 {
        driver.wait_used(0);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}
