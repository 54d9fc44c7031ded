use std::collections::BTreeMap;

use super::*;

const ROOT: u64 = 0x4000_0000;
const UPPER: u64 = 0x5000_0000;
const PAGE: u64 = VALID | TABLE;

/// Linux' settings: 48 bits in both halves, the top byte of the lower one means nothing.
const fn tcr(size: u64, tg0: u64, tg1: u64) -> u64 {
    size | size << 16 | tg0 << 14 | tg1 << 30 | 1 << 37
}

fn walk(tcr: u64, tables: &[(u64, u64)], addr: u64) -> Option<u64> {
    let tables: BTreeMap<_, _> = tables.iter().copied().collect();
    // With an ASID, and CnP.
    let ttbr1 = UPPER | 7 << 48 | 1;
    let stage1 = Stage1 { sctlr: SCTLR_M, tcr, ttbr0: ROOT, ttbr1 };
    stage1.translate(addr, &|at| tables.get(&at.0).copied()).map(|it| it.0)
}

/// The tables that lead to the page at `page`.
fn path(addr: u64, root: u64, granule: u32, levels: u32, page: u64) -> Vec<(u64, u64)> {
    let stride = granule - 3;
    let mut table = root;
    let mut entries = Vec::new();
    for level in (0..levels).rev() {
        let bits = 48 - (granule + level * stride);
        let index = addr >> (granule + level * stride) & ones(bits.min(stride));
        let next = if level == 0 { page } else { 0x6000_0000 + u64::from(level) * 0x10_0000 };
        entries.push((table + index * 8, next | PAGE | 0x70 << 52));
        table = next;
    }
    entries
}

#[test]
fn without_translation_addresses_are_what_they_are() {
    let off = Stage1 { tcr: u64::MAX, ..Stage1::default() };
    let at = off.translate(0xffff_8000_0000_1234, &|_| None);
    assert_eq!(at, Some(GuestPhysAddr(0xffff_8000_0000_1234)));
}

#[test]
fn each_granule_has_its_levels() {
    for (granule, levels, tg0, tg1) in [(12, 4, 0, 2), (14, 4, 2, 1), (16, 3, 1, 3)] {
        for (addr, root) in [(0x1234_5678_9abc, ROOT), (0xffff_8765_4321_0abc, UPPER)] {
            let tables = path(addr, root, granule, levels, 0x7b00_0000);
            let expected = 0x7b00_0000 | addr & ones(granule);
            assert_eq!(
                walk(tcr(16, tg0, tg1), &tables, addr),
                Some(expected),
                "{granule} {addr:#x}"
            );
            assert_eq!(walk(tcr(16, tg0, tg1), &tables, addr ^ 1 << 30), None);
        }
    }
}

#[test]
fn halves_end_where_they_say() {
    let tables = path(0x80_0000_1000, ROOT, 12, 4, 0x7b00_0000);
    let with_tag = 0xab00_0000_0000_0000 | 0x80_0000_1000;
    assert_eq!(walk(tcr(16, 0, 2), &tables, with_tag), Some(0x7b00_0000));
    assert_eq!(walk(tcr(25, 0, 2), &tables, 0x80_0000_1000), None, "39 bits are not enough");
    assert_eq!(walk(tcr(16, 0, 2), &tables, 0x0081_0080_0000_1000), None, "in neither half");
    assert_eq!(walk(tcr(16, 0, 2) | 1 << 7, &tables, 0x80_0000_1000), None, "no walks: EPD0");
    assert_eq!(walk(tcr(16, 3, 2), &tables, 0x80_0000_1000), None, "a reserved granule");
}

#[test]
fn fewer_bits_are_fewer_levels_and_a_block_is_a_large_page() {
    // 39 bits with 4 KiB: three levels; a block of 2 MiB.
    let addr = 0x40_1234_5678;
    let tables = [
        (ROOT + (addr >> 30) * 8, 0x6000_0000 | PAGE),
        (0x6000_0000 + (addr >> 21 & 0x1ff) * 8, 0x8020_0000 | VALID | 0x60 << 48),
    ];
    assert_eq!(walk(tcr(25, 0, 2), &tables, addr), Some(0x8020_0000 | addr & 0x1f_ffff));
    let invalid = [(ROOT + (addr >> 30) * 8, 0x6000_0000 | TABLE)];
    assert_eq!(walk(tcr(25, 0, 2), &invalid, addr), None);
}

#[test]
fn large_addresses_have_their_upper_bits_elsewhere() {
    // LPA2 with 4 KiB: bits 51:50 of an address are 9:8 of its descriptor.
    let lpa2 = tcr(16, 0, 2) | 1 << 59;
    let mut tables = path(0x1000, ROOT, 12, 4, 0x7b00_0000);
    tables.last_mut().unwrap().1 |= 2 << 8;
    assert_eq!(walk(lpa2, &tables, 0x1000), Some(0x8_0000_7b00_0000));
    // LPA with 64 KiB: bits 51:48 are 15:12.
    let lpa = tcr(16, 1, 3) | 6 << 32;
    let mut tables = path(0x1000, ROOT, 16, 3, 0x7b00_0000);
    tables.last_mut().unwrap().1 |= 0xa << 12;
    assert_eq!(walk(lpa, &tables, 0x1000), Some(0xa_0000_7b00_1000));
}

#[test]
fn any_registers_and_tables_lead_somewhere_or_nowhere() {
    for _ in 0..20_000 {
        let any = || fastrand::u64(..);
        let stage1 = Stage1 { sctlr: 1, tcr: any(), ttbr0: any(), ttbr1: any() };
        let upper = if fastrand::bool() { 0xffff << 48 } else { 0 };
        stage1.translate(any() >> 16 | upper, &|_| Some(any() | VALID));
    }
}
