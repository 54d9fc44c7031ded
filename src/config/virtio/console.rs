//! A console.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::table::virtio_table;
use crate::{
    config::{
        node::{Node, Table, Value},
        report::Report,
        schema::{FromNode, Key, Shape, table, words},
        source::{At, Place},
    },
    virtio::console::{ConsoleConfig, LONGEST_LABEL, MOST_PORTS, PortConfig, Target},
};

words! {
    /// What a port is connected to.
    pub enum TargetWord {
        /// axvmm's own stdin and stdout.
        Stdio = "stdio",
        /// A new terminal of the host's.
        Pty = "pty",
        /// A Unix socket.
        Unix = "unix",
        /// A file.
        File = "file",
        /// Nothing.
        Null = "null",
    }
}

virtio_table! {
    /// A terminal of the guest's, `/dev/hvc0` under Linux, and ports beside it that programs in the
    /// guest and on the host can talk through.
    pub struct ConsoleKeys {
        /// What the terminal is connected to: `"stdio"`, beside the board's serial port; `"pty"`, a new
        /// terminal of the host's, whose path is told at the start; `"unix"`, a Unix socket that one
        /// at a time can connect to; `"file"`, to which output is appended; `"null"`. With `"stdio"`
        /// the kernel gets `console=hvc0`, unless its command line names a console, and input goes
        /// to it as soon as the guest has a driver for it. Default: `"stdio"`.
        target: TargetWord,
        /// The path of the socket or file; with `"pty"`, where to have a link to it.
        path: PathBuf,
        /// More ports, each `{ name, target, path }`, 15 at most.
        ports: Vec<At<PortKeys>>,
    }
}

table! {
    /// A port of a console.
    pub struct PortKeys {
        /// What the guest knows it by: `/dev/virtio-ports/NAME` under Linux.
        name: String,
        /// What it is connected to, as for the terminal, but not `"stdio"`.
        target: TargetWord,
        /// The path of the socket or file; with `"pty"`, where to have a link to it.
        path: PathBuf,
    }
}

impl ConsoleKeys {
    /// The device that is meant, which stands at `key`.
    pub(super) fn resolve(&self, key: &str, report: &mut Report) -> Option<ConsoleConfig> {
        let place = self.kind.as_ref()?.place;
        let word = self.target.as_ref().map_or(TargetWord::Stdio, |at| at.value);
        let terminal = target(key, place, word, self.path.as_ref(), report)?;
        let mut ports = vec![PortConfig { label: None, target: terminal }];
        let more = self.ports.as_ref().map_or(&[][..], |ports| &ports.value);
        if let Some(first) = more.get(MOST_PORTS - 1) {
            let message =
                format!("a console has at most {} ports beside its terminal", MOST_PORTS - 1);
            report.problem_of(&format!("{key}.ports"), first.place, message);
            return None;
        }
        let mut labels = BTreeSet::new();
        for (index, port) in more.iter().enumerate() {
            let key = format!("{key}.ports[{index}]");
            ports.push(port_of(&key, port, &mut labels, report)?);
        }
        Some(ConsoleConfig { ports })
    }

    /// Where its terminal is said to be on our own.
    pub(super) fn stdio(&self) -> Option<Place> {
        match &self.target {
            Some(target) if target.value != TargetWord::Stdio => None,
            Some(target) => Some(target.place),
            None => self.kind.as_ref().map(|kind| kind.place),
        }
    }
}

fn port_of(
    key: &str,
    port: &At<PortKeys>,
    labels: &mut BTreeSet<String>,
    report: &mut Report,
) -> Option<PortConfig> {
    let PortKeys { name, target: word, path } = &port.value;
    let (Some(name), Some(word)) = (name, word) else {
        if !report.is_bad(&format!("{key}.name")) && !report.is_bad(&format!("{key}.target")) {
            let problem = report.problem_of(key, port.place, "a port needs a name and a target");
            problem.help("write { name = \"agent\", target = \"unix\", path = \"agent.sock\" }");
        }
        return None;
    };
    let label = &name.value;
    let is_fit = (1..=LONGEST_LABEL).contains(&label.len()) && !label.contains(char::is_control);
    let problem = match label.as_str() {
        _ if !is_fit || label.contains('/') => {
            format!("a name has 1 to {LONGEST_LABEL} bytes, all printable, and no slash")
        }
        _ if !labels.insert(label.clone()) => "another port has this name".to_owned(),
        _ if word.value == TargetWord::Stdio => {
            report.problem_of(key, word.place, "only a terminal can be on stdio");
            return None;
        }
        _ => {
            let target = target(key, port.place, word.value, path.as_ref(), report)?;
            return Some(PortConfig { label: Some(label.clone()), target });
        }
    };
    report.problem_of(&format!("{key}.name"), name.place, problem);
    None
}

fn target(
    key: &str,
    place: Place,
    word: TargetWord,
    path: Option<&At<PathBuf>>,
    report: &mut Report,
) -> Option<Target> {
    let needed = |path: Option<&At<PathBuf>>, what: &str, report: &mut Report| match path {
        Some(path) => {
            let dir = path.value.parent().filter(|dir| !dir.as_os_str().is_empty());
            let dir = dir.unwrap_or(Path::new("."));
            if dir.is_dir() {
                return Some(path.value.clone());
            }
            let message = format!("there is no directory {}", dir.display());
            report.problem_of(&format!("{key}.path"), path.place, message);
            None
        }
        None => {
            if !report.is_bad(&format!("{key}.path")) {
                let message = format!("target = \"{what}\" needs a path");
                report.problem_of(key, place, message);
            }
            None
        }
    };
    match (word, path) {
        (TargetWord::Stdio | TargetWord::Null, Some(path)) => {
            let message = "a path is for a pty, a Unix socket or a file";
            let problem = report.problem_of(&format!("{key}.path"), path.place, message);
            problem.help("say which by target = \"pty\", \"unix\" or \"file\"");
            None
        }
        (TargetWord::Stdio, None) => Some(Target::Stdio),
        (TargetWord::Null, None) => Some(Target::Null),
        (TargetWord::Pty, None) => Some(Target::Pty(None)),
        (TargetWord::Pty, path) => needed(path, "pty", report).map(|path| Target::Pty(Some(path))),
        (TargetWord::Unix, path) => needed(path, "unix", report).map(Target::Unix),
        (TargetWord::File, path) => needed(path, "file", report).map(Target::File),
    }
}
