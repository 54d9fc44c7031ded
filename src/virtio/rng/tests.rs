//! The entropy device with a driver that asks for too much.

use std::sync::Arc;

use super::*;
use crate::virtio::testing::{Desc, Driver, RAM, RAM_SIZE};

const WRITE: u16 = 2;

fn driver() -> Driver {
    Driver::new(Arc::new(Rng::new("rng0".to_owned(), &RngConfig::default())), 0)
}

#[test]
fn all_of_a_buffer_is_filled_and_never_twice_the_same() {
    let mut driver = driver();
    let [one, other] = [(); 2].map(|()| driver.request(0, &[], &[1, 5000, 31]));
    assert_eq!((one.len(), other.len()), (5032, 5032));
    assert_ne!(one, other);
    // 5032 random bytes have few zeros: what is left unwritten would be seen.
    assert!(one.chunks(16).all(|part| part.len() < 16 || part.iter().any(|byte| *byte != 0)));
}

/// As much as its memory holds, in one request: the driver gets a piece, and nothing behind that
/// changes.
#[test]
fn a_request_gets_so_much_and_no_more() {
    let mut driver = driver();
    let big = driver.push(0, &[], &[5 << 20]);
    driver.kick(0);
    assert_eq!(driver.wait_used(0), (big, MOST as u32));
    let bytes = driver.written(0, big);
    assert!(bytes[MOST - 64..MOST].iter().any(|byte| *byte != 0));
    assert!(bytes[MOST..].iter().all(|byte| *byte == 0));
    // The same buffer in each descriptor of a chain: more than there is memory.
    let size = driver.size(0);
    let all = Desc { addr: RAM + RAM_SIZE / 2, len: (RAM_SIZE / 2) as u32, flags: WRITE, next: 0 };
    let head = driver.push_raw(0, &vec![all; size.into()]);
    driver.kick(0);
    assert_eq!(driver.wait_used(0), (head, MOST as u32));
}

#[test]
fn requests_without_room_are_given_back_empty() {
    let mut driver = driver();
    for readable in [&[][..], &[&b"what"[..]]] {
        let head = driver.push(0, readable, &[0]);
        driver.kick(0);
        assert_eq!(driver.wait_used(0), (head, 0));
    }
    let head = driver.push(0, &[b"only this"], &[]);
    driver.kick(0);
    assert_eq!(driver.wait_used(0), (head, 0));
    assert_eq!(driver.request(0, &[], &[7]).len(), 7);
}

/// The ring full, again and again, and the device reset in the middle of it.
#[test]
fn thousands_of_requests_are_served_one_after_the_other() {
    let mut driver = driver();
    let size = driver.size(0);
    let room = driver.room(4096);
    let request = Desc { addr: room, len: 4096, flags: WRITE, next: 0 };
    for round in 0..40_u16 {
        for _ in 0..size {
            driver.push_raw(0, &[request]);
        }
        driver.kick(0);
        if round % 10 == 9 {
            driver.begin(0);
            continue;
        }
        for _ in 0..size {
            assert_eq!(driver.wait_used(0).1, 4096);
        }
        assert_eq!(driver.used(0), None);
    }
}
