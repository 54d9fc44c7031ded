//! How many guests there is room for at once.

use std::{collections::BTreeSet, num::NonZero, path::PathBuf, thread};

use super::plan::Test;
use crate::cli::doctor::memory;

/// What guests that run side by side may have of the host, and what they have.
#[derive(Clone, Debug)]
pub struct Room {
    /// Host CPUs, of which a guest takes one for each vCPU, or all.
    cpus: usize,
    /// In bytes; `None`: the host does not say.
    memory: Option<u64>,
    jobs: usize,
    used_cpus: usize,
    used_memory: u64,
    running: usize,
    /// Files of guests that run, and have what only one guest can at a time.
    owners: BTreeSet<PathBuf>,
}

impl Room {
    /// This host's, for so many guests at most.
    pub fn of_host(jobs: Option<u32>) -> Self {
        let cpus = thread::available_parallelism().map_or(1, NonZero::get);
        Self::new(cpus, memory::available(), jobs)
    }

    fn new(cpus: usize, memory: Option<u64>, jobs: Option<u32>) -> Self {
        let jobs = jobs.map_or(usize::MAX, |jobs| jobs as usize);
        let (used_cpus, used_memory, running, owners) = Default::default();
        Self { cpus, memory, jobs, used_cpus, used_memory, running, owners }
    }

    /// Takes what the test needs, if that is free. A test that needs more than there is runs alone.
    pub fn take(&mut self, test: &Test) -> bool {
        let (cpus, memory) = (self.cpus_with(test), self.used_memory.saturating_add(test.memory));
        let has_room = cpus <= self.cpus && self.memory.is_none_or(|all| memory <= all);
        let is_owned = test.owns && self.owners.contains(&test.file);
        if self.running > 0 && (!has_room || is_owned || self.running >= self.jobs) {
            return false;
        }
        (self.used_cpus, self.used_memory) = (cpus, memory);
        self.running += 1;
        if test.owns {
            self.owners.insert(test.file.clone());
        }
        true
    }

    /// Gives it back.
    pub fn give(&mut self, test: &Test) {
        self.running = self.running.saturating_sub(1);
        self.used_cpus = self.used_cpus.saturating_sub(test.cpus.min(self.cpus));
        self.used_memory = self.used_memory.saturating_sub(test.memory);
        if test.owns {
            self.owners.remove(&test.file);
        }
    }

    fn cpus_with(&self, test: &Test) -> usize {
        self.used_cpus.saturating_add(test.cpus.min(self.cpus))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::plan::tests::test, *};

    fn sized(cpus: usize, memory: u64) -> Test {
        Test { cpus, memory, ..test("a") }
    }

    #[test]
    fn guests_run_side_by_side_as_far_as_cpus_memory_and_jobs_go() {
        let mut room = Room::new(4, Some(100), Some(3));
        assert!(room.take(&sized(2, 10)));
        assert!(!room.take(&sized(3, 10)), "CPUs");
        assert!(!room.take(&sized(1, 91)), "memory");
        assert!(room.take(&sized(1, 10)) && room.take(&sized(1, 10)));
        assert!(!room.take(&sized(0, 0)), "jobs");
        room.give(&sized(2, 10));
        assert!(room.take(&sized(2, 80)));
    }

    #[test]
    fn a_guest_that_needs_more_than_there_is_runs_alone() {
        let mut room = Room::new(2, Some(100), None);
        assert!(room.take(&sized(64, u64::MAX)));
        assert!(!room.take(&sized(1, 1)));
        room.give(&sized(64, u64::MAX));
        assert!(room.take(&sized(1, 1)));
        assert!(!room.take(&sized(64, u64::MAX)));
    }

    #[test]
    fn guests_that_own_something_run_one_of_a_file() {
        let mut room = Room::new(8, None, None);
        let owner = Test { owns: true, ..sized(1, 1) };
        let other = Test { owns: true, ..sized(1, 1) };
        assert!(room.take(&owner) && room.take(&other) && !room.take(&owner));
        room.give(&owner);
        assert!(room.take(&owner));
    }
}
