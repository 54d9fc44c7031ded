//! Devices whose backend is another process.

use std::{fs, os::unix::fs::FileTypeExt, path::PathBuf};

use super::table::virtio_table;
use crate::{
    config::{
        nearest::nearest,
        node::{Node, Table, Value},
        report::Report,
        schema::{self, FromNode, Key, Shape},
        source::At,
        values::Integer,
    },
    virtio::{
        DeviceType,
        vhost_user::{KINDS, Kept, MOST_CONFIG, TAG_LEN, VhostUserConfig, of_name},
    },
};

virtio_table! {
    /// Any device, whose backend is another process: it works in the guest's memory, which it shares
    /// (vhost-user).
    pub struct VhostUserKeys {
        /// The Unix socket that the backend listens at when the guest starts, and each time it reboots.
        socket: PathBuf,
        /// What kind of device the backend is: `"block"`, `"fs"`, `"net"`, …, or the number that virtio
        /// has for it.
        device: DeviceNumber,
        /// How many queues it is to have. Default: what a device of its kind needs at least.
        queues: Integer<1, 64>,
        /// The largest size of each queue, a power of two. Default: 256.
        queue_size: Integer<1, 0x8000>,
        /// The name of a file system, where the backend has none itself.
        tag: String,
        /// How many bytes of configuration space the backend has. Default: as many as all devices of
        /// its kind have; 0 for those that have no name here.
        config_size: Integer<0, { MOST_CONFIG as u64 }>,
    }
}

/// A kind of device by its name or number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceNumber(pub DeviceType);

impl FromNode for DeviceNumber {
    const SHAPE: Shape = Shape::Either(&[Shape::String, Integer::<1, 0xffff>::SHAPE]);

    fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
        let name = match &node.value {
            Value::String(name) => name,
            Value::Integer(_) => {
                let number = Integer::<1, 0xffff>::from_node(node, report)?.0;
                return Some(Self(DeviceType(number as u32)));
            }
            _ => return schema::unexpected(Self::SHAPE, node, report),
        };
        let kind = of_name(name);
        if kind.is_none() {
            let names = KINDS.iter().map(|kind| kind.name);
            let help = match nearest(name, names.clone()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => {
                    let names: Vec<_> = names.collect();
                    format!("known: {}; or write virtio's number for it", names.join(", "))
                }
            };
            let message = format!("there is no kind of device {name:?}");
            report.bad_value(node.place, message).help(help);
        }
        kind.map(|kind| Self(kind.number))
    }
}

/// `None` after a report that what stands there is something else. Nothing may stand there yet.
pub(super) fn check_socket(socket: &At<PathBuf>, key: &str, report: &mut Report) -> Option<()> {
    let there = fs::symlink_metadata(&socket.value);
    if there.is_ok_and(|file| !file.file_type().is_socket() && !file.file_type().is_symlink()) {
        let problem = format!("{} is no socket", socket.value.display());
        report.problem_of(&format!("{key}.socket"), socket.place, problem);
        return None;
    }
    Some(())
}

impl VhostUserKeys {
    /// The device that is meant, which stands at `key`.
    pub(super) fn resolve(&self, key: &str, report: &mut Report) -> Option<VhostUserConfig> {
        let place = self.kind.as_ref()?.place;
        if self.socket.is_none() {
            let help = "write socket = \"backend.sock\": where the backend listens";
            report.problem_of(key, place, "this device has no socket").help(help);
        }
        if self.device.is_none() && !report.is_bad(&format!("{key}.device")) {
            let help = "write device = \"block\" or the like: what the backend is";
            report.problem_of(key, place, "it is not said what kind of device this is").help(help);
        }
        let (socket, device) = (self.socket.as_ref()?, self.device.as_ref()?.value.0);
        check_socket(socket, key, report)?;
        let queue_size = match &self.queue_size {
            None => VhostUserConfig::DEFAULT_QUEUE_SIZE,
            Some(size) if !size.value.0.is_power_of_two() => {
                let problem = format!("{} is no power of two", size.value.0);
                report.problem_of(&format!("{key}.queue_size"), size.place, problem);
                return None;
            }
            Some(size) => size.value.0 as u16,
        };
        let tag = match &self.tag {
            Some(tag) => Some(self.checked_tag(device, tag, key, report)?),
            None => None,
        };
        Some(VhostUserConfig {
            socket: socket.value.clone(),
            device,
            queues: self.queues.as_ref().map(|queues| queues.value.0 as u16),
            queue_size,
            tag,
            config_size: self.config_size.as_ref().map(|size| size.value.0 as usize),
            kept: Kept::default(),
        })
    }

    fn checked_tag(
        &self,
        device: DeviceType,
        tag: &At<String>,
        key: &str,
        report: &mut Report,
    ) -> Option<String> {
        let problem = if device != DeviceType::FILE_SYSTEM {
            "only a file system (device = \"fs\") has a tag".to_owned()
        } else if tag.value.is_empty() || tag.value.len() > TAG_LEN {
            format!("a tag has 1 to {TAG_LEN} bytes, and this has {}", tag.value.len())
        } else {
            return Some(tag.value.clone());
        };
        report.problem_of(&format!("{key}.tag"), tag.place, problem);
        None
    }
}
