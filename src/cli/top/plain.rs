//! Rates as text, a block for each interval, or as JSON, a line for each.

use std::{
    fmt::Write as _,
    io::{self, Write},
    time::Instant,
};

use super::{
    PATIENCE, TopArgs, how_it_ended,
    link::{Heard, Link},
    rates::Rates,
    sample::Sample,
    table::{Order, tables},
};
use crate::cli::{Failure, columns::lay_out, control::Request, log_output::tell};

/// Prints until the guests have ended or nobody reads any more.
pub fn show(mut link: Link, args: &TopArgs) -> Result<u8, Failure> {
    let mut next = Instant::now();
    let mut old: Option<Sample> = None;
    loop {
        next += args.interval;
        let new = sample_at(&mut link, old.as_ref().map(|_| next - args.interval))?;
        let over = how_it_ended(&new);
        if let Some(old) = &old {
            let rates = Rates::between(old, &new);
            let text = if args.json { line(&rates)? } else { block(&rates) };
            if !print(&text)? {
                return Ok(0);
            }
        }
        if let Some(over) = over {
            tell(&over);
            return Ok(0);
        }
        if args.once && old.is_some() {
            return Ok(0);
        }
        old = Some(new);
        // What came too late for one interval is not made up for in the next.
        next = next.max(Instant::now());
    }
}

/// The sample of this time, or the last before it if the run ends.
fn sample_at(link: &mut Link, time: Option<Instant>) -> Result<Sample, Failure> {
    let until = time.map(|it| it.saturating_duration_since(Instant::now())).unwrap_or_default();
    let mut heard = link.hear_within(until)?;
    if heard.is_none() {
        link.ask(Request::Times);
        heard = link.hear_within(PATIENCE)?;
    }
    match heard {
        Some(Heard::Sample(sample)) => Ok(sample),
        Some(Heard::End) => Err(link.is_gone()),
        Some(Heard::Nothing) | None => Err(link.is_silent(PATIENCE)),
    }
}

fn line(rates: &Rates) -> Result<String, Failure> {
    let line = serde_json::to_string(rates);
    line.map(|line| line + "\n").map_err(|error| Failure::failed(error.to_string()))
}

fn block(rates: &Rates) -> String {
    let Rates { pid, time, interval, .. } = rates;
    let mut text = format!("process {pid} at {time:.3} s, the last {interval:.3} s\n");
    for vm in &rates.vms {
        let (name, status, exits, total) = (&vm.name, &vm.status, vm.exits, vm.total);
        let _ = write!(text, "{name}: {status}, {exits:.1} exits/s, {total} in all");
        match vm.reboots {
            0 => text.push('\n'),
            reboots => _ = writeln!(text, ", {reboots} reboots"),
        }
    }
    for table in tables(rates, Order::Name) {
        let rows = table.rows.iter().map(|row| row.cells.clone());
        lay_out(
            &mut text,
            &std::iter::once(table.head().collect()).chain(rows).collect::<Vec<_>>(),
        );
    }
    text.push('\n');
    text
}

/// Whether somebody has read it, or may.
fn print(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::call("write to stdout", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::rates::tests::sample;

    #[test]
    fn a_block_has_a_table_for_each_subject() {
        let rates = Rates::between(&sample(1.0, 1), &sample(2.0, 2));
        let expect = "process 7 at 2.000 s, the last 1.000 s
hello: Running, 15.0 exits/s, 30 in all
  vCPU  exits/s  guest %  handling %  waiting %  most for  total
  0          11     50.0        10.0       40.0  IoWrite      22
  1         4.0      0.0        10.0       90.0  Halt          8
  device    exits/s  reads/s  writes/s  mean us  p99 us  max us  total  at
  com1           10      1.0       9.0     0.91   10.00   10.00     20  ports 0x3f8-0x3ff
  (nobody)      1.0        0       1.0                               2
  reason   exits/s  mean us  p99 us  max us  total  vCPU 0  vCPU 1
  Halt         4.0                               8       0     4.0
  IoRead       1.0                               2     1.0       0
  IoWrite       10     0.91   10.00   10.00     20      10       0

";
        assert_eq!(block(&rates), expect);
    }

    #[test]
    fn a_line_is_one_value() {
        let rates = Rates::between(&sample(1.0, 1), &sample(2.0, 2));
        let line = line(&rates).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["vms"][0]["devices"][0]["handling"]["p50_ns"], 100);
        assert_eq!(value["vms"][0]["vcpus"][0]["shares"]["guest"], 0.5);
    }
}
