mod model;

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
};

use super::*;
use crate::devices::{
    IrqLine,
    console::{ConsoleIn, RecordingConsole},
    serial::{self, Serial},
    testing::{WIDTHS, read32, touch_everything, window, write32},
};

/// Pins that must only be driven when they change.
struct Pins {
    high: Vec<AtomicBool>,
    driven: AtomicU32,
}

impl Pins {
    fn new(harts: usize) -> Arc<Self> {
        let high = (0..harts).map(|_| AtomicBool::new(false)).collect();
        Arc::new(Self { high, driven: AtomicU32::new(0) })
    }

    fn all(&self) -> Vec<bool> {
        self.high.iter().map(|pin| pin.load(Ordering::SeqCst)).collect()
    }

    /// How often they were driven since the last call.
    fn take_driven(&self) -> u32 {
        self.driven.swap(0, Ordering::SeqCst)
    }
}

impl ExternalIrq for Pins {
    fn set_external_irq(&self, vcpu_id: usize, high: bool) {
        let was = self.high[vcpu_id].swap(high, Ordering::SeqCst);
        assert_ne!(was, high, "the pin of hart {vcpu_id} is driven without a change");
        self.driven.fetch_add(1, Ordering::SeqCst);
    }
}

fn plic(harts: usize) -> (Plic, Arc<Pins>) {
    let pins = Pins::new(harts);
    (Plic::new(window(size(harts)), pins.clone(), harts), pins)
}

const fn enables(context: u64) -> u64 {
    ENABLES + context * ENABLES_STRIDE
}

const fn threshold(context: u64) -> u64 {
    CONTEXTS + context * CONTEXT_STRIDE
}

const fn claim(context: u64) -> u64 {
    threshold(context) + CLAIM_COMPLETE
}

/// As Linux' driver leaves it with the UART's interrupt (10) on hart 0 and the clock's (11) on 1.
fn set_up() -> (Plic, Arc<Pins>) {
    let (plic, pins) = plic(2);
    for context in 0..2 {
        write32(&plic, threshold(context), 0);
        for source in 1..=u64::from(SOURCES) {
            write32(&plic, enables(context) + source / 32 * 4, 0);
            write32(&plic, source * 4, 1);
        }
    }
    write32(&plic, enables(0), 1 << 10);
    write32(&plic, enables(1), 1 << 11);
    (plic, pins)
}

#[test]
fn every_offset_takes_every_width_both_ways() {
    touch_everything(&plic(3).0);
    // The window's parts lie far from each other; around each of them.
    let (plic, _) = plic(3);
    for part in [0, SOURCES.into(), PENDING, PENDING_END, ENABLES, enables(3), CONTEXTS, claim(2)] {
        for offset in part.saturating_sub(0x20)..part + 0x200 {
            for width in WIDTHS {
                let (read, wrote) =
                    (plic.handle_read(offset, width), plic.handle_write(offset, width, 0));
                assert_eq!(read.is_err(), wrote.is_err() && wrote != Err(Access::ReadOnly));
                let whole = width == AccessWidth::Dword && offset % 4 == 0;
                assert!(whole || read.is_err(), "{offset:#x}");
            }
        }
    }
}

#[test]
fn registers_keep_what_they_have_bits_for() {
    let (plic, _) = plic(2);
    for (offset, kept) in [
        (0, 0), // there is no source 0
        (4, 7), // priorities have three bits
        (95 * 4, 7),
        (96 * 4, 0), // sources that are not there
        (1023 * 4, 0),
        (enables(0), 0xffff_fffe),
        (enables(1) + 8, 0xffff_ffff),
        (enables(1) + 12, 0),
        (enables(1) + 0x7c, 0),
        (threshold(0), 7),
        (threshold(1), 7),
    ] {
        write32(&plic, offset, u32::MAX);
        assert_eq!(read32(&plic, offset), kept, "{offset:#x}");
    }
    for offset in [PENDING_END, enables(2), threshold(0) + 8, threshold(2)] {
        assert_eq!(plic.handle_read(offset, AccessWidth::Dword), Err(Access::NoRegister));
    }
    let refused = plic.handle_write(PENDING, AccessWidth::Dword, 1);
    assert_eq!(refused, Err(Access::ReadOnly));
}

