//! Sockets.

use std::{
    fs,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use super::table::virtio_table;
use crate::{
    config::{
        node::{Node, Table, Value},
        report::Report,
        schema::{FromNode, Key, Shape},
        source::At,
        values::Integer,
    },
    virtio::vsock::{LONGEST_PATH, VsockConfig},
};

virtio_table! {
    /// Stream connections between programs in the guest and on the host, without a network, by
    /// Firecracker's protocol.
    pub struct VsockKeys {
        /// The Unix socket that the host's programs connect to, to write `CONNECT <port>`; the guest's
        /// connections to a port P of context id 2 come to whoever listens at this path with `_P`
        /// behind it. It is made at the start and goes at the end.
        path: PathBuf,
        /// The guest's context id. Default: 3.
        cid: Integer<3, 0xffff_fffe>,
    }
}

impl VsockKeys {
    /// The device that is meant, which stands at `key`.
    pub(super) fn resolve(&self, key: &str, report: &mut Report) -> Option<VsockConfig> {
        let cid = self.cid.as_ref().map(|cid| cid.value.0 as u32);
        let Some(path) = &self.path else {
            let place = self.kind.as_ref()?.place;
            let help = "write path = \"guest.sock\": the Unix socket for the host's programs";
            report.problem_of(key, place, "this device has no path").help(help);
            return None;
        };
        if let Some((problem, help)) = problem_with(&path.value) {
            report.problem_of(&format!("{key}.path"), path.place, problem).help(help);
            return None;
        }
        Some(VsockConfig { cid: cid.unwrap_or(VsockConfig::DEFAULT_CID), path: path.value.clone() })
    }
}

/// Why no socket can come to be there, as far as that is known before, and what to do.
fn problem_with(path: &Path) -> Option<(String, &'static str)> {
    let len = path.as_os_str().len();
    if len > LONGEST_PATH {
        let problem = format!(
            "a Unix socket's path here has at most {LONGEST_PATH} bytes, and this has {len}"
        );
        return Some((problem, "choose a shorter path, e.g. in /tmp or in $XDG_RUNTIME_DIR"));
    }
    if fs::symlink_metadata(path).is_ok_and(|there| !there.file_type().is_socket()) {
        let problem = format!("{} is there and is no socket", path.display());
        return Some((problem, "remove it, or choose another path"));
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    if !dir.is_dir() {
        let problem = format!("there is no directory {}", dir.display());
        return Some((problem, "make it, or choose another path"));
    }
    None
}
