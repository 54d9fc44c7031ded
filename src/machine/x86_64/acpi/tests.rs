use super::*;
use crate::{
    hal::Platform,
    machine::{
        Plan,
        x86_64::{RESET_VECTOR, tests::config},
    },
    vm::config::MemoryConfig,
};

fn plan(cpus: usize) -> Plan {
    let (mut config, _file) = config(MemoryConfig::Size(1 << 24));
    config.cpus.num = cpus;
    Plan::new(&config, &Platform::X86_64).unwrap()
}

fn table<'a>(plan: &'a Plan, name: &str) -> &'a FirmwareTable {
    plan.tables.iter().find(|table| table.name == name).unwrap()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

/// The ports of our own devices, as first port and count.
fn windows(plan: &Plan) -> Vec<(u16, u64)> {
    plan.devices
        .iter()
        .filter(|device| device.model != Model::HostKernel)
        .filter_map(|device| device.window.ports())
        .map(|ports| (ports.first().0, ports.len()))
        .collect()
}

#[test]
fn all_checksums_are_right_and_all_tables_are_found_from_the_root() {
    let plan = plan(2);
    for table in plan.tables.iter().filter(|table| table.gpa.0 != RESET_VECTOR) {
        let sum = table.bytes().iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!(sum, 0, "{}", table.name);
        assert_eq!(table.gpa.0 % 16, 0, "{}", table.name);
    }
    let at = |name| table(&plan, name).gpa.0;
    assert_eq!(u64_at(table(&plan, "RSDP").bytes(), 24), at("XSDT"));
    let xsdt = table(&plan, "XSDT").bytes();
    assert_eq!([36, 44].map(|offset| u64_at(xsdt, offset)), [at("FADT"), at("MADT")]);
    assert_eq!(u64_at(table(&plan, "FADT").bytes(), 140), at("DSDT"));
}

#[test]
fn the_fixed_registers_are_ports_of_devices() {
    let plan = plan(1);
    let fadt = table(&plan, "FADT").bytes();
    // RESET_REG, SLEEP_CONTROL_REG, SLEEP_STATUS_REG (ACPI 6.5, table 5.9).
    for (offset, expect) in [(116, 0xcf9), (244, 0x600), (256, 0x601)] {
        assert_eq!(fadt[offset..offset + 4], [1, 8, 0, 1], "a byte-wide port at {offset}");
        let port = u64_at(fadt, offset + 4) as u16;
        assert_eq!(port, expect);
        let inside = |(first, count): &(u16, u64)| (*first..*first + *count as u16).contains(&port);
        assert!(windows(&plan).iter().any(inside), "{port:#x}");
    }
    assert_eq!(fadt[128], 6); // RESET_VALUE
    assert_eq!(u16_at(fadt, 109) & 0b10_0110, 0b00_0110); // 8042, no VGA, a clock
    let flags = u32::from_le_bytes(fadt[112..116].try_into().unwrap());
    assert_eq!(flags & (1 << 20 | 1 << 10), 1 << 20 | 1 << 10); // HW_REDUCED_ACPI, RESET_REG_SUP
}

/// I/O port descriptors (6.4.2.5): tag 0x47, 16-bit decode, minimum, maximum, alignment, count.
fn described_ports(dsdt: &[u8]) -> Vec<(u16, u64)> {
    let is_io = |d: &&[u8]| d[..2] == [0x47, 1] && d[2..4] == d[4..6] && d[6] == 1;
    dsdt.windows(8).filter(is_io).map(|d| (u16_at(d, 2), d[7].into())).collect()
}

#[test]
fn every_device_described_is_there_as_described() {
    let plan = plan(1);
    let dsdt = table(&plan, "DSDT").bytes();
    let described = described_ports(dsdt);
    assert_eq!(described, [(0x3f8, 8), (0x60, 1), (0x64, 1), (0x70, 2), (0x505, 1)]);
    assert!(described.iter().all(|window| windows(&plan).contains(window)));
    // Extended interrupt descriptors (6.4.3.6): edge, active high, one interrupt.
    let is_irq = |d: &&[u8]| d[..5] == [0x89, 6, 0, 0b011, 1];
    let irqs: Vec<_> = dsdt.windows(9).filter(is_irq).map(|d| d[5]).collect();
    assert_eq!(irqs, [4, 1]);
}

#[test]
fn a_doorbell_is_described_in_memory() {
    let (mut config, _file) = config(MemoryConfig::Size(1 << 24));
    let memory = |config: &_| {
        let plan = Plan::new(config, &Platform::X86_64).unwrap();
        let dsdt = table(&plan, "DSDT").bytes().to_vec();
        // 32-bit fixed memory descriptors (6.4.3.4): tag 0x86, 9 bytes, writable, base, length.
        let places = dsdt.windows(12).filter(|d| d[..4] == [0x86, 9, 0, 1]);
        let places: Vec<_> = places.map(|d| u64_at(d, 4)).collect();
        (places, dsdt.windows(8).any(|text| text == b"AXVM0001"))
    };
    assert_eq!(memory(&config), (vec![], false));
    config.devices.hypercalls = true;
    assert_eq!(memory(&config), (vec![0x1000_fef0_0000], true));
}

#[test]
fn each_processor_has_its_apic() {
    for cpus in [1, 2, 255, 256, 1024] {
        let plan = plan(cpus);
        let madt = table(&plan, "MADT").bytes();
        let (mut at, mut apics, mut x2apics, mut ioapics) = (44, Vec::new(), Vec::new(), 0);
        while at < madt.len() {
            match madt[at] {
                0 => apics.push(madt[at + 3]),
                1 => ioapics += 1,
                9 => x2apics.push(u16_at(madt, at + 4)),
                _ => {}
            }
            at += usize::from(madt[at + 1]);
        }
        assert_eq!((at, ioapics), (madt.len(), 1));
        assert_eq!(apics, (0..cpus.min(255)).map(|id| id as u8).collect::<Vec<_>>());
        assert_eq!(x2apics, (255..cpus as u16).collect::<Vec<_>>());
    }
}

#[test]
fn more_processors_than_there_is_room_for_are_an_error() {
    let (mut config, _file) = config(MemoryConfig::Size(1 << 24));
    config.cpus.num = 10_000;
    let error = Plan::new(&config, &Platform::X86_64).unwrap_err();
    assert!(matches!(error, Error::TablesTooLarge { cpus: 10_000, .. }), "{error}");
}
