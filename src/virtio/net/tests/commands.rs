//! The control queue, the configuration space, and several queue pairs.

use super::{
    MAC,
    bench_end::{frame, with_header},
    card, simple_card,
};
use crate::virtio::{VirtioDevice, net::NetConfig, testing::Driver};

const MQ: u64 = 1 << 22;
const OK: [u8; 1] = [0];
const ERR: [u8; 1] = [1];

#[test]
fn the_configuration_space_tells_address_link_pairs_and_mtu() {
    let (card, _ends, _) = card(3, &NetConfig { mtu: Some(9000), ..NetConfig::user() });
    let told = [&MAC.0[..], &[1, 0], &[3, 0], &9000_u16.to_le_bytes()].concat();
    assert_eq!(card.config(), told);
    assert_eq!(card.queue_sizes(), [256, 256, 256, 256, 256, 256, 64]);
    assert_eq!(simple_card().0.features() & MQ, 0);
}

#[test]
fn commands_are_obeyed_or_refused() {
    let (card, _ends, record) = card(2, &NetConfig::user());
    let mut driver = Driver::new(card.clone(), 0);
    let mut tell = |command: &[u8]| driver.request(4, &[&command[..2], &command[2..]], &[1]);
    // Modes of receiving, and addresses to receive.
    assert_eq!(tell(&[0, 0, 1]), OK);
    assert_eq!(tell(&[0, 0, 0]), OK);
    assert_eq!(tell(&[0, 1, 1]), OK);
    assert_eq!(tell(&[0, 0, 2]), ERR);
    assert_eq!(tell(&[0, 2, 1]), ERR);
    assert_eq!(tell(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), OK);
    // An address: of a card, of a group, half of one.
    assert_eq!(tell(&[1, 1, 2, 9, 9, 9, 9, 9]), OK);
    assert_eq!(card.config()[..6], [2, 9, 9, 9, 9, 9]);
    assert_eq!(tell(&[1, 1, 3, 9, 9, 9, 9, 8]), ERR);
    assert_eq!(tell(&[1, 1, 2, 9, 9]), ERR);
    assert_eq!(card.config()[..6], [2, 9, 9, 9, 9, 9]);
    // Queue pairs.
    assert_eq!(tell(&[4, 0, 2, 0]), OK);
    assert_eq!(tell(&[4, 0, 3, 0]), ERR);
    assert_eq!(tell(&[4, 0, 0, 0]), ERR);
    assert_eq!(tell(&[4, 0]), ERR);
    assert_eq!(record.pairs(), Some(2));
    // Offloads: GUEST_CSUM has been taken, TSO has not even been offered.
    assert_eq!(tell(&[5, 0, 0, 0, 0, 0, 0, 0, 0, 0]), OK);
    assert_eq!(tell(&[5, 0, 2, 0, 0, 0, 0, 0, 0, 0]), OK);
    assert_eq!(tell(&[5, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]), ERR);
    assert_eq!(record.offloads(), [2, 0, 2]);
    // What nobody knows.
    assert_eq!(tell(&[2, 0, 1, 0]), ERR);
    assert_eq!(tell(&[255, 255]), ERR);
    // A command without room for an answer is done with as well.
    let head = driver.push(4, &[&[0, 0], &[1]], &[]);
    driver.kick(4);
    assert_eq!(driver.wait_used(4), (head, 0));
    assert_eq!(driver.request(4, &[&[1]], &[1]), ERR);
    driver.begin(0);
    assert_eq!(card.config()[..6], MAC.0, "its own address again after a reset");
}

#[test]
fn without_the_feature_there_is_one_pair_and_then_the_control_queue() {
    let (card, mut ends, record) = card(2, &NetConfig::user());
    let mut driver = Driver::new(card, MQ);
    assert_eq!(driver.request(2, &[&[0, 0], &[1]], &[1]), OK);
    assert_eq!(driver.request(2, &[&[4, 0], &[2, 0]], &[1]), ERR);
    assert_eq!(record.pairs(), Some(1));
    driver.push(1, &[&with_header(&frame(60, 1))], &[]);
    driver.kick(1);
    assert_eq!(ends[0].receive(), frame(60, 1));
}

#[test]
fn each_pair_has_a_port_of_its_own() {
    let (card, mut ends, _) = card(3, &NetConfig::user());
    let mut driver = Driver::new(card, 0);
    for (pair, end) in (0..).zip(&mut ends) {
        driver.push(2 * pair + 1, &[&with_header(&frame(60, pair as u8))], &[]);
        driver.kick(2 * pair + 1);
        assert_eq!(end.receive(), frame(60, pair as u8));
        let head = driver.push(2 * pair, &[], &[2048]);
        driver.kick(2 * pair);
        end.send(&frame(99, pair as u8));
        assert_eq!(driver.wait_used(2 * pair), (head, 12 + 99));
        assert_eq!(driver.written(2 * pair, head)[12..12 + 99], frame(99, pair as u8));
    }
}
