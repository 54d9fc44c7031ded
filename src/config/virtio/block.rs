//! A disk.

use std::{
    fs,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use super::{rate::RateKeys, table::virtio_table};
use crate::{
    config::{
        node::{Node, Table, Value},
        report::Report,
        schema::{FromNode, Key, Shape, unexpected, words},
        source::{At, Place},
        values::Integer,
    },
    virtio::block::{Backing, BlockConfig, ImageFormat, MOST_SERIAL},
};

words! {
    /// How a file keeps a disk.
    pub enum FormatWord {
        /// The disk's bytes, as they are.
        Raw = "raw",
        /// QEMU's copy-on-write format.
        Qcow2 = "qcow2",
    }
}

impl From<FormatWord> for ImageFormat {
    fn from(word: FormatWord) -> Self {
        match word {
            FormatWord::Raw => Self::Raw,
            FormatWord::Qcow2 => Self::Qcow2,
        }
    }
}

/// What an image may take from other files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackingKey {
    /// What it names itself, or not.
    Named(bool),
    /// This file.
    At(PathBuf),
}

impl FromNode for BackingKey {
    const SHAPE: Shape = Shape::Either(&[Shape::Boolean, Shape::String]);

    fn from_node(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Boolean(named) => Some(Self::Named(*named)),
            Value::String(_) => PathBuf::from_node(node, report).map(Self::At),
            _ => unexpected(Self::SHAPE, node, report),
        }
    }
}

virtio_table! {
    /// A disk.
    pub struct BlockKeys {
        /// The image: a file, or a block device of the host's. No other program may be using it,
        /// unless both only read.
        path: PathBuf,
        /// How the image keeps the disk: `"raw"` or `"qcow2"`. It is never guessed from what is in
        /// it. Default: `"raw"` for block devices and files named `.raw`, `.img` or `.iso`; else it
        /// must be written.
        format: FormatWord,
        /// Whether the guest can only read. Default: false.
        readonly: bool,
        /// Whether it has the guest's root file system: the kernel gets `root=/dev/vda` (or `vdb`, as
        /// the disks are in order) and `ro` or `rw`, unless its command line has a `root=`. Default:
        /// false.
        root: bool,
        /// Its serial number, at most 20 characters, by which the guest finds it as
        /// `/dev/disk/by-id/virtio-SERIAL`. Default: the device's name.
        serial: String,
        /// How many queues, each with a thread. Default: one for each vCPU, at most 8.
        queues: Integer<1, 64>,
        /// Whether to go past the host's page cache (O_DIRECT). Default: false.
        direct: bool,
        /// What a qcow2 image may take from other files: `true` for those that it names, or the path
        /// of another. Default: false, and an image that needs one is an error.
        backing: BackingKey,
        /// How the file in `backing` keeps the disk. Default: as that of `format`.
        backing_format: FormatWord,
        /// How much it may do in a time.
        rate: RateKeys,
    }
}

impl BlockKeys {
    /// The disk that is meant; `None` after a report of what is wrong.
    pub(super) fn resolve(&self, key: &str, report: &mut Report) -> Option<BlockConfig> {
        let Some(path) = &self.path else {
            let problem =
                report.problem_of(key, self.kind.as_ref()?.place, "this disk has no path");
            problem.help("write path = \"disk.img\": the image, or a block device of the host's");
            return None;
        };
        check(&format!("{key}.path"), &path.value, path.place, report)?;
        let format = self.format(key, path, self.format.as_ref(), "format", report)?;
        if let Some(serial) = self.serial.as_ref().filter(|serial| !is_serial(&serial.value)) {
            let message =
                format!("a serial number has 1 to {MOST_SERIAL} printable ASCII characters");
            report.problem_of(&format!("{key}.serial"), serial.place, message);
        }
        let is_set = |flag: &Option<At<bool>>| flag.as_ref().is_some_and(|flag| flag.value);
        Some(BlockConfig {
            readonly: is_set(&self.readonly),
            root: is_set(&self.root),
            serial: self.serial.as_ref().map(|serial| serial.value.clone()),
            queues: self.queues.as_ref().map(|queues| queues.value.0 as u16),
            direct: is_set(&self.direct),
            backing: self.backing(key, format, report)?,
            rate: RateKeys::resolve(self.rate.as_ref()),
            ..BlockConfig::new(path.value.clone(), format)
        })
    }

