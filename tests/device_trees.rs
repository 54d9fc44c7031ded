//! The device tree compiler is the judge of our device trees: it must read each, as what was planned,
//! and have nothing to complain about.

mod common;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
};

use axvmm::{
    addr::GuestPhysAddr,
    devices::EmuDeviceType,
    hal::{Aarch64Platform, AiaPlatform, Arch, GicVersion, Platform, Riscv64Platform},
    machine::{FirmwareTable, Plan},
    vm::{
        AxVMConfig,
        config::{
            CpuConfig, DevicesConfig, EmulatedDeviceConfig, ImageFile, KernelConfig, MemoryConfig,
            MemoryRegion, Unpack,
        },
    },
};

const RWX: axvmm::addr::MappingFlags = axvmm::addr::MappingFlags::from_bits_truncate(7);

/// A guest with a flat kernel, whose files are in `dir`.
fn config(arch: Arch, cpus: usize, dir: &Path) -> AxVMConfig {
    let path = dir.join("kernel.bin");
    fs::write(&path, [0; 64]).unwrap();
    let base = if arch == Arch::Aarch64 { 0x4000_0000 } else { 0x8000_0000 };
    AxVMConfig {
        id: 1,
        name: "tree".into(),
        cpus: CpuConfig { num: cpus, phys_cpu_ids: vec![], phys_cpu_sets: vec![] },
        memory: MemoryConfig::Size(512 << 20),
        kernel: KernelConfig {
            image: ImageFile {
                path: path.clone(),
                load_addr: Some(GuestPhysAddr(base + 0x20_0000)),
            },
            entry_point: None,
            cmdline: Some("console=ttyS0 \"quoted\"".into()),
            ramdisk: Some(ImageFile { path, load_addr: None }),
            bios: None,
            dtb: None,
            dtb_patch: vec![],
            modules: vec![],
            unpack: Unpack::default(),
        },
        devices: DevicesConfig::default(),
        notes: vec![],
        files: vec![],
    }
}

fn dtc(args: &[&str], input: &Path) -> Output {
    Command::new("dtc").args(args).arg(input).output().unwrap_or_else(|error| {
        panic!(
            "dtc cannot be run ({error}): install it, on Debian with `apt install \
             device-tree-compiler`"
        )
    })
}

fn tree(plan: &Plan) -> &FirmwareTable {
    plan.tables.iter().find(|table| table.name == "device tree").unwrap()
}

/// The source of a plan's tree, after which dtc has said nothing.
#[track_caller]
fn source(platform: &Platform, cpus: usize, change: impl FnOnce(&mut AxVMConfig)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(platform.arch(), cpus, dir.path());
    change(&mut config);
    let plan = Plan::new(&config, platform).unwrap();
    let blob = dir.path().join("tree.dtb");
    fs::write(&blob, tree(&plan).bytes()).unwrap();
    let output = dtc(&["-I", "dtb", "-O", "dts"], &blob);
    let complaints = String::from_utf8(output.stderr).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && complaints.is_empty(), "{complaints}\n{text}");
    text
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part}\n{text}");
    }
}

fn aarch64(gic: GicVersion, its: bool, pmu: bool) -> Platform {
    Platform::Aarch64(Aarch64Platform { ipa_bits: 40, gic, its, pmu })
}

#[test]
fn dtc_accepts_the_tree_of_aarch64_with_each_interrupt_controller() {
    let text = source(&aarch64(GicVersion::V3, true, true), 20, |_| {});
    has(&text, &["arm,gic-v3", "arm,gic-v3-its", "arm,armv8-pmuv3", "cpu@103", "always-on"]);
    let text = source(&aarch64(GicVersion::V3, false, false), 1, |_| {});
    assert!(!text.contains("its@") && !text.contains("pmu"), "{text}");
    let text = source(&aarch64(GicVersion::V2, false, true), 8, |_| {});
    // Private interrupts are told of with the CPUs that have them.
    has(&text, &["arm,cortex-a15-gic", "<0x01 0x0d 0xff04 0x01 0x0e 0xff04"]);
}

