//! Files as people write them.

use super::*;

#[test]
fn a_kernel_is_enough() {
    let dir = files();
    let config =
        parse("[kernel]\nkernel_path = \"vmlinuz\"", "a/b/hello.toml", dir.path()).unwrap();
    assert_eq!((config.id, config.name.as_str(), config.cpus.num), (1, "hello", 1));
    assert_eq!(config.memory, MemoryConfig::Size(512 << 20));
    assert_eq!(config.kernel.image.path, dir.path().join("vmlinuz"));
    assert_eq!(config.kernel.image.load_addr, None);
    assert_eq!((config.kernel.cmdline, config.kernel.unpack), (None, Unpack::Auto));
    assert_eq!(config.devices.debug_exit_ports, None);
    assert!(config.notes.is_empty());
}

#[test]
fn every_key_of_ours_is_understood() {
    let config = good(
        r#"
        [base]
        memory = "2GiB"
        [kernel]
        kernel_path = "vmlinuz"
        cmdline = ""
        ramdisk_path = "initrd"
        modules = ["mod a  b", { path = "initrd", cmdline = "x y" }, "mod"]
        unpack = "guest"
        [devices]
        debug_exit = [0xf4, 0x501]
        hypercalls = true
        "#,
    );
    assert_eq!(config.memory, MemoryConfig::Size(2 << 30));
    assert_eq!(config.kernel.cmdline.as_deref(), Some(""));
    assert!(config.kernel.ramdisk.unwrap().path.ends_with("initrd"));
    let modules = config.kernel.modules.iter();
    let modules: Vec<_> =
        modules.map(|m| (m.path.file_name().unwrap(), m.cmdline.as_str())).collect();
    assert_eq!(
        modules,
        [("mod".as_ref(), "a  b"), ("initrd".as_ref(), "x y"), ("mod".as_ref(), "")]
    );
    assert_eq!(config.kernel.unpack, Unpack::Guest);
    assert_eq!(config.devices.debug_exit_ports, Some(vec![Port(0xf4), Port(0x501)]));
    assert!(config.devices.wants_hypercalls());
}

#[test]
fn channels_bring_the_doorbell_along() {
    let wanted = |lines: &str| {
        let text = format!("[kernel]\nkernel_path = \"vmlinuz\"\n[devices]\n{lines}");
        good(&text).devices.wants_hypercalls()
    };
    let row = "emu_devices = [[\"channel\", 0, 0, 0, 0x0a]]";
    assert!(wanted(row) && wanted(&format!("{row}\nhypercalls = true")));
    assert!(!wanted("") && !wanted("hypercalls = false"));
}

#[test]
fn debug_exit_is_ports_or_a_switch() {
    let ports = |value: &str| {
        let text = format!("[kernel]\nkernel_path = \"vmlinuz\"\n[devices]\ndebug_exit = {value}");
        good(&text).devices.debug_exit_ports
    };
    assert_eq!(ports("true"), None);
    assert_eq!(ports("false"), Some(vec![]));
    assert_eq!(ports("[]"), Some(vec![]));
    assert_eq!(ports("0xf4"), Some(vec![Port(0xf4)]));
    assert_eq!(ports("0xfffc"), Some(vec![Port(0xfffc)]));
}

