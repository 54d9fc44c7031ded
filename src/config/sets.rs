//! Keys that are set from the command line, as `--set KEY=VALUE` or by options that stand for such;
//! with `+=`, the value joins a list.

use std::path::PathBuf;

use super::{
    node::{self, Entry, Node, Table, Value},
    report::Report,
    source::{Origin, Place, Source},
};

/// A key that the command line sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// `KEY=VALUE`, or with `+=`.
    pub text: String,
    /// The option that stands for it, as its user has written it, if that was not `--set`.
    pub option: Option<String>,
}

/// By a `--set` with this text.
impl<T: Into<String>> From<T> for Setting {
    fn from(text: T) -> Self {
        Self { text: text.into(), option: None }
    }
}

/// Puts the values of all `sets` into the file's tree, later ones over earlier ones.
pub(super) fn apply(tree: &mut Table, sets: &[Setting], report: &mut Report) {
    let mut number = 0;
    for Setting { text, option } in sets {
        let origin = option.clone().map_or_else(
            || {
                number += 1;
                Origin::Set(number)
            },
            Origin::Flag,
        );
        // A path on the command line means what it means to the shell that completed it.
        let source = report.add_source(Source::new(origin, text.clone(), PathBuf::new()));
        apply_one(tree, source, text, report);
    }
}

fn apply_one(tree: &mut Table, source: usize, text: &str, report: &mut Report) {
    let Some((key, value)) = text.split_once('=') else {
        let place = Place { source, start: 0, end: text.len() };
        report
            .problem(place, "expected KEY=VALUE")
            .help("such as kernel.cmdline=\"quiet\" or base.cpu_num=4");
        return;
    };
    let value_at = key.len() + 1;
    let (key, joins) = key.strip_suffix('+').map_or((key, false), |key| (key, true));
    let Some(steps) = steps(source, key, report) else { return };
    let Some(node) = value_node(source, value_at, value, report) else { return };
    let Some(((name, place), parents)) = steps.split_last() else { return };
    let Some(table) = descend(tree, parents, report) else { return };
    if joins {
        join(table, name, *place, node, report);
    } else {
        table.insert(name.clone(), Entry { key: *place, node });
    }
}

/// Puts a value behind those of a list, which is made if it is not there.
fn join(table: &mut Table, name: &str, place: Place, node: Node, report: &mut Report) {
    let empty = || Entry { key: place, node: Node { value: Value::Array(Vec::new()), place } };
    match &mut table.entry(name.to_owned()).or_insert_with(empty).node.value {
        Value::Array(list) => list.push(node),
        other => {
            let message = format!("{name:?} is {}, and no list", other.kind());
            report.problem(place, message).help("write = instead of += to replace it");
        }
    }
}

/// The parts of a dotted key and their places.
fn steps(source: usize, key: &str, report: &mut Report) -> Option<Vec<(String, Place)>> {
    let mut start = 0;
    let mut steps = Vec::new();
    for part in key.split('.') {
        let place = Place { source, start, end: start + part.len() };
        start += part.len() + 1;
        let name = part.trim();
        if name.is_empty() {
            let message = "a key is empty here";
            report.problem(place, message).help("keys look like base.cpu_num");
            return None;
        }
        steps.push((name.to_owned(), place));
    }
    Some(steps)
}

/// The value: TOML if it reads as such, else a string, unless it begins as TOML does.
fn value_node(source: usize, start: usize, text: &str, report: &mut Report) -> Option<Node> {
    let trimmed = text.trim();
    let start = start + (text.len() - text.trim_start().len());
    match node::parse_value(source, start, trimmed) {
        Ok(node) => Some(node),
        Err((place, message)) if trimmed.starts_with(['"', '\'', '[', '{']) => {
            report.problem(place, message).help("this begins as a TOML value does, but is none");
            None
        }
        Err(_) => Some(Node {
            value: Value::String(trimmed.to_owned()),
            place: Place { source, start, end: start + trimmed.len() },
        }),
    }
}

/// The table that the `parents` lead to; tables on the way that are not there are made.
fn descend<'a>(
    mut table: &'a mut Table,
    parents: &[(String, Place)],
    report: &mut Report,
) -> Option<&'a mut Table> {
    for (name, place) in parents {
        let entry = table.entry(name.clone()).or_insert_with(|| Entry {
            key: *place,
            node: Node { value: Value::Table(Table::new()), place: *place },
        });
        match &mut entry.node.value {
            Value::Table(inner) => table = inner,
            other => {
                let message = format!("{name:?} is {}, and has no keys", other.kind());
                report.problem(*place, message).help("set it as a whole");
                return None;
            }
        }
    }
    Some(table)
}
