//! What registers are called: as the recording has it, or, where an axvmm recorded it that did not
//! write that down, as on a machine like the recorded one.

use crate::{
    cli::replay::recorded,
    devices::{
        custom::Kinds,
        registers::{Prints, WindowRegisters},
    },
    trace::{About, AboutVm},
};

/// Of no more VMs, and of none with more vCPUs, is a machine made for its names: a damaged recording
/// can tell of any number.
const MOST_VMS: usize = 64;
const MOST_VCPUS: usize = 4096;

/// The registers of each VM's windows.
#[derive(Debug)]
pub struct Names(Vec<Vec<Option<WindowRegisters>>>);

impl Names {
    /// Those of a recording about this.
    pub fn of(about: &About) -> Self {
        Self(about.vms.iter().take(MOST_VMS).map(|vm| of_vm(about, vm)).collect())
    }

    fn window(&self, vm: usize, window: Option<usize>) -> Option<&WindowRegisters> {
        self.0.get(vm)?.get(window?)?.as_ref()
    }

    /// What is at an address of a window, if that is known.
    pub fn name(&self, vm: usize, window: Option<usize>, addr: u64) -> Option<String> {
        self.window(vm, window)?.name_at(addr)
    }

    /// Which register of a window prints, and the window's first address.
    pub fn prints(&self, vm: usize, window: Option<usize>) -> Option<(&Prints, u64)> {
        let window = self.window(vm, window)?;
        Some((window.map.prints.as_ref()?, window.first))
    }

    /// Whether a window has the registers of a virtio transport (virtio 1.2, 4.1.4.3 and 4.2.2).
    pub fn is_virtio(&self, vm: usize, window: Option<usize>) -> bool {
        let names = self.window(vm, window).map(|it| &it.map.names);
        names.is_some_and(|names| {
            names.iter().any(|it| ["QueueNotify", "queue_notify_off"].contains(&&*it.name))
        })
    }
}

fn of_vm(about: &About, vm: &AboutVm) -> Vec<Option<WindowRegisters>> {
    if vm.registers.len() == vm.windows.len() {
        return vm.registers.iter().cloned().map(Some).collect();
    }
    if vm.vcpus > MOST_VCPUS {
        return Vec::new();
    }
    // Names are not worth an error; and of a damaged file there is no such machine.
    let Ok(bare) = recorded::build(about, vm, None, &Kinds::new()) else { return Vec::new() };
    let (windows, registers) = (bare.devices().windows(), bare.devices().registers());
    let like = |window| Some(registers.get(windows.iter().position(|it| it == window)?)?.clone());
    vm.windows.iter().map(like).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recording of a board, as one was before the names of registers were recorded.
    fn old(arch: &str) -> About {
        let mut vm = AboutVm {
            id: 1,
            name: "old".into(),
            vcpus: 1,
            memory: 16 << 20,
            windows: Vec::new(),
            registers: Vec::new(),
        };
        let mut about = About { axvmm: "0".into(), arch: arch.into(), began: 0, vms: Vec::new() };
        let bare = recorded::build(&about, &vm, None, &Kinds::new()).unwrap();
        vm.windows = bare.devices().windows();
        about.vms.push(vm);
        about
    }

    #[test]
    fn an_older_recording_gets_the_names_of_its_board() {
        for (arch, device, first, offset, name) in [
            ("x86_64", "com1", 0x3f8, 5, "LSR"),
            ("aarch64", "pl011", 0x900_0000, 0x18, "UARTFR"),
            ("riscv64", "serial", 0x1000_0000, 0, "RBR/THR"),
        ] {
            let about = old(arch);
            let names = Names::of(&about);
            let window = about.vms[0].windows.iter().position(|it| it.device == device);
            assert_eq!(names.name(0, window, first + offset).as_deref(), Some(name), "{arch}");
            assert!(names.prints(0, window).is_some() && !names.is_virtio(0, window));
            assert_eq!(names.name(0, None, first + offset), None);
            assert_eq!(names.name(1, window, first + offset), None);
        }
    }

    #[test]
    fn what_no_machine_can_be_made_of_has_no_names() {
        let mut about = old("x86_64");
        about.vms[0].vcpus = usize::MAX;
        assert_eq!(Names::of(&about).name(0, Some(0), 0x60), None);
        about.vms[0].vcpus = 1;
        about.vms[0].memory = u64::MAX;
        assert_eq!(Names::of(&about).name(0, Some(0), 0x60), None);
        about.arch = "pdp11".into();
        assert_eq!(Names::of(&about).name(0, Some(0), 0x60), None);
    }
}
