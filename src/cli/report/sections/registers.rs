//! The registers that were used most.

use maud::{Markup, html};

use super::{
    super::{
        gather::Gathered,
        units::{number, time},
    },
    count, head, short, width, written,
};
use crate::cli::trace::totals::{NOBODY, Register, label};

/// So many are shown.
const HOTTEST: usize = 25;

/// With their names, and how long reads and writes of them were handled.
pub fn registers(gathered: &Gathered<'_>) -> Markup {
    let registers = &gathered.totals.registers;
    let hottest = registers.hottest(HOTTEST);
    let most = hottest.iter().map(|(_, uses)| uses.count()).max().unwrap_or(0);
    let mean = |sum: u64, count: u64| sum.checked_div(count).map_or("–".to_owned(), time);
    html! {
        @if !hottest.is_empty() { section aria-labelledby="registers" {
            h2 #registers { "Hottest registers" }
            p.rule {
                (number(hottest.len() as u64)) " of " (number(registers.len() as u64))
                ", with their names in the devices' specifications."
            }
            ul.legend { li { i.k0 {} "reads" } li { i.k1 {} "writes" } }
            table.cards #hottest {
                (head(&["Register", "Device", "Use"], &["Reads", "Writes", "A read", "A write"]))
                tbody { @for (register, uses) in &hottest {
                    @let (name, device) = named(gathered, register);
                    tr {
                        th scope="row" {
                            @if let Some(name) = name { (short(&name)) " " }
                            span.addr { (format!("{:#x}", register.addr)) }
                        }
                        td.most data-label="Device" { (short(&device)) }
                        td.wide { div.bar aria-hidden="true" {
                            i.k0 style=(width(uses.reads, most)) {}
                            i.k1 style=(width(uses.writes, most)) {}
                        } }
                        (count("Reads", uses.reads))
                        (count("Writes", uses.writes))
                        (written("A read", &mean(uses.reading, uses.reads)))
                        (written("A write", &mean(uses.writing, uses.writes)))
                    }
                } }
            }
            @if registers.left_out > 0 {
                p.rule {
                    (number(registers.left_out)) " accesses to registers that are seldom used are "
                    "not counted here."
                }
            }
        } }
    }
}

/// What a register is called, and its device.
fn named(gathered: &Gathered<'_>, register: &Register) -> (Option<String>, String) {
    let Register { vm, window, addr, .. } = *register;
    let info = window.and_then(|window| gathered.about.vms.get(vm)?.windows.get(window));
    let device = label(gathered.about, (vm, info.map_or(NOBODY, |it| &it.device)));
    (gathered.names.name(vm, window, addr), device)
}
