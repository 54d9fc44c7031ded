//! Networks, sockets, entropy, the balloon.

use super::{Draft, Json, limit, row};
use crate::config::At;

type Reader = fn(Json<'_>, &mut Draft);

/// The keys of the file for devices, each with what reads it.
pub const ALL: [(&str, Reader); 4] = [
    ("network-interfaces", networks),
    ("vsock", vsock),
    ("entropy", entropy),
    ("balloon", balloon),
];

fn networks(list: Json<'_>, draft: &mut Draft) {
    for json in list.list(&mut draft.report).unwrap_or_default() {
        let report = &mut draft.report;
        let Some(mut keys) = json.object("this network interface", report) else { continue };
        let id = keys.take("iface_id", report).and_then(|it| it.text(report));
        let tap = keys.require("host_dev_name", report).and_then(|it| it.text(report));
        let mac = keys.take("guest_mac", report).and_then(|it| it.text(report));
        let mtu = keys.take("mtu", report).and_then(|it| it.number(report));
        let receive = keys.take("rx_rate_limiter", report);
        let transmit = keys.take("tx_rate_limiter", report);
        // Of the metadata service, in files of versions before 1.0.
        let metadata = keys.take("allow_mmds_requests", report);
        let place = keys.place;
        keys.finish(report);
        if let Some(metadata) = metadata.filter(|it| !it.says(&["false"])) {
            let text = "\"allow_mmds_requests\" is not used: there is no metadata service";
            draft.note(metadata.place(), text);
        }
        if let Some(tap) = tap.as_ref().filter(|tap| tap.value.is_empty()) {
            // Written so for guests without a network.
            draft.note(tap.place, "\"host_dev_name\" names nothing, so that there is no such card");
            continue;
        }
        let mut card = row("net", place);
        card.set_if("tap", tap);
        card.set_if("mac", mac);
        card.set_if("mtu", mtu);
        card.set_if("receive_rate", limit(receive, draft));
        card.set_if("transmit_rate", limit(transmit, draft));
        card.set_if("name", id);
        draft.add(card);
    }
}

fn vsock(json: Json<'_>, draft: &mut Draft) {
    let report = &mut draft.report;
    let Some(mut keys) = json.object("vsock", report) else { return };
    let id = keys.take("vsock_id", report).and_then(|it| it.text(report));
    let cid = keys.require("guest_cid", report).and_then(|it| it.number(report));
    let path = keys.require("uds_path", report).and_then(|it| it.text(report));
    let place = keys.place;
    keys.finish(report);
    let mut device = row("vsock", place);
    device.set_if("cid", cid);
    device.set_if("path", path);
    device.set_if("name", id);
    draft.add(device);
}

fn entropy(json: Json<'_>, draft: &mut Draft) {
    let report = &mut draft.report;
    let Some(mut keys) = json.object("entropy", report) else { return };
    let limiter = keys.take("rate_limiter", report);
    let place = keys.place;
    keys.finish(report);
    if let Some(limiter) = limiter {
        draft.note(limiter.place(), "\"rate_limiter\": random bytes are not limited");
    }
    draft.add(row("rng", place));
}

fn balloon(json: Json<'_>, draft: &mut Draft) {
    let report = &mut draft.report;
    let Some(mut keys) = json.object("balloon", report) else { return };
    let amount = keys.require("amount_mib", report).and_then(|it| it.number(report));
    let deflate = keys.require("deflate_on_oom", report).and_then(|it| it.flag(report));
    let interval = keys.take("stats_polling_interval_s", report).and_then(|it| it.number(report));
    let hinting = keys.take("free_page_hinting", report).and_then(|it| it.flag(report));
    let reporting = keys.take("free_page_reporting", report).and_then(|it| it.flag(report));
    let place = keys.place;
    keys.finish(report);
    if let Some(hinting) = hinting.filter(|hinting| hinting.value) {
        draft.note(hinting.place, "\"free_page_hinting\" is not used: nobody would ask for it");
    }
    let mut device = row("balloon", place);
    let amount = amount.filter(|amount| amount.value > 0);
    let amount = amount.map(|at| At { value: format!("{}M", at.value), place: at.place });
    device.set_if("size", amount);
    device.set_if("deflate_on_oom", deflate);
    device.set_if("statistics_interval", interval.filter(|interval| interval.value > 0));
    // Not to be had unless it is asked for.
    let reporting = reporting.unwrap_or(At { value: false, place });
    device.set("free_page_reporting", reporting);
    draft.add(device);
}
