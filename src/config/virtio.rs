//! `[[devices.virtio]]`: which keys a device of each kind has, and what they mean. One file a kind.

mod balloon;
pub(super) mod block;
mod console;
mod fs;
mod net;
mod pmem;
mod rate;
mod rng;
mod table;
mod vhost_user;
mod vsock;

use super::{
    names::Names,
    node::{Node, Value},
    report::Report,
    schema::{FromNode, Shape, one_of, unexpected},
    source::{At, Place},
};
use crate::{virtio::DeviceConfig, vm::config::VirtioConfig};

pub use table::{KindWord, TransportWord};

/// A device, by the keys of its kind.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each is the kind of that name")]
pub enum VirtioRow {
    Fs(fs::FsKeys),
    Block(Box<block::BlockKeys>),
    Net(Box<net::NetKeys>),
    Rng(rng::RngKeys),
    Vsock(vsock::VsockKeys),
    Balloon(balloon::BalloonKeys),
    Pmem(pmem::PmemKeys),
    Console(console::ConsoleKeys),
    VhostUser(vhost_user::VhostUserKeys),
}

impl FromNode for VirtioRow {
    const SHAPE: Shape = Shape::Kinds(&[
        ("fs", fs::FsKeys::KEYS),
        ("block", block::BlockKeys::KEYS),
        ("net", net::NetKeys::KEYS),
        ("rng", rng::RngKeys::KEYS),
        ("vsock", vsock::VsockKeys::KEYS),
        ("balloon", balloon::BalloonKeys::KEYS),
        ("pmem", pmem::PmemKeys::KEYS),
        ("console", console::ConsoleKeys::KEYS),
        ("vhost-user", vhost_user::VhostUserKeys::KEYS),
    ]);

    fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
        let Value::Table(table) = &node.value else {
            return unexpected(Self::SHAPE, node, report);
        };
        let Some(kind) = table.get("kind") else {
            let kinds = match KindWord::SHAPE {
                Shape::Word(words) => one_of(words.iter().map(|word| format!("{word:?}"))),
                other => other.describe(),
            };
            let message = "this device has no kind";
            report.bad_value(node.place, message).help(format!("write kind = {kinds}"));
            return None;
        };
        let kind = report.in_key("kind", |report| KindWord::from_node(&kind.node, report))?;
        Some(match kind {
            KindWord::Fs => Self::Fs(fs::FsKeys::from_node(node, report)?),
            KindWord::Block => Self::Block(block::BlockKeys::from_node(node, report)?.into()),
            KindWord::Net => Self::Net(net::NetKeys::from_node(node, report)?.into()),
            KindWord::Rng => Self::Rng(rng::RngKeys::from_node(node, report)?),
            KindWord::Vsock => Self::Vsock(vsock::VsockKeys::from_node(node, report)?),
            KindWord::Balloon => Self::Balloon(balloon::BalloonKeys::from_node(node, report)?),
            KindWord::Pmem => Self::Pmem(pmem::PmemKeys::from_node(node, report)?),
            KindWord::Console => Self::Console(console::ConsoleKeys::from_node(node, report)?),
            KindWord::VhostUser => {
                Self::VhostUser(vhost_user::VhostUserKeys::from_node(node, report)?)
            }
        })
    }
}

impl VirtioRow {
    fn name(&self) -> Option<&At<String>> {
        match self {
            Self::Fs(keys) => keys.name.as_ref(),
            Self::Block(keys) => keys.name.as_ref(),
            Self::Net(keys) => keys.name.as_ref(),
            Self::Rng(keys) => keys.name.as_ref(),
            Self::Vsock(keys) => keys.name.as_ref(),
            Self::Balloon(keys) => keys.name.as_ref(),
            Self::Pmem(keys) => keys.name.as_ref(),
            Self::Console(keys) => keys.name.as_ref(),
            Self::VhostUser(keys) => keys.name.as_ref(),
        }
    }

    fn transport(&self) -> Option<&At<TransportWord>> {
        match self {
            Self::Fs(keys) => keys.transport.as_ref(),
            Self::Block(keys) => keys.transport.as_ref(),
            Self::Net(keys) => keys.transport.as_ref(),
            Self::Rng(keys) => keys.transport.as_ref(),
            Self::Vsock(keys) => keys.transport.as_ref(),
            Self::Balloon(keys) => keys.transport.as_ref(),
            Self::Pmem(keys) => keys.transport.as_ref(),
            Self::Console(keys) => keys.transport.as_ref(),
            Self::VhostUser(keys) => keys.transport.as_ref(),
        }
    }

    /// Where it says that it is a terminal on our own.
    fn stdio(&self) -> Option<Place> {
        match self {
            Self::Console(keys) => keys.stdio(),
            _ => None,
        }
    }

    /// The device that is meant; `None` after a report of what is wrong. `key` is where it stands.
    fn device(&self, key: &str, report: &mut Report) -> Option<DeviceConfig> {
        Some(match self {
            Self::Fs(keys) => keys.resolve(key, report)?,
            Self::Block(keys) => DeviceConfig::Block(keys.resolve(key, report)?),
            Self::Net(keys) => DeviceConfig::Net(keys.resolve(key, report)?),
            Self::Rng(keys) => DeviceConfig::Rng(keys.resolve()),
            Self::Vsock(keys) => DeviceConfig::Vsock(keys.resolve(key, report)?),
            Self::Balloon(keys) => DeviceConfig::Balloon(keys.resolve()),
            Self::Pmem(keys) => DeviceConfig::Pmem(keys.resolve(key, report)?),
            Self::Console(keys) => DeviceConfig::Console(keys.resolve(key, report)?),
            Self::VhostUser(keys) => DeviceConfig::VhostUser(keys.resolve(key, report)?),
        })
    }
}

/// The devices that are meant. Those without a name get their kind's with the next free number.
pub(super) fn resolve(rows: &[At<VirtioRow>], report: &mut Report) -> Vec<VirtioConfig> {
    let written = rows.iter().map(|row| row.value.name());
    let mut names = Names::written("devices.virtio", written, report);
    let disks = rows.iter().enumerate().filter_map(|(index, row)| match &row.value {
        VirtioRow::Block(keys) => Some((index, &**keys)),
        _ => None,
    });
    block::check_together(disks, report);
    let mut devices = Vec::new();
    let mut has_stdio = false;
    for (index, row) in rows.iter().enumerate() {
        let key = format!("devices.virtio[{index}]");
        if let Some(place) = row.value.stdio() {
            if std::mem::replace(&mut has_stdio, true) {
                let message = "another console is on stdio already";
                let help = "target = \"pty\" gives it a terminal of its own";
                report.problem_of(&key, place, message).help(help);
            }
        }
        let Some(device) = row.value.device(&key, report) else { continue };
        let usual = (0..).map(|n| format!("{}{n}", device.usual_name()));
        let name = names.name(row.value.name(), usual);
        let transport = row.value.transport().map(|word| word.value.into());
        let at = report.written_at(row.place);
        devices.push(VirtioConfig { name, device, transport, place: None, at });
    }
    devices
}