/// As axvmconfig 0.1 wants it: every key there, rows as lists.
#[test]
fn a_file_of_the_first_generation() {
    let config = good(
        r#"
        [base]
        id = 3
        name = "rtos"
        vm_type = 1
        cpu_num = 2
        phys_cpu_ids = [0x0, 0x100]
        phys_cpu_sets = [0b01, 0b10]

        [kernel]
        entry_point = 0x8020_0000
        kernel_path = "vmlinuz"
        kernel_load_addr = 0x8020_0000
        bios_path = "bios"
        bios_load_addr = 0x8000
        dtb_path = "dtb"
        dtb_load_addr = 0x8000_0000
        ramdisk_path = "initrd"
        ramdisk_load_addr = 0x9000_0000
        image_location = "fs"
        memory_regions = [
            [0x8000_0000, 0x1000_0000, 0x7, 1],
            [0xFEC0_0000, 0x1000, 0x13, 0], # a device's
        ]

        [devices]
        emu_devices = [["plic", 0x0c00_0000, 0x60_0000, 0, 0x30, [2, 0x10]]]
        passthrough_devices = [["uart", 0x1000_0000, 0x1000_0000, 0x1000, 0x2b]]
        interrupt_mode = "passthrough"
        "#,
    );
    assert_eq!((config.id, config.name.as_str()), (3, "rtos"));
    assert_eq!(
        config.cpus.affinities().collect::<Vec<_>>(),
        [(0, Some(1), 0), (1, Some(2), 0x100)]
    );
    assert_eq!(config.kernel.entry_point, Some(GuestPhysAddr(0x8020_0000)));
    let load_addr =
        |image: &Option<crate::vm::config::ImageFile>| image.as_ref().unwrap().load_addr;
    assert_eq!(load_addr(&config.kernel.bios), Some(GuestPhysAddr(0x8000)));
    assert_eq!(load_addr(&config.kernel.dtb), Some(GuestPhysAddr(0x8000_0000)));
    assert_eq!(load_addr(&config.kernel.ramdisk), Some(GuestPhysAddr(0x9000_0000)));
    let MemoryConfig::Regions(regions) = &config.memory else { panic!("{:?}", config.memory) };
    let region_rows = regions;
    let regions: Vec<_> = regions.iter().map(|r| (r.gpa.0, r.size, r.flags)).collect();
    let device = MappingFlags::READ | MappingFlags::WRITE | MappingFlags::DEVICE;
    let all = MappingFlags::READ | MappingFlags::WRITE | MappingFlags::EXECUTE;
    assert_eq!(regions, [(0x8000_0000, 0x1000_0000, all), (0xfec0_0000, 0x1000, device)]);
    let [plic] = &config.devices.emulated[..] else { panic!("{:?}", config.devices) };
    assert_eq!((plic.emu_type, &plic.cfg_list), (EmuDeviceType::PPPTGlobal, &vec![2, 0x10]));
    let [uart] = &config.devices.passthrough[..] else { panic!("{:?}", config.devices) };
    let written = (uart.name.as_str(), uart.base_gpa, uart.length, uart.irq_id);
    assert_eq!(written, ("uart", GuestPhysAddr(0x1000_0000), 0x1000, 0x2b));
    let mode = config.devices.interrupt_mode.as_ref().unwrap();
    assert_eq!(mode.mode, VMInterruptMode::Passthrough);
    let of_type: Vec<_> = region_rows.iter().map(|region| region.map_type).collect();
    assert_eq!(of_type, [VmMemMappingType::MapIdentical, VmMemMappingType::MapAlloc]);
    let places = [&region_rows[0].at, &plic.at, &uart.at, &mode.at];
    let places: Vec<_> = places.map(|at| (at.line.unwrap(), at.column.unwrap())).into();
    assert_eq!(places, [(22, 13), (27, 24), (28, 32), (29, 26)]);
    assert_eq!(uart.at.to_string(), "guest.toml:28");
    assert_eq!(config.notes, [""; 0]);
}

