//! `guest.toml`: what is written there, what is wrong with it, and the [`AxVMConfig`] it means.
//!
//! A text becomes a tree whose every key and value knows its place (`node`); keys set from the
//! command line are put into it (`sets`); a file that is in another language of AxVisor's is told
//! as such (`generation`); the tree is read by the list of keys ([`keys`], written
//! with the means of `schema`), which finds unknown keys and values of the wrong kind; and what
//! keys say together is checked while defaults are filled in (`resolve`). Problems are collected
//! on the way (`report`), so that a person hears of all of them at once.
//!
//! The smallest file that is complete:
//!
//! ```toml
//! [kernel]
//! kernel_path = "vmlinuz"
//! ```

pub mod custom;
mod duration;
mod error;
pub mod fault;
mod foreign;
mod generation;
mod json_schema;
pub mod keys;
mod names;
mod nearest;
mod node;
mod read;
mod report;
mod resolve;
pub mod schema;
mod sets;
mod several;
mod size;
mod source;
mod tables;
mod template;
pub mod test_table;
#[cfg(test)]
mod tests;
pub mod values;
pub mod vfio_user;
pub mod virtio;

use std::path::{Path, PathBuf};

pub use duration::parse as parse_duration;
pub use error::{Error, Excerpt, Problem};
pub use json_schema::json_schema;
pub use keys::AxVMCrateConfig;
pub use sets::Setting;
pub use several::load_all;
pub use size::parse as parse_size;
pub use source::{At, Place};
pub use template::template;
pub use test_table::{Answer, Pattern, TestConfig, Variant};

use crate::{
    devices::custom::Kinds,
    vm::config::{AxVMConfig, WrittenAt},
};
pub(crate) use nearest::nearest;
pub(crate) use node::{Entry, Node, Table, Value};
pub(crate) use read::{Language, read_foreign};
pub(crate) use report::Report;
use schema::FromNode;
pub(crate) use source::{Origin, Source};

/// Reads the file at `path`, with the keys that `sets` set over it.
///
/// # Errors
/// All that is wrong with the file and the sets, each problem with its place. Images that are
/// named but not there are among them.
pub fn load(path: &Path, sets: &[Setting]) -> Result<AxVMConfig, Error> {
    load_found(path, sets, &Kinds::new()).map(|found| found.config)
}

/// A guest, and what makes a run of it a test that passes.
#[derive(Clone, Debug)]
pub struct Tested {
    /// The guest, as [`load`] gives it.
    pub config: AxVMConfig,
    /// What its `[test]` says; the defaults if there is none.
    pub test: TestConfig,
    /// Where its kernel is named.
    pub kernel_at: Option<WrittenAt>,
}

/// As [`load`], with devices of these kinds, and what the file says of tests.
///
/// # Errors
/// As [`load`].
pub fn load_tested(path: &Path, sets: &[Setting], kinds: &Kinds) -> Result<Tested, Error> {
    let Found { config, test, kernel_at, .. } = load_found(path, sets, kinds)?;
    Ok(Tested { config, test, kernel_at })
}

/// As [`load`], for a text that is at hand: `file_name` is its name in messages, and `base_dir`
/// what relative paths are relative to.
pub fn parse(text: &str, file_name: &str, base_dir: &Path) -> Result<AxVMConfig, Error> {
    let text = read::without_mark(text.to_owned());
    let origin = Origin::File(file_name.to_owned());
    let source = Source::new(origin, text, base_dir.to_owned());
    resolve_text(source, &[], &Kinds::new()).map(|found| found.config)
}

impl AxVMCrateConfig {
    /// What is written in a text, with no defaults filled in, no image looked for, and nothing
    /// checked that several keys say together.
    ///
    /// # Errors
    /// What is wrong with the text; it is called `guest.toml` in messages.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        let mut report = Report::default();
        let origin = Origin::File("guest.toml".into());
        let text = read::without_mark(text.to_owned());
        let source = report.add_source(Source::new(origin, text.clone(), PathBuf::new()));
        let tree = node::parse_document(source, &text, &mut report);
        let ours = tree
            .and_then(|mut tree| generation::tell_apart(&mut tree, &mut report).then_some(tree));
        match ours.and_then(|tree| Self::from_tree(tree, &mut report)) {
            Some(config) if !report.has_problems() => Ok(config),
            _ => Err(report.into_error()),
        }
    }

    fn from_tree(tree: Table, report: &mut Report) -> Option<Self> {
        report.look_elsewhere(tables::other_table);
        let tree = Node { value: Value::Table(tree), place: Place::default() };
        Self::from_node(&tree, report)
    }
}

/// A guest that is described on the command line alone; paths are relative to the working
/// directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OneOff {
    /// The kernel's file.
    pub kernel: String,
    /// The initrd's file.
    pub initrd: Option<String>,
    /// The kernel's command line.
    pub cmdline: Option<String>,
    /// Such as `512M`.
    pub memory: Option<String>,
    /// How many vCPUs.
    pub cpus: Option<u64>,
}

