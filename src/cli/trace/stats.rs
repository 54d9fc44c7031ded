//! `axvmm trace stats`: how many exits of each kind, and how long they took.

use std::cmp::Reverse;

use super::{
    Recording,
    names::Names,
    totals::{NOBODY, Register, Times, Totals, label},
};
use crate::cli::{Failure, check::print, columns::lay_out};

/// So many registers are told of.
const HOTTEST: usize = 20;

pub fn stats(recording: &Recording) -> Result<(), Failure> {
    let reader = recording.open()?;
    let about = reader.about();
    let mut totals = Totals::new(about)?;
    for event in recording.events(&reader) {
        totals.add(&event?);
    }
    let (exits, starts) = (totals.exits(), totals.starts);
    let time = totals.length() as f64 / 1e9;
    let mut text =
        format!("{exits} exits in {time:.3} s; the machine was started {starts} times\n");
    let reasons = totals.reasons.iter().map(|(reason, times)| row(reason, times));
    let devices = totals.devices.iter().map(|(device, times)| row(&label(about, *device), times));
    let head = |what| [what, "exits", "handled ms", "p50 ns", "p99 ns", "max ns"];
    add_table(&mut text, &head("reason"), reasons);
    add_table(&mut text, &head("device"), devices);
    let names = Names::of(about);
    let mut ways = Vec::new();
    for (register, uses) in totals.registers.hottest(HOTTEST) {
        ways.push((uses.reads, register, "Read"));
        ways.push((uses.writes, register, "Write"));
    }
    ways.retain(|(count, ..)| *count > 0);
    ways.sort_by_key(|(count, register, way)| (Reverse(*count), *register, *way));
    let rows = ways.into_iter().take(HOTTEST).map(|(count, register, way)| {
        let Register { vm, window, space, addr } = register;
        let device = window.and_then(|window| about.vms.get(vm)?.windows.get(window));
        let device = label(about, (vm, device.map_or(NOBODY, |it| &it.device)));
        let name = names.name(vm, window, addr).unwrap_or_default();
        vec![format!("{device} {addr:#x}"), name, format!("{space}{way}"), count.to_string()]
    });
    add_table(&mut text, &["hottest registers", "name", "reason", "exits"], rows);
    print(&text)
}

fn row(name: &str, times: &Times) -> Vec<String> {
    let milliseconds = format!("{:.3}", times.sum as f64 / 1e6);
    let (count, max) = (times.histogram.len().to_string(), times.histogram.max().to_string());
    let at = |quantile| times.at(quantile).to_string();
    vec![name.to_owned(), count, milliseconds, at(0.5), at(0.99), max]
}

/// One with its head and a line before it; none if it would have no rows.
fn add_table(text: &mut String, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let head = head.iter().map(|it| (*it).to_owned()).collect();
    let table: Vec<_> = std::iter::once(head).chain(rows).collect();
    if table.len() > 1 {
        text.push('\n');
        lay_out(text, &table);
    }
}
