//! A directory of the host's.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{table::virtio_table, vhost_user};
use crate::{
    config::{
        node::{Node, Table, Value},
        report::Report,
        schema::{FromNode, Key, Shape},
        source::{At, Place},
    },
    virtio::{
        DeviceConfig, DeviceType,
        fs::{FsConfig, TAG_MAX},
        vhost_user::{Kept, VhostUserConfig},
    },
};

/// Linux asks for no more at once than a queue has room for: 1 MiB, and what comes with it.
const DAEMON_QUEUE_SIZE: u16 = 1024;

virtio_table! {
    /// A directory of the host's, which the guest mounts with `mount -t virtiofs TAG DIR`.
    pub struct FsKeys {
        /// The directory.
        path: PathBuf,
        /// Instead of `path`: the Unix socket of a virtiofsd, which serves its directory in the guest's
        /// memory. It listens there when the guest starts, and each time it reboots.
        socket: PathBuf,
        /// By which name the guest mounts it: 1 to 36 bytes. Default: the directory's own, or the
        /// virtiofsd's.
        tag: String,
        /// Whether the guest can only read. Default: false.
        readonly: bool,
        /// Whether what the guest changes is kept aside, and gone at the end. Default: false.
        discard: bool,
    }
}

impl FsKeys {
    /// The share that is meant; `None` after a report of what is wrong.
    pub(super) fn resolve(&self, key: &str, report: &mut Report) -> Option<DeviceConfig> {
        match &self.socket {
            Some(socket) => self.of_daemon(socket, key, report).map(DeviceConfig::VhostUser),
            None => self.of_directory(key, report).map(DeviceConfig::Fs),
        }
    }

    /// One that this process serves.
    fn of_directory(&self, key: &str, report: &mut Report) -> Option<FsConfig> {
        let Some(path) = &self.path else {
            let place = self.kind.as_ref()?.place;
            let problem = report.problem_of(key, place, "this share has no path");
            problem.help("write path = \"DIR\": the directory to share");
            return None;
        };
        let found = &path.value;
        if let Some(problem) = problem_with(found) {
            report.problem_of(&format!("{key}.path"), path.place, problem);
        }
        let tag = match &self.tag {
            Some(tag) => tag.value.clone(),
            None => usual_tag(found),
        };
        check_tag(&tag, self.tag.as_ref().map_or(path.place, |tag| tag.place), key, report);
        let is_on = |key: &Option<At<bool>>| key.as_ref().is_some_and(|key| key.value);
        let (readonly, discard) = (is_on(&self.readonly), is_on(&self.discard));
        Some(FsConfig { path: found.clone(), tag, readonly, discard })
    }

    /// One that a virtiofsd serves: what it shares, and how, is its own affair.
    fn of_daemon(
        &self,
        socket: &At<PathBuf>,
        key: &str,
        report: &mut Report,
    ) -> Option<VhostUserConfig> {
        let others = [
            ("path", self.path.as_ref().map(|at| at.place)),
            ("readonly", self.readonly.as_ref().map(|at| at.place)),
            ("discard", self.discard.as_ref().map(|at| at.place)),
        ];
        for (name, place) in others {
            let Some(place) = place else { continue };
            let message = format!("with a socket, {name} is for the virtiofsd to know");
            let help = "remove it, and say it on the command line of the virtiofsd";
            report.problem_of(&format!("{key}.{name}"), place, message).help(help);
        }
        vhost_user::check_socket(socket, key, report)?;
        if let Some(tag) = &self.tag {
            check_tag(&tag.value, tag.place, key, report);
        }
        Some(VhostUserConfig {
            socket: socket.value.clone(),
            device: DeviceType::FILE_SYSTEM,
            queues: None,
            queue_size: DAEMON_QUEUE_SIZE,
            tag: self.tag.as_ref().map(|tag| tag.value.clone()),
            config_size: None,
            kept: Kept::default(),
        })
    }
}

fn check_tag(tag: &str, place: Place, key: &str, report: &mut Report) {
    if tag.is_empty() || tag.len() > TAG_MAX || tag.contains(char::is_control) {
        let message = format!("{tag:?} is no tag: it has 1 to {TAG_MAX} bytes, all printable");
        let problem = report.problem_of(&format!("{key}.tag"), place, message);
        problem.help("write tag = \"NAME\", by which the guest will mount it");
    }
}

/// Why it cannot be shared.
fn problem_with(path: &Path) -> Option<String> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => None,
        Ok(_) => Some(format!("{} is no directory", path.display())),
        Err(error) => Some(format!("{}: {error}", path.display())),
    }
}

/// The directory's own name.
fn usual_tag(path: &Path) -> String {
    let whole = path.canonicalize();
    let name = whole.as_deref().unwrap_or(path).file_name();
    name.map_or_else(|| "root".to_owned(), |name| name.to_string_lossy().into_owned())
}
