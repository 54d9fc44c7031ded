//! Which tests there are: the files' guests with the values of their matrices, each looked at as
//! `axvmm check` does, so that what cannot be is told before anything starts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use regex::Regex;

use crate::{
    boot,
    cli::{Failure, host},
    config::{self, Setting, TestConfig, Tested, Variant},
    devices::custom::Kinds,
    hal::Platform,
    machine::Plan,
    vm::config::AxVMConfig,
};

/// Of a matrix; what is wrong with more is told where they run.
const MOST_LOOKED_AT: usize = 1000;
/// Failures told of many.
const SHOWN: usize = 20;
/// Characters of a directory's name.
const LONGEST: usize = 100;
/// Names shown where none is meant.
const NAMED: usize = 10;

/// A test: one guest, to be run once or several times.
#[derive(Clone, Debug)]
pub struct Test {
    /// No other test has it.
    pub name: String,
    /// The guest's configuration.
    pub file: PathBuf,
    /// What is set in it.
    pub sets: Vec<String>,
    pub config: Arc<TestConfig>,
    pub cpus: usize,
    /// In bytes.
    pub memory: u64,
    /// It has what only one guest can at a time: disks, ports, sockets. Tests of its file do not run
    /// side by side.
    pub owns: bool,
    /// The directory for its files, below that of all.
    pub dir: String,
}

/// The tests that the files make on this host.
pub fn plan(files: &[PathBuf], sets: &[String], kinds: &Kinds) -> Result<Vec<Test>, Failure> {
    let (platform, host) = match host::open() {
        Ok((_, platform)) => (platform, Ok(())),
        Err(failure) => (host::usual()?, Err(failure)),
    };
    let planner = Planner { sets: sets.iter().map(Setting::from).collect(), kinds, platform };
    let mut failures = twice(files);
    let (mut guests, mut wrong) = (Vec::new(), Vec::new());
    for file in files {
        match config::load_tested(file, &planner.sets, kinds) {
            Ok(tested) => guests.push((file, tested)),
            Err(error) => wrong.push(error),
        }
    }
    let names = names(&guests);
    let mut tests = Vec::new();
    for ((file, tested), name) in guests.into_iter().zip(names) {
        if let Some(failure) = planner.other_arch(&tested) {
            failures.push(failure);
            continue;
        }
        let config = Arc::new(tested.test.clone());
        for variant in &config.variants {
            match planner.size(file, &tested, variant) {
                Ok(Size { cpus, memory, owns }) => {
                    let set = variant.sets.iter().map(|set| set.text.clone());
                    tests.push(Test {
                        name: [&name[..], &variant.name].join(" ").trim_end().to_owned(),
                        file: file.clone(),
                        sets: sets.iter().cloned().chain(set).collect(),
                        config: config.clone(),
                        cpus,
                        memory,
                        owns,
                        dir: String::new(),
                    });
                }
                Err(Wrong::Config(error)) => wrong.push(error),
                Err(Wrong::Machine(failure)) => failures.push(failure),
            }
        }
    }
    failures.splice(0..0, config::Error::all_of(wrong).map(Failure::from));
    if let Some(failure) = all_of(failures) {
        return Err(failure);
    }
    host?;
    give_dirs(&mut tests);
    Ok(tests)
}

/// The guests of the files with all values of their matrices, wherever they can run.
pub fn guests(
    files: &[PathBuf],
    sets: &[String],
    kinds: &Kinds,
) -> Result<Vec<AxVMConfig>, Failure> {
    let sets: Vec<_> = sets.iter().map(Setting::from).collect();
    let (mut guests, mut wrong) = (Vec::new(), Vec::new());
    for file in files {
        let tested = match config::load_tested(file, &sets, kinds) {
            Ok(tested) => tested,
            Err(error) => {
                wrong.push(error);
                continue;
            }
        };
        let variants = tested.test.variants.iter().filter(|variant| !variant.sets.is_empty());
        for variant in variants.take(MOST_LOOKED_AT) {
            let sets: Vec<_> = sets.iter().chain(&variant.sets).cloned().collect();
            match config::load_tested(file, &sets, kinds) {
                Ok(tested) => guests.push(tested.config),
                Err(error) => wrong.push(error),
            }
        }
        guests.push(tested.config);
    }
    let failures = config::Error::all_of(wrong).map(Failure::from).into_iter().collect();
    all_of(failures).map_or(Ok(guests), Err)
}

