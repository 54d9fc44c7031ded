use std::sync::Arc;

use super::*;
use crate::devices::testing::{LevelSink, read32, touch_everything, window, write32};

/// The power button's line on QEMU's `virt` board.
const POWER: u8 = 3;
const BIT: u32 = 1 << POWER;

fn gpio() -> (Pl061, Arc<LevelSink>) {
    let (irq, line) = LevelSink::line();
    (Pl061::new(window(primecell::SIZE), line), irq)
}

/// Line `POWER` as Linux' `gpio-keys` wants it: an input, both edges.
fn with_driver() -> (Pl061, Arc<LevelSink>) {
    let (gpio, irq) = gpio();
    write32(&gpio, IE, 0);
    write32(&gpio, DIR, 0);
    write32(&gpio, IBE, BIT);
    write32(&gpio, IE, BIT);
    (gpio, irq)
}

/// As Linux reads one line: a byte, with only its bit in the address.
fn line(gpio: &Pl061, line: u8) -> bool {
    let at = DATA + (1 << (line + 2));
    gpio.handle_read(at, AccessWidth::Byte).unwrap() != 0
}

/// As Linux' driver serves the interrupt: which lines, and they are cleared.
fn served(gpio: &Pl061) -> u32 {
    let lines = read32(gpio, MIS);
    write32(gpio, IC, lines);
    lines
}

#[test]
fn every_offset_takes_every_width_both_ways() {
    touch_everything(&gpio().0);
}

#[test]
fn registers_have_eight_bits_and_some_may_not_be_accessed() {
    let (gpio, _) = gpio();
    for register in [DIR, IS, IBE, IEV, IE, AFSEL] {
        assert_eq!(read32(&gpio, register), 0, "{register:#x}");
        write32(&gpio, register, 0xffff_ffa5);
        assert_eq!(read32(&gpio, register), 0xa5, "{register:#x}");
    }
    for register in [RIS, MIS, 0xfe0] {
        assert_eq!(gpio.handle_write(register, AccessWidth::Dword, 1), Err(Access::ReadOnly));
    }
    assert_eq!(gpio.handle_read(IC, AccessWidth::Dword), Err(Access::WriteOnly));
    for hole in [0x424, 0xfdc] {
        assert_eq!(gpio.handle_read(hole, AccessWidth::Dword), Err(Access::NoRegister));
        assert_eq!(gpio.handle_write(hole, AccessWidth::Dword, 0), Err(Access::NoRegister));
    }
    let id = (0..4).fold(0, |id, at| id | read32(&gpio, 0xfe0 + 4 * at) << (8 * at));
    assert_eq!(id, 0x0004_1061);
}

#[test]
fn the_address_says_which_lines_are_meant() {
    let (gpio, _) = gpio();
    write32(&gpio, DIR, 0xf0);
    gpio.set_input(0, true);
    gpio.set_input(5, true); // an output: the guest's
    write32(&gpio, DATA + (0xc0 << 2), 0xff);
    assert_eq!(read32(&gpio, DATA + (0xff << 2)), 0xc1);
    assert_eq!(read32(&gpio, DATA + (0x81 << 2)), 0x81);
    assert_eq!(read32(&gpio, DATA), 0);
    write32(&gpio, DATA, 0xff); // no line is meant
    write32(&gpio, DATA + (0x40 << 2), 0);
    assert_eq!(read32(&gpio, DATA + (0xff << 2)), 0x81);
    write32(&gpio, DIR, 0);
    assert_eq!(read32(&gpio, DATA + (0xff << 2)), 0x21);
}

#[test]
fn edges_are_latched_as_they_are_wanted() {
    for (ibe, iev, rising, falling) in
        [(0, 0, 0, BIT), (0, BIT, BIT, 0), (BIT, 0, BIT, BIT), (BIT, BIT, BIT, BIT)]
    {
        let (gpio, irq) = gpio();
        write32(&gpio, IBE, ibe);
        write32(&gpio, IEV, iev);
        write32(&gpio, IE, BIT);
        for (high, expect) in [(true, rising), (true, 0), (false, falling), (false, 0)] {
            gpio.set_input(POWER, high);
            assert_eq!((read32(&gpio, RIS), irq.high()), (expect, expect != 0));
            write32(&gpio, IC, BIT);
            assert_eq!((read32(&gpio, RIS), irq.high()), (0, false));
        }
    }
}

#[test]
fn levels_last_as_long_as_they_do() {
    let (gpio, irq) = gpio();
    write32(&gpio, IS, BIT);
    write32(&gpio, IEV, BIT);
    gpio.set_input(POWER, true);
    assert_eq!((read32(&gpio, RIS), read32(&gpio, MIS), irq.high()), (BIT, 0, false));
    write32(&gpio, IE, BIT);
    write32(&gpio, IC, BIT); // does nothing to a level
    assert_eq!((read32(&gpio, MIS), irq.high()), (BIT, true));
    gpio.set_input(POWER, false);
    assert_eq!((read32(&gpio, RIS), irq.high()), (0, false));
    write32(&gpio, IEV, 0);
    assert!(irq.high()); // low levels now
    write32(&gpio, DIR, BIT);
    assert!(!irq.high());
}

#[test]
fn a_press_is_seen_by_a_driver_that_looks_late_and_so_is_the_release() {
    let (gpio, irq) = with_driver();
    for _ in 0..2 {
        assert!(gpio.press(POWER));
        assert!(irq.high());
        assert_eq!((served(&gpio), irq.high()), (BIT, false));
        // Other lines may be read meanwhile.
        assert!(!line(&gpio, 2));
        assert!(line(&gpio, POWER)); // at last, in a worker's thread
        assert!(irq.high());
        assert_eq!((served(&gpio), irq.high()), (BIT, false));
        assert!(!line(&gpio, POWER));
        assert!(!irq.high());
    }
}

#[test]
fn a_button_that_is_pressed_again_comes_up_first() {
    let (gpio, irq) = with_driver();
    assert!(gpio.press(POWER));
    assert_eq!(served(&gpio), BIT);
    assert!(gpio.press(POWER));
    assert_eq!((irq.high(), served(&gpio)), (true, BIT));
    assert!(line(&gpio, POWER));
    assert!(!line(&gpio, POWER));
}

#[test]
fn without_a_driver_nothing_is_pressed() {
    let (gpio, irq) = gpio();
    assert!(!gpio.press(POWER));
    write32(&gpio, DIR, BIT);
    write32(&gpio, IE, BIT);
    assert!(!gpio.press(POWER));
    assert!(![LINES, 31, 32, 255].into_iter().any(|line| gpio.press(line)));
    gpio.set_input(LINES, true);
    gpio.set_input(255, true);
    write32(&gpio, DIR, 0);
    assert_eq!((read32(&gpio, DATA + (0xff << 2)), read32(&gpio, RIS), irq.high()), (0, 0, false));
}

#[test]
fn what_is_held_from_outside_is_not_let_go() {
    let (gpio, _) = with_driver();
    gpio.set_input(POWER, true);
    assert!(line(&gpio, POWER) && line(&gpio, POWER));
    // Nor a press that somebody holds on to.
    assert!(gpio.press(POWER));
    gpio.set_input(POWER, true);
    assert!(line(&gpio, POWER) && line(&gpio, POWER));
}
