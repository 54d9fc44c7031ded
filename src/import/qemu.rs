//! A command line of QEMU's, by `qemu-system-x86_64 -help` and the invocation page of its manual,
//! version 10.
//!
//! - `words`: options, and what stands behind them.
//! - `machine`: the machine, the kernel, what has an effect on the run.
//! - `disks`, `networks`, `devices`: what the guest finds on its buses.

mod devices;
mod disks;
mod machine;
mod networks;
mod words;

use super::draft::{Draft, Imported, Row};
use crate::config::{Error, Report};
use words::{Given, Keys};

/// What the drives, networks and channels that devices are connected to are, until a device is.
#[derive(Default)]
struct Backends {
    drives: Vec<Keys>,
    nodes: Vec<Keys>,
    nets: Vec<Keys>,
    chardevs: Vec<Keys>,
    filesystems: Vec<Keys>,
}

/// Reads a command line, of which the first word may be the program's name. Relative paths are so to
/// the working directory.
///
/// # Errors
/// What is wrong with it, with the option that it stands in. An option that has no counterpart is no
/// error but a note.
pub fn import(words: &[String]) -> Result<Imported, Error> {
    let mut report = Report::default();
    let given = words::split(words, &mut report);
    let mut draft = Draft::new(report);
    let mut backends = Backends::default();
    let mut devices = Vec::new();
    for word in &given {
        match word.name.as_str() {
            "drive" | "hda" | "hdb" | "hdc" | "hdd" | "cdrom" | words::IMAGE => {
                disks::option(word, &mut backends, &mut draft);
            }
            // As JSON, it has no counterpart.
            "blockdev" if !word.value.starts_with('{') => {
                backends.nodes.push(word.keys("driver"));
            }
            "netdev" => backends.nets.push(word.keys("type")),
            "chardev" => backends.chardevs.push(word.keys("backend")),
            "fsdev" => backends.filesystems.push(word.keys("fsdriver")),
            "nic" | "net" => networks::option(word, &mut draft),
            "device" | "virtfs" => devices.push(word),
            _ => machine::option(word, &mut draft),
        }
    }
    for device in devices {
        devices::option(device, &mut backends, &mut draft);
    }
    backends.tell_unused(&mut draft);
    if !draft.has("kernel", "kernel_path") {
        draft.report.whole("there is no -kernel").help(
            "axvmm starts a kernel itself, and has no firmware that finds one on a disk: give the \
             kernel, and its initrd, with -kernel and -initrd",
        );
    }
    draft.finish("qemu")
}

impl Backends {
    /// Tells of those that no device is connected to.
    fn tell_unused(self, draft: &mut Draft) {
        let all = [self.drives, self.nodes, self.nets, self.chardevs, self.filesystems];
        for backend in all.into_iter().flatten() {
            draft.note(backend.place, "not used: no device of the guest's is connected to it");
        }
    }
}

/// Takes the backend of this name out of a list.
fn connected(list: &mut Vec<Keys>, key: &str, name: Option<&str>) -> Option<Keys> {
    let at = list.iter().position(|keys| name.is_some() && keys.peek(key) == name)?;
    Some(list.remove(at))
}

/// Tells of what an option asks for and is not done.
fn tell_rest(keys: Keys, harmless: &[&str], draft: &mut Draft) {
    let place = keys.place;
    for (key, value) in keys.rest() {
        if !harmless.contains(&key.as_str()) {
            draft.note(place, format!("{key}={value} is not used"));
        }
    }
}

/// A device with the transport that its name in QEMU has.
fn row(kind: &str, model: &str, word: &Given<'_>) -> Row {
    let mut row = Row::new(kind, word.place);
    if model.ends_with("-device") {
        row.set("transport", word.at("mmio".to_owned()));
    }
    row
}
