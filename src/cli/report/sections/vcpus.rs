//! Where the time of each vCPU went.

use maud::{Markup, html};

use super::{
    super::{
        gather::{Gathered, Vcpu},
        units::{number, share},
    },
    count, duration, head, short, width, written,
};
use crate::cli::trace::totals::label;

/// So many are shown.
const MOST: usize = 64;

/// How much of the length was handling.
pub fn vcpus(gathered: &Gathered<'_>) -> Markup {
    let length = gathered.totals.length();
    let not_shown = gathered.vcpus.values().skip(MOST).map(|it| it.exits).sum::<u64>();
    let left_out = not_shown + gathered.other_vcpus;
    html! {
        section aria-labelledby="vcpus" {
            h2 #vcpus { "vCPUs" }
            p.rule {
                "How much of the recording's length axvmm handled a vCPU's exits. The rest it was in "
                "the guest or in the host's kernel, or waited."
            }
            table.cards {
                (head(&["vCPU", "Share of handling"], &["Exits", "Handling", "Share", "Guest, waiting"]))
                tbody { @for ((vm, vcpu), it) in gathered.vcpus.iter().take(MOST) {
                    @let Vcpu { exits, handled } = *it;
                    tr {
                        th scope="row" {
                            (short(&label(gathered.about, (*vm, &format!("vCPU {vcpu}")))))
                        }
                        td.wide { div.bar.whole aria-hidden="true" {
                            i.k0 style=(width(handled, length)) {}
                        } }
                        (count("Exits", exits))
                        (duration("Handling", handled))
                        (written("Share", &share(handled, length)))
                        (written("Guest, waiting", &share(length.saturating_sub(handled), length)))
                    }
                } }
            }
            @if left_out > 0 { p { "And other vCPUs, with " (number(left_out)) " exits." } }
        }
    }
}
