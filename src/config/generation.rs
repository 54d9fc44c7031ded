//! Whole files in other languages that AxVisor's guests are described in: recognised as such, and
//! told once, key by key, what to change.
//!
//! Ours is that of `axvmconfig` 0.1 and 0.2. Its later versions add keys (0.5), then replace the
//! devices (0.8); and the templates that came with the first have no tables.

use super::{
    node::{Entry, Node, Table, Value},
    report::Report,
    source::Place,
    tables,
};

/// A version of `axvmconfig` whose keys are not ours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Generation {
    /// 0.5: more keys for firmware and the host's addresses.
    Extended,
    /// 0.8: devices come from the machine and from `[[devices.virtual]]`.
    Resolved,
}

/// A key of another generation, and what to do about it, which may depend on its value.
struct ForeignKey {
    generation: Generation,
    table: &'static str,
    name: &'static str,
    advice: fn(&Node) -> String,
}

const KEYS: [ForeignKey; 9] = [
    extended("kernel", "enable_bios", |node| match node.value {
        Value::Boolean(true) => "name the firmware in bios_path and bios_load_addr instead".into(),
        _ => "leave it out".into(),
    }),
    extended("kernel", "boot_protocol", |node| match &node.value {
        Value::String(word) if word.starts_with("uefi") || word == "efi" => {
            "leave it out, and name a kernel: there is no UEFI firmware here".into()
        }
        _ => "leave it out: the kernel's format is recognised".into(),
    }),
    extended("kernel", "uefi_firmware_path", |_| {
        "leave it out: there is no UEFI firmware here".into()
    }),
    extended("devices", "address_space_policy", |_| {
        "leave it out: addresses are always virtualized".into()
    }),
    extended("devices", "passthrough_ports", |_| {
        "leave it out: no ports of the host's are passed through".into()
    }),
    resolved("base", "guest_type", |_| "leave it out: guests are always virtualized".into()),
    resolved("devices", "passthrough", |node| paths_as_rows(node, "passthrough_devices")),
    resolved("devices", "disabled", |node| paths_as_rows(node, "excluded_devices")),
    resolved("devices", "virtual", |_| "devices are rows of emu_devices".into()),
];

const fn extended(
    table: &'static str,
    name: &'static str,
    advice: fn(&Node) -> String,
) -> ForeignKey {
    ForeignKey { generation: Generation::Extended, table, name, advice }
}

const fn resolved(
    table: &'static str,
    name: &'static str,
    advice: fn(&Node) -> String,
) -> ForeignKey {
    ForeignKey { generation: Generation::Resolved, table, name, advice }
}

/// Tells, in one problem, that a file is of another generation, and takes that one's keys out of
/// the tree, so that only what else is wrong is told beside. `false`: nothing else is worth telling.
pub(super) fn tell_apart(tree: &mut Table, report: &mut Report) -> bool {
    if let Some(flat) = Flat::of(tree) {
        flat.tell(report);
        return false;
    }
    let mut found = Vec::new();
    for key in &KEYS {
        let Some(Entry { node: Node { value: Value::Table(table), .. }, .. }) =
            tree.get_mut(key.table)
        else {
            continue;
        };
        if let Some(entry) = table.remove(key.name) {
            found.push((key, entry));
        }
    }
    found.sort_by_key(|(_, entry)| entry.key);
    let Some((_, first)) = found.first() else { return true };
    let place = first.key;
    let message = match found.iter().map(|(key, _)| key.generation).max() {
        Some(Generation::Resolved) => {
            "this file is of axvmconfig 0.8, whose devices are not told as here: axvmm reads files \
             of 0.1 and 0.2"
        }
        _ => {
            "this file is of axvmconfig 0.5, which has keys of its own: axvmm reads files of 0.1 \
             and 0.2"
        }
    };
    let mut lines: Vec<_> =
        found.iter().flat_map(|(key, entry)| to_change(key, entry, report)).collect();
    let more = lines.len().saturating_sub(SHOWN_LINES);
    if more > 0 {
        lines.truncate(SHOWN_LINES);
        lines.push(format!("and {more} more"));
    }
    report.problem(place, message).help(lines.join("\n  "));
    true
}

