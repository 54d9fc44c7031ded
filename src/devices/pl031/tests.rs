use std::sync::Arc;

use super::*;
use crate::devices::{
    clock::{
        host_clock,
        testing::{ManualClock, expires},
    },
    testing::{LevelSink, read32, touch_everything, window, write32},
};

/// 2024-12-31 23:59:58 UTC.
const MOMENT: u32 = 1_735_689_598;

fn at(second: u64) -> (Pl031, ManualClock, Arc<LevelSink>) {
    let (irq, line) = LevelSink::line();
    let clock = ManualClock::at(Duration::from_secs(second) + Duration::from_millis(999));
    let rtc = Pl031::new(window(primecell::SIZE), line, clock.clock()).unwrap();
    (rtc, clock, irq)
}

fn rtc() -> (Pl031, ManualClock, Arc<LevelSink>) {
    at(MOMENT.into())
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn every_offset_takes_every_width_both_ways() {
    touch_everything(&rtc().0);
}

#[test]
fn it_shows_the_hosts_time_until_it_is_set() {
    let (rtc, clock, _) = rtc();
    assert_eq!(
        [DR, MR, LR, CR, IMSC, RIS, MIS].map(|r| read32(&rtc, r)),
        [MOMENT, 0, 0, 1, 0, 0, 0]
    );
    clock.pass(2 * SECOND);
    assert_eq!(read32(&rtc, DR), MOMENT + 2);
    write32(&rtc, LR, 1000);
    assert_eq!([DR, LR].map(|r| read32(&rtc, r)), [1000; 2]);
    clock.pass(5 * SECOND);
    assert_eq!([DR, LR].map(|r| read32(&rtc, r)), [1005, 1000]);
    // Once it runs, it runs.
    write32(&rtc, CR, 0);
    assert_eq!([CR, DR].map(|r| read32(&rtc, r)), [1, 1005]);
}

#[test]
fn who_it_is_and_what_may_not_be_accessed() {
    let (rtc, ..) = rtc();
    let id = (0..4).fold(0, |id, at| id | read32(&rtc, 0xfe0 + 4 * at) << (8 * at));
    assert_eq!(id, 0x0004_1031);
    for register in [DR, RIS, MIS, 0xfe0] {
        assert_eq!(rtc.handle_write(register, AccessWidth::Dword, 1), Err(Access::ReadOnly));
    }
    assert_eq!(rtc.handle_read(ICR, AccessWidth::Dword), Err(Access::WriteOnly));
    assert_eq!(rtc.handle_read(0x20, AccessWidth::Dword), Err(Access::NoRegister));
    assert_eq!(rtc.handle_write(0x20, AccessWidth::Dword, 0), Err(Access::NoRegister));
    assert_eq!(rtc.handle_read(DR, AccessWidth::Word), Ok(u64::from(MOMENT & 0xffff)));
    assert_eq!(rtc.handle_read(DR, AccessWidth::Qword), Err(Access::BadWidth));
}

#[test]
fn the_alarm_rings_when_the_counter_gets_there_until_it_is_cleared() {
    let (rtc, clock, irq) = rtc();
    // Linux' driver clears, sets, unmasks.
    write32(&rtc, ICR, 1);
    write32(&rtc, MR, MOMENT + 3);
    write32(&rtc, IMSC, u32::MAX);
    assert_eq!(read32(&rtc, IMSC), 1);
    clock.pass(2 * SECOND);
    rtc.timer_expired(); // one too many
    assert_eq!((irq.high(), read32(&rtc, RIS)), (false, 0));
    clock.pass(SECOND);
    rtc.timer_expired();
    assert!(irq.high());
    assert_eq!([RIS, MIS].map(|r| read32(&rtc, r)), [1, 1]);
    write32(&rtc, IMSC, 0);
    assert_eq!((irq.high(), read32(&rtc, RIS), read32(&rtc, MIS)), (false, 1, 0));
    write32(&rtc, IMSC, 1);
    assert!(irq.high());
    write32(&rtc, ICR, 1);
    assert_eq!((irq.high(), read32(&rtc, RIS)), (false, 0));
    clock.pass(1000 * SECOND);
    assert_eq!((read32(&rtc, RIS), irq.high()), (0, false)); // once
}

#[test]
fn without_anybody_who_waits_the_alarm_is_seen_on_access() {
    let (rtc, clock, irq) = rtc();
    write32(&rtc, IMSC, 1);
    write32(&rtc, MR, MOMENT + 3);
    clock.pass(100 * SECOND); // well past it
    assert!(!irq.high());
    read32(&rtc, DR);
    assert!(irq.high());
}

#[test]
fn a_match_now_is_one_and_one_in_the_past_comes_with_the_next_round() {
    let (rtc, clock, irq) = rtc();
    write32(&rtc, IMSC, 1);
    write32(&rtc, MR, MOMENT - 1);
    assert!(!irq.high());
    write32(&rtc, MR, MOMENT);
    assert!(irq.high());
    write32(&rtc, ICR, 1);
    // Setting the clock onto it matches as well.
    clock.pass(SECOND);
    write32(&rtc, LR, MOMENT);
    assert!(irq.high());
    write32(&rtc, ICR, 1);
    clock.pass(Duration::from_secs(ROUND - 1));
    assert_eq!(read32(&rtc, RIS), 0);
    clock.pass(SECOND);
    assert_eq!((read32(&rtc, RIS), read32(&rtc, DR)), (1, MOMENT));
}

#[test]
fn the_counter_wraps_and_its_extremes_do_no_harm() {
    let (rtc, clock, irq) = at(u32::MAX.into());
    write32(&rtc, IMSC, 1);
    write32(&rtc, MR, 0);
    clock.pass(SECOND);
    assert_eq!((read32(&rtc, DR), irq.high()), (0, true));
    for value in [0, u32::MAX, 1 << 31] {
        write32(&rtc, LR, value);
        assert_eq!(read32(&rtc, DR), value);
    }
    let (rtc, ..) = at(u64::MAX / 2_000_000_000); // the clock's own end
    for value in [0, u32::MAX] {
        write32(&rtc, MR, value);
        write32(&rtc, LR, value);
    }
}

#[test]
fn the_timer_expires_with_the_alarm() {
    let (irq, line) = LevelSink::line();
    let rtc = Pl031::new(window(primecell::SIZE), line, host_clock()).unwrap();
    write32(&rtc, MR, read32(&rtc, DR).wrapping_add(1));
    assert!(!expires(rtc.timer(), 0)); // masked
    write32(&rtc, IMSC, 1);
    assert!(expires(rtc.timer(), 60_000));
    rtc.timer_expired();
    assert!(irq.high());
    assert!(!expires(rtc.timer(), 0)); // it does not stay readable
    write32(&rtc, MR, read32(&rtc, DR).wrapping_sub(1));
    write32(&rtc, ICR, 1);
    assert!(!expires(rtc.timer(), 0));
}
