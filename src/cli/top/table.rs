//! Rates as rows and columns, for people: in a pipe and on a terminal.

use std::cmp::Ordering;

use super::rates::{DeviceRates, Lengths, Rates, VmRates};
use crate::devices::BusKind;

/// With more vCPUs there is one column for all.
const MOST_COLUMNS: usize = 8;

/// What rows are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    VCpus,
    Devices,
    Reasons,
}

/// Which row comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// That with the most exits a second.
    #[default]
    Rate,
    /// That which takes the most time.
    Time,
    Name,
}

/// A table.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub subject: Subject,
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub head: &'static str,
    /// Where there is no room for all, those with the lowest go first. The first column stays.
    pub worth: u8,
    /// The number of what it is of, for columns of which there are several.
    pub number: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub cells: Vec<String>,
    pub rate: f64,
    /// The part of the time that it takes.
    pub share: f64,
}

impl Table {
    /// The names of the columns.
    pub fn head(&self) -> impl Iterator<Item = String> {
        self.columns.iter().map(|column| match column.number {
            Some(number) => format!("{} {number}", column.head),
            None => column.head.to_owned(),
        })
    }
}

/// All tables.
pub fn tables(rates: &Rates, order: Order) -> Vec<Table> {
    let several = rates.vms.len() > 1;
    let mut tables = [vcpus(rates, several), devices(rates, several), reasons(rates, several)];
    for table in &mut tables {
        table.rows.sort_by(|a, b| order.of(a, b));
    }
    tables.into_iter().filter(|table| !table.rows.is_empty()).collect()
}

impl Order {
    /// Sorting is stable: those that are alike stay as they were.
    fn of(self, a: &Row, b: &Row) -> Ordering {
        match self {
            Self::Rate => b.rate.total_cmp(&a.rate),
            Self::Time => b.share.total_cmp(&a.share).then(b.rate.total_cmp(&a.rate)),
            Self::Name => Ordering::Equal,
        }
    }
}

/// Names that say of which guest it is, where there are several.
fn name(vm: &VmRates, several: bool, name: &str) -> String {
    if several { format!("{}: {name}", vm.name) } else { name.to_owned() }
}

