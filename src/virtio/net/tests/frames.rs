//! Frames come and go, in any buffers.

use proptest::prelude::*;

use super::{
    MRG_RXBUF,
    bench_end::{frame, with_header},
    simple_card,
};
use crate::virtio::testing::{Desc, Driver, RAM};

const RX: u16 = 0;
const TX: u16 = 1;

/// Waits for a frame in the receive queue: its header, and itself.
#[track_caller]
fn received(driver: &mut Driver) -> ([u8; 12], Vec<u8>) {
    let (head, len) = driver.wait_used(RX);
    let mut all = driver.written(RX, head);
    all.truncate(len as usize);
    let header: [u8; 12] = all[..12].try_into().unwrap();
    for _ in 1..u16::from_le_bytes([header[10], header[11]]) {
        // All of them are there when the first one is.
        let (head, len) = driver.used(RX).expect("the frame's next buffer");
        all.extend(&driver.written(RX, head)[..len as usize]);
    }
    (header, all.split_off(12))
}

#[test]
fn a_frame_comes_and_a_frame_goes() {
    let (card, mut end) = simple_card();
    let mut driver = Driver::new(card, 0);
    driver.push(RX, &[], &[2048]);
    driver.kick(RX);
    end.send(&frame(60, 1));
    let (header, came) = received(&mut driver);
    assert_eq!(came, frame(60, 1));
    // One buffer; a checksum that needs no second look.
    assert_eq!(header, [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    driver.wait_told(RX, 1);

    driver.push(TX, &[&with_header(&frame(1514, 2))], &[]);
    driver.kick(TX);
    assert_eq!(end.receive(), frame(1514, 2));
    driver.wait_used(TX);
}

#[test]
fn a_header_may_lie_in_pieces_or_with_its_frame() {
    let (card, mut end) = simple_card();
    let mut driver = Driver::new(card, 0);
    let whole = with_header(&frame(100, 3));
    for cuts in [&[12][..], &[5], &[1, 11, 13], &[12, 60, 61, 62]] {
        let mut pieces = Vec::new();
        let mut begin = 0;
        for end in cuts.iter().copied().chain([whole.len()]) {
            pieces.push(&whole[begin..end]);
            begin = end;
        }
        driver.push(TX, &pieces, &[]);
        driver.push(RX, &[], &cuts.iter().map(|cut| *cut as u32).chain([2000]).collect::<Vec<_>>());
        driver.kick(TX);
        assert_eq!(end.receive(), frame(100, 3), "{cuts:?}");
        end.send(&frame(100, 4));
        driver.kick(RX);
        assert_eq!(received(&mut driver).1, frame(100, 4), "{cuts:?}");
    }
}

#[test]
fn a_long_frame_takes_several_buffers_that_appear_at_once() {
    let (card, mut end) = simple_card();
    let mut driver = Driver::new(card, 0);
    for _ in 0..20 {
        driver.push(RX, &[], &[100]);
    }
    driver.kick(RX);
    end.send(&frame(1500, 5));
    let (header, came) = received(&mut driver);
    assert_eq!(came, frame(1500, 5));
    assert_eq!(header[10..], [16, 0]);
    assert_eq!(driver.used_index(RX), 16, "no buffer more than it takes");
}

#[test]
fn a_frame_waits_for_the_rest_of_its_room() {
    let (card, mut end) = simple_card();
    let mut driver = Driver::new(card, 0);
    for _ in 0..5 {
        driver.push(RX, &[], &[100]);
    }
    driver.kick(RX);
    end.send(&frame(1500, 6));
    end.send(&frame(60, 7));
    // It takes 16 of them.
    for _ in 0..11 {
        assert_eq!(driver.used_index(RX), 0);
        driver.push(RX, &[], &[100]);
        driver.kick(RX);
    }
    assert_eq!(received(&mut driver).1, frame(1500, 6));
    driver.push(RX, &[], &[100]);
    driver.kick(RX);
    assert_eq!(received(&mut driver).1, frame(60, 7));
}

#[test]
fn a_frame_for_which_the_whole_queue_has_no_room_is_dropped() {
    let (card, mut end) = simple_card();
    let drops = card.card.drops.clone();
    let mut driver = Driver::new(card, 0);
    for _ in 0..driver.size(RX) {
        driver.push(RX, &[], &[12]);
    }
    end.send(&frame(256 * 12, 8));
    end.send(&frame(24, 9));
    driver.kick(RX);
    let (header, came) = received(&mut driver);
    assert_eq!((came, u16::from_le_bytes([header[10], header[11]])), (frame(24, 9), 3));
    assert_eq!(drops.count(), 1);
}

#[test]
fn buffers_too_small_for_a_header_come_back_empty() {
    for without in [0, MRG_RXBUF] {
        let (card, mut end) = simple_card();
        let mut driver = Driver::new(card, without);
        let small = [driver.push(RX, &[], &[1]), driver.push(RX, &[b"not for writing"], &[])];
        driver.push(RX, &[], &[2048]);
        driver.kick(RX);
        end.send(&frame(60, 10));
        assert_eq!(small.map(|head| (head, 0)), [driver.wait_used(RX), driver.wait_used(RX)]);
        assert_eq!(received(&mut driver).1, frame(60, 10));
    }
}

#[test]
fn without_merging_a_frame_that_does_not_fit_its_buffer_is_dropped() {
    let (card, mut end) = simple_card();
    let drops = card.card.drops.clone();
    let mut driver = Driver::new(card, MRG_RXBUF);
    driver.push(RX, &[], &[12 + 1514]);
    driver.push(RX, &[], &[12 + 1514]);
    driver.kick(RX);
    end.send(&frame(1515, 11));
    end.send(&frame(1514, 12));
    let (header, came) = received(&mut driver);
    assert_eq!((came, &header[10..]), (frame(1514, 12), &[1, 0][..]));
    assert_eq!((drops.count(), driver.used_index(RX)), (1, 1));
}

#[test]
fn what_is_no_frame_is_dropped_and_the_queue_goes_on() {
    let (card, mut end) = simple_card();
    let drops = card.card.drops.clone();
    let mut driver = Driver::new(card, 0);
    let mut bad = vec![
        driver.push(TX, &[], &[64]),
        driver.push(TX, &[&[0; 11]], &[]),
        driver.push(TX, &[&[0; 12]], &[]),
        driver.push(TX, &[&with_header(&[0; 13])], &[]),
        driver.push(TX, &[&with_header(&vec![0; 65536])], &[]),
        driver.push(TX, &[&with_header(&vec![0; 100_000])], &[]),
    ];
    // A checksum to make, segments to cut: neither has been offered. A kind of segment that nobody
    // knows.
    for (byte, value) in [(0, 1), (1, 1), (1, 0x7f)] {
        let mut asks = with_header(&frame(60, 0));
        asks[byte] = value;
        bad.push(driver.push(TX, &[&asks], &[]));
    }
    driver.push(TX, &[&with_header(&frame(60, 13))], &[]);
    driver.kick(TX);
    assert_eq!(end.receive(), frame(60, 13));
    for head in &bad {
        assert_eq!(driver.wait_used(TX), (*head, 0));
    }
    assert_eq!(drops.count(), bad.len() as u64);
    assert_eq!(driver.control.status() & 0x40, 0);
}

#[test]
fn a_receive_queue_that_is_a_loop_needs_a_reset_and_then_works() {
    let (card, mut end) = simple_card();
    let mut driver = Driver::new(card, 0);
    driver.write_desc(RX, 0, Desc { addr: RAM, len: 16, flags: 3, next: 0 });
    driver.publish(RX, 0);
    driver.kick(RX);
    driver.wait_broken();
    driver.begin(0);
    driver.push(RX, &[], &[2048]);
    driver.kick(RX);
    end.send(&frame(60, 14));
    assert_eq!(received(&mut driver).1, frame(60, 14));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever buffers there are, what arrives is what was sent, in order.
    #[test]
    fn any_frames_arrive_in_any_buffers(
        frames in prop::collection::vec(14..9000_usize, 1..20),
        room in prop::collection::vec(12..4000_u32, 1..8),
        cuts in prop::collection::vec(1..5000_usize, 0..4),
    ) {
        let (card, mut end) = simple_card();
        let mut driver = Driver::new(card, 0);
        for (seed, len) in frames.iter().enumerate() {
            end.send(&frame(*len, seed as u8));
            let whole = with_header(&frame(*len, seed as u8));
            let mut pieces = Vec::new();
            let mut rest = &whole[..];
            for cut in &cuts {
                let (piece, more) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = more;
            }
            pieces.push(rest);
            driver.push(TX, &pieces, &[]);
        }
        driver.kick(TX);
        let mut sizes = room.iter().cycle();
        for (seed, len) in frames.iter().enumerate() {
            prop_assert_eq!(end.receive(), frame(*len, seed as u8));
            driver.wait_used(TX);
            let mut left = (len + 12) as i64;
            while left > 0 {
                let size = *sizes.next().unwrap();
                driver.push(RX, &[], &[size]);
                left -= i64::from(size);
            }
            driver.kick(RX);
            prop_assert_eq!(received(&mut driver).1, frame(*len, seed as u8));
        }
    }
}
