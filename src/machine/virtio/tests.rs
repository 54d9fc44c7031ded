use super::*;
use crate::{
    addr::{AccessWidth, DeviceAddrRange, GuestPhysAddr},
    hal::{Arch, Platform},
    machine::{Plan, testing},
    scripted::{Call, ScriptedHal},
    virtio::rng::RngConfig,
};

fn rng(name: &str) -> VirtioConfig {
    VirtioConfig {
        name: name.to_owned(),
        device: DeviceConfig::Rng(RngConfig::default()),
        transport: Some(TransportKind::Mmio),
        place: None,
        at: Default::default(),
    }
}

fn plan(arch: Arch, virtio: Vec<VirtioConfig>) -> Result<Plan, Error> {
    let (mut config, _file) = testing::config_for(arch, 16 * testing::MIB);
    config.devices.virtio = virtio;
    Plan::new(&config, &Platform::usual(arch))
}

/// Where they are, with their interrupts.
fn places(plan: &Plan) -> Vec<(String, u64, u64, u32)> {
    let ours = plan.devices.iter().filter(|device| device.model == Model::VirtioMmio);
    let place = |device: &DevicePlan| {
        let window = device.window.mmio().unwrap();
        (device.name.clone(), window.first().0, window.len(), device.irq.unwrap())
    };
    ours.map(place).collect()
}

#[test]
fn they_stand_where_the_boards_have_room() {
    let expect = [
        (Arch::X86_64, [(0xfeb0_0000, 16), (0xfeb0_0200, 17)]),
        (Arch::Aarch64, [(0x0a00_0000, 48), (0x0a00_0200, 49)]),
        (Arch::Riscv64, [(0x1000_1000, 1), (0x1000_2000, 2)]),
    ];
    for (arch, [a, b]) in expect {
        let plan = plan(arch, vec![rng("a"), rng("b")]).unwrap();
        let expect =
            [("a", a), ("b", b)].map(|(name, (at, irq))| (name.to_owned(), at, mmio::SIZE, irq));
        assert_eq!(places(&plan), expect, "{arch}");
        assert_eq!(plan.virtio.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let printed = plan.to_string();
        assert!(printed.contains("a: entropy, by mmio"), "{printed}");
    }
}

#[test]
fn as_many_as_there_are_interrupts_for_and_no_more() {
    for (arch, most) in [(Arch::X86_64, 19), (Arch::Aarch64, 32), (Arch::Riscv64, 40)] {
        let devices = |n: usize| (0..n).map(|i| rng(&format!("r{i}"))).collect::<Vec<_>>();
        let plan_of_most = plan(arch, devices(most)).unwrap();
        let mut lines: Vec<_> = plan_of_most.devices.iter().filter_map(|it| it.irq).collect();
        lines.sort_unstable();
        let count = lines.len();
        lines.dedup();
        assert_eq!(lines.len(), count, "{arch}: an interrupt that two have");
        if arch != Arch::Riscv64 {
            let error = plan(arch, devices(most + 1)).unwrap_err().to_string();
            assert!(error.contains(&format!("interrupts for {most}")), "{error}");
        }
    }
}

#[test]
fn a_place_that_is_asked_for() {
    let place = |gpa, irq| Some((GuestPhysAddr(gpa), irq));
    let asked = VirtioConfig { place: place(0xd000_0000, 11), ..rng("here") };
    let with = plan(Arch::X86_64, vec![asked, rng("there")]).unwrap();
    assert_eq!(
        places(&with),
        [("here".into(), 0xd000_0000, 0x200, 11), ("there".into(), 0xfeb0_0000, 0x200, 16)]
    );
    let over = VirtioConfig { place: place(0x1000_0000, 0), ..rng("over") };
    let error = plan(Arch::Riscv64, vec![over]).unwrap_err().to_string();
    assert!(error.contains("overlaps"), "{error}");
}

#[test]
fn they_are_there_and_their_doorbells_are_registered() {
    for arch in Arch::ALL {
        let plan = plan(arch, vec![rng("a")]);
        let plan = plan.unwrap();
        let (_, at, ..) = places(&plan).remove(0);
        let hal = ScriptedHal::new([vec![], vec![]]);
        // The kernel's file is gone by now; it was read for the plan.
        let console = Arc::<crate::devices::console::RecordingConsole>::default();
        let lines: Arc<ScriptedHal> = hal.clone();
        let surroundings = Surroundings {
            ending: crate::virtio::fs::command::Ending::new().unwrap(),
            vm_name: "test".to_owned(),
            cpus: 1,
            memory: Arc::new(AddrSpace::new_empty(hal.clone())),
            console,
            consoles: Default::default(),
        };
        let window = GuestPhysAddrRange::new(GuestPhysAddr(at), mmio::SIZE).unwrap();
        let line = IrqLine::new(lines, 5);
        let device = make_mmio(&plan.virtio[0], window, line, &surroundings, &*hal).unwrap();
        let read = crate::devices::BaseDeviceOps::handle_read(&*device, 0, AccessWidth::Dword);
        assert_eq!(read, Ok(0x7472_6976));
        let at = crate::hal::DoorbellAddr::Mmio(GuestPhysAddr(at + 0x50));
        assert_eq!(hal.calls(), [Call::Doorbell { at, value: Some(0) }]);
    }
}

#[test]
fn kernels_are_told_of_them() {
    let (plan_x86, plan_arm, plan_riscv) =
        (plan(Arch::X86_64, vec![rng("a")]), plan(Arch::Aarch64, vec![rng("a")]), {
            plan(Arch::Riscv64, vec![rng("a")])
        });
    let bytes = |plan: Result<Plan, Error>, name: &str| {
        let plan = plan.unwrap();
        let table = plan.tables.iter().find(|table| table.name.contains(name)).unwrap();
        table.bytes().to_vec()
    };
    let has = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|it| it == what);
    let dsdt = bytes(plan_x86, "DSDT");
    assert!(has(&dsdt, b"LNRO0005") && has(&dsdt, &0xfeb0_0000_u32.to_le_bytes()));
    for (plan, node) in [(plan_arm, "virtio_mmio@a000000"), (plan_riscv, "virtio_mmio@10001000")] {
        let tree = bytes(plan, "ree");
        assert!(has(&tree, node.as_bytes()) && has(&tree, b"virtio,mmio\0"), "{node}");
    }
}
