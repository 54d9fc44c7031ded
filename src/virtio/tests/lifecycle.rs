//! From reset to activation and back (virtio 1.2, 3.1).

use std::sync::Arc;

use crate::virtio::{
    VirtioDevice,
    rng::{Rng, RngConfig},
    testing::{Driver, RAM, RAM_SIZE},
};

const ACK_DRIVER: u32 = 1 | 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;
const FAILED: u32 = 0x80;

fn rng() -> Arc<dyn VirtioDevice> {
    Arc::new(Rng::new("rng0".to_owned(), &RngConfig::default()))
}

#[test]
fn a_request_is_answered_and_the_driver_told() {
    for without in [0, 1 << 29, 1 << 28 | 1 << 29] {
        let mut driver = Driver::new(rng(), without);
        let bytes = driver.request(0, &[], &[100, 28]);
        assert_eq!(bytes.len(), 128);
        assert!(bytes.iter().any(|byte| *byte != 0));
        driver.wait_told(0, 1);
        // Far more than one request may have.
        assert_eq!(driver.request(0, &[b"ignored"], &[1 << 20]).len(), 64 << 10);
    }
}

#[test]
fn more_requests_than_the_queue_has_come_back_in_turn() {
    let mut driver = Driver::new(rng(), 0);
    for _ in 0..1000 {
        driver.request(0, &[], &[16]);
    }
}

#[test]
fn features_that_are_not_offered_are_not_taken() {
    for (low, high) in [(0, 0), (1, 1), (u32::MAX, u32::MAX), (0, 2 | 1)] {
        let driver = Driver::before_setup(rng());
        driver.control.set_status(ACK_DRIVER);
        driver.control.set_driver_features(0, low);
        driver.control.set_driver_features(1, high);
        driver.control.set_driver_features(2, u32::MAX);
        driver.control.set_status(ACK_DRIVER | FEATURES_OK);
        assert_eq!(driver.control.status(), ACK_DRIVER, "{low:#x} {high:#x}");
        driver.control.set_status(ACK_DRIVER | FEATURES_OK | DRIVER_OK);
        assert_eq!(driver.control.status(), ACK_DRIVER, "no DRIVER_OK without features");
    }
    let driver = Driver::new(rng(), 0);
    let taken = driver.control.driver_features(0);
    driver.control.set_driver_features(0, 0);
    assert_eq!(driver.control.driver_features(0), taken, "after FEATURES_OK");
    assert_eq!(driver.control.offered_features(2), 0);
    assert_eq!(driver.control.offered_features(u32::MAX), 0);
}

#[test]
fn bits_of_the_status_stay_until_a_reset() {
    let driver = Driver::new(rng(), 0);
    for value in [1, 2, 0x40, 0x100, DRIVER_OK] {
        driver.control.set_status(value);
        assert_eq!(driver.control.status(), ACK_DRIVER | FEATURES_OK | DRIVER_OK);
    }
    driver.control.set_status(FAILED);
    assert_eq!(driver.control.status(), ACK_DRIVER | FEATURES_OK | DRIVER_OK | FAILED);
    driver.control.set_status(0);
    assert_eq!(driver.control.status(), 0);
    assert!(!driver.control.queue(0).unwrap().is_enabled);
}

#[test]
fn a_reset_ends_the_thread_and_the_device_begins_again() {
    let mut driver = Driver::new(rng(), 0);
    let tasks = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let fds = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    driver.request(0, &[], &[16]);
    let before = (tasks(), fds());
    for _ in 0..200 {
        driver.begin(0);
        driver.request(0, &[], &[16]);
    }
    // Other tests have threads and files too; nobody has hundreds.
    let after = (tasks(), fds());
    assert!(after.0 < before.0 + 100 && after.1 < before.1 + 100, "{before:?} {after:?}");
}

#[test]
fn rings_must_be_where_a_queue_can_have_them() {
    let driver = Driver::before_setup(rng());
    let (size, good) = (16, [RAM, RAM + 0x1000, RAM + 0x2000]);
    let enabled = |size, [descriptors, available, used]: [u64; 3]| {
        driver.control.set_status(0);
        driver.control.set_up_queue(0, |queue| {
            (queue.size, queue.max) = (size, 1 << 15);
            (queue.descriptors, queue.available, queue.used) = (descriptors, available, used);
            queue.is_enabled = true;
        });
        assert!(!driver.control.queue(0).unwrap().is_enabled, "only by being asked to");
        driver.control.enable_queue(0);
        let queue = driver.control.queue(0).unwrap();
        assert_eq!(queue.max, 64);
        queue.is_enabled
    };
    assert!(enabled(size, good));
    assert!(enabled(1, good));
    assert!(enabled(64, good));
    for size in [0, 3, 65, 128, 0x8000, u16::MAX] {
        assert!(!enabled(size, good), "size {size}");
    }
    let end = RAM + RAM_SIZE;
    for ring in 0..3 {
        for bad in [0, good[ring] + 1, RAM - 16, end, end - 16, !15, 1 << 63, good[(ring + 1) % 3]]
        {
            let mut rings = good;
            rings[ring] = bad;
            assert!(!enabled(size, rings), "ring {ring} at {bad:#x}");
        }
    }
    // No such queue.
    driver.control.enable_queue(1);
    driver.control.set_up_queue(u16::MAX, |queue| queue.size = 1);
    driver.control.notify(7);
    assert_eq!(driver.control.queue(1), None);
}

#[test]
fn a_device_without_its_queue_needs_a_reset() {
    let driver = Driver::before_setup(rng());
    driver.control.set_status(ACK_DRIVER);
    driver.control.set_driver_features(1, 1);
    driver.control.set_status(ACK_DRIVER | FEATURES_OK);
    driver.control.set_status(ACK_DRIVER | FEATURES_OK | DRIVER_OK);
    driver.wait_broken();
    driver.control.set_status(0);
    assert_eq!(driver.control.status(), 0);
}
