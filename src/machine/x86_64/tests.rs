use super::*;
use crate::{
    addr::AccessWidth,
    devices::{Effect, EmuDeviceType},
    hal::{AxVCpuExitReason, Platform},
    machine::{
        Plan,
        testing::{
            self, MIB, assert_calls_are_answered, assert_controller_comes_first, build,
            planned_and_there, region, row,
        },
    },
    scripted::Step,
    vm::{AxVMConfig, StopReason, VCpuThreads, VMStatus},
};

/// A configuration whose kernel is a flat file, and the file.
pub fn config(memory: MemoryConfig) -> (AxVMConfig, tempfile::NamedTempFile) {
    testing::config(0x8000, memory)
}

#[test]
fn ram_goes_on_above_4_gib_what_does_not_fit_below_the_hole() {
    let areas = |size| {
        let ram = Pc.ram(&MemoryConfig::Size(size)).unwrap();
        ram.iter().map(|area| (area.gpa.0, area.size)).collect::<Vec<_>>()
    };
    assert_eq!(areas(4096), [(0, 4096)]);
    assert_eq!(areas(HOLE), [(0, HOLE)]);
    assert_eq!(areas(HOLE + 4096), [(0, HOLE), (HIGH_RAM, 4096)]);
    assert_eq!(areas(1 << 40), [(0, HOLE), (HIGH_RAM, (1 << 40) - HOLE)]);
}

#[test]
fn memory_that_cannot_be_is_an_error() {
    for bytes in [0, 1, 4097, u64::MAX, u64::MAX - 4095] {
        let error = Pc.ram(&MemoryConfig::Size(bytes)).unwrap_err();
        assert!(matches!(error, Error::MemorySize { .. }), "{error}");
    }
    for bad in [region(0, 0), region(1, 4096), region(0, 1), region(u64::MAX - 4095, 8192)] {
        let error = Pc.ram(&MemoryConfig::Regions(vec![bad])).unwrap_err();
        assert!(matches!(error, Error::MemoryRegion { .. }), "{error}");
    }
    assert!(matches!(Pc.ram(&MemoryConfig::Regions(vec![])), Err(Error::NoMemory)));
}

#[test]
fn a_kernel_is_told_of_the_legacy_hole_and_the_tables() {
    let (config, _file) = config(MemoryConfig::Size(HOLE + MIB));
    let plan = Plan::new(&config, &Platform::X86_64).unwrap();
    let told: Vec<_> = plan
        .firmware
        .memory_map
        .iter()
        .map(|entry| (entry.range.first().0, entry.range.last().0 + 1, entry.kind))
        .collect();
    assert_eq!(
        told,
        [
            (0, LEGACY_HOLE, MemKind::Ram),
            (TABLES, MIB, MemKind::Reserved),
            (MIB, HOLE, MemKind::Ram),
            (HIGH_RAM, HIGH_RAM + MIB, MemKind::Ram),
        ]
    );
    assert_eq!(plan.firmware.rsdp, Some(GuestPhysAddr(TABLES)));
    assert_eq!(plan.notes, [""; 0]);
}

#[test]
fn regions_are_honoured_and_without_low_memory_there_is_no_acpi() {
    let regions = vec![region(0, 0x8_0000), region(0x20_0000, MIB)];
    let (config, _file) = config(MemoryConfig::Regions(regions));
    let plan = Plan::new(&config, &Platform::X86_64).unwrap();
    assert_eq!(plan.ram.len(), 2);
    assert_eq!((plan.firmware.rsdp, plan.tables.len()), (None, 0));
    assert!(plan.notes[0].starts_with("no ACPI tables"), "{:?}", plan.notes);
    assert_eq!(plan.firmware.memory_map[1].range.first(), GuestPhysAddr(0x20_0000));
}

#[test]
fn the_reset_vector_writes_the_reset_value_to_the_reset_register() {
    let (config, _file) = config(MemoryConfig::Size(MIB));
    let plan = Plan::new(&config, &Platform::X86_64).unwrap();
    let (machine, _) = build(&plan, vec![]);
    let mut code = [0; 7];
    machine.vm.address_space().read(GuestPhysAddr(0xf_fff0), &mut code).unwrap();
    // mov dx, 0xcf9; mov al, 6; out dx, al; hlt
    assert_eq!(code, [0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4]);
}

#[track_caller]
fn overlap(config: &AxVMConfig) -> (String, String) {
    match Plan::new(config, &Platform::X86_64).unwrap_err() {
        Error::Overlap(overlap) => (overlap.new, overlap.old),
        other => panic!("{other}"),
    }
}

#[test]
fn overlaps_are_refused_naming_both() {
    let (mut with_region, _file) =
        config(MemoryConfig::Regions(vec![region(0, 16 * MIB), region(IOAPIC, 0x1000)]));
    assert_eq!(overlap(&with_region), ("ioapic".into(), "guest memory".into()));
    with_region.memory =
        MemoryConfig::Regions(vec![region(0, 16 * MIB), region(15 * MIB, 16 * MIB)]);
    assert_eq!(overlap(&with_region), ("guest memory".into(), "guest memory".into()));
    with_region.memory = MemoryConfig::Size(16 * MIB);
    for (port, names) in [
        (0x43, ["debug-exit", "pit"]),
        (0x3fb, ["debug-exit", "com1"]),
        (0x502, ["pvpanic", "debug-exit"]),
    ] {
        with_region.devices.debug_exit_ports = Some(vec![Port(port)]);
        let (new, old) = overlap(&with_region);
        assert!(names.contains(&&*new) && names.contains(&&*old), "{new} {old}");
    }
    with_region.devices.debug_exit_ports = Some(vec![Port(0xfffe)]);
    let error = Plan::new(&with_region, &Platform::X86_64).unwrap_err();
    assert!(matches!(error, Error::Device { .. }), "{error}");
}