/// As one, each told once; of many, the first.
fn all_of(failures: Vec<Failure>) -> Option<Failure> {
    let mut told = BTreeSet::new();
    let mut failures: Vec<_> =
        failures.into_iter().filter(|it| told.insert(it.message.clone())).collect();
    let more = failures.len().saturating_sub(SHOWN);
    failures.truncate(SHOWN);
    let mut all = Failure::all_of(failures)?;
    if more > 0 {
        all.message.push_str(&format!("\n\nand {more} more"));
    }
    Some(all)
}

/// A failure for each file that is there before, by whatever name.
fn twice(files: &[PathBuf]) -> Vec<Failure> {
    let mut seen: BTreeMap<PathBuf, &Path> = BTreeMap::new();
    let mut failures = Vec::new();
    for file in files {
        // What cannot be found is told elsewhere.
        let Ok(real) = fs::canonicalize(file) else { continue };
        if let Some(other) = seen.insert(real, file) {
            failures.push(Failure::usage(format!(
                "{}: this guest is given twice, before as {}\n  Name it once; --repeat runs tests \
                 several times",
                file.display(),
                other.display()
            )));
        }
    }
    failures
}

/// For each guest its name, or if another has the same, that of its file.
fn names(guests: &[(&PathBuf, Tested)]) -> Vec<String> {
    let name = |(file, tested): &(&PathBuf, Tested)| {
        let same = guests.iter().filter(|(_, other)| other.config.name == tested.config.name);
        if same.count() == 1 {
            return tested.config.name.clone();
        }
        let text = file.display().to_string();
        let text = text.strip_prefix("./").unwrap_or(&text);
        text.chars().map(|c| if c.is_control() { '_' } else { c }).collect()
    };
    guests.iter().map(name).collect()
}

/// What a test's guest takes of its host.
struct Size {
    cpus: usize,
    memory: u64,
    owns: bool,
}

enum Wrong {
    Config(config::Error),
    Machine(Failure),
}

struct Planner<'a> {
    sets: Vec<Setting>,
    kinds: &'a Kinds,
    platform: Platform,
}

impl Planner<'_> {
    /// A guest that cannot run here because its kernel is for another kind of host.
    fn other_arch(&self, tested: &Tested) -> Option<Failure> {
        let ours = self.platform.arch();
        let theirs = boot::arch_of(&tested.config.kernel.image.path)
            .filter(|arch| *arch != ours && tested.config.kernel.image.load_addr.is_none())?;
        let at = tested.kernel_at.as_ref()?;
        let place = match (at.line, at.column) {
            (Some(line), Some(column)) => format!("{}:{line}:{column}", at.origin),
            _ => at.origin.clone(),
        };
        let path = tested.config.kernel.image.path.display();
        Some(Failure::usage(format!(
            "{place}: {path} is a kernel for {theirs}, and this host is {ours}\n  Test it on a host \
             that is {theirs}, or in an emulated one (--host emulated:{theirs}), or give a kernel for \
             {ours}"
        )))
    }

    /// What a test's guest takes, if there can be one.
    fn size(&self, file: &Path, tested: &Tested, variant: &Variant) -> Result<Size, Wrong> {
        let varied;
        let config = if variant.sets.is_empty() {
            &tested.config
        } else {
            let sets: Vec<_> = self.sets.iter().chain(&variant.sets).cloned().collect();
            varied = config::load_tested(file, &sets, self.kinds).map_err(Wrong::Config)?.config;
            &varied
        };
        let plan = Plan::new(config, &self.platform).map_err(|error| {
            let place =
                match variant.sets.iter().filter_map(|set| set.option.as_deref()).next_back() {
                    Some(place) => place.to_owned(),
                    None => file.display().to_string(),
                };
            let failure = Failure::from(error);
            Wrong::Machine(Failure { message: format!("{place}: {}", failure.message), ..failure })
        })?;
        let memory = plan.ram.iter().fold(0_u64, |sum, area| sum.saturating_add(area.size));
        let owns = !plan.virtio.is_empty() || !plan.vfio_user.is_empty();
        Ok(Size { cpus: plan.cpus.num, memory, owns })
    }
}

