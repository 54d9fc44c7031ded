//! Kernels for aarch64 and riscv64: where they go, how they begin, and what is refused.

use super::{image::HEADER, *};
use crate::{
    boot::{Protocol, testing::*},
    hal::Arch,
    vm::config::{ImageFile, Unpack},
};

const BLOCK: u64 = 2 << 20;
const BOTH: [(Arch, u64); 2] = [(Arch::Aarch64, 0x4000_0000), (Arch::Riscv64, 0x8000_0000)];

/// An `Image` with 64 KiB in the file and a MiB more in memory.
fn image(arch: Arch) -> Vec<u8> {
    let (text_offset, magic) = match arch {
        Arch::Aarch64 => (0u64, b"ARM\x64"),
        _ => (BLOCK, b"RSC\x05"),
    };
    let mut bytes = vec![0; HEADER];
    bytes.extend((0..0x1_0000 - HEADER).map(|i| (i / 7) as u8));
    put(&mut bytes, 8, &text_offset.to_le_bytes());
    put(&mut bytes, 16, &0x11_0000u64.to_le_bytes());
    put(&mut bytes, 0x38, magic);
    bytes
}

/// An EFI-zboot kernel around a payload, with what the linker puts behind it.
fn zboot(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 0x1000];
    put(&mut bytes, 0, b"MZ\0\0zimg");
    put(&mut bytes, 8, &0x1000u32.to_le_bytes());
    put(&mut bytes, 12, &(payload.len() as u32).to_le_bytes());
    bytes.extend(payload);
    bytes.extend([0xee; 300]);
    bytes
}

/// The same with a PE header, as firmware wants it.
fn pe(machine: u16) -> Vec<u8> {
    let mut bytes = zboot(&gzip(b"kernel"));
    put(&mut bytes, 0x3c, &0x80u32.to_le_bytes());
    put(&mut bytes, 0x80, b"PE\0\0");
    put(&mut bytes, 0x84, &machine.to_le_bytes());
    bytes
}

fn for_machine_number(number: u16) -> Vec<u8> {
    let mut bytes = elf(Arch::Aarch64, 0);
    put(&mut bytes, 18, &number.to_le_bytes());
    bytes
}

fn elf(arch: Arch, paddr: u64) -> Vec<u8> {
    for_machine(arch, elf64(paddr + 4, &[Part::load(paddr, &[0x13; 0x100], 0x1000)]))
}

fn for_machine(arch: Arch, mut bytes: Vec<u8>) -> Vec<u8> {
    let machine = if arch == Arch::Aarch64 { 183u16 } else { 243 };
    put(&mut bytes, 18, &machine.to_le_bytes());
    bytes
}

/// The same with a note of Linux.
fn linux_elf(arch: Arch, paddr: u64) -> Vec<u8> {
    let mut note: Vec<u8> = [6u32, 0, 257].iter().flat_map(|word| word.to_le_bytes()).collect();
    note.extend(b"Linux\0\0\0");
    let parts = [Part::load(paddr, &[0x13; 0x100], 0x1000), Part::note(note)];
    for_machine(arch, elf64(paddr + 4, &parts))
}

fn bench(arch: Arch, kernel: &[u8]) -> Bench {
    Bench::new(kernel).arch(arch)
}

#[track_caller]
fn check(bench: &Bench, expect: &str) {
    let error = bench.refused();
    assert!(error.contains(expect), "{expect:?} is not in: {error}");
}

#[test]
fn an_image_stands_above_its_device_tree() {
    for (arch, base) in BOTH {
        let bench = bench(arch, &image(arch)).cmdline("quiet").initrd(b"initrd");
        let plan = bench.prepare().unwrap();
        assert_eq!(plan.format, Format::Image);
        assert_eq!((plan.entry.0, plan.dtb.unwrap().gpa.0), (base + BLOCK, base));
        assert_eq!(plan.segments[0].size, 0x11_0000);
        assert_eq!(plan.initrd.unwrap().gpa.0, base + RAM - 4096);
        for mem in [memory_at(base), memory_at(base)] {
            let entry = plan.load(&mem, &FirmwareInfo::default()).unwrap();
            assert_eq!(entry.setup.mode, EntryMode::Reset);
            let expect = match arch {
                Arch::Aarch64 => vec![(0, base)],
                _ => vec![(11, base), (10, 0)],
            };
            assert_eq!(entry.setup.gprs, expect);
            assert_eq!(bytes_at(&mem, base + BLOCK, 0x1_0000), image(arch));
        }
    }
}