#[test]
fn apic_ids_are_the_vcpus_numbers_and_other_wishes_are_noted() {
    let (mut config, _file) = config(MemoryConfig::Size(MIB));
    config.cpus.phys_cpu_ids = vec![0, 1];
    assert_eq!(Plan::new(&config, &Platform::X86_64).unwrap().notes.len(), 0);
    config.cpus.phys_cpu_ids = vec![0x100, 0x200];
    let plan = Plan::new(&config, &Platform::X86_64).unwrap();
    assert!(plan.notes[0].contains("[100, 200]"), "{:?}", plan.notes);
    assert_eq!(plan.cpus.affinities().map(|(_, _, phys)| phys).collect::<Vec<_>>(), [0, 1]);
    config.cpus.num = 0;
    assert!(matches!(Plan::new(&config, &Platform::X86_64), Err(Error::NoCpu)));
}

#[test]
fn a_plan_is_told_as_text_and_as_json() {
    let (config, _file) = config(MemoryConfig::Size(512 * MIB));
    let plan = Plan::new(&config, &Platform::X86_64).unwrap();
    let text = plan.to_string();
    for line in [
        "machine   test: x86_64, 2 vCPUs",
        "memory             0x0   0x20000000  rwx, 512 MiB",
        "device         ports 0x3f8-0x3ff  com1: 16550 serial port, interrupt 4",
        "table          0xe0000         0x24  RSDP",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    let json = serde_json::to_value(&plan).unwrap();
    let com1 = json["devices"].as_array().unwrap().iter().find(|d| d["name"] == "com1").unwrap();
    let expect = serde_json::json!({
        "name": "com1", "model": "uart16550", "bus": "port", "first": 0x3f8, "last": 0x3ff, "irq": 4
    });
    assert_eq!(*com1, expect);
}

#[test]
fn every_planned_device_of_ours_is_on_the_bus_and_no_other() {
    let (config, _file) = config(MemoryConfig::Size(MIB));
    let plan = Plan::new(&config, &Platform::X86_64).unwrap();
    let (planned, there) = planned_and_there(&plan);
    assert_eq!(there, planned);
    assert_controller_comes_first(&plan);
}

#[test]
fn hypercalls_are_where_they_are_asked_for() {
    let (mut config, _file) = config(MemoryConfig::Size(MIB));
    config.devices.emulated = vec![row(EmuDeviceType::IVCChannel, 0xd000_0000, 10)];
    let plan = Plan::new(&config, &Platform::X86_64).unwrap();
    assert_calls_are_answered(&plan);
    let line = "device     0xfef00000-0xfef00fff  hypercall-doorbell: takes hypercalls\n";
    assert!(plan.to_string().contains(line), "{plan}");
}

#[test]
fn a_plan_can_be_built_again_and_its_machine_prints_and_powers_off() {
    let (config, _file) = config(MemoryConfig::Size(16 * MIB));
    let plan = Plan::new(&config, &Platform::X86_64).unwrap();
    for _ in 0..2 {
        let (machine, console) = build(&plan, vec![]);
        assert_eq!(machine.vm.status(), VMStatus::Loaded);
        let devices = machine.vm.get_devices();
        for (port, width, value, effect) in [
            (0x3f8, AccessWidth::Byte, b'C'.into(), Effect::None),
            (0xe9, AccessWidth::Byte, b'E'.into(), Effect::None),
            (0x80, AccessWidth::Byte, 0x55, Effect::None),
            (0x604, AccessWidth::Word, 0x2000, Effect::PowerOff),
            (0x600, AccessWidth::Byte, 0x34, Effect::PowerOff),
            (0xcf9, AccessWidth::Byte, 0x06, Effect::Reset),
            (0x64, AccessWidth::Byte, 0xfe, Effect::Reset),
            (0x505, AccessWidth::Byte, 0x01, Effect::Panicked),
            (0xf4, AccessWidth::Dword, 0x10, Effect::Exit(33)),
            (0x501, AccessWidth::Byte, 0x10, Effect::Exit(33)),
        ] {
            assert_eq!(devices.handle_port_write(Port(port), width, value), effect, "{port:#x}");
        }
        assert_eq!(console.bytes(), b"CE");
        let button = machine.handles.button.clone().unwrap();
        assert!(!button.press()); // no driver yet
        let _ = devices.handle_port_write(Port(0x60), AccessWidth::Byte, 0xf4);
        assert_eq!(devices.handle_port_read(Port(0x60), AccessWidth::Byte), 0xfa);
        assert!(button.press());
        assert_eq!(devices.handle_port_read(Port(0x60), AccessWidth::Byte), 0x1d); // Ctrl
        let mut rsdp = [0; 8];
        machine.vm.address_space().read(GuestPhysAddr(TABLES), &mut rsdp).unwrap();
        assert_eq!(&rsdp, b"RSD PTR ");
    }
}

#[test]
fn the_loop_reaches_the_devices() {
    let (config, _file) = config(MemoryConfig::Size(MIB));
    let plan = Plan::new(&config, &Platform::X86_64).unwrap();
    let out = |port, data| {
        Step::Exit(AxVCpuExitReason::IoWrite { port: Port(port), width: AccessWidth::Byte, data })
    };
    let (machine, console) = build(&plan, vec![out(0x3f8, b'!'.into()), out(0xcf9, 6)]);
    let threads = VCpuThreads::spawn(&machine.vm, || {}).unwrap();
    machine.vm.boot().unwrap();
    assert!(matches!(threads.join(), StopReason::Reset));
    assert_eq!(console.bytes(), b"!");
}
