//! The kinds of values that keys have.

use std::{path::PathBuf, time::Duration};

use super::{
    duration,
    node::{Node, Value},
    report::Report,
    schema::{FromNode, Shape, located, unexpected},
    size,
    source::{At, Origin},
};
use crate::addrspace::PAGE_SIZE;

/// An integer from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Integer<const MIN: u64 = 0, const MAX: u64 = { u64::MAX }>(pub u64);

impl<const MIN: u64, const MAX: u64> FromNode for Integer<MIN, MAX> {
    const SHAPE: Shape = Shape::Integer { min: MIN, max: MAX };

    fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
        let Value::Integer(number) = node.value else {
            return unexpected(Self::SHAPE, node, report);
        };
        match u64::try_from(number) {
            Ok(number) if (MIN..=MAX).contains(&number) => Some(Self(number)),
            _ => {
                let found = match number {
                    i128::MIN | i128::MAX => "one beyond all bounds".into(),
                    number => number.to_string(),
                };
                let message = format!("expected {}, found {found}", Self::SHAPE.describe());
                report.bad_value(node.place, message);
                None
            }
        }
    }
}

/// An amount of guest memory in bytes: whole pages, and not none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromNode for Size {
    const SHAPE: Shape = Shape::Size;

    fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
        let bytes = match &node.value {
            Value::String(text) => size::parse(text),
            Value::Integer(bytes) if *bytes < 0 => Err("a size is not negative".into()),
            Value::Integer(bytes) => size::check(u64::try_from(*bytes).ok()),
            _ => return unexpected(Self::SHAPE, node, report),
        };
        let problem = match bytes {
            Ok(0) => "no memory at all; a guest needs some".into(),
            Ok(bytes) if bytes % PAGE_SIZE != 0 => {
                let message = format!("{bytes} bytes are no whole number of pages of 4096");
                let in_row = report.path().contains('[');
                let problem = report.bad_value(node.place, message);
                // Used to QEMU's -m, people write mere megabytes.
                match bytes {
                    ..0x10000 if !in_row => problem.help(format!("did you mean \"{bytes}M\"?")),
                    _ => problem.help("write it in units, such as \"64K\", \"512M\" or \"2G\""),
                }
                return None;
            }
            Ok(bytes) => return Some(Self(bytes)),
            Err(problem) => problem,
        };
        report.bad_value(node.place, problem);
        None
    }
}

/// A time of more than 0.
impl FromNode for Duration {
    const SHAPE: Shape = Shape::Time;

    fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
        let time = match &node.value {
            Value::String(text) => duration::parse(text),
            Value::Integer(seconds) if *seconds < 0 => Err("a time is not negative".into()),
            Value::Integer(seconds) => duration::parse(&seconds.to_string()),
            _ => return unexpected(Self::SHAPE, node, report),
        };
        time.map_err(|problem| _ = report.bad_value(node.place, problem)).ok()
    }
}

impl FromNode for String {
    const SHAPE: Shape = Shape::String;

    fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::String(text) if text.contains('\0') => {
                report.bad_value(node.place, "a NUL character cannot be told to a guest");
                None
            }
            Value::String(text) => Some(text.clone()),
            _ => {
                let message = format!("expected a string, found {}", node.value.kind());
                let is_set = matches!(report.source_of(node.place).origin, Origin::Set(_));
                let problem = report.bad_value(node.place, message);
                // The shell took the quotes that were meant for us.
                if is_set {
                    problem.help("quote it for the shell and for TOML: --set 'KEY=\"VALUE\"'");
                }
                None
            }
        }
    }
}

impl FromNode for bool {
    const SHAPE: Shape = Shape::Boolean;

    fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
        match node.value {
            Value::Boolean(flag) => Some(flag),
            _ => unexpected(Self::SHAPE, node, report),
        }
    }
}

/// The path of a file; relative ones are so to the file that the key stands in, those of the
/// command line to the working directory.
impl FromNode for PathBuf {
    const SHAPE: Shape = Shape::String;

    fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
        let text = String::from_node(node, report)?;
        if text.is_empty() {
            report.bad_value(node.place, "an empty path names no file").help("leave the key out");
            return None;
        }
        let path = report.source_of(node.place).base_dir.join(text);
        report.names_file(&path);
        Some(path)
    }
}

/// No list here means anything with more elements, and some are compared each with each.
pub(super) const LONGEST_LIST: usize = 1024;

/// All elements, or nothing if one of them is wrong.
impl<T: FromNode> FromNode for Vec<At<T>> {
    const SHAPE: Shape = Shape::List(&T::SHAPE);

    fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
        let Value::Array(elements) = &node.value else {
            return unexpected(Self::SHAPE, node, report);
        };
        if let Some(first) = elements.get(LONGEST_LIST) {
            let message =
                format!("{} elements in a list of at most {LONGEST_LIST}", elements.len());
            report.bad_value(first.place, message);
            return None;
        }
        let values: Vec<_> = elements
            .iter()
            .enumerate()
            .map(|(index, element)| report.in_element(index, |report| located(element, report)))
            .collect();
        values.into_iter().collect()
    }
}

/// One value, or a list of such.
#[derive(Clone, Debug, PartialEq)]
pub struct OneOrMore<T>(pub Vec<At<T>>);

impl<T: FromNode> FromNode for OneOrMore<T> {
    const SHAPE: Shape = Shape::Either(&[T::SHAPE, Vec::<At<T>>::SHAPE]);

    fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Array(_) => Vec::from_node(node, report).map(Self),
            _ => located(node, report).map(|one| Self(vec![one])),
        }
    }
}
