//! What the guest printed.

use maud::{Markup, html};

use super::{
    super::{
        gather::Gathered,
        lines::Line,
        units::{moment, number},
    },
    precision,
};

/// So many lines are shown without asking.
const OPEN: u64 = 40;

/// Its lines, with when each began.
pub fn console(gathered: &Gathered<'_>) -> Markup {
    let lines = &gathered.lines;
    let step = precision(gathered);
    let missing = lines.count - (lines.first.len() + lines.last.len()) as u64;
    let row = |line: &Line| {
        html! { span.line { span.when { (moment(line.time, step)) } " " (line.text) "\n" } }
    };
    html! {
        @if lines.count > 0 { section aria-labelledby="console" {
            h2 #console { "Console" }
            p.rule {
                "What was printed by writes to the registers that print: "
                data #lines value=(lines.count) { (number(lines.count)) }
                " lines, each with when it began. Long ones are cut."
            }
            details open[lines.count <= OPEN] {
                summary { "The lines" }
                pre.console tabindex="0" {
                    @for line in &lines.first { (row(line)) }
                    @if missing > 0 { span.line.gap { "… " (number(missing)) " lines …\n" } }
                    @for line in &lines.last { (row(line)) }
                }
            }
        } }
    }
}
