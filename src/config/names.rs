//! The names of devices: those that are written, and those that are made for the rest.

use std::collections::BTreeSet;

use super::{report::Report, source::At};

/// The names of a list of tables, no two alike.
pub struct Names(BTreeSet<String>);

impl Names {
    /// Those that are written in `list`, such as `devices.virtio`; what can be no name is told.
    pub fn written<'a>(
        list: &str,
        names: impl Iterator<Item = Option<&'a At<String>>>,
        report: &mut Report,
    ) -> Self {
        let mut seen = BTreeSet::new();
        for (index, name) in names.enumerate() {
            let Some(name) = name else { continue };
            let key = format!("{list}[{index}].name");
            let problem = if name.value.is_empty() || name.value.contains(char::is_control) {
                "a name has at least one character, all printable"
            } else if !seen.insert(name.value.clone()) {
                "another device has this name"
            } else {
                continue;
            };
            report.problem_of(&key, name.place, problem);
        }
        Self(seen)
    }

    /// What is written, or the first of `others` that is free, which it no longer is.
    pub fn name(
        &mut self,
        written: Option<&At<String>>,
        mut others: impl Iterator<Item = String>,
    ) -> String {
        match written {
            Some(name) => name.value.clone(),
            None => others.find(|name| self.0.insert(name.clone())).unwrap_or_default(),
        }
    }
}
