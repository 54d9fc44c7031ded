use std::path::Path;

use clap::Parser;

use super::{gather::gather, page::page, story::What, *};
use crate::{
    addr::{AccessWidth, GuestPhysAddr, Port},
    devices::{BusKind, RegisterMap, RegisterName, WindowInfo, registers::WindowRegisters},
    hal::AxVCpuExitReason,
    trace::{About, AboutVm, Reader, Record, Recorder},
};

const UART: u64 = 0x3f8;
const MS: u64 = 1_000_000;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: ReportArgs,
}

fn about(name: &str, devices: &[&str]) -> About {
    let uart = RegisterMap::of(vec![RegisterName::byte("THR", 0), RegisterName::byte("LCR", 3)])
        .printing(0, &[(3, 0x80)]);
    let virtio = RegisterMap::of(vec![RegisterName::dword("QueueNotify", 0x50)]);
    let (windows, registers) = devices
        .iter()
        .enumerate()
        .map(|(at, device)| {
            let (bus, first, map) = match at {
                0 => (BusKind::Port, UART, uart.clone()),
                _ => (BusKind::Mmio, at as u64 * 0x1000, virtio.clone()),
            };
            let addresses = format!("{first:#x}-{:#x}", first + 0xfff);
            let window = WindowInfo { device: (*device).into(), bus, addresses };
            (window, WindowRegisters { first, map })
        })
        .unzip();
    let vm = AboutVm { id: 1, name: name.into(), vcpus: 2, memory: 1 << 28, windows, registers };
    About { axvmm: "0".into(), arch: "x86_64".into(), began: 0, vms: vec![vm] }
}

fn put(register: u64, value: u64, time: u64) -> Record {
    let port = Port((UART + register) as u16);
    let write = AxVCpuExitReason::IoWrite { port, width: AccessWidth::Byte, data: value };
    Record::new(&write, time, 0, None, 500, Some(0))
}

fn read(window: usize, time: u64) -> Record {
    let read = AxVCpuExitReason::MmioRead {
        addr: GuestPhysAddr(window as u64 * 0x1000 + 0x50),
        width: AccessWidth::Dword,
        reg: 0,
        reg_width: AccessWidth::Dword,
        signed_ext: false,
    };
    Record::new(&read, time, 0, Some(1), 2000, Some(window))
}