#[test]
fn dtc_accepts_the_tree_of_riscv64_with_each_interrupt_controller() {
    let Platform::Riscv64(usual) = Platform::usual(Arch::Riscv64) else { unreachable!() };
    let text = source(&Platform::Riscv64(usual.clone()), 4, |_| {});
    has(&text, &["riscv,plic0", "riscv,ndev = <0x5f>", "rv64imafdc_zicsr_zifencei", "cpu@3"]);
    let host = Riscv64Platform {
        extensions: vec!["i", "m", "a", "c", "zicbom", "zicbop", "zicboz", "zkr", "ssaia"],
        cbom_block_size: Some(64),
        cbop_block_size: Some(64),
        cboz_block_size: Some(64),
        mmu_type: Some("riscv,sv57"),
        timebase_frequency: 1 << 33,
        aia: Some(AiaPlatform { ids: 255 }),
    };
    let text = source(&Platform::Riscv64(host), 4, |_| {});
    has(&text, &["riscv,aplic", "riscv,imsics", "msi-parent", "riscv,num-ids = <0xff>"]);
    has(&text, &["riscv,cboz-block-size = <0x40>", "riscv,sv57", "interrupts = <0x0a 0x04>"]);
    assert!(!text.contains("riscv,plic0"), "{text}");
}

#[test]
fn dtc_accepts_the_trees_of_large_and_of_scattered_machines() {
    let regions = |config: &mut AxVMConfig| {
        let region = |gpa, size| {
            let (map_type, at) = Default::default();
            let gpa = GuestPhysAddr(gpa);
            MemoryRegion { gpa, size, flags: RWX, lazy: false, map_type, at }
        };
        let areas = vec![region(0x8000_0000, 64 << 20), region(0x1_0000_0000, 1 << 30)];
        config.memory = MemoryConfig::Regions(areas);
    };
    let text = source(&Platform::usual(Arch::Riscv64), 512, regions);
    has(&text, &["memory@80000000", "memory@100000000", "cpu@1ff"]);
    let text = source(&Platform::usual(Arch::Aarch64), 123, |config| {
        config.kernel.ramdisk = None;
        config.kernel.cmdline = None;
    });
    has(&text, &["cpu@70a"]);
    assert!(!text.contains("initrd") && !text.contains("bootargs"), "{text}");
}

#[test]
fn dtc_accepts_the_trees_of_guests_with_channels() {
    for (arch, window) in [(Arch::Aarch64, 0x3000_0000), (Arch::Riscv64, 0x6000_0000)] {
        let row = EmulatedDeviceConfig {
            name: "channels".into(),
            base_gpa: GuestPhysAddr(window),
            length: 0x10_0000,
            irq_id: 52,
            emu_type: EmuDeviceType::IVCChannel,
            cfg_list: vec![],
            at: Default::default(),
        };
        let text = source(&Platform::usual(arch), 1, |config| config.devices.emulated = vec![row]);
        has(&text, &["axvmm,hypercall-doorbell", &format!("channels@{window:x}")]);
    }
}

/// The paths of nodes that kernels for QEMU's boards may have written into them.
#[test]
fn nodes_are_where_kernels_for_qemus_boards_look_for_them() {
    for (platform, names) in [
        (
            Platform::usual(Arch::Aarch64),
            &["intc@8000000", "pl011@9000000", "pl031@9010000", "pl061@9030000", "psci"][..],
        ),
        (
            Platform::usual(Arch::Riscv64),
            &["soc", "plic@c000000", "serial@10000000", "rtc@101000", "test@100000"],
        ),
    ] {
        let text = source(&platform, 1, |_| {});
        let nodes: BTreeSet<_> =
            text.lines().filter_map(|line| line.trim().strip_suffix(" {")).collect();
        for name in names {
            assert!(nodes.contains(name), "{name}: {nodes:?}");
        }
    }
}
