//! `[[devices.virtio]]` with `kind = "net"`.

use std::num::NonZeroU64;

use super::*;
use crate::virtio::{
    DeviceConfig,
    net::{Forward, Mac, NetConfig, Network, Protocol},
    rate_limit::Rate,
};

/// The text of a file with this card.
fn with(keys: &str) -> String {
    format!("[kernel]\nkernel_path = \"vmlinuz\"\n[[devices.virtio]]\nkind = \"net\"\n{keys}")
}

#[track_caller]
fn card(keys: &str) -> NetConfig {
    let config = good(&with(keys));
    assert_eq!(config.devices.virtio[0].name, "net0");
    let DeviceConfig::Net(card) = &config.devices.virtio[0].device else { panic!("{config:?}") };
    card.clone()
}

#[test]
fn a_card_is_plugged_into_one_network() {
    assert_eq!(card("net = \"user\""), NetConfig::user());
    let on = |network| NetConfig { network, ..NetConfig::user() };
    assert_eq!(card("tap = \"tap0\""), on(Network::Tap("tap0".into())));
    assert_eq!(card("tap_fd = 5"), on(Network::TapFd(5)));
}

#[test]
fn every_key_of_a_card_is_understood() {
    let limited = card(
        "tap = \"tap0\"\nmac = \"02:00:00:00:00:0a\"\nmtu = 9000\nqueues = 4\nvhost = false\n\
         receive_rate = { bandwidth = \"10M\" }\ntransmit_rate = { operations = 5 }",
    );
    let expected = NetConfig {
        network: Network::Tap("tap0".into()),
        mac: Some(Mac([2, 0, 0, 0, 0, 10])),
        mtu: Some(9000),
        queues: 4,
        receive: Rate { bandwidth: NonZeroU64::new(10 << 20), operations: None },
        transmit: Rate { bandwidth: None, operations: NonZeroU64::new(5) },
        vhost: Some(false),
    };
    assert_eq!(limited, expected);
    assert_eq!(card("tap_fd = 5\nvhost = true").vhost, Some(true));
    let forwarded = card("net = \"user\"\nports = [\"8080:80\", \"udp:127.0.0.1/53-54\"]");
    let [web, names] = [
        Forward { protocol: Protocol::Tcp, address: None, host: 8080, guest: 80, more: 0 },
        Forward {
            protocol: Protocol::Udp,
            address: Some([127, 0, 0, 1].into()),
            host: 53,
            guest: 53,
            more: 1,
        },
    ];
    assert_eq!(forwarded.network, Network::User { ports: vec![web, names] });
}

#[test]
fn what_can_be_no_card_is_told_where_it_is_written() {
    let cases = [
        ("", "4:8", "plugged into nothing"),
        ("net = \"bridge\"", "5:7", "\"user\""),
        ("net = \"user\"\ntap = \"tap0\"", "6:7", "plugged into net already"),
        ("tap = \"tap0\"\ntap_fd = 3", "6:10", "plugged into tap already"),
        ("tap_fd = -1", "5:10", "from 0 to"),
        ("tap = \"tap0\"\nports = [\"1:1\"]", "6:9", "only a user network forwards ports"),
        ("net = \"user\"\nports = [\"80:80\", \"x\"]", "6:19", "port"),
        ("net = \"user\"\nmac = \"02:00\"", "6:7", "address"),
        ("net = \"user\"\nmac = \"01:00:00:00:00:01\"", "6:7", "address"),
        ("net = \"user\"\nmtu = 67", "6:7", "from 68 to"),
        ("net = \"user\"\nqueues = 2", "6:10", "only a TAP interface that is named"),
        ("tap = \"tap0\"\nqueues = 17", "6:10", "from 1 to 16"),
        ("net = \"user\"\nreceive_rate = { bandwidth = 0 }", "6:30", "nothing at all"),
        ("net = \"user\"\nvhost = true", "6:9", "vhost-net is for TAP interfaces"),
        (
            "tap = \"tap0\"\ntransmit_rate = { operations = 5 }\nvhost = true",
            "7:9",
            "vhost-net knows no rates",
        ),
        ("net = \"user\"\nqueue = 1", "6:1", "did you mean \"queues\"?"),
    ];
    for (keys, place, said) in cases {
        let told = problem(&with(keys));
        assert!(told.contains(&format!("guest.toml:{place}: ")) && told.contains(said), "{told}");
    }
}