/// What to change about a key: a line, or one for each device.
fn to_change(key: &ForeignKey, entry: &Entry, report: &Report) -> Vec<String> {
    let line = |place: Place, what: String| {
        let at = report.written_at(place);
        let at = at.line.map_or_else(|| at.to_string(), |line| format!("line {line}"));
        format!("{at}: {what}")
    };
    let devices = match &entry.node.value {
        Value::Array(devices) if key.name == "virtual" && !devices.is_empty() => devices,
        _ => return vec![line(entry.key, format!("{}: {}", key.name, (key.advice)(&entry.node)))],
    };
    devices.iter().map(|device| line(first_place(device), virtual_device(device))).collect()
}

/// Where a device begins: a table's own place is that of its header, or of nothing at all.
fn first_place(device: &Node) -> Place {
    match &device.value {
        Value::Table(table) => table.values().map(|entry| entry.key).min().unwrap_or(device.place),
        _ => device.place,
    }
}

/// What to write for a table of `[[devices.virtual]]`.
fn virtual_device(device: &Node) -> String {
    let text = |name: &str| match &device.value {
        Value::Table(table) => match table.get(name).map(|entry| &entry.node.value) {
            Some(Value::String(text)) => text.as_str(),
            _ => "",
        },
        _ => "",
    };
    let advice = match text("model") {
        "ivc-channel" => {
            "write a row of emu_devices, [name, base_gpa, length, irq_id, 0x0a, []], with addresses \
             and an interrupt of your choice"
        }
        "serial" => "leave it out: every board has a serial port",
        "virtio-blk" => "write a table [[devices.virtio]] with kind = \"block\" and a path",
        "virtio-net" => "write a table [[devices.virtio]] with kind = \"net\"",
        "virtio-console" => "write a table [[devices.virtio]] with kind = \"console\"",
        _ => "leave it out: no board has such a device",
    };
    format!("virtual {:?} ({:?}): {advice}", text("id"), text("model"))
}

/// Changes shown of a file that needs many.
const SHOWN_LINES: usize = 40;
/// Paths shown of a list that has many.
const SHOWN: usize = 4;

/// `[{ path = "/x" }, …]` as rows of ours.
fn paths_as_rows(node: &Node, key: &str) -> String {
    let path = |node: &Node| match &node.value {
        Value::Table(table) => match table.get("path").map(|entry| &entry.node.value) {
            Some(Value::String(path)) => Some(format!("[{path:?}]")),
            _ => None,
        },
        _ => None,
    };
    let mut rows: Vec<_> = match &node.value {
        Value::Array(nodes) => nodes.iter().filter_map(path).collect(),
        _ => Vec::new(),
    };
    let more = rows.len() > SHOWN;
    rows.truncate(SHOWN);
    if more {
        rows.push("…".into());
    }
    format!("write {key} = [{}]", rows.join(", "))
}

/// A file without tables whose keys stand where tables would.
struct Flat {
    first: Place,
    /// The keys of each table, in the file's order.
    keys: [(&'static str, Vec<String>); 3],
}

impl Flat {
    /// Keys that tell such a file from one in which a header was forgotten.
    const ENOUGH: usize = 3;

    fn of(tree: &Table) -> Option<Self> {
        let mut keys: Vec<_> =
            tree.iter().filter_map(|(name, entry)| Some((entry, tables::home(name)?))).collect();
        keys.sort_by_key(|(entry, _)| entry.key);
        let first = keys.first()?.0.key;
        // A table that is there for a key of the command line is none of the file's.
        let tables = tables::tables();
        let of_file =
            |table: &&str| tree.get(*table).is_some_and(|entry| entry.key.source == first.source);
        if keys.len() < Self::ENOUGH || tables.iter().any(of_file) {
            return None;
        }
        let keys = tables.map(|table| {
            let of_table = keys.iter().filter(|(_, (home, _))| *home == table);
            (table, of_table.map(|(_, (_, name))| (*name).to_owned()).collect())
        });
        Some(Self { first, keys })
    }

    fn tell(self, report: &mut Report) {
        let lines = self.keys.into_iter().filter(|(_, keys)| !keys.is_empty());
        let lines: Vec<_> =
            lines.map(|(table, keys)| format!("[{table}]  {}", keys.join(", "))).collect();
        let message = "this file has no tables, as axvmconfig's old templates: its keys belong in \
                       [base], [kernel] and [devices]";
        let help =
            format!("write these headers, and below each its keys:\n  {}", lines.join("\n  "));
        report.problem(self.first, message).help(help);
    }
}
