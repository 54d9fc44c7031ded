//! Which VM a message is about, where there are several: its name stands before it.
//!
//! What a vCPU's thread says is about its VM, which the thread's name tells; other threads say
//! [`about`] which VM they act for.

use std::{cell::Cell, sync::OnceLock, thread};

use crate::hal::VMId;

/// For each VM, how its messages begin. Set where there are several.
static NAMES: OnceLock<Vec<(VMId, String)>> = OnceLock::new();

thread_local! {
    static ABOUT: Cell<Option<VMId>> = const { Cell::new(None) };
}

/// From now on messages name the VM that they are about.
pub fn name(vms: impl IntoIterator<Item = (VMId, String)>) {
    NAMES.get_or_init(|| vms.into_iter().map(|(id, name)| (id, label(&name))).collect());
}

/// How a VM of this name is marked in front of a line.
pub fn label(name: &str) -> String {
    format!("[{name}] ")
}

/// What this thread says is about that VM, until the result is dropped.
pub fn about(vm: VMId) -> About {
    About(ABOUT.replace(Some(vm)))
}

pub struct About(Option<VMId>);

impl Drop for About {
    fn drop(&mut self) {
        ABOUT.set(self.0);
    }
}

/// What stands before a message of this thread.
pub fn subject() -> &'static str {
    let Some(names) = NAMES.get() else { return "" };
    let vm = ABOUT.get().or_else(|| vm_of_thread(thread::current().name()?));
    let known = names.iter().find(|(id, _)| Some(*id) == vm);
    known.map_or("", |(_, label)| label)
}

/// The VM of a vCPU's thread, whose name is `VM[1]-VCpu[0]`.
fn vm_of_thread(name: &str) -> Option<VMId> {
    name.strip_prefix("VM[")?.split_once(']')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vcpus_thread_tells_its_vm() {
        assert_eq!(vm_of_thread("VM[12]-VCpu[3]"), Some(12));
        for other in ["main", "VM[", "VM[]-VCpu[0]", "VM[x]-VCpu[0]", "console"] {
            assert_eq!(vm_of_thread(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_said_is_about_the_innermost_vm() {
        let outer = about(1);
        drop(about(2));
        assert_eq!(ABOUT.get(), Some(1));
        drop(outer);
        assert_eq!(ABOUT.get(), None);
    }
}
