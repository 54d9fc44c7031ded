//! What the tests of all boards share.

use std::sync::Arc;

use super::{
    Machine, Plan,
    fdt::{self, Node, Tree},
    parts::{Model, Window},
};
use crate::{
    addr::{AccessWidth, DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange, MappingFlags},
    devices::{EmuDeviceType, console::RecordingConsole},
    hal::{Arch, AxVCpuExitReason, StopCause},
    scripted::{Call, ScriptedHal, Step},
    vm::{
        AxVMConfig,
        config::{
            CpuConfig, DevicesConfig, EmulatedDeviceConfig, ImageFile, KernelConfig, MemoryConfig,
            MemoryRegion, Unpack, WrittenAt,
        },
    },
};

pub const MIB: u64 = 1 << 20;

/// A configuration with 2 vCPUs whose kernel is a flat file at `at`, and the file.
pub fn config(at: u64, memory: MemoryConfig) -> (AxVMConfig, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), [0xf4; 16]).unwrap();
    let at = Some(GuestPhysAddr(at));
    let kernel = KernelConfig {
        image: ImageFile { path: file.path().into(), load_addr: at },
        entry_point: at,
        cmdline: None,
        ramdisk: None,
        bios: None,
        dtb: None,
        dtb_patch: vec![],
        modules: vec![],
        unpack: Unpack::default(),
    };
    let config = AxVMConfig {
        id: 1,
        name: "test".into(),
        cpus: CpuConfig { num: 2, phys_cpu_ids: vec![], phys_cpu_sets: vec![] },
        memory,
        kernel,
        devices: DevicesConfig::default(),
        notes: vec![],
        files: vec![],
    };
    (config, file)
}

/// One for the usual board of an architecture, with so many bytes of RAM.
pub fn config_for(arch: Arch, ram: u64) -> (AxVMConfig, tempfile::NamedTempFile) {
    let at = match arch {
        Arch::X86_64 => 0x8000,
        Arch::Aarch64 => 0x4020_0000,
        Arch::Riscv64 => 0x8020_0000,
    };
    config(at, MemoryConfig::Size(ram))
}

pub fn region(gpa: u64, size: u64) -> MemoryRegion {
    let flags = MappingFlags::READ | MappingFlags::WRITE;
    let (map_type, at) = Default::default();
    MemoryRegion { gpa: GuestPhysAddr(gpa), size, flags, lazy: false, map_type, at }
}

pub fn row(emu_type: EmuDeviceType, base_gpa: u64, irq_id: u32) -> EmulatedDeviceConfig {
    let base_gpa = GuestPhysAddr(base_gpa);
    let name = "row".into();
    EmulatedDeviceConfig {
        name,
        base_gpa,
        length: 0x1000,
        irq_id,
        emu_type,
        cfg_list: vec![],
        at: WrittenAt::default(),
    }
}

/// The machine on hardware whose first vCPU does as it is told.
pub fn build(plan: &Plan, script: Vec<Step>) -> (Machine<ScriptedHal>, Arc<RecordingConsole>) {
    let (machine, console, _) = build_on(plan, ScriptedHal::new([script, vec![]]));
    (machine, console)
}

pub fn build_on(
    plan: &Plan,
    hal: Arc<ScriptedHal>,
) -> (Machine<ScriptedHal>, Arc<RecordingConsole>, Arc<ScriptedHal>) {
    let console = Arc::<RecordingConsole>::default();
    (Machine::build(plan, hal.clone(), console.clone(), &Arc::default()).unwrap(), console, hal)
}

/// What a device's window is called, and where it is: as planned, and as on the buses.
pub fn planned_and_there(plan: &Plan) -> (Vec<String>, Vec<String>) {
    let machine = build(plan, vec![]).0;
    let ours = plan.devices.iter().filter(|device| device.model.is_device());
    let mut planned: Vec<_> = ours.map(|device| device.window.to_string()).collect();
    let devices = machine.vm.get_devices();
    let ports = devices.iter_port_dev().map(|it| Window::Port(it.address_range()));
    let memory = devices.iter_mmio_dev().map(|it| Window::Mmio(it.address_range()));
    let registers = devices.iter_sys_reg_dev().map(|it| Window::SysReg(it.address_range()));
    let mut there: Vec<_> =
        ports.chain(memory).chain(registers).map(|window| window.to_string()).collect();
    planned.sort();
    there.sort();
    (planned, there)
}