#[test]
fn a_level_is_served_again_until_the_device_is_content() {
    let (plic, pins) = set_up();
    plic.set_irq(10, true);
    plic.set_irq(10, true);
    assert_eq!((pins.all(), pins.take_driven()), (vec![true, false], 1));
    assert_eq!(read32(&plic, PENDING), 1 << 10);
    assert_eq!((read32(&plic, claim(0)), pins.all()), (10, vec![false, false]));
    assert_eq!((read32(&plic, PENDING), read32(&plic, claim(0))), (0, 0));
    // Not forwarded again before the completion, and then at once.
    plic.set_irq(10, true);
    assert_eq!(pins.all(), [false, false]);
    write32(&plic, claim(0), 10);
    assert_eq!(pins.all(), [true, false]);
    assert_eq!(read32(&plic, claim(0)), 10);
    plic.set_irq(10, false);
    write32(&plic, claim(0), 10);
    assert_eq!((pins.all(), read32(&plic, claim(0))), (vec![false, false], 0));
}

#[test]
fn what_was_forwarded_stays_pending_when_the_line_falls() {
    let (plic, pins) = set_up();
    plic.set_irq(11, true);
    plic.set_irq(11, false);
    assert_eq!((pins.all(), read32(&plic, claim(1))), (vec![false, true], 11));
    write32(&plic, claim(1), 11);
    assert_eq!(pins.all(), [false, false]);
}

#[test]
fn an_edge_that_comes_while_its_source_is_served_is_not_lost() {
    let (plic, pins) = set_up();
    plic.pulse_irq(10);
    plic.pulse_irq(10); // still pending: one request
    assert_eq!(read32(&plic, claim(0)), 10);
    plic.pulse_irq(10);
    plic.pulse_irq(10);
    assert_eq!(pins.all(), [false, false]);
    write32(&plic, claim(0), 10);
    assert_eq!((pins.all(), read32(&plic, claim(0))), (vec![true, false], 10));
    write32(&plic, claim(0), 10);
    assert_eq!(pins.all(), [false, false]);
}

#[test]
fn the_highest_priority_goes_first_and_then_the_lowest_number() {
    let (plic, _) = plic(1);
    for word in 0..3 {
        write32(&plic, enables(0) + word * 4, u32::MAX);
    }
    for (source, priority) in [(3, 1), (5, 7), (64, 7), (95, 2), (1, 0)] {
        write32(&plic, source * 4, priority);
        plic.set_irq(source as u32, true);
    }
    let order: Vec<u32> = (0..5).map(|_| read32(&plic, claim(0))).collect();
    assert_eq!(order, [5, 64, 95, 3, 0]); // and what has priority 0 never
}

#[test]
fn the_threshold_keeps_the_pin_low_but_does_not_hide_from_a_claim() {
    let (plic, pins) = set_up();
    write32(&plic, 10 * 4, 3);
    write32(&plic, threshold(0), 3);
    plic.set_irq(10, true);
    assert_eq!(pins.all(), [false, false]);
    write32(&plic, threshold(0), 2);
    assert_eq!(pins.all(), [true, false]);
    write32(&plic, 10 * 4, 2);
    assert_eq!(pins.all(), [false, false]);
    assert_eq!(read32(&plic, claim(0)), 10);
}

#[test]
fn a_source_on_two_harts_is_served_by_the_first_to_claim_it() {
    let (plic, pins) = set_up();
    write32(&plic, enables(1), 1 << 10);
    plic.set_irq(10, true);
    assert_eq!(pins.all(), [true, true]);
    assert_eq!((read32(&plic, claim(1)), pins.all()), (10, vec![false, false]));
    assert_eq!(read32(&plic, claim(0)), 0);
    // Whoever has it enabled may complete it.
    write32(&plic, claim(0), 10);
    assert_eq!(pins.all(), [true, true]);
}

