use std::path::PathBuf;

use super::*;
use crate::{
    addr::GuestPhysAddr,
    hal::{Arch, Platform},
    machine::{Plan, testing},
    vfio_user::{Kept, Server},
    vm::config::MemoryConfig,
};

fn device(name: &str, place: Option<(u64, Option<u32>)>) -> VfioUserConfig {
    VfioUserConfig {
        name: name.to_owned(),
        server: Server::Socket(PathBuf::from("/nonexistent/s")),
        place: place.map(|(addr, irq)| VfioUserPlace {
            addr: GuestPhysAddr(addr),
            size: 0x1000,
            irq,
            compatible: Some("example,adder".to_owned()),
        }),
        kept: Kept::default(),
        at: Default::default(),
    }
}

fn plan(
    arch: Arch,
    devices: Vec<VfioUserConfig>,
) -> Result<(Plan, tempfile::NamedTempFile), Error> {
    let at = match arch {
        Arch::X86_64 => 0x8000,
        Arch::Aarch64 => 0x4008_0000,
        Arch::Riscv64 => 0x8020_0000,
    };
    let (mut config, file) = testing::config(at, MemoryConfig::Size(16 * testing::MIB));
    config.devices.vfio_user = devices;
    Ok((Plan::new(&config, &Platform::usual(arch))?, file))
}

#[test]
fn kernels_are_told_of_those_at_fixed_addresses() {
    for (arch, irq) in [(Arch::X86_64, 20), (Arch::Aarch64, 60), (Arch::Riscv64, 30)] {
        let (plan, _file) =
            plan(arch, vec![device("adder", Some((0x7000_0000, Some(irq))))]).unwrap();
        assert!(plan.shares_memory);
        let adder = plan.devices.iter().find(|device| device.name == "adder").unwrap();
        assert_eq!((adder.irq, adder.model), (Some(irq), Model::VfioUser));
        let has = |word: &[u8]| {
            plan.tables.iter().any(|it| it.bytes().windows(word.len()).any(|at| at == word))
        };
        assert!(has(b"example,adder"), "{arch}");
        let shown = plan.to_string();
        assert!(shown.contains("adder: another process, example,adder, interrupt"), "{shown}");
        assert!(
            shown.contains("vfio-user adder: at /nonexistent/s, at fixed addresses"),
            "{shown}"
        );
    }
}

#[test]
fn those_on_pci_have_slots_and_bring_its_windows() {
    let (plan, _file) = plan(Arch::X86_64, vec![device("a", None), device("b", None)]).unwrap();
    assert_eq!(plan.vfio_user.iter().map(|it| it.slot).collect::<Vec<_>>(), [Some(1), Some(2)]);
    assert!(plan.device(Model::PciEcam).is_some() && plan.device(Model::PciMemory).is_some());
}

#[test]
fn what_cannot_be_is_told() {
    for (arch, devices, told) in [
        (Arch::Riscv64, vec![device("a", None)], "write addr = "),
        (Arch::X86_64, vec![device("com1", None)], "another device has this name"),
        (
            Arch::X86_64,
            vec![device("a", Some((0xd000_0000, Some(4))))],
            "interrupt 4 is that of com1",
        ),
        (Arch::X86_64, vec![device("a", Some((u64::MAX, None)))], "end above 2^64"),
        (Arch::X86_64, (0..32).map(|n| device(&format!("d{n}"), None)).collect(), "room for 31"),
    ] {
        let error = plan(arch, devices).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
    let overlap = plan(Arch::X86_64, vec![device("a", Some((0x1000, None)))]).unwrap_err();
    assert!(matches!(overlap, Error::Overlap(_)), "{overlap}");
}
