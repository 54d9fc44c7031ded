//! Several guests for one process: their ids and names must tell them apart.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{Error, Found, Problem, Setting, load_found};
use crate::{devices::custom::Kinds, hal::VMId, vm::config::AxVMConfig};

/// The id of a VM whose file has none is the first from here on that is free.
const FIRST_ID: VMId = 1;

/// Reads each of the files as [`super::load`] does, with devices of these kinds, and tells the guests apart: an id that is not
/// written is the next free number, and a file that is named again gives a guest with a number after
/// its name.
///
/// # Errors
/// For each file what is wrong with it; an id or a name that an earlier one has is among it.
pub fn load_all(
    paths: &[PathBuf],
    sets: &[Setting],
    kinds: &Kinds,
) -> Vec<Result<AxVMConfig, Error>> {
    let mut loaded: Vec<_> = paths.iter().map(|path| load_found(path, sets, kinds)).collect();
    let mut problems: Vec<_> = paths.iter().map(|_| Vec::new()).collect();
    let mut guests: Vec<_> = paths
        .iter()
        .zip(&mut loaded)
        .zip(&mut problems)
        .filter_map(|((path, found), problems)| {
            let found = found.as_mut().ok()?;
            Some(Guest { path, found, problems })
        })
        .collect();
    give_ids(&mut guests);
    give_names(&mut guests);
    let told = loaded.into_iter().zip(problems).map(|(found, problems)| {
        let clashes = problems.into_iter().map(Error::from);
        match Error::all_of(clashes) {
            Some(error) => Err(error),
            None => found.map(|found| found.config),
        }
    });
    told.collect()
}

/// A guest among others.
struct Guest<'a> {
    path: &'a Path,
    found: &'a mut Found,
    problems: &'a mut Vec<Problem>,
}

impl Guest<'_> {
    /// Both are of the same file.
    fn is_of(&self, path: &Path) -> bool {
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        self.path == path || real(self.path) == real(path)
    }

    fn clash(&mut self, what: String, other: &Path, help: &str) {
        let message = if self.is_of(other) {
            format!("{what}, and the file is given more than once")
        } else {
            format!("{what}, as it is in {}", other.display())
        };
        let name = self.path.display().to_string();
        self.problems.push(Problem::of_file(name, message).with_help(help));
    }
}

fn give_ids(guests: &mut [Guest<'_>]) {
    let mut taken = BTreeSet::new();
    for at in 0..guests.len() {
        let (earlier, rest) = guests.split_at_mut(at);
        let guest = &mut rest[0];
        let id = guest.found.config.id;
        if !guest.found.writes_id || taken.insert(id) {
            continue;
        }
        let same = |other: &&Guest<'_>| other.found.writes_id && other.found.config.id == id;
        if let Some(other) = earlier.iter().find(same) {
            let help = "each VM of a run needs an id of its own: write another base.id, or leave \
                it out for the next free one";
            guest.clash(format!("base.id is {id}"), other.path, help);
        }
    }
    for guest in guests.iter_mut().filter(|guest| !guest.found.writes_id) {
        let free = (FIRST_ID..).find(|id| taken.insert(*id));
        guest.found.config.id = free.unwrap_or(FIRST_ID);
    }
}

fn give_names(guests: &mut [Guest<'_>]) {
    let mut taken: BTreeSet<String> =
        guests.iter().map(|guest| guest.found.config.name.clone()).collect();
    for at in 0..guests.len() {
        let (earlier, rest) = guests.split_at_mut(at);
        let guest = &mut rest[0];
        let name = guest.found.config.name.clone();
        let same = |other: &&Guest<'_>| other.found.config.name == name;
        let Some(other) = earlier.iter().find(same) else { continue };
        if guest.is_of(other.path) {
            let numbered = (2_u32..).map(|number| format!("{name}-{number}"));
            let free = numbered.into_iter().find(|name| taken.insert(name.clone()));
            guest.found.config.name = free.unwrap_or(name);
        } else {
            let help = "each VM of a run needs a name of its own: write another base.name";
            guest.clash(format!("the VM's name is {name:?}"), other.path, help);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loads files with these texts under `[base]`, called `a.toml`, `b.toml`, …, in this order.
    fn load(order: &str, bases: &[&str]) -> Vec<Result<(VMId, String), String>> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("kernel"), "a kernel").unwrap();
        for (name, base) in ('a'..).zip(bases) {
            let text = format!("[base]\n{base}\n[kernel]\nkernel_path = \"kernel\"\n");
            fs::write(dir.path().join(format!("{name}.toml")), text).unwrap();
        }
        let paths: Vec<_> =
            order.chars().map(|name| dir.path().join(format!("{name}.toml"))).collect();
        let loaded = load_all(&paths, &[], &Kinds::new()).into_iter();
        let seen = loaded.map(|found| match found {
            Ok(config) => Ok((config.id, config.name)),
            Err(error) => Err(error.to_string()),
        });
        seen.collect()
    }

    fn names(order: &str, bases: &[&str]) -> Vec<(VMId, String)> {
        load(order, bases).into_iter().map(Result::unwrap).collect()
    }

    fn guest(id: VMId, name: &str) -> (VMId, String) {
        (id, name.to_owned())
    }

    #[test]
    fn ids_that_are_not_written_are_the_next_free_numbers() {
        assert_eq!(names("a", &[""]), [guest(1, "a")]);
        assert_eq!(names("ab", &["", ""]), [guest(1, "a"), guest(2, "b")]);
        assert_eq!(
            names("abc", &["", "id = 1", "id = 3\nname = \"x\""]),
            [guest(2, "a"), guest(1, "b"), guest(3, "x")]
        );
    }

    #[test]
    fn a_file_that_is_given_again_is_another_guest() {
        assert_eq!(names("aa", &[""]), [guest(1, "a"), guest(2, "a-2")]);
        let named = ["name = \"x\"", "name = \"x-2\""];
        assert_eq!(names("aba", &named), [guest(1, "x"), guest(2, "x-2"), guest(3, "x-3")]);
        let clash = &load("aa", &["id = 5"])[1];
        let told = clash.as_ref().unwrap_err();
        assert!(told.contains("base.id is 5") && told.contains("more than once"), "{told}");
    }

    #[test]
    fn ids_and_names_that_are_the_same_are_told_with_both_files() {
        for (a, b, tells) in [
            ("id = 2", "id = 2", "base.id is 2"),
            ("name = \"x\"", "name = \"x\"", "the VM's name is \"x\""),
            ("name = \"b\"", "", "the VM's name is \"b\""),
        ] {
            let loaded = load("ab", &[a, b]);
            assert!(loaded[0].is_ok(), "{loaded:?}");
            let told = loaded[1].as_ref().unwrap_err();
            for part in [tells, "a.toml", "b.toml: ", "of its own"] {
                assert!(told.contains(part), "no {part:?} in {told}");
            }
        }
    }

    #[test]
    fn each_file_has_its_own_problems() {
        let loaded = load("abc", &["cpu_num = 0", "", "id = \"x\""]);
        assert_eq!(loaded.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, false]);
        let all = Error::all_of(
            load_all(&["/no".into(), "/no".into()], &[], &Kinds::new())
                .into_iter()
                .flat_map(Result::err),
        );
        assert_eq!(all.unwrap().problems().len(), 1, "the same is told once");
    }
}
