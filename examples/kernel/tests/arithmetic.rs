//! Tests that run in a guest: `cargo test`.
#![no_std]
#![no_main]

use kernel::checksum;

kernel::tests! { nothing_sums_up_to_nothing order_matters }

fn nothing_sums_up_to_nothing() {
    assert_eq!(checksum(b""), 0);
}

fn order_matters() {
    assert_ne!(checksum(b"ab"), checksum(b"ba"));
}
