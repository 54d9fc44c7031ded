use super::*;
use crate::{
    addr::GuestPhysAddr,
    hal::{Arch, Platform},
    machine::{
        Plan,
        fdt::{Node, read},
        testing::{self, MIB, blob, build, cells, node, reg, region, tree},
    },
    vm::{
        AxVMConfig,
        config::{ImageFile, MemoryConfig},
    },
};

const RAM: [(Arch, u64); 2] = [(Arch::Aarch64, 0x4000_0000), (Arch::Riscv64, 0x8000_0000)];

/// A guest with an initrd and a command line, and its files.
fn config(base: u64) -> (AxVMConfig, tempfile::NamedTempFile) {
    let (mut config, file) = testing::config(base + 2 * MIB, MemoryConfig::Size(64 * MIB));
    config.kernel.cmdline = Some("quiet".into());
    let path = file.path().to_owned();
    config.kernel.ramdisk = Some(ImageFile { path, load_addr: None });
    (config, file)
}

/// The plan of a guest with a device tree of its own.
fn own(
    arch: Arch,
    blob: &[u8],
    patches: &[DtbPatch],
    change: impl FnOnce(&mut AxVMConfig),
) -> Result<Plan, Error> {
    let base = RAM.iter().find(|(other, _)| *other == arch).unwrap().1;
    let (mut config, _file) = config(base);
    let dtb = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(dtb.path(), blob).unwrap();
    config.kernel.dtb = Some(ImageFile { path: dtb.path().into(), load_addr: None });
    config.kernel.dtb_patch = patches.to_vec();
    change(&mut config);
    Plan::new(&config, &Platform::usual(arch))
}

/// The board's own tree for such a guest.
fn board(arch: Arch) -> Tree {
    let base = RAM.iter().find(|(other, _)| *other == arch).unwrap().1;
    tree(&Plan::new(&config(base).0, &Platform::usual(arch)).unwrap())
}

/// The board's own tree with a change, as a user's.
fn changed(arch: Arch, change: impl FnOnce(&mut Node)) -> Vec<u8> {
    let mut tree = board(arch);
    change(&mut tree.root);
    tree.to_blob().unwrap()
}

#[track_caller]
fn refused(arch: Arch, blob: &[u8], tells: &str) {
    let error = own(arch, blob, &[], |_| {}).unwrap_err().to_string();
    assert!(error.contains("Device tree") && error.contains(tells), "{error}");
}

#[test]
fn a_tree_tells_of_the_command_line_and_the_initrd() {
    for (arch, base) in RAM {
        let plan = Plan::new(&config(base).0, &Platform::usual(arch)).unwrap();
        let tree = tree(&plan);
        let chosen = node(&tree, "chosen");
        assert_eq!(chosen.get("bootargs").unwrap(), b"quiet\0");
        let initrd = plan.boot.as_ref().unwrap().initrd.unwrap();
        assert_eq!(chosen.get_number("linux,initrd-start"), Some(initrd.gpa.0));
        assert_eq!(chosen.get_number("linux,initrd-end"), Some(initrd.gpa.0 + initrd.size));
        let table = &plan.tables[0];
        assert_eq!((table.gpa, table.size), (GuestPhysAddr(base), blob(&plan).len() as u64));
        assert_eq!(plan.boot.as_ref().unwrap().dtb.unwrap().gpa, table.gpa);
    }
}