/// As axvmconfig 0.2 may have it: tables for rows, short rows, what was added there.
#[test]
fn a_file_of_the_second_generation() {
    let config = good(
        r#"
        [base]
        id = 0
        name = "linux"
        vm_type = 1
        cpu_num = 1

        [kernel]
        entry_point = 0x8020_0000
        image_location = "memory"
        kernel_path = "vmlinuz"
        kernel_load_addr = 0x8020_0000
        dtb_load_addr = 0x8000_0000
        disk_path = "initrd"
        memory_regions = [{ gpa = 0x8000_0000, size = 0x800_0000, flags = 0x7, map_type = 2 }]

        [devices]
        passthrough_devices = [["/"], ["/soc/uart@fe66"]]
        excluded_devices = [["/timer"], ["/gic@1", "/gic@2"]]
        passthrough_addresses = [[0x2800_0000, 0x1000]]
        interrupt_mode = "emu"

        [[devices.emu_devices]]
        name = "net"
        base_gpa = 0xa00_0000
        length = 0x200
        irq_id = 48
        emu_type = 0xe2
        cfg_list = []
        [[devices.emu_devices]]
        name = "nothing"
        base_gpa = 0
        length = 0
        irq_id = 0
        emu_type = 0
        "#,
    );
    assert_eq!(config.id, 0);
    let kinds: Vec<_> = config.devices.emulated.iter().map(|device| device.emu_type).collect();
    assert_eq!(kinds, [EmuDeviceType::VirtioNet, EmuDeviceType::Dummy]);
    let passed: Vec<_> =
        config.devices.passthrough.iter().map(|row| (&*row.name, row.window())).collect();
    assert_eq!(passed, [("/", None), ("/soc/uart@fe66", None)]);
    let excluded: Vec<_> = config.devices.excluded.iter().map(|row| row.paths.concat()).collect();
    assert_eq!(excluded, ["/timer", "/gic@1/gic@2"]);
    let [range] = &config.devices.passthrough_addresses[..] else { panic!("{config:?}") };
    assert_eq!(
        (range.window.to_string(), range.at.line),
        ("0x28000000-0x28000fff".into(), Some(20))
    );
    assert_eq!(config.devices.interrupt_mode.unwrap().mode, VMInterruptMode::Emulated);
    let lines: Vec<_> = config.notes.iter().map(|note| note.split(' ').next().unwrap()).collect();
    assert_eq!(lines, ["guest.toml:13:"], "{:#?}", config.notes);
}

#[test]
fn interrupt_modes_have_all_their_spellings() {
    for (mode, words) in [
        (VMInterruptMode::NoIrq, &["no_irq", "no", "none"][..]),
        (VMInterruptMode::Emulated, &["emu", "emulated"]),
        (VMInterruptMode::Passthrough, &["passthrough", "pt"]),
    ] {
        for word in words {
            let text = format!(
                "[kernel]\nkernel_path = \"vmlinuz\"\n[devices]\ninterrupt_mode = {word:?}"
            );
            assert_eq!(good(&text).devices.interrupt_mode.unwrap().mode, mode);
        }
    }
}

/// Every example means something, once its images are there.
#[test]
fn the_examples_are_read() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    // Where the tests run in an emulated host, the sources are not there.
    let examples = if source.is_dir() { source } else { "configs".into() };
    let mut read = 0;
    for example in fs::read_dir(&examples).unwrap() {
        let example = example.unwrap().path();
        if example.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = fs::read_to_string(&example).unwrap();
        let dir = TempDir::new().unwrap();
        for image in text.split('"').filter(|quoted| quoted.starts_with("guests/")) {
            let image = dir.path().join(image.split(' ').next().unwrap());
            fs::create_dir_all(image.parent().unwrap()).unwrap();
            fs::write(image, "content").unwrap();
        }
        // One names itself.
        let copy = dir.path().join(example.file_name().unwrap());
        fs::write(&copy, text).unwrap();
        match load(&copy, &[]) {
            Ok(config) => assert!(config.kernel.image.path.starts_with(dir.path())),
            Err(error) => panic!("{error}"),
        }
        read += 1;
    }
    assert!(read > 0);
}

#[test]
fn what_is_written_can_be_read_without_its_meaning() {
    let text = "[base]\nname = \"x\"\nphys_cpu_ids = [1, 2]\n[kernel]\nkernel_path = \"none\"\n";
    let config = AxVMCrateConfig::from_toml(text).unwrap();
    let base = config.base.unwrap().value;
    assert_eq!((base.name.unwrap().value.as_str(), base.cpu_num), ("x", None));
    assert_eq!(config.kernel.unwrap().value.kernel_path.unwrap().value, Path::new("none"));
    assert_eq!(config.devices, None);
    let error = AxVMCrateConfig::from_toml("[base]\nname = 1\nx = 2\n").unwrap_err();
    assert_eq!(error.problems().len(), 2, "{error}");
}

#[test]
fn an_empty_list_of_regions_says_nothing_about_memory() {
    let config =
        good("[kernel]\nkernel_path = \"vmlinuz\"\nmemory_regions = []\nmemory = 0x100000");
    assert_eq!(config.memory, MemoryConfig::Size(1 << 20));
}

