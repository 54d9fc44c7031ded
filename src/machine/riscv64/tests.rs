use super::*;
use crate::{
    addr::{AccessWidth, DeviceAddrRange, SysRegAddr},
    devices::{Effect, EmuDeviceType},
    hal::{AiaPlatform, Arch, Platform},
    machine::{
        Plan,
        testing::{
            MIB, assert_calls_are_answered, assert_controller_comes_first, assert_devices_are_told,
            build, build_on, cells, node, planned_and_there, reg, region, row, tree,
        },
    },
    scripted::{Call, ScriptedHal},
    vm::AxVMConfig,
};

const UART: u64 = 0x1000_0000;

fn host(aia: bool) -> Riscv64Platform {
    let Platform::Riscv64(usual) = Platform::usual(Arch::Riscv64) else { unreachable!() };
    let extensions = [usual.extensions.clone(), vec!["zkr", "ssaia"]].concat();
    Riscv64Platform { aia: aia.then_some(AiaPlatform { ids: 255 }), extensions, ..usual }
}

fn plan(aia: bool, change: impl FnOnce(&mut AxVMConfig)) -> Result<Plan, Error> {
    let memory = MemoryConfig::Size(64 * MIB);
    let (mut config, _file) = crate::machine::testing::config(RAM + 2 * MIB, memory);
    change(&mut config);
    Plan::new(&config, &Platform::Riscv64(host(aia)))
}

#[test]
fn ram_begins_where_qemus_board_has_it_and_ends_where_addresses_do() {
    for (mmu_type, bits) in
        [(None, 41), (Some("riscv,sv39"), 41), (Some("riscv,sv48"), 50), (Some("riscv,sv57"), 59)]
    {
        let host = Riscv64Platform { mmu_type, ..host(false) };
        let ram = |size| Virt(&host).ram(&MemoryConfig::Size(size));
        let most = (1 << bits) - RAM;
        assert_eq!(ram(most).unwrap()[0].gpa.0, RAM);
        let error = ram(most + 4096).unwrap_err();
        assert!(matches!(error, Error::MemoryTooHigh { bits: b, .. } if b == bits), "{error}");
    }
}

#[test]
fn the_controller_is_the_host_kernels_if_it_has_one() {
    let with = plan(true, |_| {}).unwrap();
    let wanted = InterruptController::Aia {
        aplic: GuestPhysAddr(APLIC),
        imsics: GuestPhysAddr(IMSICS),
        sources: 95,
        ids: 255,
    };
    assert_eq!(with.interrupt_controller, wanted);
    assert!(with.device(Model::Plic).is_none());
    let without = plan(false, |_| {}).unwrap();
    assert_eq!(without.interrupt_controller, InterruptController::Board);
    assert_eq!(without.device(Model::Plic).unwrap().window.to_string(), "0xc000000-0xc201fff");
    for plan in [&with, &without] {
        assert_controller_comes_first(plan);
    }
}

#[test]
fn hart_ids_are_the_vcpus_numbers_and_other_wishes_are_noted() {
    let notes = |ids: &[usize]| {
        let plan = plan(false, |config| config.cpus.phys_cpu_ids = ids.to_vec()).unwrap();
        assert_eq!(plan.cpus.affinities().map(|(_, _, id)| id).collect::<Vec<_>>(), [0, 1]);
        plan.notes.len()
    };
    assert_eq!((notes(&[]), notes(&[0, 1]), notes(&[1, 2])), (0, 0, 1));
}

#[test]
fn overlaps_with_memory_are_refused_naming_both() {
    for (at, name) in [(UART, "serial"), (PLIC, "plic"), (0x10_0000, "test")] {
        let regions = vec![region(RAM, 64 * MIB), region(at, 4096)];
        let error =
            plan(false, |config| config.memory = MemoryConfig::Regions(regions)).unwrap_err();
        let Error::Overlap(overlap) = &error else { panic!("{error}") };
        assert_eq!((&*overlap.new, &*overlap.old), (name, "guest memory"));
    }
}

#[test]
fn every_device_is_on_the_bus_and_told_of_as_it_is() {
    for aia in [false, true] {
        let plan = plan(aia, |_| {}).unwrap();
        let (planned, there) = planned_and_there(&plan);
        assert_eq!(there, planned);
        assert_devices_are_told(&plan, "/soc", |source| match aia {
            true => vec![source, 4],
            false => vec![source],
        });
        let tree = tree(&plan);
        assert_eq!(reg(node(&tree, "memory")), [plan.ram[0].range().unwrap()]);
        assert_eq!(node(&tree, "chosen").get("stdout-path").unwrap(), b"/soc/serial@10000000\0");
        let cpus = node(&tree, "cpus");
        let handle =
            |cpu| cells(node(&tree, &format!("cpus/{cpu}/interrupt-controller")), "phandle")[0];
        let harts = [handle("cpu@0"), 9, handle("cpu@1"), 9];
        assert_eq!(cpus.children.len(), 2);
        let controller = if aia { "soc/interrupt-controller@28000000" } else { "soc/plic" };
        assert_eq!(cells(node(&tree, controller), "interrupts-extended"), harts);
        // At the root it would be the parent of the harts' own controllers as well.
        assert_eq!(tree.root.get("interrupt-parent"), None);
        let parent = if aia { "soc/interrupt-controller@d000000" } else { "soc/plic" };
        let handle = cells(node(&tree, parent), "phandle");
        for device in ["soc/serial", "soc/rtc"] {
            assert_eq!(cells(node(&tree, device), "interrupt-parent"), handle);
        }
    }
}