#[test]
fn an_image_goes_where_it_is_told_if_it_can_run_there() {
    for (arch, base) in BOTH {
        let offset = if arch == Arch::Aarch64 { 0 } else { BLOCK };
        let at = base + 3 * BLOCK + offset;
        let plan = bench(arch, &image(arch)).load_addr(at).prepare().unwrap();
        assert_eq!(plan.entry.0, at);
        check(&bench(arch, &image(arch)).load_addr(at + 0x8_0000), "above a multiple of 2 MiB");
        check(&bench(arch, &image(arch)).load_addr(base + RAM), "but the guest has RAM at");
        if offset > 0 {
            check(&bench(arch, &image(arch)).load_addr(0x1000), "above a multiple of 2 MiB");
        }
    }
}

#[test]
fn an_elf_goes_where_it_says_and_the_device_tree_out_of_its_way() {
    for (arch, base) in BOTH {
        let plan = bench(arch, &elf(arch, base + 0x20_0000)).prepare().unwrap();
        assert_eq!((plan.format, plan.entry.0), (Format::Elf64, base + 0x20_0004));
        assert_eq!(plan.dtb.unwrap().gpa.0, base);
        let plan = bench(arch, &elf(arch, base)).prepare().unwrap();
        assert_eq!(plan.dtb.unwrap().gpa.0, base + RAM - DTB_ROOM);
        check(&bench(arch, &elf(arch, 0)), "segment 0 of the kernel needs 0x1100 bytes at 0x0");
    }
}

#[test]
fn a_flat_binary_goes_where_it_is_told() {
    for (arch, base) in BOTH {
        let at = base + 0x8_0000;
        let plan = bench(arch, &[0x13; 100]).load_addr(at).prepare().unwrap();
        assert_eq!((plan.format, plan.entry.0), (Format::Flat, at));
        let mut bench = bench(arch, &[0x13; 100]).load_addr(at);
        bench.config.entry_point = Some(GuestPhysAddr(at + 8));
        assert_eq!(bench.prepare().unwrap().entry.0, at + 8);
        bench.config.entry_point = Some(GuestPhysAddr(at + 100));
        check(&bench, "lies outside of what is loaded");
        bench.config.entry_point = Some(GuestPhysAddr(at + 9));
        check(&bench, "must be a multiple of");
        bench.config.entry_point = None;
        bench.config.image.load_addr = None;
        check(&bench, "a flat binary needs a kernel_load_addr");
        bench.config.image.load_addr = Some(GuestPhysAddr(at));
        bench.config.bios = Some(ImageFile { path: bench.file("bios", &[1; 64]), load_addr: None });
        check(&bench, "needs a bios_load_addr");
        bench.config.bios.as_mut().unwrap().load_addr = Some(GuestPhysAddr(base));
        assert_eq!(bench.prepare().unwrap().entry.0, base);
    }
}