#[test]
fn without_a_word_about_memory_the_users_device_tree_tells() {
    let memory = |keys: &str| good(&format!("[kernel]\nkernel_path = \"vmlinuz\"\n{keys}")).memory;
    let tree = "dtb_path = \"dtb\"\nmemory_regions = []\n";
    let lazily = format!("{tree}[base]\nlazy_memory = true");
    assert_eq!(memory(tree), MemoryConfig::OfDeviceTree { lazy: false });
    assert_eq!(memory(&lazily), MemoryConfig::OfDeviceTree { lazy: true });
    let patched = format!("{tree}dtb_patch = [\"memory\"]");
    assert_eq!(memory(&patched), MemoryConfig::Size(512 << 20));
    assert_eq!(memory(&format!("{tree}memory = \"1G\"")), MemoryConfig::Size(1 << 30));
}

#[test]
fn lazy_memory_is_all_of_a_size_and_what_axvisor_would_allocate() {
    let memory = |keys: &str| {
        let text =
            format!("[base]\nlazy_memory = true\n[kernel]\nkernel_path = \"vmlinuz\"\n{keys}");
        good(&text).memory
    };
    assert_eq!(memory(""), MemoryConfig::LazySize(512 << 20));
    assert_eq!(memory("memory = \"64G\""), MemoryConfig::LazySize(64 << 30));
    let rows = "memory_regions = [[0, 4096], [4096, 4096, 7, 0], [8192, 4096, 7, 1]]";
    let MemoryConfig::Regions(regions) = memory(rows) else { panic!("{rows}") };
    assert_eq!(regions.iter().map(|region| region.lazy).collect::<Vec<_>>(), [true, true, false]);
    let eager = "[base]\nlazy_memory = false\n[kernel]\nkernel_path = \"vmlinuz\"";
    assert_eq!(good(eager).memory, MemoryConfig::Size(512 << 20));
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_file() {
    let dir = files();
    let path = dir.path().join("guest.toml");
    fs::write(&path, "\u{feff}[kernel]\nkernel_path = \"vmlinuz\"\r\n").unwrap();
    assert_eq!(load(&path, &[]).unwrap().kernel.image.path, dir.path().join("vmlinuz"));
    let error = parse("\u{feff}[kernl]", "guest.toml", dir.path()).unwrap_err();
    assert_eq!(error.problems()[0].column, Some(2));
}

#[test]
fn what_is_put_into_a_device_tree_is_named() {
    let config = |keys: &str| good(&format!("[kernel]\nkernel_path = \"vmlinuz\"\n{keys}"));
    let patched = config("dtb_path = \"dtb\"\ndtb_patch = [\"cpus\", \"initrd\"]");
    assert_eq!(patched.kernel.dtb_patch, [DtbPatch::Cpus, DtbPatch::Initrd]);
    assert_eq!(config("dtb_path = \"dtb\"").kernel.dtb_patch, []);
    let unused = config("dtb_patch = [\"memory\"]");
    assert!(unused.notes[0].contains("no dtb_path"), "{:?}", unused.notes);
    let wrong = problem("[kernel]\nkernel_path = \"vmlinuz\"\ndtb_patch = [\"memroy\"]\n");
    assert!(wrong.contains(":3:14: ") && wrong.contains("did you mean \"memory\""), "{wrong}");
}

#[test]
fn what_init_writes_is_read_and_so_is_every_key_in_its_comments() {
    for arch in Arch::ALL {
        let text = template("vmlinuz", None, arch);
        assert!(text.contains(&format!("axvmm on {arch}:")), "{text}");
        let config = good(&text);
        assert!(config.kernel.cmdline.unwrap().starts_with("console=tty"));
        let mut commented = 0;
        let uncommented: Vec<_> = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => {
                    commented += 1;
                    let named =
                        [("initrd.img", "initrd"), ("disk.img", "initrd"), ("guest.dtb", "dtb")];
                    named
                        .iter()
                        .fold(rest.to_owned(), |rest, (name, file)| rest.replace(name, file))
                }
                _ => line.to_owned(),
            })
            .collect();
        assert!(commented >= 8, "{commented}");
        assert!(good(&uncommented.join("\n")).kernel.ramdisk.is_some());
    }
    let odd = template("a \"b\"\\c", Some("initrd"), Arch::X86_64);
    assert!(problem(&odd).contains(r#"a "b"\c: No such file"#));
}
