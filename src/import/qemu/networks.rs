//! Networks.

use super::{Backends, Draft, Given, Row, connected, row, tell_rest, words::Keys};
use crate::config::At;

/// `-nic`, and `-net none`.
pub fn option(given: &Given<'_>, draft: &mut Draft) {
    if given.value == "none" {
        return;
    }
    if given.name == "net" {
        draft.note(given.place, "not used: write it as -nic user or -nic tap,ifname=…");
        return;
    }
    let mut keys = given.keys("type");
    let model = keys.take("model");
    tell_model(model.as_ref().map_or("virtio", |model| &model.value), given, draft);
    let mut card = row("net", "", given);
    card.set_if("mac", keys.take("mac"));
    card_of(keys, card, given, draft);
}

/// `-device virtio-net-pci,netdev=ID`, or another card's.
pub fn device(
    model: &str,
    mut keys: Keys,
    given: &Given<'_>,
    backends: &mut Backends,
    draft: &mut Draft,
) {
    let id = keys.take("netdev").map(|id| id.value);
    let Some(net) = connected(&mut backends.nets, "id", id.as_deref()) else {
        draft.note(given.place, "not used: no -netdev has this id");
        return;
    };
    tell_model(model, given, draft);
    let mut card = row("net", model, given);
    card.set_if("mac", keys.take("mac"));
    card.set_if("mtu", keys.number("host_mtu", &mut draft.report));
    card.set_if("name", keys.take("id"));
    let harmless = ["mq", "vectors", "bus", "addr", "romfile", "bootindex", "mrg_rxbuf"];
    tell_rest(keys, &harmless, draft);
    card_of(net, card, given, draft);
}

fn tell_model(model: &str, given: &Given<'_>, draft: &mut Draft) {
    if !model.starts_with("virtio") {
        draft.note(given.place, "the guest has it as a virtio network card");
    }
}

fn card_of(mut keys: Keys, mut card: Row, given: &Given<'_>, draft: &mut Draft) {
    let kind = keys.take("type").map(|kind| kind.value);
    keys.take("id");
    match kind.as_deref() {
        Some("user") => {
            card.set("net", given.at("user".to_owned()));
            let forwards = keys.take_all("hostfwd");
            let ports: Vec<_> =
                forwards.iter().filter_map(|forward| port(forward, keys.place, draft)).collect();
            if !ports.is_empty() {
                card.set("ports", given.at(ports));
            }
        }
        Some("tap") => {
            let report = &mut draft.report;
            let fd = keys.number("fd", report);
            match (keys.take("ifname"), fd) {
                (Some(name), _) => card.set("tap", name),
                (None, Some(fd)) => card.set("tap_fd", fd),
                (None, None) => {
                    let problem = report.problem(keys.place, "this TAP interface has no ifname");
                    problem.help("axvmm is to know which: write ifname=tap0");
                    return;
                }
            }
            card.set_if("queues", keys.number("queues", report));
            if let Some(vhost) = keys.take("vhost") {
                card.set("vhost", At { value: vhost.value == "on", place: vhost.place });
            }
            for script in ["script", "downscript"] {
                if keys.take(script).is_some_and(|path| path.value != "no") {
                    draft.note(keys.place, format!("{script} is not used: no program is run"));
                }
            }
        }
        _ => {
            let text = "not used: there are networks of the kinds user and tap";
            draft.note(keys.place, text);
            return;
        }
    }
    tell_rest(keys, &["br", "helper"], draft);
    draft.add(card);
}

/// `[tcp|udp]:[ADDRESS]:PORT-[ADDRESS]:PORT` as a port that leads into the guest.
fn port(forward: &str, place: crate::config::Place, draft: &mut Draft) -> Option<At<String>> {
    let written = || {
        let (host, guest) = forward.split_once('-')?;
        let (protocol, host) = host.split_once(':')?;
        let (address, host) = host.rsplit_once(':')?;
        let (_, guest) = guest.rsplit_once(':')?;
        let protocol = if protocol == "udp" { "udp:" } else { "" };
        let address = if address.is_empty() { String::new() } else { format!("{address}/") };
        Some(format!("{protocol}{address}{host}:{guest}"))
    };
    match written() {
        Some(value) => Some(At { value, place }),
        None => {
            let problem = format!("hostfwd={forward} leads nowhere");
            let help = "it is [tcp|udp]:[ADDRESS]:PORT-[ADDRESS]:PORT";
            draft.report.problem(place, problem).help(help);
            None
        }
    }
}