#[test]
fn packed_kernels_are_unpacked_on_the_host() {
    let unsized_zstd = |bytes: &[u8]| {
        let mut packed = zstd(bytes);
        packed.truncate(packed.len() - 4);
        packed
    };
    let unsized_lz4 = |bytes: &[u8]| {
        let mut packed = lz4(bytes);
        packed.truncate(packed.len() - 4);
        packed
    };
    for (arch, base) in BOTH {
        let inside = image(arch);
        for packed in [gzip(&inside), unsized_zstd(&inside), unsized_lz4(&inside), xz(&inside)] {
            for kernel in [packed.clone(), zboot(&packed)] {
                let bench = bench(arch, &kernel);
                let plan = bench.prepare_cached().unwrap();
                assert_eq!((plan.format, plan.entry.0), (Format::Image, base + BLOCK));
                assert_eq!(plan.unpacked.as_ref().unwrap().size, inside.len() as u64);
                let mem = memory_at(base);
                plan.load(&mem, &FirmwareInfo::default()).unwrap();
                assert_eq!(bytes_at(&mem, base + BLOCK, inside.len()), inside);
            }
        }
        // Unpacked once is enough, be it ELF or Image.
        for packed in [gzip(&elf(arch, base)), zboot(&gzip(&elf(arch, base)))] {
            let plan = bench(arch, &packed).prepare().unwrap();
            assert_eq!((plan.format, plan.entry.0), (Format::Elf64, base + 4));
        }
        check(&bench(arch, &gzip(&gzip(&inside))), "holds what is compressed with gzip");
        check(&bench(arch, &gzip(&inside)).unpack(Unpack::Guest), "unpacked by firmware");
        check(&bench(arch, &gzip(&vec![0; RAM as usize + 1])), "what RAM has");
        let mut cut = zboot(&gzip(&inside));
        cut.truncate(0x1100);
        check(&bench(arch, &cut), "was it cut short?");
        let mut wild = zboot(&gzip(&inside));
        put(&mut wild, 8, &u32::MAX.to_le_bytes());
        check(&bench(arch, &wild), "payload_size");
    }
}

#[test]
fn what_is_for_another_architecture_is_named() {
    let arm = || image(Arch::Aarch64);
    let riscv = || image(Arch::Riscv64);
    for (arch, kernel, expect) in [
        (Arch::Aarch64, riscv(), "is a riscv64 Image: this guest is aarch64"),
        (Arch::Riscv64, arm(), "is an aarch64 Image: this guest is riscv64"),
        (Arch::X86_64, riscv(), "is a riscv64 Image: this guest is x86_64"),
        (Arch::X86_64, zboot(&arm()), "is a compressed kernel for EFI firmware: give the kernel"),
        (Arch::X86_64, pe(0xaa64), "is an aarch64 kernel for EFI firmware: this guest is x86_64"),
        (Arch::X86_64, pe(0x5064), "is a riscv64 kernel for EFI firmware: this guest is x86_64"),
        (Arch::X86_64, pe(0x8664), "is a compressed kernel for EFI firmware: give the kernel"),
        (Arch::Aarch64, for_machine_number(8), "a 64-bit image for MIPS, which this guest is not"),
        (Arch::Riscv64, for_machine_number(9), "this is an image for machine 9"),
        (Arch::Riscv64, gzip(&arm()), "holds what is an aarch64 Image: this guest is riscv64"),
        (Arch::Aarch64, zboot(&gzip(&riscv())), "holds what is a riscv64 Image"),
        (Arch::Aarch64, bzimage(b""), "is an x86 bzImage: this guest is aarch64"),
        (Arch::Riscv64, elf64(0, &[]), "is an x86_64 ELF file: this guest is riscv64"),
        (Arch::Aarch64, elf(Arch::Riscv64, 0), "is a riscv64 ELF file: this guest is aarch64"),
        (
            Arch::X86_64,
            elf(Arch::Aarch64, 0),
            "a 64-bit image for aarch64, which this guest is not",
        ),
        (Arch::Riscv64, b"\xd0\x0d\xfe\xed".to_vec(), "is a device tree"),
        (Arch::Riscv64, b"#!/bin/sh".to_vec(), "is a script"),
        (Arch::Aarch64, b"070701".to_vec(), "is it the initrd"),
        (Arch::Aarch64, b"MZ".to_vec(), "is an EFI program"),
        (Arch::Aarch64, b"\x27\x05\x19\x56".to_vec(), "is an image for U-Boot"),
        (Arch::Aarch64, b"hello".to_vec(), "is of no known format (Image, ELF)"),
    ] {
        check(&bench(arch, &kernel), expect);
        // An address does not make anything of it that it is not.
        let found = Found::of(&kernel);
        let named = found.arch().is_some() || found == Found::Elf(None);
        if named || (arch != Arch::X86_64 && matches!(found, Found::Compressed(_))) {
            check(&bench(arch, &kernel).load_addr(0x8000), expect);
        }
    }
}

