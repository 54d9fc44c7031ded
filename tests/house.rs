//! The house rules, checked over the text of `src/`: who may use whom, and what stands only where.

mod common;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Modules beside the hardware's own that may hold `unsafe`: small wrappers, each a file.
const UNSAFE_WRAPPERS: [&str; 9] = [
    "cli/console/terminal.rs", // the terminal's settings, from a handler of signals
    "cli/mapped_files.rs",     // a handler of SIGBUS
    "cli/signals.rs",          // what whoever started us has ignored
    "emulated/spawn.rs",       // the first that a process does
    "vfio_user/spawn.rs",      // what the kernel does to a program when we end
    "virtio/block/guest_slices.rs", // slices of guest memory, for imago
    "virtio/block/uring.rs",   // entries of io_uring
    "virtio/net/passt/spawn.rs", // a file that another program finds open
    "virtio/net/tap/ioctl.rs", // what TAP files are told
];

/// A source file under `src/`.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The top-level module that it belongs to: `kvm` for both `kvm.rs` and `kvm/vm.rs`.
    fn module(&self) -> &str {
        let first = self.path.iter().next().unwrap().to_str().unwrap();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// Its lines without comments, numbered from 1.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(i, line)| (i + 1, without_comment(line)))
    }
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with("//") {
        return "";
    }
    line.split(" // ").next().unwrap_or(line)
}

fn sources() -> Vec<Source> {
    fn collect(dir: &Path, root: &Path, found: &mut Vec<Source>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, root, found);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(root).unwrap().to_owned(), text });
            }
        }
    }
    let root = common::root().join("src");
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    assert!(found.len() > 50, "the sources are not here");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Fails with all that is wrong, one a line.
#[track_caller]
fn none(what: &str, wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.join("\n  "));
}

/// The lines of code that have `needle`, outside of the modules `home`.
fn strays(needle: &str, home: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !home.contains(&source.module())) {
        for (number, line) in source.code().filter(|(_, line)| line.contains(needle)) {
            found.push(format!("src/{}:{number}: {}", source.path.display(), line.trim()));
        }
    }
    found
}

/// The modules from the top floor to the ground, as the table in lib.rs has them.
fn floors() -> Vec<String> {
    let text = fs::read_to_string(common::root().join("src/lib.rs")).unwrap();
    let row = |line: &str| Some(line.strip_prefix("//! | [`")?.split_once('`')?.0.to_owned());
    text.lines().filter_map(row).collect()
}

/// The top-level modules that a file's code names, by `crate::a` or `crate::{a::b, c}`.
fn used(source: &Source) -> BTreeSet<String> {
    let code: String = source.code().flat_map(|(_, line)| line.chars().chain(['\n'])).collect();
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => found.extend(first_word(rest)),
            Some(group) => found.extend(top_level(group).into_iter().filter_map(first_word)),
        }
    }
    found
}

fn first_word(text: &str) -> Option<String> {
    let word: String =
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

/// What stands between the commas of a group, up to its closing brace.
fn top_level(group: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts
}

#[test]
fn the_map_of_the_crate_has_every_module() {
    let text = fs::read_to_string(common::root().join("src/lib.rs")).unwrap();
    let declared: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ").or(line.strip_prefix("mod ")))
        .map(|rest| rest.trim_end_matches(';').to_owned())
        .collect();
    assert_eq!(floors().into_iter().collect::<BTreeSet<_>>(), declared);
}

#[test]
fn no_module_uses_one_above_it() {
    let floors = floors();
    let floor = |module: &str| floors.iter().position(|other| other == module);
    let mut wrong = Vec::new();
    for source in sources() {
        // The program and the crate's root stand above all.
        let Some(own) = floor(source.module()) else { continue };
        for module in used(&source) {
            if floor(&module).is_some_and(|other| other < own) {
                wrong.push(format!("src/{} uses crate::{module}", source.path.display()));
            }
        }
    }
    none("uses of a module above", wrong);
}

#[test]
fn uses_are_found_in_every_form() {
    let text = "use crate::a::B;\nuse crate::{\n    c::{D, e::F},\n    g,\n};\n\
                // crate::h\nlet x = crate::i(); // crate::j";
    let source = Source { path: "x.rs".into(), text: text.into() };
    assert_eq!(used(&source).into_iter().collect::<Vec<_>>(), ["a", "c", "g", "i"]);
}

#[test]
fn only_kvm_names_the_kvm_crates() {
    none("KVM crates outside src/kvm", strays("kvm_ioctls", &["kvm"]));
    none("KVM crates outside src/kvm", strays("kvm_bindings", &["kvm"]));
}

#[test]
fn architectures_are_told_apart_in_four_modules_only() {
    let home = ["vcpu", "kvm", "machine", "boot"];
    none("target_arch elsewhere", strays("target_arch", &home));
}

#[test]
fn unsafe_stands_where_it_may_and_says_why_it_is_sound() {
    let is_unsafe = |line: &str| {
        line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
    };
    let mut wrong = Vec::new();
    for source in sources() {
        let path = source.path.to_str().unwrap();
        let allowed =
            ["kvm", "addrspace"].contains(&source.module()) || UNSAFE_WRAPPERS.contains(&path);
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, line) in source.code().filter(|(_, line)| is_unsafe(line)) {
            if !allowed {
                wrong.push(format!("src/{path}:{number}: no unsafe here: {}", line.trim()));
            } else if !explained(&lines[..number - 1]) {
                wrong.push(format!("src/{path}:{number}: no SAFETY above: {}", line.trim()));
            }
        }
    }
    none("unsafe", wrong);
}

/// Whether the comment that ends `above`, but for the beginning of the same statement, gives the
/// reason: `// SAFETY:` for what a block relies on, `# Safety` for what a function's caller owes.
fn explained(above: &[&str]) -> bool {
    let is_comment = |line: &&&str| line.trim_start().starts_with("//");
    let begins = |line: &&&str| {
        let line = line.trim_end();
        !is_comment(&&line) && !line.is_empty() && !line.ends_with([';', '{', '}'])
    };
    let statement = above.iter().rev().take_while(begins).count();
    let above = &above[..above.len() - statement];
    let mut comment = above.iter().rev().take_while(is_comment);
    comment.any(|line| line.contains("// SAFETY:") || line.contains("# Safety"))
}

#[test]
fn no_file_is_longer_than_a_reader_keeps_in_mind() {
    let long = |source: &Source| {
        let lines = source.text.lines().count();
        (lines > 500).then(|| format!("src/{}: {lines} lines", source.path.display()))
    };
    none("over 500 lines", sources().iter().filter_map(long).collect());
}
