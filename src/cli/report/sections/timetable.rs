//! The charts over time as a table.

use maud::{Markup, html};

use super::super::{
    charts::Series,
    gather::Gathered,
    units::{moment, number},
};

/// It has about so many rows.
const ROWS: usize = 20;

/// The charts' figures, of equal parts of the time.
pub fn timetable(gathered: &Gathered<'_>, reasons: &[Series], devices: &[Series]) -> Markup {
    let bins = &gathered.bins;
    let step = bins.count.div_ceil(ROWS).max(1);
    let all = || reasons.iter().chain(devices);
    html! {
        details {
            summary { "The same as a table" }
            div.scrolls tabindex="0" role="region" aria-label="Exits over time" {
                table.plain {
                    thead { tr {
                        th scope="col" { "From" }
                        @for one in all() { th.n scope="col" { (one.name) } }
                    } }
                    tbody { @for from in (0..bins.count).step_by(step) {
                        @let to = (from + step).min(bins.count);
                        tr {
                            th scope="row" { (moment(bins.begins(from), bins.width)) }
                            @for one in all() {
                                td.n { (number(one.counts[from..to].iter().sum())) }
                            }
                        }
                    } }
                }
            }
        }
    }
}
