//! Images that boot: what the guest finds in memory.

use super::super::{Format, Protocol};
use crate::{
    boot::testing::*,
    hal::EntryMode,
    vm::config::{ImageFile, Module, Unpack},
};

const RSI: usize = 6;
const RBX: usize = 3;

fn gdt_of(mode: EntryMode) -> u64 {
    match mode {
        EntryMode::Protected32 { gdt } | EntryMode::Long64 { gdt, .. } => gdt.base.0,
        EntryMode::Reset => panic!("no GDT in real mode"),
    }
}

#[test]
fn an_elf_with_a_pvh_note_gets_start_info() {
    let note = Part::note(xen_note(18, &0x10_0010u64.to_le_bytes()));
    let kernel = elf64(0x10_0000, &[Part::load(0x10_0000, &[0x90; 0x20], 0x1000), note]);
    let mut bench = Bench::new(&kernel).cmdline("console=ttyS0").initrd(b"initrd bytes");
    let path = bench.file("module", b"module bytes");
    bench.config.modules = vec![Module { path, cmdline: "the module".into() }];

    let plan = bench.prepare().unwrap();
    assert_eq!((plan.format, plan.protocol), (Format::Elf64, Protocol::Pvh));
    // A reset of the guest loads the same plan again.
    for mem in [memory(), memory()] {
        let entry = plan.load(&mem, &firmware()).unwrap();
        assert_eq!(entry.entry.0, 0x10_0010);
        let &[(RBX, info)] = &entry.setup.gprs[..] else { panic!("{entry:?}") };
        assert_eq!((u32_at(&mem, info), u32_at(&mem, info + 4)), (0x336e_c578, 1));
        assert_eq!(u32_at(&mem, info + 12), 2, "modules");
        let list = u64_at(&mem, info + 16);
        let module = |i: u64| (u64_at(&mem, list + 32 * i), u64_at(&mem, list + 32 * i + 8));
        assert_eq!(bytes_at(&mem, module(0).0, module(0).1 as usize), b"initrd bytes");
        assert_eq!(u64_at(&mem, list + 16), 0, "the initrd has no string");
        assert_eq!(bytes_at(&mem, module(1).0, module(1).1 as usize), b"module bytes");
        assert_eq!(string_at(&mem, u64_at(&mem, list + 32 + 16)), "the module");
        assert_eq!(string_at(&mem, u64_at(&mem, info + 24)), "console=ttyS0");
        assert_eq!(u64_at(&mem, info + 32), 0xe_0000, "RSDP");
        assert_eq!(u32_at(&mem, info + 48), 3, "memory map entries");
        let third = u64_at(&mem, info + 40) + 2 * 24;
        assert_eq!((u64_at(&mem, third), u64_at(&mem, third + 8)), (0x10_0000, RAM - 0x10_0000));
        assert_eq!(u32_at(&mem, third + 16), 1);
        assert_eq!(bytes_at(&mem, 0x10_0000, 0x21), [&[0x90; 0x20][..], &[0]].concat());
        assert_eq!(u64_at(&mem, gdt_of(entry.setup.mode) + 16), 0x00cf_9b00_0000_ffff);
    }
}

#[test]
fn a_guest_without_a_command_line_has_none() {
    let note = Part::note(xen_note(18, &0x10_0000u32.to_le_bytes()));
    let plan = Bench::new(&elf64(0, &[Part::load(0x10_0000, b"code", 0), note])).prepare().unwrap();
    let mem = memory();
    let entry = plan.load(&mem, &firmware()).unwrap();
    assert_eq!(u64_at(&mem, entry.setup.gprs[0].1 + 24), 0);
}

