//! An imported guest as the text of a `guest.toml`.

use std::fmt::Write as _;

use super::Imported;
use crate::{
    config::{Entry, Error, Node, Table, Value, resolve_made},
    devices::custom::Kinds,
};

/// The file's text.
#[derive(Debug)]
pub struct Written {
    /// The text.
    pub text: String,
    /// What is done in another way than was asked for, or not at all.
    pub notes: Vec<String>,
    /// Options for `axvmm run` beside the file's name.
    pub run_options: Vec<String>,
}

/// Keys whose values are paths.
const PATHS: [&str; 5] = ["kernel_path", "ramdisk_path", "dtb_path", "path", "socket"];

impl Imported {
    /// The `guest.toml` of this guest, which has been read as such. It was imported from what `from`
    /// says; `seen_from` turns a path that is relative to the working directory into one relative to
    /// the file.
    ///
    /// # Errors
    /// All that is wrong with what it was made of, and a path that cannot be written.
    pub fn guest_toml<E: From<Error>>(
        self,
        from: &str,
        kinds: &Kinds,
        seen_from: &dyn Fn(&str) -> Result<String, E>,
    ) -> Result<Written, E> {
        let Self { tree, report, named_after, run_options } = self;
        let notes = resolve_made(tree.clone(), &named_after, &[], kinds, report)?.notes;
        let mut text = format!("# A guest for axvmm, imported from {}.\n", one_line(from));
        if !run_options.is_empty() {
            let options = run_options.join(" ");
            let _ =
                writeln!(text, "# To be run with `axvmm run {options} --config` and this file.");
        }
        if !notes.is_empty() {
            text.push_str("#\n# What is not as it was there:\n");
            notes.iter().for_each(|note| {
                let _ = writeln!(text, "# - {}", one_line(note));
            });
        }
        for name in ["base", "kernel", "devices"] {
            let Some(Entry { node: Node { value: Value::Table(table), .. }, .. }) = tree.get(name)
            else {
                continue;
            };
            write_table(&mut text, name, table, seen_from)?;
        }
        Ok(Written { text, notes, run_options })
    }
}

/// Texts of others' must not end a comment.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn write_table<E>(
    text: &mut String,
    name: &str,
    table: &Table,
    seen_from: &dyn Fn(&str) -> Result<String, E>,
) -> Result<(), E> {
    let rows = |entry: &Entry| match &entry.node.value {
        Value::Array(rows) if rows.iter().all(|row| matches!(row.value, Value::Table(_))) => {
            rows.clone()
        }
        _ => Vec::new(),
    };
    if table.values().any(|entry| rows(entry).is_empty()) {
        let _ = writeln!(text, "\n[{name}]");
        write_keys(text, table.iter().filter(|(_, entry)| rows(entry).is_empty()), seen_from)?;
    }
    for (key, entry) in table {
        for row in rows(entry) {
            let Value::Table(row) = &row.value else { continue };
            let _ = writeln!(text, "\n[[{name}.{key}]]");
            write_keys(text, row.iter(), seen_from)?;
        }
    }
    Ok(())
}

fn write_keys<'a, E>(
    text: &mut String,
    keys: impl Iterator<Item = (&'a String, &'a Entry)>,
    seen_from: &dyn Fn(&str) -> Result<String, E>,
) -> Result<(), E> {
    // What it is about comes first.
    let mut keys: Vec<_> = keys.collect();
    keys.sort_by_key(|(key, _)| !["kind", "kernel_path"].contains(&key.as_str()));
    for (key, entry) in keys {
        let value = match &entry.node.value {
            Value::String(path) if PATHS.contains(&key.as_str()) => {
                toml::Value::String(seen_from(path)?)
            }
            value => plain(value),
        };
        let _ = writeln!(text, "{key} = {value}");
    }
    Ok(())
}

/// The value without its places.
fn plain(value: &Value) -> toml::Value {
    match value {
        Value::String(text) | Value::Datetime(text) => toml::Value::String(text.clone()),
        // What the configuration has read fits.
        Value::Integer(number) => toml::Value::Integer(i64::try_from(*number).unwrap_or(i64::MAX)),
        Value::Float(number) => toml::Value::Float(*number),
        Value::Boolean(flag) => toml::Value::Boolean(*flag),
        Value::Array(list) => {
            toml::Value::Array(list.iter().map(|node| plain(&node.value)).collect())
        }
        Value::Table(table) => {
            let keys = table.iter().map(|(key, entry)| (key.clone(), plain(&entry.node.value)));
            toml::Value::Table(keys.collect())
        }
    }
}
