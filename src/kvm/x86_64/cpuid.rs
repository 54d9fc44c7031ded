//! CPUID as the guest sees it: what KVM supports on this host, with the topology of this VM.
//!
//! Leaves: Intel SDM vol. 2A, CPUID; AMD APM vol. 3, appendix E.

use std::io;

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

use crate::hal::{HalError, HalResult};

/// Where a vCPU stands in the machine: one package of `cpus` cores with a thread each.
#[derive(Clone, Copy)]
pub struct Topology {
    pub apic_id: u32,
    pub cpus: u32,
}

impl Topology {
    /// How many bits of an APIC id number the cores of the package.
    fn core_bits(self) -> u32 {
        self.cpus.next_power_of_two().trailing_zeros()
    }
}

/// Leaf 1 ECX: the local APIC timer can be armed by TSC.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1 ECX: there is a hypervisor.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1 EDX: the package holds more than one logical processor.
const HTT: u32 = 1 << 28;
/// Leaf 0x8000_0001 ECX: the same for AMD's core count.
const CMP_LEGACY: u32 = 1 << 1;
/// Leaf 0x8000_0001 ECX: leaf 0x8000_001e is there.
const TOPOLOGY_EXTENSIONS: u32 = 1 << 22;

/// The table for one vCPU.
pub fn for_vcpu(
    supported: &CpuId,
    topology: Topology,
    tsc_deadline_timer: bool,
) -> HalResult<CpuId> {
    let mut entries: Vec<_> = supported.as_slice().to_vec();
    let max_leaf = entries.iter().find(|e| e.function == 0).map_or(0, |e| e.eax);
    entries.retain(|entry| !matches!(entry.function, 0xb | 0x1f));
    for entry in &mut entries {
        adapt(entry, topology, tsc_deadline_timer);
    }
    if max_leaf >= 0xb {
        entries.extend(extended_topology(0xb, topology));
    }
    if max_leaf >= 0x1f {
        entries.extend(extended_topology(0x1f, topology));
    }
    CpuId::from_entries(&entries).map_err(|error| {
        HalError::failed("build the CPUID table", io::Error::other(format!("{error:?}")))
    })
}

fn adapt(entry: &mut kvm_cpuid_entry2, topology: Topology, tsc_deadline_timer: bool) {
    let Topology { apic_id, cpus } = topology;
    match entry.function {
        0x1 => {
            let logical = cpus.min(255);
            entry.ebx = apic_id << 24 | logical << 16 | entry.ebx & 0xffff;
            entry.ecx |= HYPERVISOR;
            if tsc_deadline_timer {
                // KVM has it and yet does not list it: it depends on the in-kernel APIC.
                entry.ecx |= TSC_DEADLINE;
            }
            entry.edx = if cpus > 1 { entry.edx | HTT } else { entry.edx & !HTT };
        }
        // Caches: bits 31:26 the cores of the package less one, 25:14 the threads that share the
        // cache less one; levels 1 and 2 belong to a core, level 3 to all.
        0x4 if entry.eax & 0x1f != 0 => {
            let level = entry.eax >> 5 & 7;
            let sharing = if level >= 3 { cpus - 1 } else { 0 };
            entry.eax = entry.eax & 0x3fff | (cpus - 1).min(63) << 26 | sharing.min(4095) << 14;
        }
        0x8000_0001 => {
            entry.ecx &= !CMP_LEGACY;
            if cpus > 1 {
                entry.ecx |= CMP_LEGACY;
            }
        }
        // Bits 15:12 the APIC id's bits for cores, 7:0 the cores less one.
        0x8000_0008 => {
            entry.ecx = entry.ecx & !0xf0ff | topology.core_bits() << 12 | (cpus - 1).min(255);
        }
        // As leaf 4, in AMD's place.
        0x8000_001d if entry.eax & 0x1f != 0 => {
            let level = entry.eax >> 5 & 7;
            let sharing = if level >= 3 { cpus - 1 } else { 0 };
            entry.eax = entry.eax & 0x3fff | sharing.min(4095) << 14;
        }
        0x8000_001e => {
            entry.eax = apic_id;
            entry.ebx = apic_id & 0xff; // one thread a core; the core's id
            entry.ecx = 0; // one node, number 0
        }
        _ => {}
    }
    if entry.function == 0x8000_0001 && cpus == 1 {
        // Nothing to tell, and some hosts list the bit without the leaf.
        entry.ecx &= !TOPOLOGY_EXTENSIONS;
    }
}

/// Leaf 0xb and 0x1f: a thread level of 1, a core level of all, the end.
fn extended_topology(function: u32, topology: Topology) -> [kvm_cpuid_entry2; 3] {
    const SMT: u32 = 1;
    const CORE: u32 = 2;
    let level = |index: u32, shift: u32, number: u32, kind: u32| kvm_cpuid_entry2 {
        function,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: number,
        ecx: kind << 8 | index,
        edx: topology.apic_id,
        ..Default::default()
    };
    [level(0, 0, 1, SMT), level(1, topology.core_bits(), topology.cpus, CORE), level(2, 0, 0, 0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_table() -> CpuId {
        let entry = |function, eax, ebx, ecx, edx| kvm_cpuid_entry2 {
            function,
            eax,
            ebx,
            ecx,
            edx,
            ..Default::default()
        };
        CpuId::from_entries(&[
            entry(0x0, 0x1f, 0, 0, 0),
            entry(0x1, 0x12345, 0x0910_0800, 0, HTT),
            entry(0x4, 0xfc00_4121, 0, 0, 0),
            entry(0xb, 9, 9, 9, 9),
            entry(0x8000_0008, 0x3030, 0, 0x700f, 0),
        ])
        .unwrap()
    }

    fn find(table: &CpuId, function: u32, index: u32) -> kvm_cpuid_entry2 {
        *table.as_slice().iter().find(|e| e.function == function && e.index == index).unwrap()
    }

    #[test]
    fn a_single_cpu_is_no_multiprocessor() {
        let table = for_vcpu(&host_table(), Topology { apic_id: 0, cpus: 1 }, false).unwrap();
        let leaf1 = find(&table, 1, 0);
        assert_eq!((leaf1.ebx, leaf1.ecx, leaf1.edx), (0x0001_0800, HYPERVISOR, 0));
        assert_eq!(find(&table, 4, 0).eax, 0x121);
        assert_eq!(find(&table, 0xb, 1).eax, 0);
        assert_eq!(find(&table, 0x8000_0008, 0).ecx, 0);
    }

    #[test]
    fn sixteen_cpus_are_one_package_of_cores() {
        let table = for_vcpu(&host_table(), Topology { apic_id: 5, cpus: 16 }, true).unwrap();
        let leaf1 = find(&table, 1, 0);
        assert_eq!(leaf1.ebx, 0x0510_0800);
        assert_eq!(leaf1.ecx, HYPERVISOR | TSC_DEADLINE);
        assert_eq!(leaf1.edx, HTT);
        for function in [0xb, 0x1f] {
            let core = find(&table, function, 1);
            assert_eq!((core.eax, core.ebx, core.ecx, core.edx), (4, 16, 0x201, 5));
            assert_eq!(find(&table, function, 0).ebx, 1);
        }
        assert_eq!(table.as_slice().iter().filter(|e| e.function == 0xb).count(), 3);
        assert_eq!(find(&table, 0x8000_0008, 0).ecx, 4 << 12 | 15);
    }
}
