//! The tables of a file, and which keys stand in which.

use super::{
    keys::{VMBaseConfig, VMDevicesConfig, VMKernelConfig},
    schema::Key,
};

/// The tables whose keys are told apart by name alone.
pub(super) const TABLES: [(&str, &[Key]); 3] = [
    ("base", VMBaseConfig::KEYS),
    ("kernel", VMKernelConfig::KEYS),
    ("devices", VMDevicesConfig::KEYS),
];

/// Says which table the key belongs in, if it is one of another.
pub(super) fn other_table(table: &str, name: &str) -> Option<String> {
    let has_it = |keys: &[Key]| keys.iter().any(|key| key.name == name);
    let (other, _) = TABLES.iter().find(|(other, keys)| *other != table && has_it(keys))?;
    Some(format!("did you mean {name:?} in [{other}]?"))
}

/// The tables that a file has.
pub(super) fn tables() -> [&'static str; 3] {
    TABLES.map(|(table, _)| table)
}

/// The table that a key is of, and the key.
pub(super) fn home(name: &str) -> Option<(&'static str, &'static str)> {
    TABLES.iter().find_map(|(table, keys)| {
        let key = keys.iter().find(|key| key.name == name)?;
        Some((*table, key.name))
    })
}
