//! Options, and the keys and values behind them.

use std::path::PathBuf;

use crate::config::{At, Origin, Place, Report, Source};

/// How a word is called that is no option: an image, as the first hard disk.
pub const IMAGE: &str = "the image";

/// Options without a value.
const FLAGS: [&str; 27] = [
    "S",
    "s",
    "daemonize",
    "enable-kvm",
    "enable-sync-profile",
    "full-screen",
    "h",
    "help",
    "jitdump",
    "mem-prealloc",
    "no-acpi",
    "no-fd-bootchk",
    "no-hpet",
    "no-quit",
    "no-reboot",
    "no-shutdown",
    "no-user-config",
    "nodefaults",
    "nodefconfig",
    "nographic",
    "only-migratable",
    "perfmap",
    "preconfig",
    "snapshot",
    "usb",
    "version",
    "win2k-hack",
];

/// An option that is given.
pub struct Given<'a> {
    /// Without its dashes.
    pub name: String,
    /// What follows; empty if nothing does.
    pub value: &'a str,
    /// The whole of it.
    pub place: Place,
}

/// The options of a command line.
pub fn split<'a>(words: &'a [String], report: &mut Report) -> Vec<Given<'a>> {
    let mut given = Vec::new();
    // The command line as a whole, for what is wrong with that.
    report.add_source(Source::new(
        Origin::Flag("--qemu".to_owned()),
        words.join(" "),
        PathBuf::new(),
    ));
    let is_program = |word: &&String| !word.starts_with('-');
    let mut rest = words.iter().skip(words.iter().take(1).filter(is_program).count()).peekable();
    while let Some(word) = rest.next() {
        let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
        let (name, value) = match name {
            // A disk image is given without an option.
            None => (IMAGE, Some(word)),
            Some(name) if FLAGS.contains(&name) => (name, None),
            Some(name) => (name, rest.next_if(|next| takes(name) || !next.starts_with('-'))),
        };
        let value = value.map_or("", String::as_str);
        let origin = match name {
            IMAGE => value.to_owned(),
            _ if value.is_empty() => format!("-{name}"),
            _ => format!("-{name} {value}"),
        };
        let source = Source::new(Origin::Flag(origin), value.to_owned(), PathBuf::new());
        let place = Place { source: report.add_source(source), start: 0, end: value.len() };
        if takes(name) && value.is_empty() {
            report.problem(place, "there is nothing behind this option");
        }
        given.push(Given { name: name.to_owned(), value, place });
    }
    given
}

/// Whether an option takes a value, whatever that begins with.
fn takes(name: &str) -> bool {
    const VALUED: [&str; 24] = [
        "accel", "append", "bios", "cdrom", "chardev", "cpu", "device", "drive", "dtb", "fsdev",
        "hda", "hdb", "hdc", "hdd", "initrd", "kernel", "m", "machine", "M", "name", "netdev",
        "nic", "serial", "smp",
    ];
    VALUED.contains(&name)
}

impl<'a> Given<'a> {
    /// A value that stands in it.
    pub fn at<T>(&self, value: T) -> At<T> {
        At { value, place: self.place }
    }

    /// The option's value as keys and values between commas, of which two stand for one; what begins
    /// it may be a value of `first` without its key.
    pub fn keys(&self, first: &str) -> Keys {
        let mut list = Vec::new();
        for (number, part) in parts(self.value).into_iter().enumerate() {
            list.push(match part.split_once('=') {
                Some((key, value)) => (key.to_owned(), value.to_owned()),
                None if number == 0 => (first.to_owned(), part),
                // A key alone is one that is on.
                None => (part, "on".to_owned()),
            });
        }
        Keys { list, place: self.place }
    }
}

/// What stands between single commas.
fn parts(text: &str) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ',' if chars.next_if_eq(&',').is_some() => part.push(','),
            ',' => parts.push(std::mem::take(&mut part)),
            c => part.push(c),
        }
    }
    parts.push(part);
    parts.retain(|part| !part.is_empty());
    parts
}

/// Keys and values of an option, to be taken one by one.
pub struct Keys {
    list: Vec<(String, String)>,
    pub place: Place,
}

impl Keys {
    /// The value of a key; of a key that is given again, the last.
    pub fn take(&mut self, key: &str) -> Option<At<String>> {
        let value = self.take_all(key).pop()?;
        Some(At { value, place: self.place })
    }

    /// All values of a key.
    pub fn take_all(&mut self, key: &str) -> Vec<String> {
        let (taken, rest) = self.list.drain(..).partition(|(name, _)| name == key);
        self.list = rest;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// Whether a switch is on.
    pub fn is_on(&mut self, keys: &[&str]) -> bool {
        let values: Vec<_> = keys.iter().filter_map(|key| self.take(key)).collect();
        values.iter().any(|at| matches!(at.value.as_str(), "on" | "yes" | "true" | "y"))
    }

    /// A value that stays.
    pub fn peek(&self, key: &str) -> Option<&str> {
        self.list.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// A number; `None` after a report that it is none.
    pub fn number(&mut self, key: &str, report: &mut Report) -> Option<At<u64>> {
        let At { value, place } = self.take(key)?;
        let number = number(&value);
        if number.is_none() {
            report.problem(place, format!("{key}: {value:?} is no number"));
        }
        number.map(|value| At { value, place })
    }

    /// Sets a key.
    pub fn set(&mut self, key: &str, value: String) {
        self.list.push((key.to_owned(), value));
    }

    /// What has not been taken.
    pub fn rest(self) -> Vec<(String, String)> {
        self.list
    }
}

/// A number, decimal or hexadecimal.
pub fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
