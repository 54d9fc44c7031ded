use super::*;
use crate::{
    addr::{AccessWidth, GuestPhysAddr},
    devices::Effect,
    hal::{Arch, Platform},
    machine::{
        Plan,
        testing::{
            MIB, assert_calls_are_answered, assert_controller_comes_first, assert_devices_are_told,
            build, cells, node, planned_and_there, reg, region, tree,
        },
    },
    vm::AxVMConfig,
};

fn host(gic: GicVersion) -> Aarch64Platform {
    Aarch64Platform { ipa_bits: 40, gic, its: gic == GicVersion::V3, pmu: true }
}

fn config(memory: MemoryConfig) -> (AxVMConfig, tempfile::NamedTempFile) {
    crate::machine::testing::config(RAM + 2 * MIB, memory)
}

fn plan(change: impl FnOnce(&mut AxVMConfig)) -> Result<Plan, Error> {
    let (mut config, _file) = config(MemoryConfig::Size(64 * MIB));
    change(&mut config);
    Plan::new(&config, &Platform::usual(Arch::Aarch64))
}

#[test]
fn ram_begins_where_qemus_board_has_it_and_ends_where_addresses_do() {
    let ram = |memory| Virt(&host(GicVersion::V3)).ram(&memory);
    let most = (1 << 40) - RAM;
    for size in [4096, 512 * MIB, most] {
        let areas = ram(MemoryConfig::Size(size)).unwrap();
        assert_eq!((areas.len(), areas[0].gpa.0, areas[0].size), (1, RAM, size));
    }
    for memory in [
        MemoryConfig::Size(most + 4096),
        MemoryConfig::Regions(vec![region(RAM, MIB), region((1 << 40) - 4096, 8192)]),
    ] {
        let error = ram(memory).unwrap_err();
        assert!(matches!(error, Error::MemoryTooHigh { bits: 40, .. }), "{error}");
    }
    for size in [0, 4097, u64::MAX - 4095] {
        let error = ram(MemoryConfig::Size(size)).unwrap_err();
        assert!(matches!(error, Error::MemorySize { .. }), "{error}");
    }
    let small = Aarch64Platform { ipa_bits: 36, ..host(GicVersion::V3) };
    assert!(Virt(&small).ram(&MemoryConfig::Size(1 << 36)).is_err());
    let large = Aarch64Platform { ipa_bits: 64, ..host(GicVersion::V3) };
    assert!(Virt(&large).ram(&MemoryConfig::Size(1 << 50)).is_ok());
}

