//! How much a device may do in a time.

use std::num::NonZeroU64;

use crate::{
    config::{
        node::{Node, Table, Value},
        report::Report,
        schema::{FromNode, Key, Shape, table, unexpected},
        size,
        source::At,
        values::Integer,
    },
    virtio::rate_limit::Rate,
};

/// So many bytes: an integer, or a text with a unit; at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub NonZeroU64);

impl FromNode for Bytes {
    const SHAPE: Shape = Shape::Size;

    fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
        let bytes = match &node.value {
            Value::String(text) => size::parse(text),
            Value::Integer(bytes) => size::check(u64::try_from(*bytes).ok()),
            _ => return unexpected(Self::SHAPE, node, report),
        };
        let bytes = bytes.and_then(|bytes| {
            NonZeroU64::new(bytes).ok_or_else(|| "nothing at all could ever be done".to_owned())
        });
        match bytes {
            Ok(bytes) => Some(Self(bytes)),
            Err(problem) => {
                report.bad_value(node.place, problem);
                None
            }
        }
    }
}

table! {
    /// How much a device may do in a time, at most. What it has not used for a tenth of a second it
    /// may do at once.
    pub struct RateKeys {
        /// Bytes each second, such as `"100M"`. Default: no limit.
        bandwidth: Bytes,
        /// Operations each second. Default: no limit.
        operations: Integer<1, 1_000_000_000>,
    }
}

impl RateKeys {
    /// The limit that is meant.
    pub(super) fn resolve(keys: Option<&At<Self>>) -> Rate {
        let Some(keys) = keys else { return Rate::default() };
        let operations = keys.value.operations.as_ref();
        Rate {
            bandwidth: keys.value.bandwidth.as_ref().map(|bytes| bytes.value.0),
            operations: operations.and_then(|operations| NonZeroU64::new(operations.value.0)),
        }
    }
}
