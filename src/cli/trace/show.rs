//! `axvmm trace show`.

use std::fmt::Write as _;

use clap::Args;

use super::{Recording, names::Names};
use crate::{
    cli::{Failure, check::print},
    trace::{About, Event, Reason},
};

/// How much is gathered before it is printed, in bytes.
const BLOCK: usize = 64 << 10;

#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    recording: Recording,
    /// Prints the first N of them only
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<usize>,
}

pub fn show(args: &ShowArgs) -> Result<(), Failure> {
    let reader = args.recording.open()?;
    let names = Names::of(reader.about());
    let mut text = String::new();
    for event in args.recording.events(&reader).take(args.limit.unwrap_or(usize::MAX)) {
        let _ = writeln!(text, "{}", line(reader.about(), &names, &event?));
        if text.len() > BLOCK {
            print(&text)?;
            text.clear();
        }
    }
    print(&text)
}

/// Time in seconds, VM and vCPU, where the guest was, what it was, and how long that took.
fn line(about: &About, names: &Names, event: &Event) -> String {
    let record = &event.record;
    let seconds = record.time() as f64 / 1e9;
    let vm = match about.vms.as_slice() {
        [_] => String::new(),
        vms => format!("{} ", vms[event.vm].name),
    };
    let who = format!("{seconds:13.9} {vm}vCPU {}", event.vcpu);
    match record.reason() {
        Some(Reason::Started) => format!("{seconds:13.9} {vm}started"),
        reason => {
            let name = reason.map_or("(unknown)", Reason::name);
            let what = what(about, names, event);
            let took = record.took();
            format!("{who} {:#018x} {name:<11} {what}; {took} ns", record.pc())
        }
    }
}

/// An access with its device, address and value, or what else there is to say.
fn what(about: &About, names: &Names, event: &Event) -> String {
    let record = &event.record;
    let (addr, value) = (record.addr(), record.value());
    match record.width() {
        0 => format!("{addr:#x} {value:#x}"),
        width => {
            let device = event.device(about).unwrap_or("(nobody)");
            let register = names.name(event.vm, record.window(), addr);
            let register = register.map(|it| format!(" {it}")).unwrap_or_default();
            let digits = 2 + 2 * usize::from(width);
            let name = record.reason().map_or("", Reason::name);
            let way = if name.ends_with("Write") { "<-" } else { "->" };
            format!("{device} {addr:#x}{register} {way} {value:#0digits$x}")
        }
    }
}