/// The guest of `axvmm run -k KERNEL …`.
///
/// # Errors
/// As [`load`]; what is wrong with an option has its long name as its place.
pub fn from_args(args: &OneOff, sets: &[Setting]) -> Result<AxVMConfig, Error> {
    from_args_with(args, sets, &Kinds::new())
}

/// As [`from_args`], with devices of these kinds.
///
/// # Errors
/// As [`from_args`].
pub fn from_args_with(args: &OneOff, sets: &[Setting], kinds: &Kinds) -> Result<AxVMConfig, Error> {
    let mut report = Report::default();
    let mut tree = Table::new();
    let mut option = |flag: &str, table, key, text: Option<String>, value: fn(String) -> Value| {
        let Some(text) = text else { return };
        let end = text.len();
        let source = Source::new(Origin::Flag(flag.to_owned()), text.clone(), PathBuf::new());
        let place = Place { source: report.add_source(source), start: 0, end };
        let node = Node { value: value(text), place };
        insert(&mut tree, table, key, Entry { key: place, node });
    };
    let integer = |text: String| Value::Integer(text.parse().unwrap_or(i128::MAX));
    option("--kernel", "kernel", "kernel_path", Some(args.kernel.clone()), Value::String);
    option("--initrd", "kernel", "ramdisk_path", args.initrd.clone(), Value::String);
    option("--cmdline", "kernel", "cmdline", args.cmdline.clone(), Value::String);
    option("--memory", "base", "memory", args.memory.clone(), Value::String);
    option("--cpus", "base", "cpu_num", args.cpus.map(|cpus| cpus.to_string()), integer);
    sets::apply(&mut tree, sets, &mut report);
    finish(tree, &args.kernel, kinds, report).map(|found| found.config)
}

/// The guest that a tree describes which was made of something else than a `guest.toml`: `named_after`
/// is what that is called, and `report` has its text, and nothing wrong with it so far.
pub(crate) fn resolve_made(
    mut tree: Table,
    named_after: &str,
    sets: &[Setting],
    kinds: &Kinds,
    mut report: Report,
) -> Result<AxVMConfig, Error> {
    sets::apply(&mut tree, sets, &mut report);
    finish(tree, named_after, kinds, report).map(|found| found.config)
}

/// Puts an entry into one of the tables of the file's top level, which is made if need be.
pub(crate) fn insert(tree: &mut Table, table: &str, key: &str, entry: Entry) {
    let place = entry.key;
    let empty = || Node { value: Value::Table(Table::new()), place };
    let table = tree.entry(table.into()).or_insert_with(|| Entry { key: place, node: empty() });
    if let Value::Table(table) = &mut table.node.value {
        table.insert(key.into(), entry);
    }
}

/// What a file describes.
struct Found {
    config: AxVMConfig,
    /// The VM's id is written there, and no default.
    writes_id: bool,
    test: TestConfig,
    kernel_at: Option<WrittenAt>,
}

fn load_found(path: &Path, sets: &[Setting], kinds: &Kinds) -> Result<Found, Error> {
    resolve_text(read::read(path)?, sets, kinds)
}

fn resolve_text(source: Source, sets: &[Setting], kinds: &Kinds) -> Result<Found, Error> {
    let mut report = Report::default();
    let text = source.text.clone();
    let name = match &source.origin {
        Origin::File(name) => name.clone(),
        _ => String::new(),
    };
    let index = report.add_source(source);
    // With a syntax error, what the rest seems to say is guesswork.
    let Some(mut tree) = node::parse_document(index, &text, &mut report) else {
        return Err(report.into_error());
    };
    sets::apply(&mut tree, sets, &mut report);
    finish(tree, &name, kinds, report)
}

/// Reads the tree, whose VM is called after the file `named_after` if it has no name of its own.
fn finish(
    mut tree: Table,
    named_after: &str,
    kinds: &Kinds,
    mut report: Report,
) -> Result<Found, Error> {
    if !generation::tell_apart(&mut tree, &mut report) {
        return Err(report.into_error());
    }
    let mut config = AxVMCrateConfig::from_tree(tree, &mut report).unwrap_or_default();
    let test = test_table::resolve(config.test.take(), config.kernel.as_ref(), &mut report);
    let kernel_path = config.kernel.as_ref().and_then(|it| it.value.kernel_path.as_ref());
    let kernel_at = kernel_path.map(|path| report.written_at(path.place));
    let writes_id = config.base.as_ref().is_some_and(|base| base.value.id.is_some());
    let name = Path::new(named_after).file_stem().map(|stem| stem.to_string_lossy());
    let name = name.filter(|name| !name.contains(char::is_control));
    let name = name.as_deref().unwrap_or("guest");
    match resolve::resolve(config, name, kinds, &mut report) {
        Some(config) if !report.has_problems() => {
            let files = report.files();
            let config = AxVMConfig { files, notes: report.into_notes(), ..config };
            Ok(Found { config, writes_id, test, kernel_at })
        }
        _ => Err(report.into_error()),
    }
}