#[test]
fn completions_that_mean_nothing_are_ignored() {
    let (plic, pins) = set_up();
    plic.set_irq(10, true);
    for source in [0, 10, 11, 96, 1024, u32::MAX] {
        write32(&plic, claim(0), source);
    }
    assert_eq!((read32(&plic, PENDING), read32(&plic, claim(0))), (1 << 10, 10));
    write32(&plic, claim(1), 10); // not enabled there
    assert_eq!(pins.all(), [false, false]);
    // Linux enables a source for a moment to complete it, if it was disabled meanwhile.
    write32(&plic, enables(0), 0);
    write32(&plic, claim(0), 10);
    assert_eq!(read32(&plic, PENDING), 0);
    write32(&plic, enables(0), 1 << 10);
    write32(&plic, claim(0), 10);
    assert_eq!(pins.all(), [true, false]);
}

#[test]
fn sources_that_are_not_there_lead_nowhere() {
    let (plic, pins) = set_up();
    write32(&plic, enables(0), u32::MAX);
    for source in [0, 96, 127, 128, u32::MAX] {
        plic.set_irq(source, true);
        plic.pulse_irq(source);
    }
    assert_eq!((pins.take_driven(), read32(&plic, claim(0))), (0, 0));
}

/// A UART behind the controller, as Linux' drivers serve the two: what comes between the UART's last
/// look and the completion is not lost.
#[test]
fn a_uart_behind_it_gets_its_interrupts_served() {
    let (plic, pins) = set_up();
    let plic = Arc::new(plic);
    let (line, out) = (IrqLine::new(plic.clone(), 10), Arc::new(RecordingConsole::default()));
    let uart = Serial::new("uart", window(8), line, out).unwrap();
    let r = |register: u8| uart.handle_read(register.into(), AccessWidth::Byte).unwrap() as u8;
    let enable = uart.handle_write(serial::IER.into(), AccessWidth::Byte, serial::IER_RDA.into());
    assert_eq!((enable, pins.all()), (Ok(Effect::None), vec![false, false]));
    assert_eq!((uart.feed(b"a"), pins.all()), (1, vec![true, false]));
    assert_eq!((read32(&*plic, claim(0)), pins.all()), (10, vec![false, false]));
    assert_eq!((r(serial::RBR_THR), r(serial::IIR_FCR)), (b'a', 0xc1));
    assert_eq!((uart.feed(b"b"), pins.all()), (1, vec![false, false]));
    write32(&*plic, claim(0), 10);
    assert_eq!((pins.all(), read32(&*plic, claim(0))), (vec![true, false], 10));
    assert_eq!(r(serial::RBR_THR), b'b');
    write32(&*plic, claim(0), 10);
    assert_eq!((pins.all(), read32(&*plic, claim(0))), (vec![false, false], 0));
}

/// Devices on two threads, harts on two more. Whatever order they fall into, a pin is only driven
/// when it changes, and at the end nothing is left behind.
#[test]
fn threads_never_leave_a_pin_behind() {
    const ROUNDS: u32 = 2_000;
    let (plic, pins) = set_up();
    for context in 0..2 {
        write32(&plic, enables(context), 0x0c00);
    }
    thread::scope(|scope| {
        for source in [10, 11] {
            let plic = &plic;
            scope.spawn(move || {
                for round in 0..=ROUNDS {
                    plic.set_irq(source, round % 2 == 0);
                    plic.pulse_irq(source);
                }
                plic.set_irq(source, false);
            });
        }
        for context in 0..2 {
            let plic = &plic;
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    let source = read32(plic, claim(context));
                    write32(plic, claim(context), source);
                }
            });
        }
    });
    for source in std::iter::from_fn(|| Some(read32(&plic, claim(0))).filter(|&s| s != 0)) {
        write32(&plic, claim(0), source);
    }
    assert_eq!((pins.all(), read32(&plic, PENDING)), (vec![false, false], 0));
}
