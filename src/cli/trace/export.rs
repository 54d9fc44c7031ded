//! `axvmm trace export`: the Trace Event Format of Chrome, which Perfetto reads, and CSV.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::Recording;
use crate::{
    cli::Failure,
    trace::{About, Event, Reader, Reason},
};

#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    recording: Recording,
    /// What to write
    #[arg(long, value_enum)]
    format: Format,
    /// Where to; otherwise to stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Trace Event Format, for <https://ui.perfetto.dev> or chrome://tracing
    Chrome,
    /// A table with a line of names
    Csv,
}

pub fn export(args: &ExportArgs) -> Result<(), Failure> {
    let reader = args.recording.open()?;
    let (to, out): (_, Box<dyn Write>) = match &args.output {
        Some(path) => {
            let file = File::create(path)
                .map_err(|error| Failure::call(&format!("write {}", path.display()), error))?;
            (path.display().to_string(), Box::new(file))
        }
        None => ("stdout".to_owned(), Box::new(io::stdout().lock())),
    };
    let mut out = BufWriter::new(out);
    let written = match args.format {
        Format::Chrome => chrome(&args.recording, &reader, &mut out),
        Format::Csv => csv(&args.recording, &reader, &mut out),
    };
    match written.and_then(|()| out.flush().map_err(Trouble::Writing)) {
        Err(Trouble::Reading(failure)) => Err(failure),
        Err(Trouble::Writing(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::call(&format!("write {to}"), error))
        }
        _ => Ok(()),
    }
}

enum Trouble {
    Reading(Failure),
    Writing(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Writing(error)
    }
}

/// Each exit is a slice of its handling's length; a process is a VM, a thread is a vCPU.
fn chrome(recording: &Recording, reader: &Reader, out: &mut impl Write) -> Result<(), Trouble> {
    let about = reader.about();
    writeln!(out, "{{\"displayTimeUnit\": \"ns\", \"traceEvents\": [")?;
    let mut names = Vec::new();
    for vm in &about.vms {
        let name = json!({ "name": vm.name });
        names.push(json!({ "ph": "M", "name": "process_name", "pid": vm.id, "args": name }));
        for vcpu in 0..vm.vcpus {
            let name = json!({ "name": format!("vCPU {vcpu}") });
            names.push(json!({
                "ph": "M", "name": "thread_name", "pid": vm.id, "tid": vcpu, "args": name,
            }));
        }
    }
    let mut comma = "";
    for name in names {
        write!(out, "{comma}{name}")?;
        comma = ",\n";
    }
    for event in recording.events(reader) {
        let event = event.map_err(|error| Trouble::Reading(error.into()))?;
        write!(out, "{comma}{}", slice(about, &event))?;
        comma = ",\n";
    }
    writeln!(out, "\n]}}")?;
    Ok(())
}

/// Times are in microseconds.
fn slice(about: &About, event: &Event) -> serde_json::Value {
    let record = &event.record;
    let (pid, time) = (about.vms[event.vm].id, record.time() as f64 / 1e3);
    let reason = record.reason().map_or("(unknown)", Reason::name);
    if record.reason() == Some(Reason::Started) {
        return json!({
            "ph": "i", "s": "p", "name": reason, "pid": pid, "tid": event.vcpu, "ts": time,
        });
    }
    let name = match event.device(about) {
        Some(device) => format!("{reason} {device}"),
        None => reason.to_owned(),
    };
    json!({
        "ph": "X",
        "name": name,
        "cat": reason,
        "pid": pid,
        "tid": event.vcpu,
        "ts": time,
        "dur": f64::from(record.took()) / 1e3,
        "args": {
            "pc": format!("{:#x}", record.pc()),
            "addr": format!("{:#x}", record.addr()),
            "value": format!("{:#x}", record.value()),
            "width": record.width(),
        },
    })
}

fn csv(recording: &Recording, reader: &Reader, out: &mut impl Write) -> Result<(), Trouble> {
    let mut table = csv::Writer::from_writer(out);
    let row = |table: &mut csv::Writer<_>, row: [&str; 10]| {
        table.write_record(row).map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(error) => Trouble::Writing(error),
            other => Trouble::Writing(io::Error::other(format!("{other:?}"))),
        })
    };
    let head =
        ["time_ns", "vm", "vcpu", "pc", "reason", "device", "addr", "width", "value", "took_ns"];
    row(&mut table, head)?;
    let about = reader.about();
    for event in recording.events(reader) {
        let event = event.map_err(|error| Trouble::Reading(error.into()))?;
        let record = &event.record;
        row(
            &mut table,
            [
                &record.time().to_string(),
                &about.vms[event.vm].name,
                &event.vcpu.to_string(),
                &format!("{:#x}", record.pc()),
                record.reason().map_or("", Reason::name),
                event.device(about).unwrap_or_default(),
                &format!("{:#x}", record.addr()),
                &record.width().to_string(),
                &format!("{:#x}", record.value()),
                &record.took().to_string(),
            ],
        )?;
    }
    table.flush()?;
    Ok(())
}