#[test]
fn what_surrounds_the_kernel_is_checked() {
    for (arch, base) in BOTH {
        let max = if arch == Arch::Aarch64 { 2047 } else { 1023 };
        let flat = || bench(arch, &[0x13; 100]).load_addr(base + BLOCK);
        let of_linux = || bench(arch, &linux_elf(arch, base));
        let other = || bench(arch, &elf(arch, base));
        for (kernel, max) in [
            (&(|| bench(arch, &image(arch))) as &dyn Fn() -> Bench, max),
            (&of_linux, max),
            (&other, 65535),
            (&flat, 65535),
        ] {
            kernel().cmdline(&"x".repeat(max)).prepare().unwrap();
            let long = kernel().cmdline(&"x".repeat(max + 1));
            check(&long, &format!("this kernel takes {max} at most"));
        }
        check(&bench(arch, &image(arch)).cmdline("a\0b"), "a NUL byte at offset 1");
        check(&bench(arch, &image(arch)).initrd(&vec![0; RAM as usize]), "the initrd has");

        let dtb = |load_addr: u64| {
            let mut bench = bench(arch, &image(arch));
            let path = bench.file("dtb", b"dtb");
            bench.config.dtb = Some(ImageFile { path, load_addr: Some(GuestPhysAddr(load_addr)) });
            bench
        };
        let at = base + 0x200_0008;
        assert_eq!(dtb(at).prepare().unwrap().dtb.unwrap().gpa.0, at);
        check(&dtb(at + 4), "must be a multiple of 8");
        check(&dtb(base + BLOCK), "overlaps the kernel");
        check(&dtb(base + RAM), "the device tree needs");
    }
    let far = bench(Arch::Aarch64, &image(Arch::Aarch64)).initrd(b"x");
    let mut far = Bench { ram: vec![range(0x4000_0000, RAM), range(64 << 30, RAM)], ..far };
    far.config.ramdisk.as_mut().unwrap().load_addr = Some(GuestPhysAddr(64 << 30));
    check(&far, "the initrd");
}

#[test]
fn damaged_images_are_loaded_or_refused() {
    let images = BOTH.map(|(arch, base)| {
        let inside = image(arch);
        let packed = gzip(&inside);
        let kernels =
            [(inside, HEADER), (elf(arch, base), 256), (zboot(&packed), 16), (packed, 0x2000)];
        (arch, base, kernels)
    });
    let mut random = Random(0xf00d);
    let (mut booted, mut refused) = (0, 0);
    for round in 0..2000 {
        let (arch, base, kernels) = &images[round % 2];
        let (image, headers) = &kernels[round / 2 % kernels.len()];
        let mut bench = bench(*arch, &random.damage(image, *headers)).initrd(b"initrd");
        if round % 5 == 0 {
            bench = bench.load_addr(base + 2 * BLOCK);
        }
        match bench.prepare() {
            Ok(plan) => {
                booted += 1;
                if round % 16 < 2 {
                    plan.load(&memory_at(*base), &FirmwareInfo::default()).unwrap();
                }
            }
            Err(_) => refused += 1,
        }
    }
    assert!(booted > 100 && refused > 100, "{booted} booted, {refused} refused: no test");
}

#[test]
fn the_protocol_is_the_architectures() {
    for (arch, protocol) in [(Arch::Aarch64, Protocol::Arm64), (Arch::Riscv64, Protocol::Riscv)] {
        assert_eq!(bench(arch, &image(arch)).prepare().unwrap().protocol, protocol);
    }
}

#[test]
fn a_file_of_a_known_kind_is_loaded_flat_with_a_note() {
    for (arch, base) in BOTH.into_iter().chain([(Arch::X86_64, 0x8000)]) {
        for (kernel, is) in [
            (&b"\xd0\x0d\xfe\xed"[..], "a device tree"),
            (b"\x27\x05\x19\x56", "an image for U-Boot"),
            (b"MZ", "an EFI program"),
            (b"070701", "a cpio archive"),
            (b"#!/bin/sh", "a script"),
        ] {
            let plan = bench(arch, kernel).load_addr(base).prepare().unwrap();
            assert_eq!(plan.format, Format::Flat);
            let note = format!("the kernel looks like {is}, ");
            assert!(plan.notes[0].starts_with(&note), "{:?}", plan.notes);
        }
        assert_eq!(bench(arch, &[0x13; 100]).load_addr(base).prepare().unwrap().notes.len(), 0);
    }
}

