//! `--stats` and SIGUSR1: what the exits were for, as a table for a person.

use std::{collections::BTreeSet, fmt::Write, time::Duration};

use super::tally::Tally;
use crate::{cli::columns::lay_out, devices::BusKind};

/// With more vCPUs there is one column for all.
const MOST_COLUMNS: usize = 8;

/// The table of one guest after so much time.
pub fn table(name: &str, tally: &Tally, time: Duration) -> String {
    let mut text = format!("exits of {name}: {} in {:.3} s\n", tally.total(), time.as_secs_f64());
    if tally.reboots > 0 {
        let _ = writeln!(text, "reboots: {}", tally.reboots);
    }
    lay_out(&mut text, &reasons(tally));
    if !tally.devices.is_empty() || tally.unowned != Default::default() {
        lay_out(&mut text, &devices(tally));
    }
    text
}

fn reasons(tally: &Tally) -> Vec<Vec<String>> {
    let has_columns = (2..=MOST_COLUMNS).contains(&tally.exits.len());
    let columns = if has_columns { &tally.exits[..] } else { &[] };
    let mut rows = vec![vec!["reason".to_owned(), "exits".to_owned()]];
    rows[0].extend(columns.iter().map(|it| format!("vCPU {}", it.vcpu)));
    let reasons: BTreeSet<_> = tally.exits.iter().flat_map(|it| it.by_reason.keys()).collect();
    for reason in reasons {
        let of = |vcpu: &super::tally::VCpuExits| vcpu.by_reason.get(reason).copied().unwrap_or(0);
        let all: u64 = tally.exits.iter().map(of).sum();
        let mut row = vec![(*reason).to_owned(), all.to_string()];
        row.extend(columns.iter().map(|vcpu| of(vcpu).to_string()));
        rows.push(row);
    }
    rows
}

fn devices(tally: &Tally) -> Vec<Vec<String>> {
    let row = |device: &str, at: &str, reads: u64, writes: u64| {
        vec![device.to_owned(), reads.to_string(), writes.to_string(), at.to_owned()]
    };
    let mut rows = vec![["device", "reads", "writes", "at"].map(str::to_owned).to_vec()];
    for it in &tally.devices {
        let at = match it.window.bus {
            BusKind::Mmio => it.window.addresses.clone(),
            BusKind::Port => format!("ports {}", it.window.addresses),
            BusKind::SysReg => format!("registers {}", it.window.addresses),
        };
        rows.push(row(&it.window.device, &at, it.all.reads, it.all.writes));
    }
    if tally.unowned != Default::default() {
        rows.push(row("(nobody)", "", tally.unowned.reads, tally.unowned.writes));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::run::tally::fixture;

    #[test]
    fn it_has_a_column_for_each_of_a_few_vcpus() {
        let tally = fixture();
        let text = table("hello", &tally, Duration::from_millis(1500));
        let expect = "exits of hello: 1010 in 1.500 s
  reason   exits  vCPU 0  vCPU 1
  Halt         3       0       3
  IoRead       7       7       0
  IoWrite   1000    1000       0
  device    reads  writes  at
  com1          7    1000  ports 0x3f8..=0x3ff
  (nobody)      1       0
";
        assert_eq!(text, expect);
        let alone = Tally { exits: tally.exits[1..].to_vec(), ..Tally::default() };
        let text = table("hello", &alone, Duration::ZERO);
        assert_eq!(text, "exits of hello: 3 in 0.000 s\n  reason  exits\n  Halt        3\n");
    }
}
