//! From what is written to what a VM is made from: defaults, and what keys say together.

mod consoles;
mod devices;
mod disks;
mod kernel;
mod memory;
mod rows;

use std::collections::BTreeMap;

use super::{
    keys::{AxVMCrateConfig, VMBaseConfig},
    report::Report,
    source::At,
    values::Integer,
};
use crate::{
    devices::custom::Kinds,
    vm::config::{AxVMConfig, CpuConfig},
};

/// The VM that the file describes, but for its notes, which the report holds. It means nothing if
/// the report holds problems: keys whose values could not be read look as if they were not there.
pub(super) fn resolve(
    config: AxVMCrateConfig,
    default_name: &str,
    kinds: &Kinds,
    report: &mut Report,
) -> Option<AxVMConfig> {
    let base = config.base.map(|base| base.value).unwrap_or_default();
    let mut kernel_table = config.kernel.map(|kernel| kernel.value).unwrap_or_default();
    let devices = config.devices.map(|devices| devices.value).unwrap_or_default();

    check_name(&base, report);
    note_vm_type(&base, report);
    let cpus = cpus(&base, report);
    let memory = memory::resolve(&base, &kernel_table, report);
    let disk_path = kernel_table.disk_path.take();
    let mut kernel = kernel::resolve(kernel_table, report);
    let mut devices = devices::resolve(devices, kinds, report);
    rows::place(&mut devices);
    disks::axvisors(disk_path, &mut devices, report);
    if let Some(kernel) = &mut kernel {
        disks::tell_root(kernel, &devices);
        consoles::tell_console(kernel, &devices);
    }

    Some(AxVMConfig {
        id: base.id.map_or(1, |id| id.value.0 as usize),
        name: base.name.map_or_else(|| default_name.to_owned(), |name| name.value),
        cpus,
        memory,
        kernel: kernel?,
        devices,
        notes: Vec::new(),
        files: Vec::new(),
    })
}

/// The name stands in log lines and on the terminal.
fn check_name(base: &VMBaseConfig, report: &mut Report) {
    let Some(name) = &base.name else { return };
    if name.value.is_empty() || name.value.contains(char::is_control) {
        report
            .problem_of("base.name", name.place, "a name has at least one character, all printable")
            .help("leave the key out to name the VM after its file");
    }
}

fn note_vm_type(base: &VMBaseConfig, report: &mut Report) {
    if let Some(kind) = base.vm_type.as_ref().filter(|kind| kind.value.0 > 2) {
        report.note(kind.place, "vm_type is not one of 0, 1 and 2; nothing depends on it");
    }
}

fn cpus(base: &VMBaseConfig, report: &mut Report) -> CpuConfig {
    let num = base.cpu_num.as_ref().map_or(1, |num| num.value.0 as usize);
    let ids = per_cpu("phys_cpu_ids", base.phys_cpu_ids.as_ref(), num, report);
    let sets = per_cpu("phys_cpu_sets", base.phys_cpu_sets.as_ref(), num, report);

    let mut owners = BTreeMap::new();
    for (cpu, id) in ids.iter().enumerate() {
        if let Some(other) = owners.insert(id.value, cpu) {
            let message = format!("vCPU {cpu} has the same id as vCPU {other}");
            report
                .problem_of("base.phys_cpu_ids", id.place, message)
                .help("each vCPU needs an id of its own");
        }
    }
    for set in sets.iter().filter(|set| set.value.0 == 0) {
        report
            .problem_of("base.phys_cpu_sets", set.place, "an empty set leaves the vCPU no host CPU")
            .help("set bit n for host CPU n: 0x1 is CPU 0, 0x6 are CPUs 1 and 2");
    }
    let numbers = |list: &[At<Integer>]| list.iter().map(|item| item.value.0 as usize).collect();
    CpuConfig { num, phys_cpu_ids: numbers(ids), phys_cpu_sets: numbers(sets) }
}

/// A list that has one element for each vCPU, if it is there at all.
fn per_cpu<'a>(
    key: &str,
    list: Option<&'a At<Vec<At<Integer>>>>,
    cpu_num: usize,
    report: &mut Report,
) -> &'a [At<Integer>] {
    let Some(list) = list else { return &[] };
    let length = list.value.len();
    if length != cpu_num && !report.is_bad("base.cpu_num") {
        let message = format!("{length} elements, but cpu_num is {cpu_num}");
        let problem = report.problem_of(&format!("base.{key}"), list.place, message);
        problem.help("give one for each vCPU, or leave the key out");
    }
    &list.value
}
