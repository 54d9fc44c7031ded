//! How a table of keys is written down once, and read, described and checked from there.

use super::{
    foreign,
    nearest::nearest,
    node::{Entry, Node, Table, Value},
    report::Report,
    source::At,
};

/// A key that may stand in a table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What it means, in Markdown.
    pub doc: &'static str,
    /// What values it takes.
    pub shape: Shape,
}

/// What values a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Text.
    String,
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// Bytes, as an integer or as text with a unit.
    Size,
    /// A time, as text with a unit or in seconds.
    Time,
    /// A regular expression.
    Pattern,
    /// One of these strings.
    Word(&'static [&'static str]),
    /// Any number of these.
    List(&'static Shape),
    /// A table of these keys.
    Table(&'static [Key]),
    /// A table of these keys, and of others.
    Open(&'static [Key]),
    /// A table whose `kind` says which keys it has.
    Kinds(&'static [(&'static str, &'static [Key])]),
    /// A table, or a list of its values in the order of its keys, of which the first `required`
    /// must be there.
    Row {
        /// The columns.
        keys: &'static [Key],
        /// How many of them cannot be left out.
        required: usize,
    },
    /// One of these.
    Either(&'static [Shape]),
}

impl Shape {
    /// What is expected, as messages say it.
    pub fn describe(&self) -> String {
        match self {
            Self::String => "a string".into(),
            Self::Boolean => "true or false".into(),
            Self::Integer { min: 0, max: u64::MAX } => "an integer, 0 or more".into(),
            Self::Integer { min, max } if *max > 0xffff => {
                format!("an integer from {min} to {max:#x}")
            }
            Self::Integer { min, max } => format!("an integer from {min} to {max}"),
            Self::Size => "a size such as \"512M\", or a number of bytes".into(),
            Self::Time => "a time such as \"30s\", or a number of seconds".into(),
            Self::Pattern => "a regular expression, as a string".into(),
            Self::Word(words) => one_of(words.iter().map(|word| format!("{word:?}"))),
            Self::List(element) => format!("a list of these: {}", element.describe()),
            Self::Table(_) | Self::Open(_) | Self::Kinds(_) => "a table".into(),
            Self::Row { keys, .. } => {
                let names: Vec<_> = keys.iter().map(|key| key.name).collect();
                format!("a row [{}] or a table with these keys", names.join(", "))
            }
            Self::Either(shapes) => one_of(shapes.iter().map(Self::describe)),
        }
    }
}

/// "a, b or c".
pub(super) fn one_of(choices: impl Iterator<Item = String>) -> String {
    let choices: Vec<_> = choices.collect();
    match choices.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => choices.concat(),
    }
}

/// What can be read from a node of the tree.
pub(super) trait FromNode: Sized {
    const SHAPE: Shape;

    /// The value, or `None` after reporting what is wrong with the node.
    fn from_node(node: &Node, report: &mut Report) -> Option<Self>;
}

/// Reports that a node is not what it should be; there is no value then.
pub(super) fn unexpected<T>(shape: Shape, node: &Node, report: &mut Report) -> Option<T> {
    let message = format!("expected {}, found {}", shape.describe(), node.value.kind());
    report.bad_value(node.place, message);
    None
}

/// Reads the entry `name`, if it is there.
pub(super) fn entry<T: FromNode>(table: &Table, name: &str, report: &mut Report) -> Option<At<T>> {
    let node = &table.get(name)?.node;
    report.in_key(name, |report| located(node, report))
}

/// Reads a value and keeps its place.
pub(super) fn located<T: FromNode>(node: &Node, report: &mut Report) -> Option<At<T>> {
    Some(At { value: T::from_node(node, report)?, place: node.place })
}

/// Reports each entry of a table that is none of `keys`.
pub(super) fn refuse_unknown(table: &Table, keys: &[Key], report: &mut Report) {
    for (name, entry) in table.iter().filter(|(name, _)| keys.iter().all(|key| key.name != *name)) {
        let path = report.path();
        let within = match path.as_str() {
            "" => String::new(),
            row if row.contains('[') => format!(" in {row}"),
            table => format!(" in [{table}]"),
        };
        let help = foreign::advice(&path, name)
            .or_else(|| nearest(name, keys.iter().map(|key| key.name)).map(did_you_mean))
            .or_else(|| report.elsewhere(&path, name))
            .unwrap_or_else(|| {
                let names = keys.iter().map(|key| key.name);
                format!("known here: {}", names.collect::<Vec<_>>().join(", "))
            });
        let what = match (&entry.node.value, path.as_str()) {
            (Value::Table(_), "") => "table",
            _ => "key",
        };
        report.problem(entry.key, format!("unknown {what} {name:?}{within}")).help(help);
    }
}

pub(super) fn did_you_mean(name: &str) -> String {
    format!("did you mean {name:?}?")
}

/// The table that a row stands for: its keys are given values in their order.
pub(super) fn row_as_table(
    node: &Node,
    keys: &'static [Key],
    required: usize,
    report: &mut Report,
) -> Option<Table> {
    let table = match &node.value {
        Value::Table(table) => table.clone(),
        Value::Array(elements) if elements.len() > keys.len() => {
            let message = format!("{} elements in a row of at most {}", elements.len(), keys.len());
            report.bad_value(elements[keys.len()].place, message).help(row_form(keys));
            return None;
        }
        Value::Array(elements) => {
            let pairs = keys.iter().zip(elements);
            let entry = |node: &Node| Entry { key: node.place, node: node.clone() };
            pairs.map(|(key, node)| (key.name.to_owned(), entry(node))).collect()
        }
        _ => return unexpected(Shape::Row { keys, required }, node, report),
    };
    let missing = keys[..required].iter().filter(|key| !table.contains_key(key.name));
    let missing: Vec<_> = missing.map(|key| key.name).collect();
    // A key that is not known is more likely a slip than one too many.
    let is_known = |name: &String| keys.iter().any(|key| key.name == name);
    if missing.is_empty() || !table.keys().all(is_known) {
        return Some(table);
    }
    let message = format!("this row has no {}", missing.join(", "));
    report.bad_value(node.place, message).help(row_form(keys));
    None
}

/// What a row looks like.
fn row_form(keys: &[Key]) -> String {
    let names: Vec<_> = keys.iter().map(|key| key.name).collect();
    format!("a row is [{}]", names.join(", "))
}

/// Writes down a table: a struct whose every field is a key that may be absent. The comments are
/// the keys' documentation.
macro_rules! table {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident {
            $( $(#[doc = $key_doc:literal])* $key:ident: $type:ty, )*
        }
    ) => {
        $crate::config::schema::keys! {
            $(#[doc = $doc])*
            pub struct $name { $( $(#[doc = $key_doc])* $key: $type, )* }
        }

        impl FromNode for $name {
            const SHAPE: Shape = Shape::Table(Self::KEYS);

            fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
                match &node.value {
                    Value::Table(table) => Some(Self::from_table(table, report)),
                    _ => $crate::config::schema::unexpected(Self::SHAPE, node, report),
                }
            }
        }
    };
}

/// Writes down a row: like a table, but it may also be written as a list. The first `$required`
/// keys must be there.
macro_rules! row {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident, $required:literal required {
            $( $(#[doc = $key_doc:literal])* $key:ident: $type:ty, )*
        }
    ) => {
        $crate::config::schema::keys! {
            $(#[doc = $doc])*
            pub struct $name { $( $(#[doc = $key_doc])* $key: $type, )* }
        }

        impl FromNode for $name {
            const SHAPE: Shape = Shape::Row { keys: Self::KEYS, required: $required };

            fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
                let table =
                    $crate::config::schema::row_as_table(node, Self::KEYS, $required, report)?;
                Some(Self::from_table(&table, report))
            }
        }
    };
}

/// The struct and the list of keys that tables and rows have in common.
macro_rules! keys {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident {
            $( $(#[doc = $key_doc:literal])* $key:ident: $type:ty, )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $( $(#[doc = $key_doc])* pub $key: Option<At<$type>>, )*
        }

        impl $name {
            /// The keys, in the order that a row has them.
            pub const KEYS: &'static [Key] = &[$(
                Key {
                    name: stringify!($key),
                    doc: concat!($($key_doc, "\n",)*),
                    shape: <$type as FromNode>::SHAPE,
                },
            )*];

            fn from_table(table: &Table, report: &mut Report) -> Self {
                $crate::config::schema::refuse_unknown(table, Self::KEYS, report);
                Self {
                    $( $key: $crate::config::schema::entry(table, stringify!($key), report), )*
                }
            }
        }
    };
}

/// Writes down words: an enum whose every value has one or several spellings.
macro_rules! words {
    (
        $(#[doc = $doc:literal])*
        pub enum $name:ident {
            $( $(#[doc = $value_doc:literal])* $value:ident = $word:literal $(| $more:literal)*, )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $( $(#[doc = $value_doc])* $value, )*
        }

        impl FromNode for $name {
            const SHAPE: Shape = Shape::Word(&[$( $word $(, $more)* ),*]);

            fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
                match &node.value {
                    Value::String(text) => match text.as_str() {
                        $( $word $(| $more)* => Some(Self::$value), )*
                        _ => $crate::config::schema::unknown_word(Self::SHAPE, text, node, report),
                    },
                    _ => $crate::config::schema::unexpected(Self::SHAPE, node, report),
                }
            }
        }
    };
}

/// Reports a string that is none of the words of `shape`; there is no value then.
pub(super) fn unknown_word<T>(
    shape: Shape,
    text: &str,
    node: &Node,
    report: &mut Report,
) -> Option<T> {
    let near = match shape {
        Shape::Word(words) => nearest(text, words.iter().copied()),
        _ => None,
    };
    let message = format!("expected {}, found {text:?}", shape.describe());
    let problem = report.bad_value(node.place, message);
    if let Some(word) = near {
        problem.help(did_you_mean(word));
    }
    None
}

pub(super) use {keys, row, table, words};
