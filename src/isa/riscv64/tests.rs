use std::collections::BTreeMap;

use super::*;

const SV39: u64 = 8 << 60 | 0x80;
const LEAF: u64 = VALID | READ | WRITE | EXECUTE;

/// Tables: the entry at an address.
fn walk(satp: u64, tables: &[(u64, u64)], addr: u64) -> Option<u64> {
    let tables: BTreeMap<_, _> = tables.iter().copied().collect();
    translate(satp, addr, &|at| tables.get(&at.0).copied()).map(|it| it.0)
}

const fn entry(page: u64, flags: u64) -> u64 {
    page << 10 | flags
}

#[test]
fn without_translation_addresses_are_what_they_are() {
    assert_eq!(walk(0, &[], 0xffff_ffff_8000_0000), Some(0xffff_ffff_8000_0000));
    assert_eq!(walk(1 << 60, &[], 0x1000), None, "a reserved mode");
}

#[test]
fn three_levels_lead_to_a_page_and_fewer_to_a_larger_one() {
    let addr = 0xffff_ffd0_1234_5678;
    let index = |level: u32| addr >> (12 + 9 * level) & 0x1ff;
    let root = 0x80_000 + index(2) * 8;
    let tables = [
        (root, entry(0x81, VALID)),
        (0x81_000 + index(1) * 8, entry(0x82, VALID)),
        (0x82_000 + index(0) * 8, entry(0xabcde, LEAF)),
    ];
    assert_eq!(walk(SV39, &tables, addr), Some(0xabcd_e678));
    assert_eq!(walk(SV39, &tables, addr & 0x7f_ffff_ffff), None, "not sign-extended");
    assert_eq!(walk(SV39, &tables, addr + 0x1000), None, "no entry to be read");
    let giant = [(root, entry(0x4_0000 * 3, LEAF))];
    assert_eq!(walk(SV39, &giant, addr), Some(0xc000_0000 | addr & 0x3fff_ffff));
    for wrong in [entry(0x123, LEAF), entry(0x40000, VALID | WRITE), entry(0x40000, LEAF & !VALID)]
    {
        assert_eq!(walk(SV39, &[(root, wrong)], addr), None, "{wrong:#x}");
    }
}

#[test]
fn sv48_and_sv57_have_more_levels() {
    let addr = 0x1234_5678_9abc;
    for (mode, levels) in [(9, 4), (10, 5)] {
        let tables: Vec<_> = (0..levels)
            .map(|level| {
                let index = addr >> (12 + 9 * level) & 0x1ff;
                let flags = if level == 0 { LEAF } else { VALID };
                (0x100_000 * (level + 1) + index * 8, entry(0x100 * level, flags))
            })
            .collect();
        let satp = mode << 60 | (0x100 * levels);
        assert_eq!(walk(satp, &tables, addr), Some(0xabc), "{levels}");
        assert_eq!(walk(SV39, &tables, addr), None);
    }
}

#[test]
fn sixteen_pages_may_be_one() {
    let satp = 8 << 60 | 1;
    let leaf = |page| [(0x1000, entry(2, VALID)), (0x2000, entry(3, VALID)), (0x3018, page)];
    let napot = |page| entry(page, LEAF) | NAPOT;
    assert_eq!(walk(satp, &leaf(napot(0x128)), 0x3456), Some(0x12_3456));
    assert_eq!(walk(satp, &leaf(napot(0x124)), 0x3456), None, "of no known size");
}

#[test]
fn tables_that_lead_in_circles_end() {
    assert_eq!(walk(SV39, &[(0x80_000, entry(0x80, VALID))], 0), None);
}
