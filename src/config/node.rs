//! TOML as a tree whose every key and value knows its place.

use std::{collections::BTreeMap, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{report::Report, source::Place};

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub value: Value,
    pub place: Place,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    String(String),
    /// What does not fit is held at the nearest end, far outside what any key takes.
    Integer(i128),
    Float(f64),
    Boolean(bool),
    Datetime(String),
    Array(Vec<Node>),
    Table(Table),
}

pub(crate) type Table = BTreeMap<String, Entry>;

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub key: Place,
    pub node: Node,
}

impl Value {
    /// What kind of value it is, with its article.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Boolean(_) => "a boolean",
            Self::Datetime(_) => "a date",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Reads the whole text of a source; syntax errors are reported, and nothing is returned then.
pub(super) fn parse_document(source: usize, text: &str, report: &mut Report) -> Option<Table> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let from = Within { source, offset: 0 };
    // What follows an error on the same line is mostly its echo.
    let mut line = None;
    for error in &errors {
        let place = from.place(error.span().unwrap_or(text.len()..text.len()));
        let this = Some(report.source_of(place).line(place.start));
        if std::mem::replace(&mut line, this) != this {
            syntax_error(error, place, text, report);
        }
    }
    errors.is_empty().then(|| from.table(document.into_inner()))
}

/// Reads a single value that stands in a source at `offset`.
pub(super) fn parse_value(
    source: usize,
    offset: usize,
    text: &str,
) -> Result<Node, (Place, String)> {
    let from = Within { source, offset };
    match DeValue::parse(text) {
        Ok(value) => Ok(from.node(value)),
        Err(error) => {
            let place = from.place(error.span().unwrap_or(0..text.len()));
            Err((place, error.message().to_owned()))
        }
    }
}

/// Where the TOML that is being converted stands.
#[derive(Clone, Copy)]
struct Within {
    source: usize,
    offset: usize,
}

impl Within {
    fn place(self, span: Range<usize>) -> Place {
        let Self { source, offset } = self;
        Place { source, start: offset + span.start, end: offset + span.end }
    }

    fn table(self, table: DeTable<'_>) -> Table {
        let entries = table.into_iter().map(|(key, value)| {
            let place = self.place(key.span());
            (key.into_inner().into_owned(), Entry { key: place, node: self.node(value) })
        });
        entries.collect()
    }

    fn node(self, value: Spanned<DeValue<'_>>) -> Node {
        let place = self.place(value.span());
        let value = match value.into_inner() {
            DeValue::String(text) => Value::String(text.into_owned()),
            DeValue::Integer(number) => {
                let limit = if number.as_str().starts_with('-') { i128::MIN } else { i128::MAX };
                let number = i128::from_str_radix(number.as_str(), number.radix());
                Value::Integer(number.unwrap_or(limit))
            }
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(flag) => Value::Boolean(flag),
            DeValue::Datetime(date) => Value::Datetime(date.to_string()),
            DeValue::Array(elements) => {
                Value::Array(elements.into_iter().map(|element| self.node(element)).collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node { value, place }
    }
}

fn syntax_error(error: &toml::de::Error, place: Place, text: &str, report: &mut Report) {
    let found = text.get(place.start..place.end).unwrap_or("").trim();
    let (message, help) = match error.message() {
        "duplicate key" => (format!("duplicate key {found:?}"), Some("give it once".into())),
        message if message.starts_with("string values must be quoted") => {
            ("a string must be quoted".into(), Some(format!("write {found:?}")))
        }
        message => (message.trim_end_matches(", expected nothing").into(), None),
    };
    report.problem(place, message).help = help;
}