#[test]
fn an_elf_without_notes_is_entered_in_long_mode() {
    // Linked at a virtual address, entered at the physical one.
    let kernel = elf64(0xffff_ffff_8020_0004, &[Part::load(0x20_0000, &[0xcc; 64], 0)]);
    let plan = Bench::new(&kernel).cmdline("quiet").initrd(&[7; 5000]).prepare().unwrap();
    assert_eq!((plan.format, plan.protocol), (Format::Elf64, Protocol::Linux64));
    let mem = memory();
    let entry = plan.load(&mem, &firmware()).unwrap();
    assert_eq!(entry.entry.0, 0x20_0004);
    let &[(RSI, zero_page)] = &entry.setup.gprs[..] else { panic!("{entry:?}") };
    assert_eq!(bytes_at(&mem, zero_page + 0x202, 4), b"HdrS");
    assert_eq!(string_at(&mem, u32_at(&mem, zero_page + 0x228).into()), "quiet");
    assert_eq!(u64_at(&mem, zero_page + 0x70), 0xe_0000, "acpi_rsdp_addr");
    assert_eq!(bytes_at(&mem, zero_page + 0x1e8, 1), [3], "e820_entries");
    assert_eq!(u64_at(&mem, zero_page + 0x2d0 + 40), 0x10_0000);
    let initrd: u64 = u32_at(&mem, zero_page + 0x218).into();
    assert_eq!((initrd % 4096, u32_at(&mem, zero_page + 0x21c)), (0, 5000));
    assert_eq!(initrd, RAM - 8192, "as high as can be");
    assert_eq!(bytes_at(&mem, initrd, 5000), [7; 5000]);

    let EntryMode::Long64 { page_table, .. } = entry.setup.mode else { panic!("{entry:?}") };
    for address in [0, 0x20_0004, initrd, zero_page, (1 << 30) - 1] {
        assert_eq!(translate(&mem, page_table.0, address), Some(address));
    }
    assert_eq!(translate(&mem, page_table.0, 1 << 30), None);
    assert_eq!(u64_at(&mem, gdt_of(entry.setup.mode) + 16), 0x00af_9b00_0000_ffff);
}

/// What the page tables at `root` map `address` to, by pages of 2 MiB.
fn translate(mem: &crate::addrspace::AddrSpace, root: u64, address: u64) -> Option<u64> {
    let mut table = root;
    for shift in [39, 30, 21] {
        let entry = u64_at(mem, table + (address >> shift & 511) * 8);
        if entry & 3 != 3 {
            return None;
        }
        table = entry & 0x000f_ffff_ffff_f000;
        if shift == 21 {
            assert_eq!(entry & 0x80, 0x80);
        }
    }
    Some(table + address % (2 << 20))
}

#[test]
fn a_bzimage_without_a_payload_is_entered_at_0x200() {
    let bench = Bench::new(&bzimage(b"")).cmdline("quiet");
    let plan = bench.prepare().unwrap();
    assert_eq!((plan.format, plan.protocol), (Format::BzImage, Protocol::Linux64));
    assert!(plan.notes[0].contains("payload_length: there is no compressed payload"));
    let mem = memory();
    let entry = plan.load(&mem, &firmware()).unwrap();
    assert_eq!(bytes_at(&mem, entry.entry.0, 12), b"64-bit entry");
    let zero_page = entry.setup.gprs[0].1;
    assert_eq!(u32_at(&mem, zero_page + 0x260), 0x80_0000, "init_size is the image's");
    assert_eq!(bytes_at(&mem, zero_page + 0x210, 1), [0xff], "type_of_loader");
    let refused = bench.unpack(Unpack::Host).refused();
    assert!(refused.ends_with("payload_length: there is no compressed payload in it"), "{refused}");
}

#[test]
fn a_bzimage_without_64_bits_is_entered_by_the_32_bit_protocol() {
    let mut image = bzimage(b"");
    image[0x236] = 0; // xloadflags
    let plan = Bench::new(&image).prepare().unwrap();
    assert_eq!((plan.protocol, plan.entry.0), (Protocol::Linux32, 0x100_0000));
    let mem = memory();
    let entry = plan.load(&mem, &firmware()).unwrap();
    assert!(matches!(entry.setup.mode, EntryMode::Protected32 { .. }));
    assert_eq!(string_at(&mem, u32_at(&mem, entry.setup.gprs[0].1 + 0x228).into()), "");
}

