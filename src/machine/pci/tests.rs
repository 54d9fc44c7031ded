use std::{collections::BTreeSet, sync::Arc};

use super::*;
use crate::{
    addr::{AccessWidth, GuestPhysAddr},
    hal::{Arch, Doorbells, InterruptController, MsiSink, Platform},
    machine::{Plan, testing, virtio::make_pci},
    scripted::ScriptedHal,
    virtio::{DeviceConfig, Surroundings, TransportKind, pci::BAR_SIZE, rng::RngConfig},
    vm::config::{MemoryConfig, VirtioConfig},
};

fn rng(transport: Option<TransportKind>) -> VirtioConfig {
    VirtioConfig {
        name: "entropy".to_owned(),
        device: DeviceConfig::Rng(RngConfig::default()),
        transport,
        place: None,
        at: Default::default(),
    }
}

/// A host whose interrupts can be messages, or one whose cannot.
fn platform(arch: Arch, messages: bool) -> Platform {
    let mut platform = Platform::usual(arch);
    match &mut platform {
        Platform::X86_64 => {}
        Platform::Aarch64(host) => host.its = messages,
        Platform::Riscv64(host) => {
            host.aia = messages.then_some(crate::hal::AiaPlatform { ids: 255 });
        }
    }
    platform
}

fn plan(arch: Arch, messages: bool, virtio: Vec<VirtioConfig>) -> Result<Plan, Error> {
    let at = match arch {
        Arch::X86_64 => 0x8000,
        Arch::Aarch64 => 0x4008_0000,
        Arch::Riscv64 => 0x8020_0000,
    };
    let (mut config, _file) = testing::config(at, MemoryConfig::Size(16 * testing::MIB));
    config.devices.virtio = virtio;
    Plan::new(&config, &platform(arch, messages))
}

fn window_of(plan: &Plan, model: Model) -> Option<(u64, u64)> {
    let window = plan.device(model)?.window.mmio()?;
    Some((window.first().0, window.len()))
}

#[test]
fn it_is_usual_where_interrupts_can_be_messages() {
    let places = [
        (Arch::X86_64, 0xe000_0000, 0xe100_0000),
        (Arch::Aarch64, 0x3f00_0000, 0x1000_0000),
        (Arch::Riscv64, 0x3000_0000, 0x4000_0000),
    ];
    for (arch, ecam, memory) in places {
        let usual = plan(arch, true, vec![rng(None), rng(None)]).unwrap();
        assert_eq!(window_of(&usual, Model::PciEcam), Some((ecam, 1 << 20)), "{arch}");
        assert_eq!(window_of(&usual, Model::PciMemory), Some((memory, 16 << 20)), "{arch}");
        assert_eq!(usual.virtio.iter().map(|it| it.slot).collect::<Vec<_>>(), [Some(1), Some(2)]);
        assert!(usual.to_string().contains("entropy: entropy, by pci"), "{usual}");
        let chosen = plan(arch, true, vec![rng(Some(TransportKind::Mmio))]).unwrap();
        let none = plan(arch, true, vec![]).unwrap();
        for other in [chosen, none] {
            assert_eq!(window_of(&other, Model::PciEcam), None, "no cost without a device");
        }
    }
}

#[test]
fn where_they_cannot_it_is_refused() {
    for arch in [Arch::Aarch64, Arch::Riscv64] {
        let usual = plan(arch, false, vec![rng(None)]).unwrap();
        assert_eq!(usual.virtio[0].transport, TransportKind::Mmio);
        let error = plan(arch, false, vec![rng(Some(TransportKind::Pci))]).unwrap_err().to_string();
        assert!(error.contains("takes none; use transport = \"mmio\""), "{error}");
    }
    let place = VirtioConfig { place: Some((GuestPhysAddr(0xd000_0000), 11)), ..rng(None) };
    let placed = plan(Arch::X86_64, true, vec![place.clone()]).unwrap();
    assert_eq!(placed.virtio[0].transport, TransportKind::Mmio);
    let both = VirtioConfig { transport: Some(TransportKind::Pci), ..place };
    assert!(plan(Arch::X86_64, true, vec![both]).unwrap_err().to_string().contains("its own"));
    let full = plan(Arch::X86_64, true, vec![rng(None); 31]).unwrap();
    let slots: BTreeSet<_> = full.virtio.iter().filter_map(|it| it.slot).collect();
    assert_eq!(slots, (1..32).collect());
    let error = plan(Arch::X86_64, true, vec![rng(None); 32]).unwrap_err().to_string();
    assert!(error.contains("room for 31 PCI devices"), "{error}");
}

