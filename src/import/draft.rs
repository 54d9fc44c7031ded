//! What an importer makes: the tree of a `guest.toml`, each value with the place that it is from.

use std::{collections::BTreeSet, fmt};

use crate::{
    config::{At, Entry, Error, Node, Place, Report, Setting, Table, Value, insert, resolve_made},
    devices::custom::Kinds,
    vm::AxVMConfig,
};

/// A guest of another VMM's.
pub struct Imported {
    pub(super) tree: Table,
    pub(super) report: Report,
    /// The file, or what else messages call it by, whose stem is the VM's name if it has none.
    pub(super) named_after: String,
    /// Options for `axvmm run` beside the file's name.
    pub(super) run_options: Vec<String>,
}

impl fmt::Debug for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imported").field("tree", &self.tree).finish_non_exhaustive()
    }
}

impl Imported {
    /// The guest, read as a `guest.toml` is.
    ///
    /// # Errors
    /// All that is wrong with what it was made of.
    pub fn config(self, sets: &[Setting], kinds: &Kinds) -> Result<AxVMConfig, Error> {
        resolve_made(self.tree, &self.named_after, sets, kinds, self.report)
    }
}

/// An [`Imported`] that is being made.
pub(super) struct Draft {
    tree: Table,
    devices: Vec<Node>,
    /// Names that devices have.
    names: BTreeSet<String>,
    run_options: Vec<String>,
    pub report: Report,
}

impl Draft {
    pub fn new(report: Report) -> Self {
        let (tree, devices, names, run_options) = Default::default();
        Self { tree, devices, names, run_options, report }
    }

    /// Sets a key of one of the tables.
    pub fn set<T: Into<Value>>(&mut self, table: &str, key: &str, value: At<T>) {
        insert(&mut self.tree, table, key, entry(value));
    }

    /// Whether a key is set.
    pub fn has(&self, table: &str, key: &str) -> bool {
        let table = self.tree.get(table).map(|entry| &entry.node.value);
        matches!(table, Some(Value::Table(table)) if table.contains_key(key))
    }

    /// Adds a device; if another has its name, it gets the usual one.
    pub fn add(&mut self, mut row: Row) {
        if let Some(Entry { node: Node { value: Value::String(name), .. }, .. }) = row.0.get("name")
        {
            if name.is_empty() || !self.names.insert(name.clone()) {
                row.0.remove("name");
            }
        }
        let place = row.0.get("kind").map_or_else(Place::default, |kind| kind.key);
        self.devices.push(Node { value: Value::Table(row.0), place });
    }

    /// Something is done in another way than is asked for, or not at all.
    pub fn note(&mut self, place: Place, text: impl AsRef<str>) {
        self.report.note(place, text);
    }

    /// It is to be run with an option.
    pub fn run_with(&mut self, option: &str) {
        if !self.run_options.iter().any(|other| other == option) {
            self.run_options.push(option.to_owned());
        }
    }

    /// All of it; an error if anything was wrong so far.
    pub fn finish(mut self, named_after: &str) -> Result<Imported, Error> {
        if self.report.has_problems() {
            return Err(self.report.into_error());
        }
        let devices = std::mem::take(&mut self.devices);
        if let Some(place) = devices.first().map(|first| first.place) {
            self.set("devices", "virtio", At { value: Value::Array(devices), place });
        }
        let Self { tree, report, run_options, .. } = self;
        Ok(Imported { tree, report, named_after: named_after.to_owned(), run_options })
    }
}

/// A table of `[[devices.virtio]]`.
pub(super) struct Row(Table);

impl Row {
    /// A device of a kind, asked for at `place`.
    pub fn new(kind: &str, place: Place) -> Self {
        let mut row = Self(Table::new());
        row.set("kind", At { value: kind.to_owned(), place });
        row
    }

    pub fn set<T: Into<Value>>(&mut self, key: &str, value: At<T>) {
        self.0.insert(key.into(), entry(value));
    }

    /// Sets a key if there is something to set it to.
    pub fn set_if<T: Into<Value>>(&mut self, key: &str, value: Option<At<T>>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }

    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
}

fn entry<T: Into<Value>>(value: At<T>) -> Entry {
    let At { value, place } = value;
    Entry { key: place, node: Node { value: value.into(), place } }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Boolean(flag)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(number.into())
    }
}

impl From<Table> for Value {
    fn from(table: Table) -> Self {
        Self::Table(table)
    }
}

/// A list of what stands in one place.
impl<T: Into<Value>> From<Vec<At<T>>> for Value {
    fn from(list: Vec<At<T>>) -> Self {
        Self::Array(list.into_iter().map(|at| entry(at).node).collect())
    }
}

/// How much a device may do in a second, as its table has it.
pub(super) fn rate(bandwidth: Option<At<u64>>, operations: Option<At<u64>>) -> Option<At<Value>> {
    let place = bandwidth.as_ref().or(operations.as_ref())?.place;
    let mut table = Row(Table::new());
    table.set_if("bandwidth", bandwidth);
    table.set_if("operations", operations);
    Some(At { value: Value::Table(table.0), place })
}