#[test]
fn each_controller_has_its_place_and_its_most_vcpus() {
    let last = |gic, cpus| {
        let hardware = Virt(&host(gic)).hardware(cpus, &DevicesConfig::default(), &mut vec![])?;
        let controllers = hardware.devices.iter().filter(|it| it.model == Model::HostKernel);
        Ok::<_, Error>(controllers.map(|it| it.window.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(last(GicVersion::V2, 8).unwrap(), ["0x8000000-0x800ffff", "0x8010000-0x801ffff"]);
    let v3 = last(GicVersion::V3, 123).unwrap();
    assert_eq!(v3, ["0x8000000-0x800ffff", "0x8080000-0x809ffff", "0x80a0000-0x8ffffff"]);
    for (gic, cpus, max) in [(GicVersion::V2, 9, "8"), (GicVersion::V3, 124, "123")] {
        let error = last(gic, cpus).unwrap_err().to_string();
        assert!(error.contains(&format!("set cpu_num to {max} or less")), "{error}");
    }
}

#[test]
fn affinities_are_those_that_kvm_gives_and_other_wishes_are_noted() {
    let ids = |num, phys_cpu_ids: &[usize]| {
        let plan = plan(|config| {
            config.cpus.num = num;
            config.cpus.phys_cpu_ids = phys_cpu_ids.to_vec();
        });
        let plan = plan.unwrap();
        let cpus = node(&tree(&plan), "cpus").clone();
        let told: Vec<_> = cpus.children.iter().map(|cpu| cells(cpu, "reg")[0] as usize).collect();
        assert_eq!(told, plan.cpus.phys_cpu_ids);
        (told, plan.notes.len())
    };
    assert_eq!(ids(2, &[]), (vec![0, 1], 0));
    assert_eq!(ids(2, &[0, 1]), (vec![0, 1], 0));
    assert_eq!(ids(2, &[0x100, 0x200]), (vec![0, 1], 1));
    let (many, _) = ids(33, &[]);
    assert_eq!(many[15..18], [15, 0x100, 0x101]);
    assert_eq!(many[32], 0x200);
}

#[test]
fn overlaps_with_memory_are_refused_naming_both() {
    for (at, name) in [(UART, "pl011"), (0x090d_0000, "pvpanic"), (GIC_ITS, "gic-its")] {
        let regions = vec![region(RAM, 64 * MIB), region(at, 4096)];
        let error = plan(|config| config.memory = MemoryConfig::Regions(regions)).unwrap_err();
        let Error::Overlap(overlap) = &error else { panic!("{error}") };
        assert_eq!((&*overlap.new, &*overlap.old), (name, "guest memory"));
    }
}

#[test]
fn a_pcs_debug_exit_is_noted() {
    let notes = |ports| plan(|config| config.devices.debug_exit_ports = ports).unwrap().notes.len();
    assert_eq!(notes(Some(vec![crate::addr::Port(0xf4)])), 1);
    assert_eq!((notes(Some(vec![])), notes(None)), (0, 0));
}

#[test]
fn every_device_is_on_the_bus_and_told_of_as_it_is() {
    let plan = plan(|_| {}).unwrap();
    let (planned, there) = planned_and_there(&plan);
    assert_eq!(there, planned);
    assert_devices_are_told(&plan, "/", |intid| vec![0, intid - 32, 4]);
    assert_controller_comes_first(&plan);
    let tree = tree(&plan);
    assert_eq!(reg(node(&tree, "memory")), [plan.ram[0].range().unwrap()]);
    let InterruptController::GicV3 { distributor, redistributors, its, .. } =
        plan.interrupt_controller
    else {
        panic!("{}", plan.interrupt_controller)
    };
    assert_eq!(reg(node(&tree, "intc")), [distributor, redistributors]);
    assert_eq!(reg(node(&tree, "intc/its")), [its.unwrap()]);
    let timer = cells(node(&tree, "timer"), "interrupts");
    assert_eq!(timer, [1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4]);
    assert_eq!(cells(node(&tree, "pmu"), "interrupts"), [1, 7, 4]);
    assert_eq!(node(&tree, "chosen").get("stdout-path").unwrap(), b"/pl011@9000000\0");
    assert_eq!(node(&tree, "psci").get("method").unwrap(), b"hvc\0");
    let gpio = cells(node(&tree, "pl061"), "phandle")[0];
    assert_eq!(cells(node(&tree, "gpio-keys/power-button"), "gpios"), [gpio, 3, 0]);
}

#[test]
fn hypercalls_are_where_they_are_asked_for() {
    let plan = plan(|config| config.devices.hypercalls = true).unwrap();
    assert_devices_are_told(&plan, "/", |intid| vec![0, intid - 32, 4]);
    assert_eq!(node(&tree(&plan), "hypercall-doorbell").name, "hypercall-doorbell@90e0000");
    assert_calls_are_answered(&plan);
}

#[test]
fn a_machine_prints_panics_and_has_a_power_button() {
    let plan = plan(|_| {}).unwrap();
    let (machine, console) = build(&plan, vec![]);
    let devices = machine.vm.get_devices();
    let write = |at, width, value| devices.handle_mmio_write(GuestPhysAddr(at), width, value);
    assert_eq!(write(UART, AccessWidth::Dword, b'A'.into()), Effect::None);
    assert_eq!(console.bytes(), b"A");
    assert_eq!(write(0x090d_0000, AccessWidth::Byte, 1), Effect::Panicked);
    assert_eq!(machine.handles.alarms.len(), 1);
    let button = machine.handles.button.clone().unwrap();
    assert!(!button.press()); // no driver yet
    // GPIOIE: line 3 interrupts.
    let _ = write(0x0903_0410, AccessWidth::Dword, 1 << 3);
    assert!(button.press());
}
