//! How long exits were handled.

use std::cmp::Reverse;

use maud::{Markup, html};

use super::{
    super::{charts::latencies, gather::Gathered, units::number},
    count, duration, head, short,
};
use crate::cli::trace::totals::{Times, label};

/// So many devices are shown.
const MOST_DEVICES: usize = 40;

/// By reason and by device, those that took longest together first.
pub fn handling(gathered: &Gathered<'_>) -> Markup {
    let totals = &gathered.totals;
    let mut reasons: Vec<_> =
        totals.reasons.iter().map(|(reason, times)| ((*reason).to_owned(), times)).collect();
    let mut devices: Vec<_> = totals
        .devices
        .iter()
        .map(|(device, times)| (label(gathered.about, *device), times))
        .collect();
    for rows in [&mut reasons, &mut devices] {
        rows.sort_by(|a, b| (Reverse(a.1.sum), &a.0).cmp(&(Reverse(b.1.sum), &b.0)));
    }
    let left_out = devices.len().saturating_sub(MOST_DEVICES);
    devices.truncate(MOST_DEVICES);
    html! {
        section aria-labelledby="handling" {
            h2 #handling { "Time of handling" }
            p.rule {
                "How long axvmm took over an exit. The charts go from 100 ns at the left to 10 s at "
                "the right, with a line at each power of ten; their heights grow with the logarithm "
                "of the count."
            }
            (table("Reason", &reasons))
            @if !devices.is_empty() { (table("Device", &devices)) }
            @if left_out > 0 { p { "And " (number(left_out as u64)) " more devices." } }
        }
    }
}

fn table(what: &str, rows: &[(String, &Times)]) -> Markup {
    html! {
        table.cards.times {
            (head(&[what, "Distribution"], &["Exits", "Together", "p50", "p99", "Longest"]))
            tbody { @for (name, times) in rows {
                @let name = short(name);
                tr data-name=(name) {
                    th scope="row" { (name) }
                    td.wide {
                        (latencies(&format!("Times of handling: {name}"), &times.histogram))
                    }
                    (count("Exits", times.histogram.len()))
                    (duration("Together", times.sum))
                    (duration("p50", times.at(0.5)))
                    (duration("p99", times.at(0.99)))
                    (duration("Longest", times.histogram.max()))
                }
            } }
        }
    }
}
