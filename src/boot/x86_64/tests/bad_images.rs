//! One wrong field each.

use super::good_images::multiboot_header;
use crate::{boot::testing::*, vm::config::Unpack};

#[track_caller]
fn check(bench: &Bench, expect: &str) {
    let error = bench.refused();
    assert!(error.contains(expect), "{expect:?} is not in: {error}");
}

fn good_elf() -> Vec<u8> {
    let note = Part::note(xen_note(18, &0x10_0000u64.to_le_bytes()));
    let parts = [Part::load(0x10_0000, &[0x90; 0x100], 0), Part::load(0x20_0000, b"data", 8), note];
    elf64(0x10_0000, &parts)
}

/// The offset of a field of program header `index` in an ELF64 file.
const fn ph(index: usize, field: usize) -> usize {
    64 + 56 * index + field
}

#[test]
fn elf_headers_are_checked_field_by_field() {
    let max = &u64::MAX.to_le_bytes()[..];
    let cases: [(usize, &[u8], &str); 21] = [
        (4, &[3], "EI_CLASS: 3 is no known class"),
        (5, &[2], "EI_DATA: this is a big-endian image"),
        (5, &[7], "EI_DATA: 7 is no known byte order"),
        (16, &[1, 0], "e_type: 1 is neither"),
        (18, &[183, 0], "e_machine: this is a 64-bit image for aarch64, which this guest is not"),
        (18, &[243, 0], "e_machine: this is a 64-bit image for RISC-V"),
        (18, &[0x34, 0x12], "e_machine: this is an image for machine 4660"),
        (32, max, "e_phoff: 168 bytes at offset 0xffffffffffffffff do not lie within the file"),
        (32, &0x8000u64.to_le_bytes(), "e_phoff"),
        (54, &[57, 0], "e_phentsize: 57 must be 56"),
        (56, &[0xff, 0xff], "e_phnum: 65535 must be from 1 to 512"),
        (56, &[0, 0], "e_phnum: 0 must be"),
        (ph(0, 8), max, "p_offset of segment 0: 0x100 bytes at offset 0xffffffffffffffff exceed"),
        (ph(0, 32), max, "p_filesz of segment 0: 0xffffffffffffffff exceeds p_memsz, 0x100"),
        (ph(1, 40), max, "p_paddr of segment 1: 0x200000 and p_memsz 0xffffffffffffffff exceed"),
        (ph(1, 24), &[0, 0, 0, 8], "segment 1 of the kernel needs 0xc bytes at 0x8000000, but the"),
        (
            ph(1, 40),
            &[0, 0, 0, 8],
            "segment 1 of the kernel needs 0x8000000 bytes at 0x200000, but",
        ),
        (ph(1, 24), &[0x80, 0, 0x10], "p_paddr of segment 1: 0x100080 lies within segment 0"),
        (ph(0, 24), &[0, 0, 0xe], "segment 0 of the kernel at 0xe0000-0xe00ff overlaps the ACPI"),
        (
            ph(2, 32),
            &[0, 0, 2],
            "p_filesz of segment 2: 0x20014 bytes of notes are more than 0x10000",
        ),
        (ph(2, 8), max, "p_offset of a note segment"),
    ];
    for (offset, value, expect) in cases {
        let mut elf = good_elf();
        if offset == ph(2, 32) {
            put(&mut elf, offset, &[0x14]);
        }
        put(&mut elf, offset, value);
        if offset == ph(2, 32) {
            put(&mut elf, offset, &0x2_0014u64.to_le_bytes());
        }
        check(&Bench::new(&elf), expect);
    }
    for len in [1, 4, 16, 63] {
        check(&Bench::new(&good_elf()[..len]), if len < 4 { "no known format" } else { "Kernel" });
    }
}

#[test]
fn entry_points_are_checked() {
    let load = || Part::load(0x10_0000, &[0x90; 0x100], 0);
    let noted = |kind, value: &[u8]| elf64(0x10_0000, &[load(), Part::note(xen_note(kind, value))]);
    let pvh = "XEN_ELFNOTE_PHYS32_ENTRY: ";
    for (kernel, expect) in [
        (elf64(0x30_0000, &[load()]), "e_entry: 0x300000 lies in no segment".to_owned()),
        (elf64(0, &[Part::note(vec![])]), "e_phnum: no program header is PT_LOAD".to_owned()),
        (noted(18, &0x10_0100u64.to_le_bytes()), format!("{pvh}0x100100 lies in no segment")),
        (noted(18, &(1u64 << 32).to_le_bytes()), format!("{pvh}0x100000000 is above 4 GiB")),
        (noted(18, &[0; 6]), format!("{pvh}its 6 bytes must be 4 or 8")),
        (elf32(0x10_0000, 0x10_0000, &[0; 64]), "has neither".to_owned()),
    ] {
        check(&Bench::new(&kernel), &expect);
    }
}

#[test]
fn notes_that_make_no_sense_are_passed_over() {
    for note in [
        xen_note(17, b"wrong type"),
        xen_note(18, &[0; 8])[..14].to_vec(),
        vec![0xff; 64],
        vec![0; 3],
        [xen_note(1, &[1; 3]), vec![0], xen_note(6, b"linux\0")].concat(),
    ] {
        let elf = elf64(0x10_0000, &[Part::load(0x10_0000, &[0x90; 16], 0), Part::note(note)]);
        let plan = Bench::new(&elf).prepare().unwrap();
        assert_eq!(plan.protocol, super::super::Protocol::Linux64);
    }
    // Unaligned values before it are padded, by 4 or by 8.
    let note = [xen_note(1, &[1; 3]), vec![0], xen_note(18, &0x10_0004u32.to_le_bytes())].concat();
    let elf = elf64(0x10_0000, &[Part::load(0x10_0000, &[0x90; 16], 0), Part::note(note)]);
    assert_eq!(Bench::new(&elf).prepare().unwrap().entry.0, 0x10_0004);
}

