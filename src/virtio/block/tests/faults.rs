//! A host that fails, resets in the middle of it, and what must be on disk.

use std::{
    fs::OpenOptions,
    io,
    num::NonZeroU64,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::*;
use crate::virtio::rate_limit::Rate;

/// An image whose operations wait until they may go on, and then fail or not.
#[derive(Default)]
struct Slow {
    open: Mutex<bool>,
    opened: Condvar,
    begun: AtomicUsize,
    over: AtomicUsize,
    flushes: AtomicUsize,
    error: Option<i32>,
}

impl Slow {
    fn allow(&self) {
        *self.open.lock() = true;
        self.opened.notify_all();
    }

    fn pass(&self) -> io::Result<()> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.opened.wait_while(&mut self.open.lock(), |open| !*open);
        self.over.fetch_add(1, Ordering::SeqCst);
        self.error.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    fn wait_begun(&self, count: usize) {
        let since = Instant::now();
        while self.begun.load(Ordering::SeqCst) < count {
            assert!(since.elapsed() < Duration::from_secs(20));
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Image for Arc<Slow> {
    fn size(&self) -> u64 {
        SIZE
    }

    fn read(&self, _: u64, to: GuestBuffer) -> io::Result<()> {
        self.pass()?;
        to.write_at(0, &vec![0xee; to.len()]).ok_or(io::ErrorKind::InvalidInput.into())
    }

    fn write(&self, _: u64, _: GuestBuffer) -> io::Result<()> {
        self.pass()
    }

    fn flush(&self) -> io::Result<()> {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        self.pass()
    }

    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        self.pass()
    }

    fn write_zeroes(&self, _: u64, _: u64, _: bool) -> io::Result<()> {
        self.pass()
    }
}

fn disk_on(slow: &Arc<Slow>, name: &str) -> Block {
    let images = Images::new();
    let mut block = images.disk(Way::Raw);
    name.clone_into(&mut block.name);
    block.image = Arc::new(slow.clone());
    block
}

#[test]
fn a_reset_waits_for_what_has_begun_and_nothing_is_touched_after_it() {
    let slow = Arc::<Slow>::default();
    let mut driver = DiskDriver::new(disk_on(&slow, "slowdisk")).0;
    let heads: Vec<u16> = (0..20).map(|i| driver.push(0, &[&header(IN, i)], &[512, 1])).collect();
    driver.kick(0);
    slow.wait_begun(8);
    assert!(threads("slowdisk") >= 9);
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            driver.control.set_status(0);
            tell.send(()).unwrap();
        });
        assert!(told.recv_timeout(Duration::from_millis(100)).is_err(), "eight are in the middle");
        slow.allow();
        told.recv_timeout(Duration::from_secs(20)).unwrap();
    });
    let over = slow.over.load(Ordering::SeqCst);
    assert_eq!(over, slow.begun.load(Ordering::SeqCst));
    assert!(over < 20, "what had not begun never does");
    wait_for_no_threads("slowdisk");
    assert_eq!(driver.used_index(0), 0, "nobody is told");
    let untouched = heads[over..].iter().all(|head| driver.written(0, *head) == [0; 513]);
    assert!(untouched);
    // And it works again.
    driver.begin(0);
    let back = driver.request(0, &[&header(IN, 0)], &[512, 1]);
    assert_eq!(back, [&[0xee; 512][..], &[OK]].concat());
}

#[test]
fn resets_in_the_middle_of_everything_leave_nothing_behind() {
    for way in WAYS {
        let images = Images::new();
        let config = images.config(way);
        let mut block = disk(way, &config);
        "reset".clone_into(&mut block.name);
        let mut driver = DiskDriver::new(block).0;
        let count = descriptors(&config.path);
        for round in 0..100 {
            for i in 0..32 {
                driver.push(0, &[&header(OUT, i * 8), &[round as u8; 4096]], &[1]);
            }
            driver.push(0, &[&header(FLUSH, 0)], &[1]);
            driver.kick(0);
            driver.begin(0);
        }
        driver.control.set_status(0);
        wait_for_no_threads("resetq");
        assert_eq!(descriptors(&config.path), count, "{way:?}");
        drop(driver);
        assert_eq!(descriptors(&config.path), 0, "{way:?}");
    }
}

#[test]
fn an_error_of_the_host_is_one_of_the_guest() {
    for errno in [libc::ENOSPC, libc::EIO, libc::EDQUOT] {
        let slow = Arc::new(Slow { error: Some(errno), ..Slow::default() });
        slow.allow();
        let mut driver = DiskDriver::new(disk_on(&slow, "bad"));
        assert_eq!(driver.write(0, &[1; 512]), IOERR);
        assert_eq!(driver.read(0, 512).1, IOERR);
        assert_eq!(driver.flush(), IOERR);
        for kind in [DISCARD, WRITE_ZEROES] {
            assert_eq!(driver.request(kind, 0, &range(0, 1, 0), 0).1, IOERR);
        }
    }
}