#[test]
fn seeds_are_new_for_each_machine_and_the_plan_is_always_the_same() {
    let (config, _file) = config(RAM[0].1);
    let plans = [(); 2].map(|()| Plan::new(&config, &Platform::usual(Arch::Aarch64)).unwrap());
    assert_eq!(blob(&plans[0]), blob(&plans[1]));
    let seeds = [(); 2].map(|()| {
        let machine = build(&plans[0], vec![]).0;
        let mut bytes = vec![0; blob(&plans[0]).len()];
        machine.vm.address_space().read(plans[0].tables[0].gpa, &mut bytes).unwrap();
        let mut tree = read(&bytes).unwrap();
        let chosen = tree.root.find_mut("chosen").unwrap();
        let seeds = SEEDS.map(|(name, size)| {
            let seed = chosen.get(name).unwrap().to_vec();
            chosen.set(name, vec![0; size]);
            assert_eq!(seed.len(), size);
            seed
        });
        // All else is as planned.
        assert_eq!(tree, testing::tree(&plans[0]));
        seeds
    });
    for (one, other) in seeds[0].iter().zip(&seeds[1]) {
        assert_ne!(one, other);
        assert!(one.iter().any(|byte| *byte != 0));
    }
}

#[test]
fn a_users_tree_is_loaded_as_it_is() {
    for (arch, base) in RAM {
        let mine = changed(arch, |root| {
            root.find_mut("chosen").unwrap().set("rng-seed", vec![7; 16]);
            root.find_or_add("mine").set("odd", vec![1, 2, 3]);
        });
        let plan = own(arch, &mine, &[], |_| {}).unwrap();
        assert_eq!(plan.notes, [""; 0]);
        let mut bytes = vec![0; mine.len()];
        let machine = build(&plan, vec![]).0;
        machine.vm.address_space().read(GuestPhysAddr(base), &mut bytes).unwrap();
        assert_eq!(bytes, mine);
    }
    let at = GuestPhysAddr(0x4200_0000);
    let moved = own(Arch::Aarch64, &changed(Arch::Aarch64, |_| {}), &[], |config| {
        config.kernel.dtb.as_mut().unwrap().load_addr = Some(at);
    });
    assert_eq!(moved.unwrap().tables[0].gpa, at);
}

#[test]
fn what_is_no_tree_is_refused_and_told_apart() {
    let good = changed(Arch::Riscv64, |_| {});
    refused(Arch::Riscv64, b"", "truncated");
    refused(Arch::Riscv64, &good[..good.len() / 2], "truncated");
    refused(Arch::Riscv64, b"/dts-v1/; / { };", "begins with 0x2f647473");
    let mut bad = good.clone();
    bad[4..8].copy_from_slice(&0x7fff_ffff_u32.to_be_bytes());
    refused(Arch::Riscv64, &bad, "bytes of 2147483647");
    let mut bad = good.clone();
    bad[0x40] ^= 0x55;
    refused(Arch::Riscv64, &bad, "damaged");
    let big = changed(Arch::Aarch64, |root| {
        root.find_or_add("mine").set("blob", vec![0; 2 << 20]);
    });
    refused(Arch::Aarch64, &big, "more than 2097152 bytes");
}

#[test]
fn a_tree_that_the_guest_cannot_work_with_is_refused() {
    for (arch, base) in RAM {
        let outside = changed(arch, |root| {
            let memory = root.find_mut("memory").unwrap();
            let reg = [base, 128 * MIB].map(u64::to_be_bytes).concat();
            memory.set("reg", reg);
        });
        refused(arch, &outside, "add \"memory\" to dtb_patch");
        let wraps = changed(arch, |root| {
            root.find_mut("memory").unwrap().set("reg", vec![0xff; 16]);
        });
        refused(arch, &wraps, "add \"memory\" to dtb_patch");
        let three = changed(arch, |root| {
            let cpus = root.find_mut("cpus").unwrap();
            let mut cpu = cpus.children[1].clone();
            cpu.name = "cpu@2".into();
            cpus.children.push(cpu);
        });
        refused(arch, &three, "tells of 3 CPUs, and the guest has 2");
        let no_first = changed(arch, |root| {
            root.find_mut("cpus").unwrap().children.remove(0);
        });
        refused(arch, &no_first, "does not tell of the CPU that boots");
        for (start, end) in [(0, MIB), (base + MIB, base), (base, base + 65 * MIB), (1, u64::MAX)] {
            let initrd = changed(arch, |root| {
                let chosen = root.find_mut("chosen").unwrap();
                chosen.set("linux,initrd-start", start.to_be_bytes().into());
                chosen.set("linux,initrd-end", end.to_be_bytes().into());
            });
            refused(arch, &initrd, "add \"initrd\" to dtb_patch");
        }
    }
}