/// Gives each test a directory of its own, by its name as far as one can be named so.
fn give_dirs(tests: &mut [Test]) {
    let mut taken = BTreeSet::new();
    for (number, test) in tests.iter_mut().enumerate() {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._=-".contains(c);
        let plain = |c| if is_plain(c) { c } else { '_' };
        let name: String = test.name.chars().map(plain).take(LONGEST).collect();
        let name = name.trim_start_matches('.').to_lowercase();
        test.dir = if !name.is_empty() && taken.insert(name.clone()) {
            name
        } else {
            let numbered = format!("{name}-{}", number + 1);
            taken.insert(numbered.clone());
            numbered
        };
    }
}

/// Those in whose names one of the patterns is found; all if there is no pattern.
pub fn filtered(tests: Vec<Test>, filters: &[Regex]) -> Result<Vec<Test>, Failure> {
    let is_meant =
        |test: &Test| filters.is_empty() || filters.iter().any(|it| it.is_match(&test.name));
    let (meant, others): (Vec<_>, Vec<_>) = tests.into_iter().partition(is_meant);
    if meant.is_empty() {
        let names: Vec<_> = others.iter().take(NAMED).map(|test| test.name.as_str()).collect();
        let more = others.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        let names = names.join(", ");
        return Err(Failure::usage(format!("--filter finds none of the tests: {names}{more}")));
    }
    Ok(meant)
}

/// Makes the directories for the tests' files.
pub fn make_output(output: &Path, tests: &[Test]) -> Result<(), Failure> {
    let is_new = !output.exists();
    let failed = |path: &Path, error: std::io::Error| {
        Failure::usage(format!("--output {}: {error}", path.display()))
    };
    fs::create_dir_all(output).map_err(|error| failed(output, error))?;
    if is_new {
        // What tests leave behind is nothing to commit.
        let ignored = output.join(".gitignore");
        fs::write(&ignored, "*\n").map_err(|error| failed(&ignored, error))?;
    }
    tests.iter().try_for_each(|test| {
        let dir = output.join(&test.dir);
        fs::create_dir_all(&dir).map_err(|error| failed(&dir, error))
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn test(name: &str) -> Test {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("guest.toml");
        fs::write(dir.path().join("kernel"), "a kernel").unwrap();
        fs::write(&file, "[kernel]\nkernel_path = \"kernel\"\n").unwrap();
        let config = Arc::new(config::load_tested(&file, &[], &Kinds::new()).unwrap().test);
        let (sets, dir) = Default::default();
        let (cpus, memory, owns) = (1, 0, false);
        Test { name: name.to_owned(), file, sets, config, cpus, memory, owns, dir }
    }

    #[test]
    fn directories_are_named_after_tests_and_differ() {
        let long = "x".repeat(300);
        let names = ["a b=\"../c\"", "a b=('../c'", "..", "A", "a", &long, "é"];
        let mut tests: Vec<_> = names.into_iter().map(test).collect();
        give_dirs(&mut tests);
        let dirs: Vec<_> = tests.iter().map(|it| it.dir.as_str()).collect();
        let expected = ["a_b=_.._c_", "a_b=__.._c_", "-3", "a", "a-5", &long[..100], "_"];
        assert_eq!(dirs, expected);
    }

    #[test]
    fn filters_are_looked_for_anywhere_in_a_name() {
        let tests = || ["hello", "smp cpu_num=2", "smp cpu_num=4"].map(test).to_vec();
        let regexes =
            |them: &[&str]| them.iter().map(|it| Regex::new(it).unwrap()).collect::<Vec<_>>();
        let found = |filters: &[&str]| {
            let found = filtered(tests(), &regexes(filters))?;
            Ok(found.into_iter().map(|it| it.name).collect::<Vec<_>>())
        };
        assert_eq!(found(&[]).unwrap().len(), 3);
        assert_eq!(found(&["^smp.*=4"]).unwrap(), ["smp cpu_num=4"]);
        assert_eq!(found(&["4", "ell"]).unwrap(), ["hello", "smp cpu_num=4"]);
        let failure: Failure = found(&["nothing"]).unwrap_err();
        assert!(failure.message.ends_with("hello, smp cpu_num=2, smp cpu_num=4"), "{failure:?}");
    }
}
