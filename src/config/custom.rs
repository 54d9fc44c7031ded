//! `[[devices.custom]]`: devices of the program's own kinds, each with keys of its own.

use std::iter;

use super::{
    names::Names,
    nearest::nearest,
    node::{Entry, Node, Table, Value},
    report::Report,
    schema::{FromNode, Key, Shape, did_you_mean, one_of, table, unexpected},
    source::{At, Place},
    values::Integer,
};
use crate::{
    addr::GuestPhysAddr,
    devices::custom::{KeyProblem, Keys, Kinds, Recipe},
    vm::config::CustomConfig,
};

table! {
    /// A device of a kind of the program's own; it has keys of its kind's beside these.
    pub struct CustomKeys {
        /// Its kind: one that this program has (`axvmm device list`).
        kind: String,
        /// What messages call it. Default: its kind, with a number if there are several.
        name: String,
        /// Where its window begins. Default: where the board has room.
        at: Integer,
        /// Its interrupt, if its kind has one. Default: one that is free.
        irq: Integer<1, 1023>,
    }
}

/// A device of a kind of the program's own.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomRow {
    /// The keys that all have.
    pub keys: CustomKeys,
    own: Own,
}

/// Keys of the kind's own, as they are written.
#[derive(Clone, Debug)]
struct Own(Table);

/// Places do not matter.
impl PartialEq for Own {
    fn eq(&self, other: &Self) -> bool {
        plain_table(&self.0) == plain_table(&other.0)
    }
}

impl FromNode for CustomRow {
    const SHAPE: Shape = Shape::Open(CustomKeys::KEYS);

    fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
        let Value::Table(table) = &node.value else {
            return unexpected(Self::SHAPE, node, report);
        };
        let is_for_all = |name: &String| CustomKeys::KEYS.iter().any(|key| key.name == name);
        let (for_all, own) = table.clone().into_iter().partition(|(name, _)| is_for_all(name));
        let for_all = Node { value: Value::Table(for_all), place: node.place };
        Some(Self { keys: CustomKeys::from_node(&for_all, report)?, own: Own(own) })
    }
}

/// The devices that are meant. Those without a name are called after their kind.
pub(super) fn resolve(
    rows: &[At<CustomRow>],
    kinds: &Kinds,
    report: &mut Report,
) -> Vec<CustomConfig> {
    let written = rows.iter().map(|row| row.value.keys.name.as_ref());
    let mut names = Names::written("devices.custom", written, report);
    let mut devices = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let key = format!("devices.custom[{index}]");
        let Some(recipe) = recipe(&key, row, kinds, report) else { continue };
        let kind = recipe.about.kind;
        if let Some(irq) = row.value.keys.irq.as_ref().filter(|_| !recipe.about.has_interrupt) {
            let problem = format!("a {kind} has no interrupt");
            report.problem_of(&format!("{key}.irq"), irq.place, problem).help("leave the key out");
        }
        let numbered = (2..).map(|n| format!("{kind}{n}"));
        let usual = iter::once(kind.to_owned()).chain(numbered);
        let name = names.name(row.value.keys.name.as_ref(), usual);
        devices.push(CustomConfig {
            name,
            recipe,
            place: row.value.keys.at.as_ref().map(|at| GuestPhysAddr(at.value.0)),
            irq: row.value.keys.irq.as_ref().map(|irq| irq.value.0 as u32),
            at: report.written_at(row.place),
        });
    }
    devices
}

fn recipe(key: &str, row: &At<CustomRow>, kinds: &Kinds, report: &mut Report) -> Option<Recipe> {
    let names = || kinds.iter().map(|about| about.kind);
    let known = || match names().next() {
        None => "this program has no kinds of its own: a program that links axvmm brings them \
            (axvmm device new NAME writes one)"
            .to_owned(),
        Some(_) => format!("write kind = {}", one_of(names().map(|name| format!("{name:?}")))),
    };
    let Some(kind) = &row.value.keys.kind else {
        if !report.is_bad(&format!("{key}.kind")) {
            report.problem_of(key, row.place, "this device has no kind").help(known());
        }
        return None;
    };
    let keys = plain_table(&row.value.own.0);
    match kinds.recipe(&kind.value, &keys) {
        Some(Ok(recipe)) => Some(recipe),
        Some(Err(problem)) => {
            tell(key, row, problem, report);
            None
        }
        None => {
            let near = nearest(&kind.value, names());
            let help = near.map_or_else(known, did_you_mean);
            let problem = format!("there is no kind of device {:?}", kind.value);
            report.problem_of(&format!("{key}.kind"), kind.place, problem).help(help);
            None
        }
    }
}

/// Tells what a kind says of its keys, at the place of the one that it means.
fn tell(key: &str, row: &At<CustomRow>, problem: KeyProblem, report: &mut Report) {
    let (mut key, mut place) = (key.to_owned(), row.place);
    let mut here = Some(Step::In(&row.value.own.0));
    for step in &problem.path {
        match here.and_then(|at| at.to(step)) {
            Some((node, written)) => {
                place = written.unwrap_or(node.place);
                key = match step.parse::<usize>() {
                    Ok(index) => format!("{key}[{index}]"),
                    Err(_) => format!("{key}.{step}"),
                };
                // A key that is not known is the trouble, not its value.
                if problem.problem != "unknown key" {
                    place = node.place;
                }
                here = Step::into(node);
            }
            None => break,
        }
    }
    report.problem_of(&key, place, problem.problem);
}

/// What has something inside of it.
enum Step<'a> {
    In(&'a Table),
    At(&'a [Node]),
}

impl<'a> Step<'a> {
    fn into(node: &'a Node) -> Option<Self> {
        match &node.value {
            Value::Table(table) => Some(Self::In(table)),
            Value::Array(list) => Some(Self::At(list)),
            _ => None,
        }
    }

    /// The value there, and where its key stands.
    fn to(&self, step: &str) -> Option<(&'a Node, Option<Place>)> {
        match self {
            Self::In(table) => {
                let Entry { key, node } = table.get(step)?;
                Some((node, Some(*key)))
            }
            Self::At(list) => Some((list.get(step.parse::<usize>().ok()?)?, None)),
        }
    }
}

/// The table, for those that know no places.
fn plain_table(table: &Table) -> Keys {
    table.iter().map(|(name, entry)| (name.clone(), plain(&entry.node))).collect()
}

fn plain(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::String(text) | Value::Datetime(text) => text.as_str().into(),
        Value::Integer(number) => match (i64::try_from(*number), u64::try_from(*number)) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) => number.into(),
            // No type of a device's has it.
            _ => (*number as f64).into(),
        },
        Value::Float(number) => (*number).into(),
        Value::Boolean(flag) => (*flag).into(),
        Value::Array(list) => list.iter().map(plain).collect(),
        Value::Table(table) => plain_table(table).into(),
    }
}
