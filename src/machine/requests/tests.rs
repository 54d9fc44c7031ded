use super::*;
use crate::{
    addr::{DeviceAddrRange, GuestPhysAddr},
    devices::EmuDeviceType::{self, *},
    hal::{AiaPlatform, GicVersion, Platform},
    machine::{
        Model, Plan,
        testing::{self, MIB, region, row},
    },
    vm::config::{EmulatedDeviceConfig, PassThroughAddressConfig, PassThroughDeviceConfig},
};
use Outcome::{AsAsked, Instead, LeftOut, Refused};

fn platforms() -> [Platform; 3] {
    Arch::ALL.map(Platform::usual)
}

fn plan_on(platform: &Platform, change: impl FnOnce(&mut AxVMConfig)) -> Result<Plan, Error> {
    let (mut config, _file) = testing::config_for(platform.arch(), 64 * MIB);
    change(&mut config);
    Plan::new(&config, platform)
}

fn plan(arch: Arch, change: impl FnOnce(&mut AxVMConfig)) -> Result<Plan, Error> {
    plan_on(&Platform::usual(arch), change)
}

/// What became of the first row.
fn first(planned: Result<Plan, Error>) -> (Outcome, String) {
    let rows = match planned {
        Ok(plan) => plan.requests,
        Err(Error::Requests(rows)) => rows,
        Err(error) => panic!("{error}"),
    };
    (rows[0].outcome, rows[0].sentence.clone())
}

fn emulated(platform: &Platform, row: EmulatedDeviceConfig) -> Outcome {
    first(plan_on(platform, |config| config.devices.emulated = vec![row])).0
}

fn passed(name: &str, base: u64, length: u64, irq_id: u32) -> PassThroughDeviceConfig {
    let (name, base_gpa) = (name.into(), GuestPhysAddr(base));
    PassThroughDeviceConfig { name, base_gpa, length, irq_id, ..Default::default() }
}

#[test]
fn emulated_rows_are_matched_with_what_a_board_has() {
    let [pc, gicv3, plic] = platforms();
    let Platform::Aarch64(host) = gicv3.clone() else { panic!() };
    let gicv2 =
        Platform::Aarch64(crate::hal::Aarch64Platform { gic: GicVersion::V2, its: false, ..host });
    let Platform::Riscv64(host) = plic.clone() else { panic!() };
    let aia = AiaPlatform { ids: 255 };
    let aia = Platform::Riscv64(crate::hal::Riscv64Platform { aia: Some(aia), ..host });
    for (platform, kind, at, irq, outcome) in [
        (&pc, Console, 0x3f8, 4, AsAsked),
        (&pc, Console, 0x3f8, 33, Instead),
        (&pc, Console, 0x2f8, 3, Refused),
        (&pc, X86IoApic, 0xfec0_0000, 0, AsAsked),
        (&pc, X86IoApic, 0xfed0_0000, 0, Refused),
        (&pc, X86Pit, 0x40, 0, AsAsked),
        (&pc, X86Pit, 0x50, 0, Refused),
        (&pc, InterruptController, 0x0800_0000, 0, Instead),
        (&gicv3, Console, 0x0900_0000, 33, AsAsked),
        (&gicv3, Console, 0x0900_0000, 40, AsAsked),
        (&gicv3, Console, 0x0900_0000, 1, Instead),
        (&gicv3, InterruptController, 0x0800_0000, 0, AsAsked),
        (&gicv3, InterruptController, 0x2f00_0000, 0, Instead),
        (&gicv3, GPPTDistributor, 0x0800_0000, 0, Instead),
        (&gicv3, GPPTRedistributor, 0x080a_0000, 0, Instead),
        (&gicv3, GPPTITS, 0x4000_0000, 0, Refused), // over memory
        (&gicv2, GPPTITS, 0x0808_0000, 0, Instead),
        (&plic, Console, 0x1000_0000, 10, AsAsked),
        (&plic, InterruptController, 0x0c00_0000, 0, AsAsked),
        (&plic, PPPTGlobal, 0x0c00_0000, 0, Instead),
        (&aia, InterruptController, 0x0c00_0000, 0, Instead),
        (&aia, InterruptController, 0x0d00_0000, 0, AsAsked),
    ] {
        let found = emulated(platform, row(kind, at, irq));
        assert_eq!(found, outcome, "{kind} at {at:#x} on {}", platform.arch());
    }
}

#[test]
fn every_kind_has_an_outcome_on_every_architecture() {
    for platform in platforms() {
        let own: &[EmuDeviceType] = match platform.arch() {
            Arch::X86_64 => &[InterruptController],
            Arch::Aarch64 => &[InterruptController, GPPTDistributor, GPPTRedistributor, GPPTITS],
            Arch::Riscv64 => &[InterruptController, PPPTGlobal],
        };
        for kind in EmuDeviceType::ALL {
            let expected = match kind {
                Dummy => LeftOut,
                IVCChannel => AsAsked,
                // Boards with ports have theirs there only.
                Console if platform.arch() != Arch::X86_64 => AsAsked,
                kind if own.contains(&kind) => Instead,
                _ => Refused,
            };
            let found = emulated(&platform, row(kind, 0xe000_0000, 0));
            assert_eq!(found, expected, "{kind} on {}", platform.arch());
        }
    }
}