#[test]
fn a_bzimage_is_unpacked_on_the_host() {
    for (name, pack) in [("LZ4", lz4 as fn(&[u8]) -> Vec<u8>), ("gzip", gzip), ("zstd", zstd)] {
        for (pvh, protocol, at) in
            [(true, Protocol::Pvh, 0x100_0040), (false, Protocol::Linux64, 0x100_0000)]
        {
            let elf = inner_elf(pvh);
            let bench = Bench::new(&bzimage(&pack(&elf))).unpack(Unpack::Host);
            let plan = bench.prepare().unwrap_or_else(|error| panic!("{name}: {error}"));
            let unpacked = plan.unpacked.clone().unwrap();
            assert_eq!(
                (unpacked.size, unpacked.compression.to_string()),
                (elf.len() as u64, name.into())
            );
            assert_eq!((plan.format, plan.protocol, plan.entry.0), (Format::BzImage, protocol, at));
            let mem = memory();
            plan.load(&mem, &firmware()).unwrap();
            assert_eq!(bytes_at(&mem, 0x100_0000, 800_000), elf[4096..4096 + 800_000]);
            assert_eq!(bytes_at(&mem, 0x120_0000, 5), b"data\0");
        }
    }
}

#[test]
fn the_guest_may_unpack_itself() {
    let bench = Bench::new(&bzimage(&lz4(&inner_elf(true)))).unpack(Unpack::Guest);
    let plan = bench.prepare().unwrap();
    assert_eq!((plan.protocol, plan.entry.0), (Protocol::Linux64, 0x100_0200));
    assert_eq!((plan.unpacked, plan.notes), (None, vec![]));
}

#[test]
fn what_the_host_cannot_unpack_is_left_to_the_guest() {
    let packed = b"BZh91AY&SY not really\x00\x10\x00\x00";
    let plan = Bench::new(&bzimage(packed)).prepare().unwrap();
    assert_eq!(plan.protocol, Protocol::Linux64);
    assert!(plan.notes[0].contains("only the guest can unpack this format"), "{:?}", plan.notes);
}

