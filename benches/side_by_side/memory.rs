//! What memory a process has, without the guest's.

use std::fs;

use crate::Result;

/// In KiB. The guest's RAM is left out: it is what the guest touched, the same under every VMM, but
/// for what the VMM's firmware and tables add; `guest` has it apart.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    pub private_dirty: f64,
    /// Shared pages count in part: as many-th as there are processes that have them.
    pub pss: f64,
    /// What is there of the guest's RAM.
    pub guest: f64,
}

/// Reads `/proc/PID/smaps`. The guest's RAM is known by its size: it is the one mapping that is
/// accessible and has at least three quarters of what the guest was given (`ram`, in KiB).
pub fn of_process(pid: u32, ram: u64) -> Result<Memory> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let mut memory = Memory::default();
    let (mut accessible, mut is_guest) = (false, false);
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let (Some(key), Some(value)) = (words.next(), words.next()) else { continue };
        let Some(key) = key.strip_suffix(':') else {
            accessible = value.starts_with("rw");
            continue;
        };
        let kib = value.parse::<f64>().unwrap_or(0.0);
        match key {
            "Size" => is_guest = accessible && kib >= ram as f64 * 0.75,
            "Rss" if is_guest => memory.guest += kib,
            "Pss" if !is_guest => memory.pss += kib,
            "Private_Dirty" if !is_guest => memory.private_dirty += kib,
            _ => {}
        }
    }
    Ok(memory)
}