#[test]
fn all_that_cannot_be_is_told_at_once() {
    let rows = [VirtioConsole, Dummy, VirtioNet].map(|kind| row(kind, 0xe000_0000, 0));
    let error = plan(Arch::Riscv64, |config| config.devices.emulated = rows.into()).unwrap_err();
    assert_eq!(error.to_string().matches("cannot be: there is no ").count(), 2);
}

/// Device, window and interrupt of the serial port.
fn console(plan: &Plan) -> (u64, Option<u32>) {
    let models = [Model::Pl011, Model::Uart16550];
    let console = models.into_iter().find_map(|model| plan.device(model)).unwrap();
    (console.window.mmio().map_or(0, |range| range.first().0), console.irq)
}

#[test]
fn the_serial_port_goes_where_a_row_has_one() {
    const OWN: u64 = 0x0900_0000;
    let cases = [
        // Where it is anyhow, it has its own interrupt.
        (vec![passed("pl011@9000000", OWN, 0x1000, 40)], OWN, 33),
        (vec![passed("uart", 0x2800_d000, 0x1000, 0x74)], 0x2800_d000, 0x74),
        (vec![passed("SERIAL1", 0xfe65_0000, 0x100, 1)], 0xfe65_0000, 33),
        // The interrupt of the clock; beyond all lines.
        (vec![passed("uart", 0x2800_d000, 0x1000, 34)], 0x2800_d000, 33),
        (vec![passed("uart", 0x2800_d000, 0x1000, 256)], 0x2800_d000, 33),
        (vec![passed("eth", 0x2800_d000, 0x1000, 40)], OWN, 33),
        (
            vec![passed("uart1", 0x2800_d000, 0x1000, 0), passed("uart2", 0x2800_e000, 0x1000, 0)],
            0x2800_d000,
            33,
        ),
        (vec![passed("uart1", 0x2800_d000, 0x1000, 0), passed("uart2", OWN, 0x1000, 0)], OWN, 33),
        // Taken, out of reach, odd, and then one that can be had.
        (
            vec![
                passed("uart1", 0x0901_0000, 0x1000, 0),
                passed("uart2", 1 << 40, 0x1000, 0),
                passed("uart3", 0x2800_d001, 0x1000, 0),
                passed("uart4", 0x2800_e000, 0x1000, 0),
            ],
            0x2800_e000,
            33,
        ),
        (vec![passed("/soc/uart@fe650000", 0, 0, 0)], OWN, 33),
    ];
    for (rows, at, irq) in cases {
        let asked = rows.clone();
        let plan = plan(Arch::Aarch64, |config| config.devices.passthrough = asked).unwrap();
        assert_eq!(console(&plan), (at, Some(irq)), "{rows:?}");
        assert!(
            plan.requests.iter().any(|row| row.sentence.contains("pl011 (PL011"))
                == (rows[0].name != "eth")
        );
        testing::assert_devices_are_told(&plan, "/", |intid| vec![0, intid - 32, 4]);
        let tree = testing::tree(&plan);
        let path = format!("/pl011@{at:x}\0");
        let stdout = testing::node(&tree, "chosen").get("stdout-path").unwrap();
        assert_eq!(stdout, path.as_bytes());
    }
    let moved = plan(Arch::Riscv64, |config| {
        config.devices.passthrough = vec![passed("uart", 0x2000_0000, 0x1000, 20)];
        config.devices.emulated = vec![row(Console, 0x3000_0000, 30)];
    });
    assert_eq!(console(&moved.unwrap()), (0x3000_0000, Some(30)));
    let pc = plan(Arch::X86_64, |config| {
        config.devices.passthrough = vec![passed("uart", 0xfe03_4000, 0x1000, 20)];
    });
    let (outcome, sentence) = first(pc);
    assert_eq!(outcome, Instead);
    assert!(sentence.contains("com1") && sentence.contains("at 0xfe034000-"), "{sentence}");
}

