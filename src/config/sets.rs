//! `--set KEY=VALUE`: keys that are set from the command line.

use std::path::PathBuf;

use super::{
    node::{self, Entry, Node, Table, Value},
    report::Report,
    source::{Origin, Place, Source},
};

/// Puts the values of all `sets` into the file's tree, later ones over earlier ones.
pub(super) fn apply(tree: &mut Table, sets: &[String], report: &mut Report) {
    for (index, text) in sets.iter().enumerate() {
        let origin = Origin::Set(index + 1);
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
    let Some(steps) = steps(source, key, report) else { return };
    let Some(node) = value_node(source, key.len() + 1, value, report) else { return };
    let Some(((name, place), parents)) = steps.split_last() else { return };
    let Some(table) = descend(tree, parents, report) else { return };
    table.insert(name.clone(), Entry { key: *place, node });
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