/// A multiboot header, and the fields that follow where flag 16 is set.
pub fn multiboot_header(flags: u32, addresses: &[u32]) -> Vec<u8> {
    let magic = 0x1bad_b002u32;
    let checksum = 0u32.wrapping_sub(magic).wrapping_sub(flags);
    [magic, flags, checksum].iter().chain(addresses).flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn a_multiboot_elf_gets_information_and_modules() {
    let mut code = multiboot_header(3, &[]);
    code.extend([0x90; 100]);
    let elf64_image = elf64(0x10_0010, &[Part::load(0x10_0000, &code, 0)]);
    for (kernel, format) in
        [(elf32(0x10_0010, 0x10_0000, &code), Format::Elf32), (elf64_image, Format::Elf64)]
    {
        let mut bench = Bench::new(&kernel).cmdline("kernel args");
        let modules = [("one", &b"first"[..]), ("two words", &b"second module"[..])];
        bench.config.modules = modules
            .map(|(cmdline, bytes)| Module {
                path: bench.file(cmdline, bytes),
                cmdline: cmdline.into(),
            })
            .to_vec();
        let plan = bench.prepare().unwrap();
        assert_eq!((plan.format, plan.protocol), (format, Protocol::Multiboot));
        let mem = memory();
        let entry = plan.load(&mem, &firmware()).unwrap();
        assert_eq!(entry.entry.0, 0x10_0010);
        let &[(0, 0x2bad_b002), (RBX, info)] = &entry.setup.gprs[..] else { panic!("{entry:?}") };
        let word = |at: u64| u64::from(u32_at(&mem, info + at));
        assert_eq!(word(0), 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9);
        assert_eq!((word(4), word(8)), (639, (RAM >> 10) - 1024));
        assert_eq!(string_at(&mem, word(16)), "kernel args");
        assert_eq!(string_at(&mem, word(64)), "axvmm");
        assert_eq!((word(44), u32_at(&mem, word(48))), (3 * 24, 20));
        assert_eq!(word(20), 2);
        for (i, (cmdline, bytes)) in modules.iter().enumerate() {
            let row = word(24) + 16 * i as u64;
            let (start, end) = (u64::from(u32_at(&mem, row)), u64::from(u32_at(&mem, row + 4)));
            assert_eq!(start % 4096, 0);
            assert_eq!(bytes_at(&mem, start, (end - start) as usize), *bytes);
            assert_eq!(string_at(&mem, u32_at(&mem, row + 8).into()), *cmdline);
        }
    }
}

#[test]
fn a_multiboot_kernel_may_say_where_it_goes() {
    // The header stands 16 bytes into what is loaded, which begins 32 bytes into the file.
    let addresses = [0x20_0010, 0x20_0000, 0x20_0080, 0x20_1000, 0x20_0040];
    let mut image = vec![0xee; 32];
    image.extend([1; 16]);
    image.extend(multiboot_header(1 << 16, &addresses));
    image.resize(32 + 0x80, 2);
    image.extend([3; 100]);
    let plan = Bench::new(&image).prepare().unwrap();
    assert_eq!((plan.format, plan.entry.0), (Format::Flat, 0x20_0040));
    let mem = memory();
    plan.load(&mem, &firmware()).unwrap();
    assert_eq!(bytes_at(&mem, 0x20_0000, 0x80), image[32..32 + 0x80]);
    assert_eq!(bytes_at(&mem, 0x20_0080, 4), [0; 4]);
}

#[test]
fn a_flat_binary_is_entered_in_real_mode() {
    let plan = Bench::new(b"code").load_addr(0x8000).prepare().unwrap();
    assert_eq!((plan.format, plan.protocol, plan.entry.0), (Format::Flat, Protocol::Real, 0x8000));
    let mem = memory();
    let entry = plan.load(&mem, &firmware()).unwrap();
    assert_eq!((entry.setup.mode, &entry.setup.gprs[..]), (EntryMode::Reset, &[][..]));
    assert_eq!(bytes_at(&mem, 0x8000, 5), b"code\0");
}

#[test]
fn firmware_beside_a_kernel_is_entered_first() {
    let mut bench = Bench::new(b"kernel").load_addr(0x20_0000);
    let path = bench.file("bios", b"bios");
    bench.config.bios =
        Some(ImageFile { path, load_addr: Some(crate::addr::GuestPhysAddr(0x8000)) });
    bench.config.entry_point = Some(crate::addr::GuestPhysAddr(0x8000));
    let plan = bench.prepare().unwrap();
    assert_eq!((plan.protocol, plan.entry.0), (Protocol::Real, 0x8000));
    let mem = memory();
    plan.load(&mem, &firmware()).unwrap();
    assert_eq!(bytes_at(&mem, 0x8000, 4), b"bios");
    assert_eq!(bytes_at(&mem, 0x20_0000, 6), b"kernel");
}

#[test]
fn structures_keep_clear_of_a_kernel_in_low_memory() {
    let kernel = elf64(0x6000, &[Part::load(0x6000, &[0xaa; 0x3000], 0x1000)]);
    let plan = Bench::new(&kernel).prepare().unwrap();
    assert!(plan.structures.iter().all(|s| s.gpa.0 >= 0xa000), "{:?}", plan.structures);
    let mem = memory();
    plan.load(&mem, &firmware()).unwrap();
    assert_eq!(bytes_at(&mem, 0x6000, 0x3000), [0xaa; 0x3000]);
}

#[test]
fn a_plan_can_be_printed_and_serialised() {
    let bench = Bench::new(&bzimage(&lz4(&inner_elf(true)))).cmdline("a b").initrd(b"x");
    let bench = bench.unpack(Unpack::Host);
    let plan = bench.prepare_cached().unwrap();
    let text = plan.to_string();
    for part in
        ["bzImage, entered by PVH at 0x1000040", "LZ4", "\"a b\"", "the initrd", "start info"]
    {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!((&json["protocol"], &json["entry"]), (&"pvh".into(), &0x100_0040.into()));
}