#[test]
fn bzimage_headers_are_checked_field_by_field() {
    let cases: [(usize, &[u8], &str); 13] = [
        (0x1f1, &[255], "setup_sects: 255 sectors leave nothing"),
        (
            0x1f4,
            &[0xff, 0xff, 0xff, 0x0f],
            "syssize: 0xfffffff0 bytes from offset 0x1000 on exceed",
        ),
        (0x1f4, &[0, 0, 0, 0], "syssize: 0x0 bytes are no kernel"),
        (0x1fe, &[0, 0], "is of no known format"),
        (0x202, b"HdrX", "is a boot sector"),
        (0x206, &[3, 2], "version: boot protocol 2.03 is older than 2.04"),
        (0x211, &[0], "loadflags: this is a zImage"),
        (0x230, &[3], "kernel_alignment: 0x200003 is no power of two"),
        (0x230, &[0, 0, 0, 0], "kernel_alignment: 0x0 is no power of two"),
        (0x258, &[0, 0, 0, 0], "pref_address: 0x0 must be at least 1 MiB"),
        (0x258, &u64::MAX.to_le_bytes(), "pref_address"),
        (
            0x260,
            &[0xff; 4],
            "the kernel needs 0xffffffff bytes at 0x1000000, but the guest has RAM",
        ),
        (0x238, &[0; 4], "this kernel takes 0 at most"),
    ];
    for (offset, value, expect) in cases {
        let mut image = bzimage(b"");
        put(&mut image, offset, value);
        check(&Bench::new(&image).cmdline("quiet"), expect);
    }
    let image = bzimage(&[0; 0x1000]);
    check(&Bench::new(&image[..image.len() - 16]), "was it cut short?");
    let mut image = bzimage(b"");
    image[0x1f1] = 0; // means 4: the kernel begins elsewhere, and is longer than said
    Bench::new(&image).prepare().unwrap();
}

#[test]
fn damaged_payloads_are_refused_and_left_to_the_guest() {
    let elf = inner_elf(true);
    let packed = lz4(&elf);
    let resized = |size: u32| {
        let mut packed = packed.clone();
        let end = packed.len();
        put(&mut packed, end - 4, &size.to_le_bytes());
        packed
    };
    let len = elf.len() as u32;
    let big_block = [&packed[..4], &[0xff; 4], &packed[8..]].concat();
    let mut flipped = gzip(&elf);
    let checksum = flipped.len() - 8;
    flipped[checksum] ^= 0x10;
    for (payload, expect) in [
        (resized(len + 1), "ends 1 before that"),
        (resized(len - 1), "it holds more bytes than it says"),
        (resized(u32::MAX), "its unpacked size, 0xffffffff, must be from 1 to init_size, 0x800000"),
        (resized(0), "its unpacked size, 0x0, must be"),
        (big_block, "an LZ4 block of 4294967295 bytes is too large"),
        (flipped, "it is damaged"),
        (lz4(b"no ELF file at all"), "the kernel inside: e_ident: this is no ELF file"),
        (lz4(&elf[..1000]), "the kernel inside: p_offset"),
        (vec![0x5a; 64], "begin no known compressed data"),
        (vec![1], "1 bytes are no compressed kernel"),
        (lz4(&elf64(0x200_0000, &[Part::load(0x200_0000, b"x", 0)])), "is not within 0x1000000-"),
    ] {
        let bench = Bench::new(&bzimage(&payload)).unpack(Unpack::Host);
        check(&bench, expect);
        let plan = bench.unpack(Unpack::Auto).prepare().unwrap();
        assert_eq!(plan.entry.0, 0x100_0200);
    }
    let mut image = bzimage(&packed);
    put(&mut image, 0x248, &[0xff; 4]); // payload_offset
    check(&Bench::new(&image).unpack(Unpack::Host), "payload_length: ");
}

#[test]
fn multiboot_headers_are_checked_field_by_field() {
    let good = [0x20_0000, 0x20_0000, 0, 0, 0x20_0020];
    let image = |flags, addresses: &[u32]| {
        let mut image = multiboot_header(flags, addresses);
        image.resize(0x100, 0x90);
        Bench::new(&image)
    };
    image(1 << 16, &good).prepare().unwrap();
    image(1 << 16 | 0x8000_0007, &good).prepare().unwrap();
    let cases: [(usize, u32, &str); 8] = [
        (0, 0x1f_ffff, "load_addr: 0x200000 must be at most header_addr, 0x1fffff"),
        (0, 0x20_0001, "load_addr: 0x200000 must be at most header_addr, 0x200001"),
        (2, 0x1f_0000, "load_end_addr: 0x1f0000 must be above load_addr"),
        (2, 0x20_0101, "load_end_addr: 0x200101 must be above load_addr, 0x200000, by no more"),
        (3, 0x20_0010, "bss_end_addr: 0x200010 is below"),
        (3, u32::MAX, "the kernel needs 0xffdfffff bytes at 0x200000, but the guest has RAM"),
        (4, 0x20_0100, "entry_addr: 0x200100 lies outside"),
        (4, 0, "entry_addr: 0x0 lies outside"),
    ];
    for (field, value, expect) in cases {
        let mut addresses = good;
        addresses[field] = value;
        check(&image(1 << 16, &addresses), expect);
    }
    check(&image(1 << 16 | 1 << 3, &good), "multiboot flags: the kernel requires 0x8");
}
