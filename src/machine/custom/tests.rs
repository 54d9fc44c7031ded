use super::*;
use crate::{
    addr::{AccessWidth, DeviceAddrRange, GuestPhysAddr},
    devices::{
        Effect,
        custom::{Device, Kinds, NoKeys, Parts, Register},
    },
    hal::{Arch, AxVCpuExitReason as Exit, Platform, StopCause},
    machine::{Machine, Plan, testing},
    scripted::{Call, ScriptedHal, Step},
    vm::StopReason,
};

/// Drives its line as it is told, and tells how large it is.
struct Bell(Parts);

impl Device for Bell {
    const KIND: &'static str = "bell";
    const REGISTERS: &'static [Register] =
        &[Register::dword("ID", 0).read_only(), Register::dword("RING", 4)];
    const SIZE: u64 = 0x1800;
    const COMPATIBLE: Option<&'static str> = Some("example,bell");
    const HAS_INTERRUPT: bool = true;
    type Keys = NoKeys;

    fn new(_: NoKeys, parts: Parts) -> Result<Self, String> {
        match parts.name.as_str() {
            "broken" => Err("it does not want to be".to_owned()),
            _ => Ok(Self(parts)),
        }
    }

    fn read(&self, _: u64) -> u64 {
        0x0be1
    }

    fn write(&self, _: u64, value: u64) -> Effect {
        self.0.line.set(value != 0);
        Effect::None
    }
}

fn bell(name: &str) -> CustomConfig {
    let recipe = Kinds::new().with::<Bell>().recipe("bell", &Default::default());
    CustomConfig {
        name: name.to_owned(),
        recipe: recipe.unwrap().unwrap(),
        place: None,
        irq: None,
        at: Default::default(),
    }
}

type Planned = (Plan, tempfile::NamedTempFile);

fn plan(arch: Arch, custom: Vec<CustomConfig>) -> Result<Planned, Error> {
    let (mut config, file) = testing::config_for(arch, 16 * testing::MIB);
    config.devices.custom = custom;
    Ok((Plan::new(&config, &Platform::usual(arch))?, file))
}

fn place(plan: &Plan, name: &str) -> (u64, u64, Option<u32>) {
    let device = plan.devices.iter().find(|device| device.name == name).unwrap();
    let window = device.window.mmio().unwrap();
    (window.first().0, window.len(), device.irq)
}

#[test]
fn each_stands_where_the_board_has_room_or_where_it_is_asked_for() {
    for (arch, first, irqs) in [
        (Arch::X86_64, 0xd000_0000, [16, 18]),
        (Arch::Aarch64, 0x0c00_0000, [48, 49]),
        (Arch::Riscv64, 0x0400_0000, [1, 2]),
    ] {
        let there = CustomConfig {
            place: Some(GuestPhysAddr(first + 0x100_0000)),
            irq: Some(irqs[0] + 40).filter(|_| arch != Arch::X86_64).or(Some(17)),
            ..bell("there")
        };
        let (plan, _file) = plan(arch, vec![bell("a"), there.clone(), bell("b")]).unwrap();
        assert_eq!(place(&plan, "a"), (first, 0x1800, Some(irqs[0])), "{arch}");
        assert_eq!(place(&plan, "b"), (first + 0x2000, 0x1800, Some(irqs[1])), "{arch}");
        assert_eq!(place(&plan, "there"), (first + 0x100_0000, 0x1800, there.irq), "{arch}");
        assert!(plan.to_string().contains("there: bell, interrupt"), "{plan}");
    }
}

#[test]
fn what_cannot_be_is_told() {
    let taken = CustomConfig { irq: Some(4), ..bell("a") };
    let beyond = CustomConfig { irq: Some(1000), ..bell("a") };
    let over = CustomConfig { place: Some(GuestPhysAddr(0x1000)), ..bell("a") };
    let high = CustomConfig { place: Some(GuestPhysAddr(u64::MAX)), ..bell("a") };
    for (config, told) in [
        (bell("com1"), "a device of the board's has this name"),
        (taken, "interrupt 4 is that of com1"),
        (beyond, "its irq is 1 to 23"),
        (over, "overlaps guest memory"),
        (high, "end above 2^64"),
    ] {
        let error = plan(Arch::X86_64, vec![config]).err().unwrap().to_string();
        assert!(error.contains(told), "{error}");
    }
    let (plan, _file) = plan(Arch::X86_64, vec![bell("broken")]).unwrap();
    let console = Arc::<crate::devices::console::RecordingConsole>::default();
    let built = Machine::build(&plan, ScriptedHal::new([vec![], vec![]]), console, &Arc::default());
    let error = built.err().unwrap().to_string();
    assert!(error.contains("\"broken\": it does not want to be"), "{error}");
}

#[test]
fn it_is_reached_and_reaches_the_interrupt_controller() {
    let (width, at) = (AccessWidth::Dword, GuestPhysAddr(0xd000_0000));
    let (plan, _file) = plan(Arch::X86_64, vec![bell("bell")]).unwrap();
    let script = [
        Step::Exit(Exit::MmioRead { addr: at, width, reg: 1, reg_width: width, signed_ext: false }),
        Step::Exit(Exit::MmioWrite { addr: GuestPhysAddr(at.0 + 4), width, data: 1 }),
        Step::Down(StopCause::Shutdown),
    ];
    let hal = ScriptedHal::new([script.to_vec(), vec![]]);
    let console = Arc::<crate::devices::console::RecordingConsole>::default();
    let machine = Machine::build(&plan, hal.clone(), console, &Arc::default()).unwrap();
    assert_eq!(machine.handles.alarms.len(), 1, "its timer is waited for");
    assert!(matches!(machine.run().unwrap(), StopReason::Shutdown));
    let calls = hal.calls();
    assert!(calls.contains(&Call::SetGpr { vcpu_id: 0, reg: 1, val: 0x0be1 }), "{calls:?}");
    assert!(calls.contains(&Call::Irq { irq: 16, high: true }), "{calls:?}");
}

/// Linux' drivers are found by it: in the device tree, and in a `_DSD` of the DSDT.
#[test]
fn kernels_are_told_what_drivers_know_it_by() {
    for arch in Arch::ALL {
        let (plan, _file) = plan(arch, vec![bell("a"), bell("b")]).unwrap();
        let table = match arch {
            Arch::X86_64 => "DSDT",
            _ => "device tree",
        };
        let table = plan.tables.iter().find(|it| it.name == table).unwrap();
        let text = String::from_utf8_lossy(table.bytes()).into_owned();
        assert_eq!(text.matches("example,bell\0").count(), 2, "{arch}");
    }
}