#[test]
fn they_are_made_where_the_plan_has_them() {
    for arch in Arch::ALL {
        let plan = plan(arch, true, vec![rng(None), rng(None)]).unwrap();
        let hal = ScriptedHal::new([vec![]]);
        let (messages, doorbells): (Arc<dyn MsiSink>, Arc<dyn Doorbells>) =
            (hal.clone(), hal.clone());
        let slots: Arc<dyn crate::hal::MemorySlots> = hal;
        let surroundings = Surroundings {
            ending: crate::virtio::fs::command::Ending::new().unwrap(),
            vm_name: "test".to_owned(),
            cpus: 1,
            memory: Arc::new(crate::addrspace::AddrSpace::new_empty(slots)),
            console: Arc::<crate::devices::console::RecordingConsole>::default(),
            consoles: Default::default(),
        };
        let aperture = plan.device(Model::PciMemory).unwrap().window.mmio().unwrap();
        let messages = |_: &str| messages.clone();
        let functions = make_pci(&plan.virtio, aperture, &surroundings, messages, &doorbells);
        let bus = crate::pci::Bus::new(functions.unwrap(), aperture);
        for slot in 0..32 {
            let id = bus.function(slot).map(|function| {
                let mut id = [0; 4];
                function.read_config(0, &mut id);
                let _ = function.write_config(4, &[2]);
                bus.settle(slot);
                id
            });
            let expect = [1, 2].contains(&slot).then_some([0xf4, 0x1a, 0x44, 0x10]);
            assert_eq!(id, expect, "{arch} {slot}");
        }
        let second = aperture.first().checked_add(2 * u64::from(BAR_SIZE)).unwrap();
        assert!(bus.find(second, AccessWidth::Dword).is_some());
    }
}

#[test]
fn kernels_are_told_of_it() {
    let bytes = |plan: &Plan, name: &str| {
        let table = plan.tables.iter().find(|table| table.name.contains(name))?;
        Some(table.bytes().to_vec())
    };
    let has = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|it| it == what);
    let pc = plan(Arch::X86_64, true, vec![rng(None)]).unwrap();
    let (dsdt, mcfg) = (bytes(&pc, "DSDT").unwrap(), bytes(&pc, "MCFG").unwrap());
    assert!(has(&dsdt, b"PCI0") && has(&dsdt, &0xe100_0000_u32.to_le_bytes()));
    assert_eq!(mcfg[44..52], 0xe000_0000_u64.to_le_bytes());
    let reserved = pc.firmware.memory_map.iter().any(|it| it.range.first().0 == 0xe000_0000);
    assert!(reserved, "in the memory map as well");
    let without = plan(Arch::X86_64, true, vec![]).unwrap();
    assert!(bytes(&without, "MCFG").is_none());
    assert!(!has(&bytes(&without, "DSDT").unwrap(), b"PCI0"));
    for (arch, node) in [(Arch::Aarch64, "pcie@3f000000"), (Arch::Riscv64, "pcie@30000000")] {
        let of = |virtio| bytes(&plan(arch, true, virtio).unwrap(), "ree").unwrap();
        let (tree, without) = (of(vec![rng(None)]), of(vec![]));
        for word in [node, "pci-host-ecam-generic", "linux,pci-probe-only"] {
            assert!(has(&tree, word.as_bytes()) && !has(&without, word.as_bytes()), "{word}");
        }
    }
    let riscv = plan(Arch::Riscv64, true, vec![rng(None)]).unwrap();
    assert!(matches!(riscv.interrupt_controller, InterruptController::Aia { .. }));
}
