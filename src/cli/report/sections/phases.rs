//! What happened when.

use maud::{Markup, html};

use super::{
    super::{
        charts::axis,
        gather::Gathered,
        story::{LEAST_PAUSE, Mark, Story, What},
        units::{moment, number, share, time},
    },
    along, count, duration, head, precision, short, written,
};
use crate::{
    cli::trace::totals::{NOBODY, label},
    trace::{Event, Reason},
};

/// So many phases have a number in the charts, of the first VM.
const IN_CHARTS: usize = 9;
/// So many colours follow each other.
const COLOURS: usize = 7;

/// The begins of phases, which have numbers.
pub fn numbered_marks(gathered: &Gathered<'_>) -> Vec<(u64, usize)> {
    let Some(story) = gathered.stories.0.values().next() else { return Vec::new() };
    let begins = story.phases.iter().map(|phase| phase.begins.time);
    begins.zip(1..).take(IN_CHARTS).collect()
}

/// Each VM's phases, and all that is noted of it.
pub fn stories(gathered: &Gathered<'_>) -> Markup {
    let stories = &gathered.stories.0;
    let name = |vm: usize| gathered.about.vms.get(vm).map_or(String::new(), |it| short(&it.name));
    html! {
        section aria-labelledby="phases" {
            h2 #phases { "Phases" }
            p.rule {
                "A phase begins when the machine is started, when a device first prints something, "
                "and with the first access to a virtio device. The numbers are those in the charts."
            }
            @for (vm, story) in stories {
                @if stories.len() > 1 { h3 { (name(*vm)) } }
                (phases(gathered, story))
                (marks(gathered, story))
            }
        }
    }
}

fn phases(gathered: &Gathered<'_>, story: &Story<'_>) -> Markup {
    let step = precision(gathered);
    let (origin, length) = (gathered.bins.origin, gathered.bins.length());
    html! {
        div.strip role="img" aria-label="The phases along the time of the charts" {
            @for (place, phase) in story.phases.iter().enumerate() {
                @let begins = phase.begins.time.saturating_sub(origin);
                i class=(format!("k{}", place % COLOURS)) style=(along(begins, phase.length(), length)) {}
            }
        }
        (axis(origin, length))
        table.cards {
            (head(&["Phase", "Busiest device"], &["From", "Lasts", "Exits", "Handling"]))
            tbody { @for (place, phase) in story.phases.iter().enumerate() {
                tr {
                    th scope="row" {
                        i class=(format!("swatch k{}", place % COLOURS)) {}
                        b.number { (place + 1) } " " (what(&phase.begins.what))
                    }
                    td.most data-label="Busiest device" {
                        @if let Some((device, uses)) = phase.busiest() {
                            (short(&label(gathered.about, device))) ", " (share(uses, phase.exits))
                        } @else { "–" }
                    }
                    (written("From", &moment(phase.begins.time, step)))
                    (duration("Lasts", phase.length()))
                    (count("Exits", phase.exits))
                    (duration("Handling", phase.handled))
                }
            } }
        }
    }
}

fn marks(gathered: &Gathered<'_>, story: &Story<'_>) -> Markup {
    let step = precision(gathered);
    let marks = story.marks(gathered.totals.length());
    html! {
        details {
            summary { "All that is noted (" (marks.len()) ")" }
            p.rule {
                "Noted are also the first access to each device after a start, pauses of at least 1/"
                (LEAST_PAUSE) " of the length in which no vCPU came back, and the last record."
            }
            ol.marks { @for Mark { time, what: it } in &marks {
                li { span.when { (moment(*time, step)) } " " (what(it)) }
            } }
            @if story.left_out > 0 { p { "And " (number(story.left_out)) " more." } }
            @if let Some(last) = &gathered.last { p { "The last exit: " (exit(gathered, last)) "." } }
        }
    }
}

fn exit(gathered: &Gathered<'_>, event: &Event) -> String {
    let record = &event.record;
    let reason = record.reason().map_or("", Reason::name);
    if record.width() == 0 {
        return reason.to_owned();
    }
    let (addr, value) = (record.addr(), record.value());
    let device = short(event.device(gathered.about).unwrap_or(NOBODY));
    let name = gathered.names.name(event.vm, record.window(), addr);
    let name = name.map(|it| format!(" {it}")).unwrap_or_default();
    format!("{reason}, {device} {addr:#x}{name}, {value:#x}")
}

fn what(what: &What) -> String {
    match what {
        What::Started(1) => "machine started".to_owned(),
        What::Started(number) => format!("machine started again ({number})"),
        What::Begins => "the recording begins".to_owned(),
        What::Prints(device) => format!("{} prints", short(device)),
        What::Uses(device) => format!("first access to {}", short(device)),
        What::UsesVirtio(device) => format!("first access to {}, over virtio", short(device)),
        What::Pause(length) => format!("no exit for {}", time(*length)),
        What::Ends => "the last record".to_owned(),
    }
}