    fn format(
        &self,
        key: &str,
        path: &At<PathBuf>,
        written: Option<&At<FormatWord>>,
        format_key: &str,
        report: &mut Report,
    ) -> Option<ImageFormat> {
        if let Some(format) = written.map(|word| word.value.into()) {
            return Some(format);
        }
        // A word that is none has been told.
        if report.is_bad(&format!("{key}.{format_key}")) {
            return None;
        }
        let format = ImageFormat::of(&path.value);
        if format.is_none() {
            let message = format!("{} may be of any format", path.value.display());
            report.problem_of(key, path.place, message).help(format!(
                "write {format_key} = \"raw\" or {format_key} = \"qcow2\"; it is not guessed from \
                 what is in the file, as that is up to the guest"
            ));
        }
        format
    }

    fn backing(&self, key: &str, format: ImageFormat, report: &mut Report) -> Option<Backing> {
        let backing = match &self.backing {
            None | Some(At { value: BackingKey::Named(false), .. }) => return Some(Backing::None),
            Some(backing) => backing,
        };
        if format != ImageFormat::Qcow2 {
            let problem = "only a qcow2 image is backed by another file";
            report.problem_of(&format!("{key}.backing"), backing.place, problem);
            return None;
        }
        let BackingKey::At(path) = &backing.value else { return Some(Backing::AsNamed) };
        check(&format!("{key}.backing"), path, backing.place, report)?;
        let path = At { value: path.clone(), place: backing.place };
        let written = self.backing_format.as_ref();
        let format = self.format(key, &path, written, "backing_format", report)?;
        Some(Backing::At(path.value, format))
    }
}

/// What disks cannot be beside each other: the same file, unless all only read it, and root file
/// systems.
pub(super) fn check_together<'a>(
    disks: impl Iterator<Item = (usize, &'a BlockKeys)>,
    report: &mut Report,
) {
    let is_set = |flag: &Option<At<bool>>| flag.as_ref().is_some_and(|flag| flag.value);
    let mut files: Vec<(PathBuf, bool)> = Vec::new();
    let mut has_root = false;
    for (index, disk) in disks {
        if let Some(path) = &disk.path {
            let file = fs::canonicalize(&path.value).unwrap_or_else(|_| path.value.clone());
            let readonly = is_set(&disk.readonly);
            if files.iter().any(|(other, only)| *other == file && !(*only && readonly)) {
                let message = "another disk is this file, and they would destroy each other's data";
                let key = format!("devices.virtio[{index}].path");
                let problem = report.problem_of(&key, path.place, message);
                problem.help("readonly = true for both of them, or a file for each");
            }
            files.push((file, readonly));
        }
        if let Some(root) = disk.root.as_ref().filter(|root| root.value) {
            if has_root {
                let key = format!("devices.virtio[{index}].root");
                report.problem_of(&key, root.place, "another disk has the root file system");
            }
            has_root = true;
        }
    }
}

/// Only a file or a block device can be a disk. `None` after a report of what else is there.
pub(in crate::config) fn check(
    key: &str,
    path: &Path,
    place: Place,
    report: &mut Report,
) -> Option<()> {
    let problem = match fs::metadata(path).map(|metadata| metadata.file_type()) {
        Ok(kind) if kind.is_file() || kind.is_block_device() => return Some(()),
        Ok(kind) if kind.is_dir() => format!("{} is a directory, and no disk", path.display()),
        Ok(_) => format!("{} is neither a file nor a block device", path.display()),
        Err(error) => format!("{}: {error}", path.display()),
    };
    report.problem_of(key, place, problem);
    None
}

fn is_serial(text: &str) -> bool {
    let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    (1..=MOST_SERIAL).contains(&text.len()) && is_printable
}