#[test]
fn a_tree_that_merely_differs_is_noted() {
    #[track_caller]
    fn noted(change: impl FnOnce(&mut Node), tells: &str) {
        let blob = changed(Arch::Aarch64, change);
        let notes = own(Arch::Aarch64, &blob, &[], |_| {}).unwrap().notes;
        assert!(notes.len() == 1 && notes[0].contains(tells), "{notes:?}");
    }
    noted(
        |root| {
            let reg = [RAM[0].1, 32 * MIB].map(u64::to_be_bytes).concat();
            root.find_mut("memory").unwrap().set("reg", reg);
        },
        "tells of 32 MiB of memory, and the guest has 64",
    );
    noted(|root| root.children.retain(|node| !node.is_called("memory")), "tells of 0 MiB");
    noted(
        |root| drop(root.find_mut("cpus").unwrap().children.pop()),
        "tells of 1 CPUs, and the guest has 2",
    );
    noted(|root| root.find_mut("chosen").unwrap().remove("linux,initrd-end"), "initrd");
    noted(|root| root.find_mut("chosen").unwrap().remove("bootargs"), "command line");
}

#[test]
fn what_is_to_be_patched_is_and_all_else_stays() {
    for (arch, base) in RAM {
        // A tree for another machine: no memory, one CPU, one cell for addresses, nothing chosen.
        let theirs = changed(arch, |root| {
            root.set("#address-cells", 1_u32.to_be_bytes().into());
            let memory = root.find_mut("memory").unwrap();
            memory.set("reg", [0; 12].into());
            root.find_mut("cpus").unwrap().children.truncate(1);
            root.children.retain(|node| node.name != "chosen");
            root.find_or_add("mine").set("phandle", 0x77_u32.to_be_bytes().into());
        });
        let all = [DtbPatch::Memory, DtbPatch::Cpus, DtbPatch::Chosen, DtbPatch::Initrd];
        let plan = own(arch, &theirs, &all, |config| config.cpus.num = 3).unwrap();
        assert_eq!(plan.notes, [""; 0]);
        let (tree, board) = (tree(&plan), board(arch));
        let memory = node(&tree, "memory");
        assert_eq!(cells(memory, "reg"), [base as u32, 0, 64 << 20]);
        assert_eq!(node(&tree, "cpus").children.len(), 3);
        assert_eq!(node(&tree, "mine").get_cell("phandle"), Some(0x77));
        let chosen = node(&tree, "chosen");
        assert_eq!(chosen.get("bootargs").unwrap(), b"quiet\0");
        let initrd = plan.boot.as_ref().unwrap().initrd.unwrap();
        assert_eq!(chosen.get_number("linux,initrd-start"), Some(initrd.gpa.0));
        assert_eq!(plan.tables[0].with_seeds().unwrap().len(), blob(&plan).len());
        assert_ne!(plan.tables[0].with_seeds().unwrap(), blob(&plan));
        for name in ["aliases", "poweroff", "soc/serial", "pl011"] {
            let kept = name.split('/').try_fold(&board.root, |node, name| node.find(name));
            assert!(kept.is_none_or(|kept| kept == node(&tree, name)), "{name}");
        }
        if arch == Arch::Riscv64 {
            // The hart that was there is still who it was; the new ones are new, and all connected.
            let handles: Vec<u32> = (0..3)
                .map(|hart| node(&tree, &format!("cpus/cpu@{hart}/interrupt-controller")))
                .map(|controller| cells(controller, "phandle")[0])
                .collect();
            let before = node(&board, "cpus/cpu@0/interrupt-controller");
            assert_eq!(handles, [cells(before, "phandle")[0], 0x78, 0x79]);
            let harts: Vec<u32> = handles.iter().flat_map(|handle| [*handle, 9]).collect();
            assert_eq!(cells(node(&tree, "soc/plic"), "interrupts-extended"), harts);
        }
    }
}

