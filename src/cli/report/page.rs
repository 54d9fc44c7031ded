//! The page as a whole. All that comes from the recording is escaped by `html!`.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    charts::{Series, over_time, series},
    gather::{Gathered, Kind},
    sections::{self, short},
    units::{bytes, date, number, time},
};
use crate::{cli::trace::totals::label, trace::AboutVm};

/// Of so many VMs the header tells.
const MOST_VMS: usize = 16;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// What a browser holds the page to: it asks nobody for anything.
const POLICY: &str = include_str!("page.policy");

/// The page of what was gathered from the file `file`, of which only what `filter` says.
pub fn page(gathered: &Gathered<'_>, file: &str, filter: &[String]) -> String {
    let vms = gathered.about.vms.iter().take(MOST_VMS);
    let title = vms.map(|it| short(&it.name)).collect::<Vec<_>>().join(", ");
    let is_empty = gathered.totals.exits() == 0;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY.trim());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – " (file) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header { (header(gathered, &title, file, filter)) }
                main {
                    @if is_empty { p.empty { "There is no exit in this recording." } }
                    @else { (contents(gathered)) }
                }
                footer { p {
                    "An exit is when a vCPU comes back to axvmm: for an access to a device, a call, "
                    "a halt. Handling is what axvmm did then; times count from the recording's begin. "
                    "What the host's kernel does by itself, such as doorbells of virtio queues, is no "
                    "exit and not here. Made by axvmm " (env!("CARGO_PKG_VERSION")) "."
                } }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

fn header(gathered: &Gathered<'_>, title: &str, file: &str, filter: &[String]) -> Markup {
    let Gathered { about, totals, lost, .. } = gathered;
    let each = |what: fn(&AboutVm) -> String| {
        about.vms.iter().take(MOST_VMS).map(what).collect::<Vec<_>>().join(", ")
    };
    let started = match totals.starts {
        0 => "earlier".to_owned(),
        1 => "once".to_owned(),
        times => format!("{} times", number(times)),
    };
    let exact = |name: &str, id: &str, value: u64, shown: String| {
        html! { div.big { dt { (name) } dd { data id=(id) value=(value) { (shown) } } } }
    };
    let fact = |name: &str, text: String| html! { div { dt { (name) } dd { (text) } } };
    html! {
        p.kind { "What a guest did" }
        h1 { (title) }
        p.file { (file) @if !filter.is_empty() { ", of which only " code { (filter.join(" ")) } } }
        dl.facts {
            (exact("Exits", "exits", totals.exits(), number(totals.exits())))
            (exact("Length", "length", totals.length(), time(totals.length())))
            (fact("Architecture", short(&about.arch)))
            (fact("vCPUs", each(|vm| vm.vcpus.to_string())))
            (fact("Memory", each(|vm| bytes(vm.memory))))
            (fact("Started", started))
            (fact("Recorded", date(about.began)))
            (fact("By axvmm", short(&about.axvmm)))
        }
        @if *lost > 0 { p.lost {
            "About " data #lost value=(lost) { (number(*lost)) }
            " earlier records are not in the file: they made room for later ones ("
            code { "--record-size" } "), or the file is cut. This page is about the others."
        } }
    }
}

fn contents(gathered: &Gathered<'_>) -> Markup {
    let bins = &gathered.bins;
    let (mut reasons, mut devices) = (Vec::new(), Vec::new());
    for (kind, counts) in &bins.counts {
        match kind {
            Kind::Reason(reason) => reasons.push(((*reason).to_owned(), counts.clone())),
            Kind::Device(device) => {
                devices.push((short(&label(gathered.about, *device)), counts.clone()));
            }
        }
    }
    let (reasons, devices): (Vec<Series>, Vec<Series>) = (series(reasons), series(devices));
    let marks = sections::numbered_marks(gathered);
    html! {
        section aria-labelledby="time" {
            h2 #time { "Exits over time" }
            (over_time("by-reason", "By reason", bins, &reasons, &marks))
            @if !devices.is_empty() {
                (over_time("by-device", "By device", bins, &devices, &marks))
            }
            (sections::timetable(gathered, &reasons, &devices))
        }
        (sections::stories(gathered))
        (sections::handling(gathered))
        (sections::registers(gathered))
        (sections::vcpus(gathered))
        (sections::console(gathered))
    }
}