/// The interrupt controller is asked for before anything else.
#[track_caller]
pub fn assert_controller_comes_first(plan: &Plan) {
    let (_machine, _, hal) = build_on(plan, ScriptedHal::new([vec![], vec![]]));
    let wanted = Call::UseInterruptController(plan.interrupt_controller.clone());
    assert_eq!(hal.calls().first(), Some(&wanted));
}

/// A call by the doorbell is answered, in memory; those beyond it are asked for of the host, and not
/// without a doorbell.
#[track_caller]
pub fn assert_calls_are_answered(plan: &Plan) {
    let doorbell = plan.device(Model::Doorbell).unwrap().window.mmio().unwrap();
    let block = plan.ram[0].gpa;
    let rings = Step::Exit(AxVCpuExitReason::MmioWrite {
        addr: doorbell.first(),
        width: AccessWidth::Qword,
        data: block.0,
    });
    let down = Step::Down(StopCause::Shutdown);
    let (machine, _, hal) = build_on(plan, ScriptedHal::new([vec![rings, down], vec![]]));
    let debug = [2_u64.to_le_bytes(), [0; 8]].concat();
    machine.vm.address_space().write(block, &debug).unwrap();
    machine.vm.boot().unwrap();
    assert_eq!(machine.vm.run_vcpu(0).unwrap(), AxVCpuExitReason::SystemDown);
    let mut result = [0; 8];
    machine.vm.address_space().read(GuestPhysAddr(block.0 + 56), &mut result).unwrap();
    assert_eq!(result, [0xff; 8]);
    let asked_for = |hal: &ScriptedHal| hal.calls().contains(&Call::ForwardHypercalls(0..=7));
    assert!(asked_for(&hal));
    let mut without = plan.clone();
    without.devices.retain(|device| device.model != Model::Doorbell);
    let (_machine, _, hal) = build_on(&without, ScriptedHal::new([vec![], vec![]]));
    assert!(!asked_for(&hal));
}

/// The device tree that a guest is given, parsed back.
pub fn tree(plan: &Plan) -> Tree {
    fdt::read(blob(plan)).unwrap()
}

pub fn blob(plan: &Plan) -> &[u8] {
    plan.tables.iter().find(|table| table.name == "device tree").unwrap().bytes()
}

/// The node at a path.
#[track_caller]
pub fn node<'a>(tree: &'a Tree, path: &str) -> &'a Node {
    let names = path.split('/').filter(|name| !name.is_empty());
    names.fold(&tree.root, |node, name| {
        node.find(name).unwrap_or_else(|| panic!("no {name} of {path}: {node:?}"))
    })
}

/// A property's cells.
#[track_caller]
pub fn cells(node: &Node, name: &str) -> Vec<u32> {
    let value = node.get(name).unwrap_or_else(|| panic!("{} has no {name}", node.name));
    value.chunks_exact(4).map(|cell| u32::from_be_bytes(cell.try_into().unwrap())).collect()
}

/// A `reg` of two cells each.
pub fn reg(node: &Node) -> Vec<GuestPhysAddrRange> {
    let entries = node.get("reg").unwrap().chunks_exact(16).map(|it| it.split_at(8));
    let number = fdt::big_endian;
    entries
        .map(|(at, size)| GuestPhysAddrRange::new(GuestPhysAddr(number(at)), number(size)).unwrap())
        .collect()
}

/// That every device of ours in memory is told of with its place and its interrupt, as `specifier`
/// writes that.
#[track_caller]
pub fn assert_devices_are_told(plan: &Plan, below: &str, specifier: impl Fn(u32) -> Vec<u32>) {
    let tree = tree(plan);
    let bus = node(&tree, below);
    for device in plan.devices.iter().filter(|device| device.model != Model::HostKernel) {
        let Some(range) = device.window.mmio() else { continue };
        let told = bus.children.iter().filter(|node| node.get("reg").is_some());
        let told: Vec<_> = told.filter(|node| reg_of(node) == Some(range)).collect();
        assert_eq!(told.len(), 1, "{}", device.name);
        match device.irq {
            Some(irq) => {
                assert_eq!(cells(told[0], "interrupts"), specifier(irq), "{}", device.name)
            }
            None => assert_eq!(told[0].get("interrupts"), None, "{}", device.name),
        }
    }
}

fn reg_of(node: &Node) -> Option<GuestPhysAddrRange> {
    (node.get("reg")?.len() == 16).then(|| reg(node)[0])
}
