//! How much memory guests can have, and what limits it.

use std::fs;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::finding::Finding;

const SUBJECT: &str = "memory";
const MIB: u64 = 1 << 20;
/// A guest with less to live in is a tiny one: the default is 512 MiB.
const LITTLE: u64 = 512 * MIB;

/// What this host says.
pub fn findings() -> Vec<Finding> {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let overcommit = fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap_or_default();
    let limit = getrlimit(Resource::RLIMIT_AS).map_or(RLIM_INFINITY, |(soft, _)| soft);
    judge(&meminfo, &overcommit, (limit != RLIM_INFINITY).then_some(limit))
}

/// How much memory guests can have before the host swaps, in bytes; `None`: it does not say.
pub fn available() -> Option<u64> {
    field(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

/// `limit` is the address space that this process may have, in bytes.
fn judge(meminfo: &str, overcommit: &str, limit: Option<u64>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match field(meminfo, "MemAvailable:") {
        Some(bytes) if bytes < LITTLE => findings.push(Finding::warn(
            SUBJECT,
            format!("{} MiB are available", bytes / MIB),
            "Guests that touch more than that make the host swap, or kill something.",
        )),
        Some(bytes) => {
            findings.push(Finding::ok(SUBJECT, format!("{} MiB are available", bytes / MIB)));
        }
        None => {}
    }
    if overcommit.trim() == "2" {
        let commit = |name| field(meminfo, name).unwrap_or(0);
        let left = commit("CommitLimit:").saturating_sub(commit("Committed_AS:"));
        findings.push(Finding::warn(
            SUBJECT,
            format!(
                "the host promises only what it has (vm.overcommit_memory = 2), and {} MiB of that \
                 are left",
                left / MIB
            ),
            "Give guests less than that, or: sudo sysctl vm.overcommit_memory=0",
        ));
    }
    if let Some(limit) = limit {
        findings.push(Finding::warn(
            SUBJECT,
            format!("a process may have {} MiB of address space (ulimit -v)", limit / MIB),
            "Give guests less than that, or: ulimit -v unlimited",
        ));
    }
    findings
}

/// A field of `/proc/meminfo`, in bytes.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Level;

    const MEMINFO: &str = "MemTotal:       8000000 kB\nMemAvailable:    4194304 kB\n\
        CommitLimit:     4194304 kB\nCommitted_AS:    3145728 kB\n";

    #[test]
    fn limits_are_told_with_what_is_left() {
        let all = judge(MEMINFO, "2\n", Some(MIB));
        let texts: Vec<_> = all.iter().map(|f| (f.level, f.what.as_str())).collect();
        assert_eq!(texts[0], (Level::Ok, "4096 MiB are available"));
        assert!(texts[1].0 == Level::Warn && texts[1].1.contains("1024 MiB"), "{texts:?}");
        assert!(texts[2].0 == Level::Warn && texts[2].1.contains("1 MiB"), "{texts:?}");
        assert_eq!(judge(MEMINFO, "0\n", None).len(), 1);
    }

    #[test]
    fn little_memory_is_told_and_no_answer_is_none() {
        assert_eq!(judge("MemAvailable: 1024 kB\n", "1", None)[0].level, Level::Warn);
        assert_eq!(judge("MemAvailable: much\n", "", None), []);
    }
}
