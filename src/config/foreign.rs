//! Keys that people bring along from elsewhere, and what to write instead.

/// What to do about a key of another configuration language: the words that other VMMs use, and
/// those that AxVisor once had. (Whole languages of AxVisor's are told apart in `generation`.)
const ADVICE: [(&str, &str, &str); 19] = [
    ("base", "cpus", "did you mean \"cpu_num\"?"),
    ("base", "vcpus", "did you mean \"cpu_num\"?"),
    ("base", "smp", "did you mean \"cpu_num\"?"),
    ("base", "mem", "did you mean \"memory\"?"),
    ("base", "ram", "did you mean \"memory\"?"),
    ("base", "cpu_set", "did you mean \"phys_cpu_sets\"?"),
    ("base", "affinity", "did you mean \"phys_cpu_sets\"?"),
    ("kernel", "path", "did you mean \"kernel_path\"?"),
    ("kernel", "image", "did you mean \"kernel_path\"?"),
    ("kernel", "kernel", "did you mean \"kernel_path\"?"),
    ("kernel", "entry", "did you mean \"entry_point\"?"),
    ("kernel", "load_addr", "did you mean \"kernel_load_addr\"?"),
    ("kernel", "initrd", "did you mean \"ramdisk_path\"?"),
    ("kernel", "initrd_path", "did you mean \"ramdisk_path\"?"),
    ("kernel", "ramdisk", "did you mean \"ramdisk_path\"?"),
    ("kernel", "append", "did you mean \"cmdline\"?"),
    ("kernel", "bootargs", "did you mean \"cmdline\"?"),
    ("kernel", "args", "did you mean \"cmdline\"?"),
    ("kernel", "dtb", "did you mean \"dtb_path\"?"),
];

/// What to do about the key `name` in the table `table`, if it is known from elsewhere.
pub(super) fn advice(table: &str, name: &str) -> Option<String> {
    let known = ADVICE.iter().find(|(in_table, key, _)| (*in_table, *key) == (table, name))?;
    Some(known.2.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{super::tables::TABLES, *};

    #[test]
    fn advice_is_about_keys_that_are_not_ours_and_names_keys_that_are() {
        for (table, name, text) in ADVICE {
            let (_, keys) = TABLES.iter().find(|(known, _)| *known == table).unwrap();
            let is_key = |name: &str| keys.iter().any(|key| key.name == name);
            assert!(!is_key(name), "{table}.{name}");
            if let Some(meant) = text.strip_prefix("did you mean \"") {
                assert!(is_key(meant.trim_end_matches("\"?")), "{text}");
            }
        }
    }
}