#[test]
fn windows_of_the_hosts_have_the_boards_own_devices_or_nothing() {
    let cases = [
        (Arch::Aarch64, "/", 0, 0, Instead, "own: pl011, pl031, pl061, pvpanic, and a GICv3"),
        (Arch::X86_64, "/", 0, 0, Instead, "com1"),
        (Arch::Riscv64, "/", 0, 0, Instead, "plic"),
        (Arch::Aarch64, "/soc/eth@1", 0, 0, LeftOut, "nothing of the host's is passed through"),
        (Arch::Aarch64, "/soc/serial@1", 0, 0, Instead, "serial port is pl011"),
        (Arch::Aarch64, "/intc@8000000", 0, 0, Instead, "gic-distributor at 0x8000000-0x800ffff"),
        (
            Arch::Aarch64,
            "intc",
            0x0800_0000,
            0x5_0000,
            Instead,
            "gic-distributor (in the host kernel)",
        ),
        (Arch::Aarch64, "gic", 0xfd40_0000, 0x1_0000, Instead, "gic-redistributors at 0x80a0000"),
        (Arch::Aarch64, "rtc", 0x0901_0000, 0x1000, Instead, "the board's own: pl031"),
        (Arch::Aarch64, "much", 0, 0x4000_0000, Instead, "elsewhere reads give all ones"),
        (Arch::Aarch64, "eth", 0x3200_0000, 0x1000, LeftOut, "reads give all ones"),
        (Arch::Aarch64, "eth", 0x4000_0000, 0x1000, Refused, "lies over the guest's memory at"),
        (Arch::X86_64, "IO APIC", 0xfec0_0000, 0x1000, Instead, "ioapic (in the host kernel)"),
        (Arch::X86_64, "HPET", 0xfed0_0000, 0x1000, LeftOut, "nothing is at 0xfed00000-"),
        (Arch::Riscv64, "plic", 0x0c00_0000, 0x60_0000, Instead, "plic (interrupt controller"),
        (Arch::Riscv64, "virtio", 0x1000_1000, 0x8000, LeftOut, "nothing is at 0x10001000-"),
    ];
    for (arch, name, base, length, outcome, words) in cases {
        let row = passed(name, base, length, 0);
        let window = row.window();
        let found = first(plan(arch, |config| config.devices.passthrough = vec![row]));
        assert!(found.0 == outcome && found.1.contains(words), "{name} on {arch}: {found:?}");
        // Addresses alone have the same, but for what a name says.
        let Some(window) = window.filter(|_| name != "gic") else { continue };
        let at = WrittenAt::default();
        let range = PassThroughAddressConfig { window, at };
        let same = plan(arch, |config| config.devices.passthrough_addresses = vec![range]);
        assert_eq!(first(same), found);
    }
}

#[test]
fn memory_is_the_guests_own_and_a_devices_window_is_none() {
    for (map_type, outcome) in [
        (VmMemMappingType::MapAlloc, AsAsked),
        (VmMemMappingType::MapIdentical, Instead),
        (VmMemMappingType::MapReserved, Instead),
    ] {
        let of_type = MemoryRegion { map_type, ..region(0, 16 * MIB) };
        let memory = MemoryConfig::Regions(vec![of_type]);
        let plan = plan(Arch::X86_64, |config| config.memory = memory).unwrap();
        assert_eq!(plan.ram[0].gpa, GuestPhysAddr(0));
        assert_eq!(plan.requests[0].outcome, outcome);
        assert_eq!(plan.all_notes().count(), usize::from(outcome != AsAsked));
    }
    let device = MemoryRegion { flags: MappingFlags::DEVICE, ..region(0xfec0_0000, 0x1000) };
    let memory = MemoryConfig::Regions(vec![region(0, 16 * MIB), device.clone()]);
    let both = plan(Arch::X86_64, |config| config.memory = memory).unwrap();
    assert_eq!((both.ram.len(), both.requests[1].outcome), (1, Instead));
    let memory = MemoryConfig::Regions(vec![device]);
    let none = plan(Arch::X86_64, |config| config.memory = memory);
    assert!(matches!(none, Err(Error::NoMemory)), "{none:?}");
}

#[test]
fn interrupts_come_by_the_boards_own_controller_whatever_the_mode() {
    for arch in Arch::ALL {
        for (mode, outcome) in [
            (VMInterruptMode::Emulated, AsAsked),
            (VMInterruptMode::Passthrough, Instead),
            (VMInterruptMode::NoIrq, Instead),
        ] {
            let at = WrittenAt::default();
            let mode = InterruptModeConfig { mode, at };
            let found = plan(arch, |config| config.devices.interrupt_mode = Some(mode.clone()));
            let plan = found.unwrap();
            assert_eq!(plan.requests[0].outcome, outcome);
            assert!(plan.requests[0].sentence.contains(&plan.interrupt_controller.to_string()));
        }
    }
}

/// Windows from anywhere: each has an outcome, and no device is ever over another.
#[test]
fn rows_from_anywhere_are_answered() {
    use proptest::prelude::*;
    let address = prop_oneof![any::<u64>(), 0..0x1_0000_0000u64, Just(u64::MAX), Just(0x0900_0000)];
    let name = prop_oneof![Just("uart"), Just("gic"), Just("x"), Just("/"), Just("/uart")];
    let row = (name, address, prop_oneof![any::<u64>(), 1..0x10_0000u64], any::<u32>());
    let rows = proptest::collection::vec(row, 1..8);
    proptest!(|(rows in rows, arch in proptest::sample::select(Arch::ALL.to_vec()))| {
        let rows = rows.into_iter().map(|(name, base, length, irq)| passed(name, base, length, irq));
        let rows: Vec<_> = rows.collect();
        let count = rows.len();
        match plan(arch, |config| config.devices.passthrough = rows) {
            Ok(plan) => prop_assert_eq!(plan.requests.len(), count),
            Err(Error::Requests(rows)) => prop_assert!(!rows.is_empty()),
            Err(error) => prop_assert!(false, "{}", error),
        }
    });
}