/// What is gathered of a recording with these records, each of a vCPU, and its page.
fn of<T>(
    about: &About,
    most: Option<u64>,
    records: impl IntoIterator<Item = (usize, Record)>,
    look: impl FnOnce(&gather::Gathered<'_>, &str) -> T,
) -> T {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.axt");
    let recorder = Recorder::create(&path, about, most).unwrap();
    let vm = recorder.for_vm(0, 2);
    records.into_iter().for_each(|(vcpu, record)| vm.push(vcpu, record));
    drop(vm);
    let args = Cli::parse_from([Path::new("report"), &path]).args;
    let reader = Reader::open(&path).unwrap();
    let names = Names::of(reader.about());
    let gathered = gather(&args.recording, &reader, &names).unwrap();
    let page = page(&gathered, "t.axt", &[]);
    look(&gathered, &page)
}

#[test]
fn all_is_counted_where_it_belongs() {
    let about = about("one", &["com1", "disk", "net"]);
    let mut records = vec![(0, Record::started(MS))];
    for (at, byte) in b"Hi\nyou".iter().enumerate() {
        records.push((0, put(0, (*byte).into(), (2 + at as u64) * MS)));
    }
    // The divisor latch, which does not print.
    records.push((0, put(3, 0x80, 20 * MS)));
    records.push((0, put(0, 1, 21 * MS)));
    records.extend((0..10).map(|at| (1, read(1, (30 + at) * MS))));
    records.push((1, read(2, 1000 * MS)));
    of(&about, None, records, |gathered, page| {
        let totals = &gathered.totals;
        assert_eq!((totals.exits(), totals.starts, totals.length()), (19, 1, 999 * MS));
        let devices: Vec<_> = totals
            .devices
            .iter()
            .map(|(it, times)| (it.1, times.histogram.len(), times.sum))
            .collect();
        assert_eq!(devices, [("com1", 8, 4000), ("disk", 10, 20_000), ("net", 1, 2000)]);
        let in_bins: u64 = gathered.bins.counts.values().flatten().sum();
        assert_eq!(in_bins, 2 * 19, "each by reason and by device");
        assert_eq!((gathered.bins.origin, gathered.bins.width), (0, 10 * MS));
        let (register, uses) = totals.registers.hottest(1)[0];
        assert_eq!((register.addr, uses.reads, uses.reading), (0x1050, 10, 20_000));
        assert_eq!(gathered.vcpus[&(0, 1)], gather::Vcpu { exits: 11, handled: 22_000 });
        let lines: Vec<_> = gathered.lines.first.iter().map(|it| (it.time, &*it.text)).collect();
        assert_eq!(lines, [(2 * MS, "Hi"), (5 * MS, "you")]);
        let story = &gathered.stories.0[&0];
        let phases: Vec<_> =
            story.phases.iter().map(|it| (it.begins.what.clone(), it.exits)).collect();
        let (prints, virtio) = (What::Prints("com1".into()), What::UsesVirtio("disk".into()));
        assert_eq!(phases, [(What::Started(1), 0), (prints, 8), (virtio, 11)]);
        let marks = story.marks(totals.length());
        assert!(marks.iter().any(|it| it.what == What::Pause(961 * MS) && it.time == 39 * MS));
        assert!(marks.iter().any(|it| it.what == What::Uses("net".into())));
        assert_eq!(marks.last().unwrap().what, What::Ends);
        for told in ["QueueNotify", "machine started", "disk, over virtio", "no exit for 961 ms"] {
            assert!(page.contains(told), "{told}");
        }
    });
}

#[test]
fn what_comes_from_the_guest_and_its_files_is_escaped() {
    let about = about("</title><script>a()", &["<img src=x>\"'&"]);
    let text = b"<script>alert(1)</script>\n";
    let records = text.iter().map(|byte| (0, put(0, (*byte).into(), MS)));
    of(&about, None, records, |_, page| {
        assert_eq!(page.matches("<script>").count(), 1, "ours");
        assert!(!page.contains("<img"));
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    });
}

#[test]
fn what_a_ring_has_lost_is_told() {
    let records = (0..20_000).map(|at| (0, put(0, b'x'.into(), at * 1000)));
    of(&about("ring", &["com1"]), Some(1), records, |gathered, page| {
        assert_eq!(gathered.lost + gathered.totals.exits(), 20_000);
        assert!(gathered.bins.origin > 0 && page.contains(" earlier records are not in the file"));
        assert!(page.contains("the recording begins"));
    });
    of(&about("none", &["com1"]), None, [], |gathered, page| {
        assert_eq!((gathered.lost, gathered.totals.exits()), (0, 0));
        assert!(page.contains("There is no exit in this recording"));
    });
}

#[test]
fn a_page_is_bounded_whatever_the_recording() {
    let names: Vec<String> = (0..600).map(|at| format!("{}{at}", "<&>".repeat(30))).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let begins = (0..60).map(|at| (0, Record::started(at * MS)));
    let accesses = (0..40_000_u64).map(|at| match at % 3 {
        0 => (0, read(1 + at as usize % 599, 100 * MS + at * at)),
        _ if at % 90 == 1 => (1, put(0, b'\n'.into(), 100 * MS + at * at)),
        _ => (1, put(0, b'&'.into(), 100 * MS + at * at)),
    });
    of(&about("many", &names), None, begins.chain(accesses), |gathered, page| {
        assert!(page.len() < 300 << 10, "{}", page.len());
        assert!(gathered.totals.devices.len() <= 257);
        let all: u64 = gathered.totals.devices.values().map(|it| it.histogram.len()).sum();
        assert_eq!((all, gathered.totals.exits()), (40_000, 40_000));
    });
}