#[test]
fn memory_that_the_trees_cells_have_no_room_for_is_refused() {
    let narrow = changed(Arch::Riscv64, |root| {
        root.set("#address-cells", 1_u32.to_be_bytes().into());
    });
    let high = |config: &mut AxVMConfig| {
        let areas = vec![region(0x8000_0000, 64 * MIB), region(0x1_0000_0000, MIB)];
        config.memory = MemoryConfig::Regions(areas);
    };
    let error = own(Arch::Riscv64, &narrow, &[DtbPatch::Memory], high).unwrap_err().to_string();
    assert!(error.contains("#address-cells"), "{error}");
    let wide = changed(Arch::Riscv64, |_| {});
    let plan = own(Arch::Riscv64, &wide, &[DtbPatch::Memory], high).unwrap();
    assert_eq!(reg(node(&tree(&plan), "memory@100000000"))[0].len(), MIB);
}

/// As AxVisor's files leave it to the tree, wherever the board has its own memory.
#[test]
fn memory_is_what_the_users_tree_tells_of() {
    for (arch, base) in RAM {
        let of_tree = |config: &mut AxVMConfig| {
            config.memory = MemoryConfig::OfDeviceTree { lazy: true };
        };
        let told = |areas: &[(u64, u64)]| {
            let cells: Vec<u8> = areas
                .iter()
                .flat_map(|(at, size)| [*at, *size].map(u64::to_be_bytes))
                .flatten()
                .collect();
            changed(arch, |root| root.find_mut("memory").unwrap().set("reg", cells))
        };
        let ram = |areas: &[(u64, u64)]| {
            let plan = own(arch, &told(areas), &[], of_tree)?;
            assert!(plan.ram.iter().all(|area| area.lazy));
            Ok::<_, Error>(plan.ram.iter().map(|area| (area.gpa.0, area.size)).collect::<Vec<_>>())
        };
        let two = [(base, 64 * MIB), (base + 0x8000_0000, 16 * MIB)];
        assert_eq!(ram(&two).unwrap(), two);
        assert_eq!(ram(&[two[0], (0, 0)]).unwrap(), [two[0]]);
        assert_eq!(ram(&[(base, 0)]).unwrap(), [(base, 512 * MIB)]);
        for bad in [(base, 100), (u64::MAX - 4095, 8192), (base + 16 * MIB, 1 << 62)] {
            assert!(ram(&[(base, 64 * MIB), bad]).is_err(), "{bad:x?}");
        }
    }
}

#[test]
fn a_pc_has_no_device_tree_and_says_so() {
    let (mut config, file) = testing::config(0x8000, MemoryConfig::Size(16 * MIB));
    config.kernel.dtb = Some(ImageFile { path: file.path().into(), load_addr: None });
    config.memory = MemoryConfig::OfDeviceTree { lazy: false };
    let plan = Plan::new(&config, &Platform::X86_64).unwrap();
    assert_eq!(plan.ram[0].size, MemoryConfig::DEFAULT);
    assert!(plan.all_notes().any(|note| note.contains("dtb_path")));
    assert!(plan.tables.iter().all(|table| table.name != "device tree"));
}

/// Whatever a file holds: a plan or an error.
#[test]
fn no_change_of_a_byte_does_harm() {
    let good = changed(Arch::Riscv64, |_| {});
    let all = [DtbPatch::Memory, DtbPatch::Cpus, DtbPatch::Chosen, DtbPatch::Initrd];
    for at in (0..good.len()).step_by(13) {
        for value in [0x00, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            let _ = own(Arch::Riscv64, &bad, &[], |_| {});
            let _ = own(Arch::Riscv64, &bad, &all, |_| {});
            let _ = own(Arch::Riscv64, &bad, &[], |config| {
                config.memory = MemoryConfig::OfDeviceTree { lazy: false };
            });
        }
    }
}