fn columns(columns: &[(&'static str, u8)]) -> Vec<Column> {
    columns.iter().map(|(head, worth)| Column { head, worth: *worth, number: None }).collect()
}

fn vcpus(rates: &Rates, several: bool) -> Table {
    let columns = columns(&[
        ("vCPU", 9),
        ("exits/s", 8),
        ("guest %", 7),
        ("handling %", 6),
        ("waiting %", 5),
        ("most for", 2),
        ("total", 1),
    ]);
    let row = |vm: &VmRates, it: &super::rates::VCpuRates| {
        let percent = |part: f64| format!("{:.1}", part * 100.0);
        let shares = it.shares.map(|it| [it.guest, it.handling, it.waiting].map(percent));
        let most = it.by_reason.iter().filter(|(_, rate)| **rate > 0.0);
        let most = most.max_by(|a, b| a.1.total_cmp(b.1)).map(|(reason, _)| reason.clone());
        let mut cells = vec![name(vm, several, &it.vcpu.to_string()), number(it.exits)];
        cells.extend(shares.unwrap_or_default());
        cells.extend([most.unwrap_or_default(), it.total.to_string()]);
        let share = it.shares.map_or(0.0, |it| it.guest + it.handling);
        Row { cells, rate: it.exits, share }
    };
    let rows = rates.vms.iter().flat_map(|vm| vm.vcpus.iter().map(move |it| row(vm, it)));
    Table { subject: Subject::VCpus, columns, rows: rows.collect() }
}

fn devices(rates: &Rates, several: bool) -> Table {
    let columns = columns(&[
        ("device", 9),
        ("exits/s", 8),
        ("reads/s", 4),
        ("writes/s", 4),
        ("mean us", 7),
        ("p99 us", 6),
        ("max us", 5),
        ("total", 1),
        ("at", 2),
    ]);
    let row = |vm: &VmRates, it: &DeviceRates| {
        let all = it.reads + it.writes;
        let mut cells = vec![name(vm, several, &it.device)];
        cells.extend([number(all), number(it.reads), number(it.writes)]);
        cells.extend(lengths(it.handling));
        cells.extend([it.total.to_string(), place(it)]);
        Row { cells, rate: all, share: it.handling.map_or(0.0, |it| it.share) }
    };
    let rows = rates.vms.iter().flat_map(|vm| vm.devices.iter().map(move |it| row(vm, it)));
    Table { subject: Subject::Devices, columns, rows: rows.collect() }
}

fn reasons(rates: &Rates, several: bool) -> Table {
    let mut columns = columns(&[
        ("reason", 9),
        ("exits/s", 8),
        ("mean us", 7),
        ("p99 us", 6),
        ("max us", 5),
        ("total", 1),
    ]);
    let vcpus = rates.vms.iter().map(|vm| vm.vcpus.len()).max().unwrap_or(0);
    let vcpus = if (2..=MOST_COLUMNS).contains(&vcpus) { vcpus } else { 0 };
    let of_vcpu = |vcpu| Column { head: "vCPU", worth: 3, number: Some(vcpu) };
    columns.extend((0..vcpus).map(of_vcpu));
    let row = |vm: &VmRates, it: &super::rates::ReasonRates| {
        let mut cells = vec![name(vm, several, &it.reason), number(it.exits)];
        cells.extend(lengths(it.handling));
        cells.push(it.total.to_string());
        let by_vcpu =
            it.by_vcpu.iter().map(|rate| number(*rate)).chain(std::iter::repeat(String::new()));
        cells.extend(by_vcpu.take(vcpus));
        Row { cells, rate: it.exits, share: it.handling.map_or(0.0, |it| it.share) }
    };
    let rows = rates.vms.iter().flat_map(|vm| vm.reasons.iter().map(move |it| row(vm, it)));
    Table { subject: Subject::Reasons, columns, rows: rows.collect() }
}

fn place(it: &DeviceRates) -> String {
    match it.bus {
        Some(BusKind::Port) => format!("ports {}", it.addresses),
        Some(BusKind::SysReg) => format!("registers {}", it.addresses),
        Some(BusKind::Mmio) | None => it.addresses.clone(),
    }
}

/// A rate: whole from 10 on.
fn number(rate: f64) -> String {
    if rate == 0.0 || rate >= 10.0 { format!("{rate:.0}") } else { format!("{rate:.1}") }
}

/// Mean, 99th percentile and maximum, in microseconds.
fn lengths(lengths: Option<Lengths>) -> [String; 3] {
    let micros = |ns: f64| format!("{:.2}", ns / 1e3);
    let cells = lengths.map(|it| [it.mean_ns, it.p99_ns as f64, it.max_ns as f64].map(micros));
    cells.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::rates::tests::sample;

    fn rates() -> Rates {
        Rates::between(&sample(1.0, 1), &sample(2.0, 2))
    }

    fn names(table: &Table) -> Vec<&str> {
        table.rows.iter().map(|row| row.cells[0].as_str()).collect()
    }

    #[test]
    fn rows_have_a_cell_for_each_column() {
        let mut both = rates();
        both.vms.push(VmRates { name: "other".to_owned(), ..both.vms[0].clone() });
        for rates in [rates(), both] {
            let tables = tables(&rates, Order::Rate);
            assert_eq!(tables.len(), 3);
            for table in &tables {
                assert!(table.rows.iter().all(|row| row.cells.len() == table.columns.len()));
            }
            let com1 = tables[1].rows.iter().find(|it| it.cells[0].ends_with("com1")).unwrap();
            assert_eq!(com1.cells[1..4], ["10", "1.0", "9.0"]);
            assert_eq!(com1.cells[4..7], ["0.91", "10.00", "10.00"]);
            assert_eq!(com1.cells[8], "ports 0x3f8-0x3ff");
        }
    }

    #[test]
    fn they_are_in_the_order_that_is_wanted() {
        let rates = rates();
        let reasons = |order| tables(&rates, order).remove(2);
        assert_eq!(names(&reasons(Order::Rate)), ["IoWrite", "Halt", "IoRead"]);
        assert_eq!(names(&reasons(Order::Time)), ["IoWrite", "Halt", "IoRead"]);
        assert_eq!(names(&reasons(Order::Name)), ["Halt", "IoRead", "IoWrite"]);
    }

    #[test]
    fn guests_are_named_where_there_are_several() {
        let mut rates = rates();
        rates.vms.push(VmRates { name: "other".to_owned(), ..rates.vms[0].clone() });
        let vcpus = tables(&rates, Order::Name).remove(0);
        assert_eq!(names(&vcpus), ["hello: 0", "hello: 1", "other: 0", "other: 1"]);
    }
}
