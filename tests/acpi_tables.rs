//! ACPICA's compiler is the judge of our ACPI tables: it must be able to read each, find nothing to
//! complain about, and agree with every byte when it compiles them again.
#![cfg(target_arch = "x86_64")]

use std::{path::Path, process::Command};

use axvmm::{
    addr::GuestPhysAddr,
    devices::EmuDeviceType,
    hal::Platform,
    machine::Plan,
    vm::{
        AxVMConfig,
        config::{
            CpuConfig, DevicesConfig, EmulatedDeviceConfig, ImageFile, KernelConfig, MemoryConfig,
            Unpack,
        },
    },
};

fn plan(cpus: usize, devices: DevicesConfig, dir: &Path) -> Plan {
    let path = dir.join("kernel.bin");
    std::fs::write(&path, [0xf4; 16]).unwrap();
    let at = Some(GuestPhysAddr(0x8000));
    let config = AxVMConfig {
        id: 1,
        name: "acpi".into(),
        cpus: CpuConfig { num: cpus, phys_cpu_ids: vec![], phys_cpu_sets: vec![] },
        memory: MemoryConfig::Size(64 << 20),
        kernel: KernelConfig {
            image: ImageFile { path, load_addr: at },
            entry_point: at,
            cmdline: None,
            ramdisk: None,
            bios: None,
            dtb: None,
            dtb_patch: vec![],
            modules: vec![],
            unpack: Unpack::default(),
        },
        devices,
        notes: vec![],
        files: vec![],
    };
    Plan::new(&config, &Platform::X86_64).unwrap()
}

/// Runs iasl in `dir`; gives what it said.
fn iasl(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("iasl").args(args).current_dir(dir).output().unwrap_or_else(|error| {
        panic!("iasl cannot be run ({error}): install it, on Debian with `apt install acpica-tools`")
    });
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "iasl {args:?}: {}\n{said}", output.status);
    said
}

#[track_caller]
fn check_tables(cpus: usize, devices: DevicesConfig) {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(cpus, devices, dir.path());
    let names: Vec<_> = plan.tables.iter().map(|table| table.name).collect();
    assert_eq!(names, ["RSDP", "DSDT", "FADT", "MADT", "XSDT", "reset vector"]);
    // The compiler knows no root pointer, and code is no table: unit tests look at those.
    for table in &plan.tables[1..5] {
        let (binary, source) = (format!("{}.dat", table.name), format!("{}.dsl", table.name));
        std::fs::write(dir.path().join(&binary), table.bytes()).unwrap();
        let said = iasl(dir.path(), &["-d", &binary]);
        for complaint in ["Error", "Warning", "Invalid", "ncorrect", "not found"] {
            assert!(!said.contains(complaint), "{}: {complaint}\n{said}", table.name);
        }
        let text = std::fs::read_to_string(dir.path().join(&source)).unwrap();
        for complaint in ["**** ", "should be", "Invalid"] {
            assert!(!text.contains(complaint), "{}: {complaint}\n{text}", table.name);
        }
        let said = iasl(dir.path(), &["-we", "-p", "again", &source]);
        let clean = said.lines().find(|line| line.contains("Compilation "));
        let clean = clean.is_some_and(|line| line.contains("0 Errors, 0 Warnings, 0 Remarks"));
        assert!(clean, "{}\n{said}\n{text}", table.name);
        let again = std::fs::read(dir.path().join("again.aml")).unwrap();
        // The header's creator and the checksum over it are the compiler's own.
        assert_eq!(again[36..], table.bytes()[36..], "{}\n{text}", table.name);
    }
}

#[test]
fn iasl_accepts_the_tables_of_one_processor() {
    check_tables(1, DevicesConfig::default());
}

#[test]
fn iasl_accepts_the_tables_of_more_processors_than_apic_ids_have_bits_for() {
    check_tables(300, DevicesConfig::default());
}

#[test]
fn iasl_accepts_the_tables_of_a_guest_with_channels() {
    let row = EmulatedDeviceConfig {
        name: "channels".into(),
        base_gpa: GuestPhysAddr(0xd000_0000),
        length: 0x10_0000,
        irq_id: 10,
        emu_type: EmuDeviceType::IVCChannel,
        cfg_list: vec![],
        at: Default::default(),
    };
    check_tables(1, DevicesConfig { emulated: vec![row], ..DevicesConfig::default() });
}