#[test]
fn hypercalls_are_where_they_are_asked_for() {
    let plan = plan(false, |config| {
        config.devices.emulated = vec![row(EmuDeviceType::IVCChannel, 0x7000_0000, 20)];
    });
    let plan = plan.unwrap();
    assert_devices_are_told(&plan, "/soc", |source| vec![source]);
    let doorbell = node(&tree(&plan), "soc/hypercall-doorbell").clone();
    assert_eq!(doorbell.name, "hypercall-doorbell@103000");
    assert_calls_are_answered(&plan);
}

#[test]
fn what_the_harts_can_is_told_in_the_old_way_and_the_new() {
    let plan = plan(false, |_| {}).unwrap();
    let tree = tree(&plan);
    let cpu = node(&tree, "cpus/cpu@1");
    assert_eq!(cpu.get("riscv,isa").unwrap(), b"rv64imafdc_zicsr_zifencei_zkr_ssaia\0");
    assert_eq!(cpu.get("riscv,isa-base").unwrap(), b"rv64i\0");
    let list = cpu.get("riscv,isa-extensions").unwrap();
    assert_eq!(list, b"i\0m\0a\0f\0d\0c\0zicsr\0zifencei\0zkr\0ssaia\0");
    assert_eq!(cpu.get("mmu-type").unwrap(), b"riscv,sv39\0");
    assert_eq!(cpu.get("riscv,cbom-block-size"), None);
    assert_eq!(cells(node(&tree, "cpus"), "timebase-frequency"), [10_000_000]);
}

#[test]
fn a_machine_prints_ends_and_gives_entropy() {
    let plan = plan(false, |_| {}).unwrap();
    let (machine, console) = build(&plan, vec![]);
    let devices = machine.vm.get_devices();
    let write = |at, width, value| devices.handle_mmio_write(GuestPhysAddr(at), width, value);
    assert_eq!(write(UART, AccessWidth::Byte, b'A'.into()), Effect::None);
    for (value, effect) in
        [(0x5555, Effect::PowerOff), (0x7777, Effect::Reset), (0x0003_3333, Effect::Exit(3))]
    {
        assert_eq!(write(0x10_0000, AccessWidth::Dword, value), effect);
    }
    assert_eq!(write(0x10_2000, AccessWidth::Byte, 1), Effect::Panicked);
    let seed = devices.handle_sys_reg_read(SysRegAddr(0x15)).unwrap();
    assert_eq!(seed >> 30, 0b10);
    // The firmware's console: legacy putchar.
    let put =
        devices.handle_hypercall(machine.vm.address_space(), 1 << 32, [b'B'.into(), 0, 0, 0, 0, 0]);
    let put = put.unwrap();
    assert_eq!((put.value, put.second), (0, None));
    // The debug console's write of a byte, function 2.
    let put = devices.handle_hypercall(
        machine.vm.address_space(),
        0x4442_434e_0000_0002,
        [b'C'.into(), 0, 0, 0, 0, 0],
    );
    assert_eq!(put.unwrap().second, Some(0));
    assert_eq!(console.bytes(), b"ABC");
    assert!(machine.handles.button.is_none());
    assert_eq!(machine.handles.alarms.len(), 1);
}

#[test]
fn interrupts_go_by_the_plic_to_a_hart() {
    let plan = plan(false, |_| {}).unwrap();
    let (machine, _, hal) = build_on(&plan, ScriptedHal::new([vec![], vec![]]));
    let devices = machine.vm.get_devices();
    let write = |at: u64, value| {
        let _ = devices.handle_mmio_write(GuestPhysAddr(at), AccessWidth::Dword, value);
    };
    write(PLIC + 4 * 10, 1); // the serial port's priority
    write(PLIC + 0x2000 + 0x80, 1 << 10); // enabled for hart 1
    let _ = devices.handle_mmio_write(GuestPhysAddr(UART + 1), AccessWidth::Byte, 2); // IER: THRE
    assert!(hal.calls().contains(&Call::ExternalIrq { vcpu_id: 1, high: true }));
    let claimed = GuestPhysAddr(PLIC + 0x20_1004);
    assert_eq!(devices.handle_mmio_read(claimed, AccessWidth::Dword), 10);
    assert!(!hal.calls().iter().any(|call| matches!(call, Call::Irq { .. })));
    let plic = plan.device(Model::Plic).unwrap().window.mmio().unwrap();
    assert_eq!(plic.last().0, PLIC + 0x20_1fff);
}
