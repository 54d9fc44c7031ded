//! Persistent memory.

use std::path::PathBuf;

use super::table::virtio_table;
use crate::{
    addr::GuestPhysAddr,
    config::{
        node::{Node, Table, Value},
        report::Report,
        schema::{FromNode, Key, Shape},
        source::At,
    },
    virtio::pmem::{self, PmemConfig},
};

virtio_table! {
    /// A file that the guest has in its memory, as `/dev/pmem0` under Linux: it reads and writes the
    /// file with no request to the host. Nobody may shorten the file meanwhile.
    pub struct PmemKeys {
        /// The file. Its size is a multiple of 2 MiB, unless it is `readonly`: then the rest reads as
        /// zeros.
        path: PathBuf,
        /// The file never changes: what the guest writes lasts until it ends or resets. Default:
        /// `false`.
        readonly: bool,
    }
}

impl PmemKeys {
    /// The device that is meant, which stands at `key`.
    pub(super) fn resolve(&self, key: &str, report: &mut Report) -> Option<PmemConfig> {
        let readonly = self.readonly.as_ref().is_some_and(|at| at.value);
        let Some(path) = &self.path else {
            if !report.is_bad(&format!("{key}.path")) {
                let message = "this device has no path";
                let problem = report.problem_of(key, self.kind.as_ref()?.place, message);
                problem.help("write path = \"data.img\": the file that the guest is to have");
            }
            return None;
        };
        match pmem::open(&path.value, readonly) {
            Ok((_, size)) => {
                let place = GuestPhysAddr(0);
                Some(PmemConfig { path: path.value.clone(), readonly, size, place })
            }
            Err(error) => {
                let key = format!("{key}.path");
                let problem = report.problem_of(&key, path.place, error.to_string());
                if let Some(help) = error.help() {
                    problem.help(help);
                }
                None
            }
        }
    }
}
