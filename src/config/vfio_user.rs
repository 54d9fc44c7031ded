//! `[[devices.vfio_user]]`: devices that are another process.

use std::path::{Path, PathBuf, absolute};

use super::{
    names::Names,
    node::{Node, Table, Value},
    report::Report,
    schema::{FromNode, Key, Shape, table, unexpected},
    source::{At, Place},
    values::{Integer, Size},
};
use crate::{
    addr::GuestPhysAddr,
    vfio_user::{Kept, Server},
    vm::config::{VfioUserConfig, VfioUserPlace},
};

table! {
    /// A device that is another process: a vfio-user server.
    pub struct VfioUserKeys {
        /// What messages call it. Default: `vfio-user`, with a number if there are several.
        name: String,
        /// The Unix socket at which the server listens when the guest starts.
        socket: PathBuf,
        /// The server's program and its arguments, instead of `socket`: it is started with the guest,
        /// started again when it has ended, and ended with it. `{socket}` stands for the path of the
        /// socket that it is to listen at; without that, `--socket PATH` is added.
        command: Vec<At<String>>,
        /// Which files have the program started again when they are edited; true for those that the
        /// command names, false for none. Default: true.
        watch: Watch,
        /// Where region 0 stands in memory. Default: nowhere, it is a PCI device.
        addr: Integer,
        /// The size of that window. Default: 4K.
        size: Size,
        /// Its interrupt there, edge-triggered. Default: none.
        irq: Integer<1, 1023>,
        /// What drivers know it by there. Default: kernels are not told of it.
        compatible: String,
    }
}

/// Which files are watched.
#[derive(Clone, Debug, PartialEq)]
pub enum Watch {
    /// Those that the command names.
    Named,
    /// Just these.
    Only(Vec<At<PathBuf>>),
}

impl FromNode for Watch {
    const SHAPE: Shape = Shape::Either(&[Shape::Boolean, Vec::<At<PathBuf>>::SHAPE]);

    fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Boolean(true) => Some(Self::Named),
            Value::Boolean(false) => Some(Self::Only(Vec::new())),
            Value::Array(_) => Vec::from_node(node, report).map(Self::Only),
            _ => unexpected(Self::SHAPE, node, report),
        }
    }
}

/// The size of a window, if nothing is said.
const USUAL_SIZE: u64 = 0x1000;

/// The devices that are meant.
pub(super) fn resolve(rows: &[At<VfioUserKeys>], report: &mut Report) -> Vec<VfioUserConfig> {
    let written = rows.iter().map(|row| row.value.name.as_ref());
    let mut names = Names::written("devices.vfio_user", written, report);
    let mut devices = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let key = format!("devices.vfio_user[{index}]");
        let place = row.value.place(&key, report);
        let Some(server) = row.value.server(&key, row.place, report) else { continue };
        let usual = (1..).map(|n| match n {
            1 => "vfio-user".to_owned(),
            _ => format!("vfio-user{n}"),
        });
        let name = names.name(row.value.name.as_ref(), usual);
        let at = report.written_at(row.place);
        devices.push(VfioUserConfig { name, server, place, kept: Kept::default(), at });
    }
    devices
}

impl VfioUserKeys {
    fn server(&self, key: &str, place: Place, report: &mut Report) -> Option<Server> {
        match (&self.socket, &self.command) {
            (Some(socket), Some(_)) => {
                let problem = "either it listens already, or it is started: not both";
                let help = "leave out socket or command; {socket} in a command stands for the path";
                report.problem_of(&format!("{key}.socket"), socket.place, problem).help(help);
                None
            }
            (Some(socket), None) => {
                if let Some(watch) = &self.watch {
                    let problem = "only a program that is started here (command) is started again";
                    report.problem_of(&format!("{key}.watch"), watch.place, problem);
                }
                Some(Server::Socket(socket.value.clone()))
            }
            (None, Some(command)) => self.command(command, key, report),
            (None, None) => {
                if !report.is_bad(&format!("{key}.socket"))
                    && !report.is_bad(&format!("{key}.command"))
                {
                    let help = "write command = [\"python3\", \"device.py\"], or socket = \"…\" of one \
                                that listens";
                    report.problem_of(key, place, "this device has no server").help(help);
                }
                None
            }
        }
    }

    fn command(
        &self,
        command: &At<Vec<At<String>>>,
        key: &str,
        report: &mut Report,
    ) -> Option<Server> {
        let words: Vec<_> = command.value.iter().map(|word| word.value.clone()).collect();
        if words.first().is_none_or(String::is_empty) {
            let problem = "a command begins with its program";
            report.problem_of(&format!("{key}.command"), command.place, problem);
            return None;
        }
        let dir = &report.source_of(command.place).base_dir;
        let here = || Path::new("/").to_owned();
        let dir = absolute(Path::new(".").join(dir)).unwrap_or_else(|_| here());
        let watch = match self.watch.as_ref().map(|watch| &watch.value) {
            None | Some(Watch::Named) => named(&words, &dir),
            Some(Watch::Only(files)) => {
                files.iter().map(|file| absolute(&file.value).unwrap_or_default()).collect()
            }
        };
        Some(Server::Command { words, dir, watch })
    }

    fn place(&self, key: &str, report: &mut Report) -> Option<VfioUserPlace> {
        let Some(addr) = &self.addr else {
            let alone = [
                ("size", self.size.as_ref().map(|size| size.place)),
                ("irq", self.irq.as_ref().map(|irq| irq.place)),
                ("compatible", self.compatible.as_ref().map(|name| name.place)),
            ];
            if !report.is_bad(&format!("{key}.addr")) {
                for (name, place) in alone {
                    let Some(place) = place else { continue };
                    let problem =
                        "only a device at fixed addresses has this; without addr it is on PCI";
                    report
                        .problem_of(&format!("{key}.{name}"), place, problem)
                        .help("write addr = …, or leave the key out");
                }
            }
            return None;
        };
        Some(VfioUserPlace {
            addr: GuestPhysAddr(addr.value.0),
            size: self.size.as_ref().map_or(USUAL_SIZE, |size| size.value.0),
            irq: self.irq.as_ref().map(|irq| irq.value.0 as u32),
            compatible: self.compatible.as_ref().map(|name| name.value.clone()),
        })
    }
}

/// The files that a command's words name: the arguments, and a program with a path.
fn named(words: &[String], dir: &Path) -> Vec<PathBuf> {
    let is_path = |index: usize, word: &String| index > 0 || word.contains('/');
    let words = words.iter().enumerate().filter(|(index, word)| is_path(*index, word));
    words.map(|(_, word)| dir.join(word)).filter(|file| file.is_file()).collect()
}
