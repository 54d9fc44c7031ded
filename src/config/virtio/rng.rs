//! A source of entropy.

use super::table::virtio_table;
use crate::{
    config::{
        node::{Node, Table, Value},
        report::Report,
        schema::{FromNode, Key, Shape},
        source::At,
    },
    virtio::rng::RngConfig,
};

virtio_table! {
    /// A source of entropy: the host's random bytes.
    pub struct RngKeys {
    }
}

impl RngKeys {
    pub fn resolve(&self) -> RngConfig {
        RngConfig {}
    }
}
