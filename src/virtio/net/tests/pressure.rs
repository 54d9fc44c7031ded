//! Too much, too fast, or nothing at the other end.

use std::{
    io::{ErrorKind, Write},
    num::NonZeroU64,
    time::{Duration, Instant},
};

use super::{
    bench_end::{frame, with_header},
    card, simple_card,
};
use crate::virtio::{net::NetConfig, rate_limit::Rate, testing::Driver};

const RX: u16 = 0;
const TX: u16 = 1;

#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn frames_wait_for_whoever_does_not_read_them_and_none_is_lost() {
    let (card, mut end) = simple_card();
    let mut driver = Driver::new(card, 0);
    let len = |n: u8| 40_000 + 100 * usize::from(n);
    for n in 0..40 {
        driver.push(TX, &[&with_header(&frame(len(n), n))], &[]);
        driver.kick(TX);
    }
    // More than any socket holds by default.
    wait_until("some are sent", || driver.used_index(TX) > 0);
    assert!(driver.used_index(TX) < 40);
    for n in 0..40 {
        assert_eq!(end.receive(), frame(len(n), n));
    }
    wait_until("all are sent", || driver.used_index(TX) == 40);
}

#[test]
fn a_frame_that_a_reset_cuts_is_sent_to_its_end() {
    let (card, mut end) = simple_card();
    let mut driver = Driver::new(card, 0);
    for n in 0..40 {
        driver.push(TX, &[&with_header(&frame(60_000, n))], &[]);
    }
    driver.kick(TX);
    wait_until("some are sent", || driver.used_index(TX) > 0);
    driver.begin(0);
    driver.push(TX, &[&with_header(&frame(60, 99))], &[]);
    driver.kick(TX);
    let mut n = 0;
    loop {
        let came = end.receive();
        if came == frame(60, 99) {
            break;
        }
        assert_eq!(came, frame(60_000, n));
        n += 1;
    }
    assert!((1..40).contains(&n));
}

#[test]
fn a_guest_that_takes_nothing_holds_up_whoever_sends_and_then_all_comes() {
    let (card, mut end) = simple_card();
    let mut driver = Driver::new(card, 0);
    end.0.set_nonblocking(true).unwrap();
    let (mut sent, mut rest) = (0_u32, Vec::new());
    let full = loop {
        if rest.is_empty() {
            rest = [&1000_u32.to_be_bytes()[..], &frame(1000, sent as u8)].concat();
            sent += 1;
        }
        match end.0.write(&rest) {
            Ok(n) => rest.drain(..n),
            Err(error) => break error.kind(),
        };
    };
    // The card reads nothing that it cannot pass on.
    assert_eq!(full, ErrorKind::WouldBlock);
    end.0.set_nonblocking(false).unwrap();
    for n in 0..sent {
        driver.push(RX, &[], &[1536]);
        driver.kick(RX);
        if n == 0 {
            end.0.write_all(&rest).unwrap();
        }
        let (head, len) = driver.wait_used(RX);
        assert_eq!(driver.written(RX, head)[12..len as usize], frame(1000, n as u8));
    }
}

#[test]
fn when_the_other_end_goes_the_link_is_down_and_nothing_waits_for_it() {
    let (card, end) = simple_card();
    let mut driver = Driver::new(card.clone(), 0);
    assert_eq!(card.card.config()[6], 1);
    driver.push(RX, &[], &[2048]);
    driver.kick(RX);
    drop(end);
    wait_until("the link is down", || !card.card.is_up());
    wait_until("the driver is told", || {
        driver.interrupts.config.load(std::sync::atomic::Ordering::SeqCst) > 0
    });
    assert_eq!(card.card.config()[6], 0);
    for n in 0..3 {
        let head = driver.push(TX, &[&with_header(&frame(60, n))], &[]);
        driver.kick(TX);
        assert_eq!(driver.wait_used(TX), (head, 0));
    }
    driver.begin(0);
    assert_eq!(card.card.config()[6], 0, "and it stays down");
}

#[test]
fn an_end_that_speaks_another_language_is_unplugged() {
    for nonsense in [[0, 0, 0, 13], [0, 1, 0, 0], *b"GET "] {
        let (card, mut end) = simple_card();
        let mut driver = Driver::new(card.clone(), 0);
        driver.push(RX, &[], &[2048]);
        driver.kick(RX);
        end.0.write_all(&nonsense).unwrap();
        wait_until("the link is down", || !card.card.is_up());
    }
}

#[test]
fn limits_let_through_so_much_in_each_direction() {
    // One packet each second: the first overdraws, the second waits.
    let slow = Rate { operations: NonZeroU64::new(2), bandwidth: None };
    let (card, mut ends, _) =
        card(1, &NetConfig { receive: slow, transmit: slow, ..NetConfig::user() });
    let (mut driver, end) = (Driver::new(card, 0), &mut ends[0]);
    for n in 0..3 {
        driver.push(RX, &[], &[2048]);
        driver.push(TX, &[&with_header(&frame(60, n))], &[]);
        end.send(&frame(70, n));
    }
    driver.kick(TX);
    driver.kick(RX);
    for queue in [TX, RX] {
        driver.wait_used(queue);
    }
    assert_eq!([TX, RX].map(|queue| driver.used_index(queue)), [1, 1]);
    for queue in [TX, RX, TX, RX] {
        driver.wait_used(queue);
    }
    for n in 0..3 {
        assert_eq!(end.receive(), frame(60, n));
    }
}