#[test]
fn an_image_that_becomes_shorter() {
    for way in [Way::Raw, Way::RawByThreads] {
        let images = Images::new();
        let config = images.config(way);
        let mut driver = DiskDriver::new(disk(way, &config));
        let file = OpenOptions::new().write(true).open(&config.path).unwrap();
        file.set_len(1024).unwrap();
        assert_eq!(driver.read(0, 1024).1, OK);
        assert_eq!(driver.read(1, 1024).1, IOERR, "{way:?}: half of it");
        assert_eq!(driver.read(100, 512).1, IOERR, "{way:?}");
        // It may grow again, as a hole.
        assert_eq!(driver.write(100, &[3; 512]), OK);
        assert_eq!(driver.read(99, 1024), ([[0; 512], [3; 512]].concat(), OK));
        std::fs::remove_file(&config.path).unwrap();
        assert_eq!(driver.read(99, 1024).1, OK, "an open file stays");
    }
}

/// A file that may not grow is as good as a full disk.
#[test]
fn a_qcow2_image_without_room_to_grow() {
    let images = Images::new();
    let config = images.config(Way::Qcow2);
    let mut driver = DiskDriver::new(disk(Way::Qcow2, &config));
    assert_eq!(driver.write(0, &[9; 512]), OK);
    // Sealed against growth: like ENOSPC, it fails where new room is needed.
    let memory =
        nix::sys::memfd::memfd_create("full", nix::sys::memfd::MFdFlags::MFD_ALLOW_SEALING);
    let memory = File::from(memory.unwrap());
    drop(driver);
    std::io::copy(&mut File::open(&config.path).unwrap(), &mut &memory).unwrap();
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    fcntl(&memory, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW)).unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory));
    let config = BlockConfig { path: path.into(), ..config };
    let mut driver = DiskDriver::new(disk(Way::Qcow2, &config));
    assert_eq!(driver.read(0, 512), (vec![9; 512], OK));
    assert_eq!(driver.write(4096, &[1; 512]), IOERR);
    assert_eq!(driver.write(0, &[8; 512]), OK, "there is room for this");
    assert_eq!(driver.read(0, 512), (vec![8; 512], OK));
}

#[test]
fn without_a_flush_every_write_is_on_disk() {
    for (without, switch_off, durable) in
        [(0, false, false), (0, true, true), (1 << 9, false, true), (1 << 9 | 1 << 11, false, true)]
    {
        let slow = Arc::<Slow>::default();
        slow.allow();
        let mut driver = DiskDriver::without(disk_on(&slow, "durable"), without);
        if switch_off {
            driver.0.control.write_config(32, crate::addr::AccessWidth::Byte, 0);
        }
        let before = slow.flushes.load(Ordering::SeqCst);
        assert_eq!(before, usize::from(switch_off), "what was cached until then");
        assert_eq!(driver.write(0, &[1; 512]), OK);
        assert_eq!(driver.request(WRITE_ZEROES, 0, &range(0, 1, 0), 0).1, OK);
        let flushes = slow.flushes.load(Ordering::SeqCst) - before;
        assert_eq!(flushes, if durable { 2 } else { 0 }, "{without:#x} {switch_off}");
    }
}

#[test]
fn a_limit_holds_and_nothing_is_lost() {
    let images = Images::new();
    let rate = Rate { operations: NonZeroU64::new(100), bandwidth: None };
    let config = BlockConfig { rate, queues: Some(2), ..images.config(Way::Raw) };
    let mut driver = DiskDriver::new(disk(Way::Raw, &config)).0;
    let since = Instant::now();
    for queue in [0, 1] {
        for i in 0..20 {
            driver.push(queue, &[&header(OUT, i), &[1; 512]], &[1]);
        }
        driver.kick(queue);
    }
    for queue in [0, 1] {
        for _ in 0..20 {
            let (head, _) = driver.wait_used(queue);
            assert_eq!(driver.written(queue, head), [OK]);
        }
    }
    // Ten at once, and 30 a hundredth of a second each, whoever asked.
    assert!(since.elapsed() >= Duration::from_millis(250), "{:?}", since.elapsed());
    // A reset does not wait for the limit.
    for i in 0..20 {
        driver.push(0, &[&header(OUT, i), &[1; 512]], &[1]);
    }
    driver.kick(0);
    driver.begin(0);
}

#[test]
fn the_same_head_twice_is_two_requests() {
    let mut driver = DiskDriver::new(Images::new().disk(Way::Raw)).0;
    let head = driver.push(0, &[&header(IN, 0)], &[512, 1]);
    driver.publish(0, head);
    driver.kick(0);
    assert_eq!([driver.wait_used(0), driver.wait_used(0)], [(head, 513); 2]);
    assert_eq!(driver.used(0), None);
}
