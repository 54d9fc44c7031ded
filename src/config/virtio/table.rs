//! What devices of all kinds have: the words for the kinds and the transports, and the keys.

use crate::{
    config::{
        node::{Node, Value},
        report::Report,
        schema::{FromNode, Shape, words},
    },
    virtio::TransportKind,
};

words! {
    /// What kind of device.
    pub enum KindWord {
        /// A directory of the host's.
        Fs = "fs",
        /// A disk.
        Block = "block",
        /// A network card.
        Net = "net",
        /// A source of entropy.
        Rng = "rng",
        /// A memory balloon.
        Balloon = "balloon",
        /// A file in the guest's memory.
        Pmem = "pmem",
        /// A console.
        Console = "console",
        /// Sockets between guest and host.
        Vsock = "vsock",
        /// Any device, whose backend is another process.
        VhostUser = "vhost-user",
    }
}

words! {
    /// What carries a device.
    pub enum TransportWord {
        /// A window of registers and an interrupt line.
        Mmio = "mmio",
        /// A PCI function.
        Pci = "pci",
    }
}

impl From<TransportWord> for TransportKind {
    fn from(word: TransportWord) -> Self {
        match word {
            TransportWord::Mmio => Self::Mmio,
            TransportWord::Pci => Self::Pci,
        }
    }
}

/// Writes down the keys of a kind, behind those that all kinds have.
macro_rules! virtio_table {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident {
            $( $(#[doc = $key_doc:literal])* $key:ident: $type:ty, )*
        }
    ) => {
        $crate::config::schema::table! {
            $(#[doc = $doc])*
            pub struct $name {
                /// What kind of device it is.
                kind: $crate::config::virtio::table::KindWord,
                /// What messages call it. Default: its kind and a number.
                name: String,
                /// What carries it. Default: `"pci"` where interrupts can be messages, else `"mmio"`.
                transport: $crate::config::virtio::table::TransportWord,
                $( $(#[doc = $key_doc])* $key: $type, )*
            }
        }
    };
}
pub(super) use virtio_table;
