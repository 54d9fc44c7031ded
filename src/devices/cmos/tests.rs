use super::*;
use crate::devices::testing::touch_everything;

/// 2024-12-31 23:59:58 UTC, a Tuesday.
const MOMENT: u64 = 1_735_689_598;

fn cmos() -> Cmos {
    let memory = MemorySizes { below_4g: 0xc000_0000, above_4g: 0x1_4000_0000 };
    Cmos::new(Port(0x70), Box::new(|| MOMENT), memory)
}

fn read(cmos: &Cmos, index: u8) -> u8 {
    let effect = cmos.handle_write(INDEX, AccessWidth::Byte, index.into());
    assert_eq!(effect, Ok(Effect::None));
    cmos.handle_read(DATA, AccessWidth::Byte).unwrap() as u8
}

fn write(cmos: &Cmos, index: u8, value: u8) {
    // Both at once, as an ISA bus splits it.
    let both = u64::from(value) << 8 | u64::from(index);
    assert_eq!(cmos.handle_write(INDEX, AccessWidth::Word, both), Ok(Effect::None));
}

fn time(cmos: &Cmos) -> [u8; 8] {
    [CENTURY, YEAR, MONTH, DAY_OF_MONTH, DAY_OF_WEEK, HOURS, MINUTES, SECONDS]
        .map(|index| read(cmos, index))
}

#[test]
fn every_offset_takes_every_width_both_ways() {
    touch_everything(&cmos());
    let cmos = cmos();
    for index in 0..=0xff {
        for value in [0, 0x55, 0xff] {
            write(&cmos, index, value);
            read(&cmos, index);
        }
    }
}

#[test]
fn the_time_is_the_clocks_in_bcd() {
    assert_eq!(time(&cmos()), [0x20, 0x24, 0x12, 0x31, 3, 0x23, 0x59, 0x58]);
}

#[test]
fn register_b_chooses_the_form() {
    let cmos = cmos();
    write(&cmos, REGISTER_B, B_24H | B_BINARY);
    assert_eq!(time(&cmos), [20, 24, 12, 31, 3, 23, 59, 58]);
    write(&cmos, REGISTER_B, 0);
    assert_eq!(read(&cmos, HOURS), 0x11 | PM);
    assert_eq!([0, 12].map(|at| hour(at, 0)), [0x12, 0x12 | PM]);
}

#[test]
fn the_clock_cannot_be_set_and_is_never_being_updated() {
    let cmos = cmos();
    let before = time(&cmos);
    for index in [CENTURY, YEAR, MONTH, DAY_OF_MONTH, DAY_OF_WEEK, HOURS, MINUTES, SECONDS] {
        write(&cmos, index, 0x11);
    }
    write(&cmos, REGISTER_A, 0xff);
    assert_eq!(time(&cmos), before);
    assert_eq!([REGISTER_A, REGISTER_C, REGISTER_D].map(|r| read(&cmos, r)), [0x7f, 0, 0x80]);
}

#[test]
fn other_bytes_are_ram_and_the_index_has_seven_bits() {
    let cmos = cmos();
    write(&cmos, 0x80 | 0x0f, 0x0a); // shutdown status, with NMIs masked
    assert_eq!(read(&cmos, 0x0f), 0x0a);
    assert_eq!(cmos.handle_read(INDEX, AccessWidth::Byte), Ok(0xff));
}

#[test]
fn memory_sizes_stand_where_loaders_look() {
    let cmos = cmos();
    let word = |low, high| u16::from_le_bytes([read(&cmos, low), read(&cmos, high)]);
    assert_eq!(word(0x15, 0x16), 640);
    assert_eq!((word(0x17, 0x18), word(0x30, 0x31)), (0xffff, 0xffff));
    assert_eq!(word(0x34, 0x35), 0xbf00); // 3 GiB - 16 MiB in 64 KiB
    assert_eq!([0x5b, 0x5c, 0x5d].map(|at| read(&cmos, at)), [0, 0x40, 1]); // 5 GiB

    let small =
        Cmos::new(Port(0x70), Box::new(|| 0), MemorySizes { below_4g: 0x20_0000, above_4g: 0 });
    assert_eq!([read(&small, 0x17), read(&small, 0x18)], [0x00, 0x04]); // 1 MiB in KiB
    assert_eq!([read(&small, 0x34), read(&small, 0x35)], [0, 0]);
}
