use std::sync::Arc;

use super::*;
use crate::devices::{
    clock::{
        host_clock,
        testing::{ManualClock, expires},
    },
    testing::{LevelSink, read32, touch_everything, window, write32},
};

/// 2024-12-31 23:59:58.75 UTC.
const MOMENT: u64 = 1_735_689_598_750_000_000;

fn rtc() -> (GoldfishRtc, ManualClock, Arc<LevelSink>) {
    let (irq, line) = LevelSink::line();
    let clock = ManualClock::at(Duration::from_nanos(MOMENT));
    (GoldfishRtc::new(window(SIZE), line, clock.clock()).unwrap(), clock, irq)
}

/// As Linux' driver reads it: the low half first.
fn time(rtc: &GoldfishRtc) -> u64 {
    let low = read32(rtc, TIME_LOW);
    u64::from(read32(rtc, TIME_HIGH)) << 32 | u64::from(low)
}

/// As Linux' driver sets it: the high half first.
fn set(rtc: &GoldfishRtc, register_low: u64, value: u64) {
    write32(rtc, register_low + 4, (value >> 32) as u32);
    write32(rtc, register_low, value as u32);
}

#[test]
fn every_offset_takes_every_width_both_ways() {
    touch_everything(&rtc().0);
}

#[test]
fn it_takes_aligned_words_where_there_are_registers() {
    let (rtc, ..) = rtc();
    for (offset, width, refused) in [
        (TIME_LOW, AccessWidth::Byte, Access::BadWidth),
        (TIME_LOW, AccessWidth::Word, Access::BadWidth),
        (TIME_LOW, AccessWidth::Qword, Access::BadWidth),
        (TIME_LOW + 2, AccessWidth::Dword, Access::Unaligned),
        (0x20, AccessWidth::Dword, Access::NoRegister),
    ] {
        assert_eq!(rtc.handle_read(offset, width), Err(refused));
        assert_eq!(rtc.handle_write(offset, width, 0), Err(refused));
    }
    for register in [CLEAR_ALARM, CLEAR_INTERRUPT] {
        assert_eq!(rtc.handle_read(register, AccessWidth::Dword), Err(Access::WriteOnly));
    }
    assert_eq!(rtc.handle_write(ALARM_STATUS, AccessWidth::Dword, 0), Err(Access::ReadOnly));
}

#[test]
fn the_high_half_is_that_of_the_low_halfs_moment() {
    let (rtc, clock, _) = rtc();
    assert_eq!(time(&rtc), MOMENT);
    let low = read32(&rtc, TIME_LOW);
    clock.pass(Duration::from_secs(10)); // the low half overflows in 4.3 seconds
    let high = read32(&rtc, TIME_HIGH);
    assert_eq!(u64::from(high) << 32 | u64::from(low), MOMENT);
    assert_eq!(time(&rtc), MOMENT + 10_000_000_000);
}

#[test]
fn the_guest_can_set_it_to_any_time() {
    let (rtc, clock, _) = rtc();
    for value in [1_000_000_000_000_000_000, 0, u64::MAX, MOMENT] {
        set(&rtc, TIME_LOW, value);
        assert_eq!(time(&rtc), value);
        clock.pass(Duration::from_nanos(7));
        assert_eq!(time(&rtc), value.wrapping_add(7));
    }
}

#[test]
fn the_alarm_rings_when_it_is_due_until_it_is_acknowledged() {
    let (rtc, clock, irq) = rtc();
    set(&rtc, ALARM_LOW, MOMENT + 3_000);
    write32(&rtc, IRQ_ENABLED, 1);
    let alarm = [ALARM_LOW, ALARM_HIGH].map(|r| u64::from(read32(&rtc, r)));
    assert_eq!(alarm[1] << 32 | alarm[0], MOMENT + 3_000);
    assert_eq!((read32(&rtc, ALARM_STATUS), read32(&rtc, IRQ_ENABLED)), (1, 1));
    clock.pass(Duration::from_nanos(2_999));
    rtc.timer_expired(); // one too many
    assert!(!irq.high());
    clock.pass(Duration::from_nanos(1));
    rtc.timer_expired();
    assert_eq!((irq.high(), read32(&rtc, ALARM_STATUS)), (true, 0));
    write32(&rtc, CLEAR_INTERRUPT, 1);
    assert!(!irq.high());
    clock.pass(Duration::from_secs(10));
    rtc.timer_expired();
    assert!(!irq.high()); // once
}

#[test]
fn an_alarm_in_the_past_rings_at_once_and_one_that_is_cleared_never() {
    let (rtc, clock, irq) = rtc();
    write32(&rtc, IRQ_ENABLED, 1);
    set(&rtc, ALARM_LOW, MOMENT - 1);
    assert!(irq.high());
    write32(&rtc, CLEAR_INTERRUPT, 0);
    set(&rtc, ALARM_LOW, MOMENT + 1);
    write32(&rtc, CLEAR_ALARM, 0);
    clock.pass(Duration::from_secs(1));
    rtc.timer_expired();
    assert_eq!((irq.high(), read32(&rtc, ALARM_STATUS)), (false, 0));
}

#[test]
fn an_interrupt_that_is_off_waits() {
    let (rtc, clock, irq) = rtc();
    set(&rtc, ALARM_LOW, MOMENT + 1);
    clock.pass(Duration::from_secs(1));
    assert_eq!((read32(&rtc, ALARM_STATUS), irq.high()), (0, false));
    write32(&rtc, IRQ_ENABLED, 1);
    assert!(irq.high());
    write32(&rtc, IRQ_ENABLED, 0);
    assert!(!irq.high());
}

#[test]
fn setting_the_time_past_the_alarm_rings_it() {
    let (rtc, _, irq) = rtc();
    write32(&rtc, IRQ_ENABLED, 1);
    set(&rtc, ALARM_LOW, MOMENT + 60_000_000_000);
    assert!(!irq.high());
    set(&rtc, TIME_LOW, MOMENT + 61_000_000_000);
    assert!(irq.high());
}

#[test]
fn the_timer_expires_with_the_alarm() {
    let (irq, line) = LevelSink::line();
    let rtc = GoldfishRtc::new(window(SIZE), line, host_clock()).unwrap();
    set(&rtc, ALARM_LOW, time(&rtc) + 20_000_000);
    assert!(!expires(rtc.timer(), 0)); // its interrupt is off
    write32(&rtc, IRQ_ENABLED, 1);
    assert!(irq.high() || expires(rtc.timer(), 60_000));
    rtc.timer_expired();
    assert!(irq.high());
    assert!(!expires(rtc.timer(), 0)); // it does not stay readable
    set(&rtc, ALARM_LOW, u64::MAX);
    assert!(!expires(rtc.timer(), 0));
}