#[test]
fn a_vmlinux_at_virtual_addresses_is_told_from_one_that_does_not_fit() {
    for (arch, base) in BOTH {
        let high = 0xffff_8000_8000_0000;
        let expect = "p_paddr: 0xffff800080000000 is a virtual address";
        check(&bench(arch, &elf(arch, high)), expect);
        check(&bench(arch, &gzip(&linux_elf(arch, high))), "give the Image");
        // One that says where it goes is none of them, wherever it is linked.
        let mut kernel = elf(arch, base);
        put(&mut kernel, 64 + 16, &high.to_le_bytes());
        assert_eq!(bench(arch, &kernel).prepare().unwrap().entry.0, base + 4);
    }
}

#[test]
fn what_is_big_endian_is_refused() {
    for (arch, base) in BOTH {
        let mut kernel = image(arch);
        kernel[24] |= 1;
        check(&bench(arch, &kernel), "flags: this is a big-endian kernel");
        check(&bench(arch, &zboot(&gzip(&kernel))), "flags: this is a big-endian kernel");
        let mut kernel = elf(arch, base);
        kernel[5] = 2;
        kernel[18..20].reverse();
        check(&bench(arch, &kernel), "EI_DATA: this is a big-endian image");
        check(&bench(arch, &kernel).load_addr(base), "EI_DATA: this is a big-endian image");
    }
}

#[test]
fn an_image_needs_a_size_where_all_have_one() {
    let without = |arch| {
        let mut kernel = image(arch);
        put(&mut kernel, 16, &0u64.to_le_bytes());
        bench(arch, &kernel)
    };
    check(&without(Arch::Riscv64), "image_size: is 0");
    let entry = without(Arch::Aarch64).prepare().unwrap().entry.0;
    assert_eq!(entry, 0x4000_0000 + BLOCK + 0x8_0000);
}

#[test]
fn an_image_beyond_all_memory_is_refused() {
    for (arch, _) in BOTH {
        let mut kernel = image(arch);
        put(&mut kernel, 8, &(8 * BLOCK).to_le_bytes());
        for first in [u64::MAX - 4 * BLOCK + 1, u64::MAX - BLOCK / 2] {
            let top = Bench { ram: vec![range(first, 0x1000)], ..bench(arch, &kernel) };
            check(&top, "text_offset: 0x1000000 is beyond all memory");
        }
        put(&mut kernel, 8, &(1u64 << 41).to_le_bytes());
        check(&bench(arch, &kernel), "text_offset: 0x20000000000 bytes are more than there is");
    }
}

#[test]
fn a_damaged_kernel_in_the_cache_is_unpacked_again() {
    for (arch, base) in BOTH {
        let inside = image(arch);
        for (kernel, load_addr) in
            [(gzip(&inside), None), (zboot(&gzip(&inside)), Some(base + 2 * BLOCK))]
        {
            let mut bench = bench(arch, &kernel);
            bench.config.image.load_addr = load_addr.map(GuestPhysAddr);
            std::thread::sleep(std::time::Duration::from_millis(150)); // so that it is cached
            let first = bench.prepare_cached().unwrap().unpacked.unwrap();
            let entry = first.cache.expect("it is not cached");
            assert!(!first.cache_hit);
            assert!(bench.prepare_cached().unwrap().unpacked.unwrap().cache_hit);
            std::fs::write(&entry, vec![0; inside.len()]).unwrap();
            let plan = bench.prepare_cached().unwrap();
            assert!(!plan.unpacked.as_ref().unwrap().cache_hit);
            assert_eq!(plan.format, Format::Image);
            let mem = memory_at(base);
            plan.load(&mem, &FirmwareInfo::default()).unwrap();
            assert_eq!(bytes_at(&mem, plan.entry.0, inside.len()), inside);
            assert!(bench.prepare_cached().unwrap().unpacked.unwrap().cache_hit);
        }
    }
}
