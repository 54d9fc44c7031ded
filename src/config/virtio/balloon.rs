//! A memory balloon.

use super::table::virtio_table;
use crate::{
    config::{
        node::{Node, Table, Value},
        report::Report,
        schema::{FromNode, Key, Shape},
        source::At,
        values::{Integer, Size},
    },
    virtio::balloon::BalloonConfig,
};

virtio_table! {
    /// Memory that the guest lends to the host. What is in the balloon, and what the guest reports
    /// as free, the host can use for something else until the guest wants it back.
    pub struct BalloonKeys {
        /// How much the guest is asked to put into the balloon, such as `"128M"`. Default: nothing.
        size: BalloonSize,
        /// Whether the guest may take memory back before it runs out of it. Default: `true`.
        deflate_on_oom: bool,
        /// Whether the guest is to report memory that it does not use. Default: `true`.
        free_page_reporting: bool,
        /// How often, in seconds, the guest is asked how much memory it uses, which is told on
        /// stderr. Default: never.
        statistics_interval: Integer<1, 86400>,
    }
}

/// An amount of memory, which may be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalloonSize(u64);

impl FromNode for BalloonSize {
    const SHAPE: Shape = Shape::Size;

    fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Integer(0) => Some(Self(0)),
            _ => Size::from_node(node, report).map(|Size(bytes)| Self(bytes)),
        }
    }
}

impl BalloonKeys {
    /// The device that is meant.
    pub(super) fn resolve(&self) -> BalloonConfig {
        let usual = BalloonConfig::default();
        let flag = |key: &Option<At<bool>>, usual| key.as_ref().map_or(usual, |at| at.value);
        BalloonConfig {
            size: self.size.as_ref().map_or(usual.size, |at| at.value.0),
            deflate_on_oom: flag(&self.deflate_on_oom, usual.deflate_on_oom),
            free_page_reporting: flag(&self.free_page_reporting, usual.free_page_reporting),
            statistics: self.statistics_interval.as_ref().map_or(0, |at| at.value.0 as u32),
        }
    }
}
