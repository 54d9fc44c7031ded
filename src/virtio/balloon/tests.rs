//! The balloon, as its driver sees it.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    addr::AccessWidth,
    virtio::testing::{Desc, Driver, RAM, RAM_SIZE, at},
};

const INFLATE: u16 = 0;
const DEFLATE: u16 = 1;
const STATISTICS: u16 = 2;

/// A page of the host's, which may be larger than the balloon's.
fn host_page() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).unwrap().unwrap();
    size as u64
}

fn balloon(config: BalloonConfig) -> (Arc<Balloon>, Driver) {
    let balloon = Arc::new(Balloon::new("balloon0".to_owned(), &config));
    (balloon.clone(), Driver::new(balloon, 0))
}

fn page_numbers(from: u64, len: u64) -> Vec<u8> {
    (from / PAGE..(from + len) / PAGE).flat_map(|page| (page as u32).to_le_bytes()).collect()
}

/// Room of so many of the host's pages, with sevens in it.
fn filled(driver: &mut Driver, pages: u64) -> u64 {
    let page = host_page();
    let place = driver.room((pages + 1) * page).next_multiple_of(page);
    driver.memory.write(at(place), &vec![7; (pages * page) as usize]).unwrap();
    place
}

fn byte(driver: &Driver, place: u64) -> u8 {
    let mut byte = [0];
    driver.memory.read(at(place), &mut byte).unwrap();
    byte[0]
}

#[test]
fn what_is_inflated_the_host_has_back_and_nothing_beside_it() {
    let (_, mut driver) = balloon(BalloonConfig::default());
    let page = host_page();
    let place = filled(&mut driver, 4);
    let mut numbers = page_numbers(place + page, 2 * page);
    // In any order, and twice.
    numbers = numbers.chunks(4).rev().flatten().copied().collect();
    numbers.extend(page_numbers(place + page, page));
    driver.request(INFLATE, &[&numbers[..3], &numbers[3..]], &[]);
    let bytes = [page - 1, page, 3 * page - 1, 3 * page].map(|n| byte(&driver, place + n));
    assert_eq!(bytes, [7, 0, 0, 7]);
    driver.request(DEFLATE, &[&numbers], &[]);
    driver.memory.write(at(place + page), &[9]).unwrap();
    assert_eq!(byte(&driver, place + page), 9);
}

#[test]
fn pages_that_are_no_ram_and_half_numbers_mean_nothing() {
    let (_, mut driver) = balloon(BalloonConfig::default());
    let place = filled(&mut driver, 1);
    let numbers: Vec<u8> = [0, RAM / PAGE - 1, (RAM + RAM_SIZE) / PAGE, u32::MAX.into(), 1 << 31]
        .iter()
        .flat_map(|page| (*page as u32).to_le_bytes())
        .collect();
    driver.request(INFLATE, &[&numbers], &[]);
    driver.request(INFLATE, &[&page_numbers(place, PAGE)[..3]], &[]);
    driver.request(INFLATE, &[], &[]);
    driver.request(INFLATE, &[], &[4096]);
    assert_eq!(byte(&driver, place), 7);
    assert_eq!(driver.control.status() & 0x40, 0);
}

#[test]
fn a_request_of_any_length_is_bounded_work() {
    let (_, mut driver) = balloon(BalloonConfig::default());
    // The same 4 MiB of numbers in each of many descriptors: a gigabyte of work.
    let numbers = Desc { addr: RAM, len: 4 << 20, flags: 0, next: 0 };
    for _ in 0..100 {
        let head = driver.push_raw(DEFLATE, &[numbers; 100]);
        driver.kick(DEFLATE);
        assert_eq!(driver.wait_used(DEFLATE), (head, 0));
    }
    let place = filled(&mut driver, 1);
    let mut many = vec![0; 4 * 4096];
    many.extend(page_numbers(place, host_page()));
    driver.request(INFLATE, &[&many], &[]);
    assert_eq!(byte(&driver, place), 7, "behind the 4096 pages that are read");
}

#[test]
fn reports_come_in_whichever_queue_the_driver_has_for_them() {
    // With statistics, in 3 or 4; without, a driver that counts on has them in 2.
    for (statistics, queues) in [(1, vec![3, 4]), (0, vec![2, 3, 4])] {
        let (_, mut driver) = balloon(BalloonConfig { statistics, ..BalloonConfig::default() });
        for queue in queues {
            let page = host_page();
            let place = filled(&mut driver, 4);
            let report = Desc { addr: place + page, len: 2 * page as u32, flags: 2, next: 0 };
            driver.push_raw(queue, &[report, Desc { addr: place + 1, len: 100, ..report }]);
            driver.kick(queue);
            driver.wait_used(queue);
            let bytes = [page - 1, page, 3 * page - 1, 3 * page].map(|n| byte(&driver, place + n));
            assert_eq!(bytes, [7, 0, 0, 7], "queue {queue}");
        }
    }
}

#[test]
fn its_size_is_asked_for_in_the_configuration_and_changes_are_told() {
    let (balloon, driver) = balloon(BalloonConfig { size: 128 << 20, ..BalloonConfig::default() });
    let config = |offset| driver.control.read_config(offset, AccessWidth::Dword);
    assert_eq!([config(0), config(4), config(8)], [32768, 0, 0]);
    driver.control.write_config(4, AccessWidth::Dword, 32768);
    assert_eq!((balloon.actual(), config(4)), (128 << 20, 32768));
    // What the device says is not the driver's to write.
    driver.control.write_config(0, AccessWidth::Dword, 7);
    driver.control.write_config(0, AccessWidth::Qword, 7 << 32 | 8);
    driver.control.write_config(3, AccessWidth::Word, 0);
    assert_eq!([config(0), config(4)], [32768, 0]);
    let (generation, told) = (driver.control.generation(), || {
        driver.interrupts.config.load(std::sync::atomic::Ordering::SeqCst)
    });
    balloon.set_size(128 << 20);
    assert_eq!((driver.control.generation(), told()), (generation, 0));
    balloon.set_size((1 << 20) + 5);
    assert_eq!((driver.control.generation(), told(), config(0)), (generation + 1, 1, 256));
    balloon.set_size(u64::MAX);
    assert_eq!(config(0), u64::from(u32::MAX));
    driver.control.set_status(0);
    balloon.set_size(0);
    assert_eq!((told(), balloon.actual()), (2, 0));
}

#[test]
fn features_are_what_is_asked_for() {
    let features = |config| Balloon::new("b".to_owned(), &config).features();
    assert_eq!(features(BalloonConfig::default()), 1 << 2 | 1 << 5);
    let none =
        BalloonConfig { size: 0, deflate_on_oom: false, free_page_reporting: false, statistics: 0 };
    assert_eq!(features(none.clone()), 0);
    assert_eq!(features(BalloonConfig { statistics: 7, ..none }), 1 << 1);
}

fn statistic(tag: u16, value: u64) -> Vec<u8> {
    [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat()
}

#[test]
fn statistics_are_asked_for_in_turn() {
    let (balloon, mut driver) =
        balloon(BalloonConfig { statistics: 1, ..BalloonConfig::default() });
    assert_eq!(balloon.statistics(), None);
    let wait_for = |free: u64| {
        let since = std::time::Instant::now();
        while balloon.statistics().and_then(|it| it.free) != Some(free) {
            assert!(since.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    for round in 0..2 {
        let entries = [statistic(4, round), statistic(5, 1 << 30), statistic(999, 3), vec![1; 9]];
        let head = driver.push(STATISTICS, &[&entries.concat()], &[]);
        driver.kick(STATISTICS);
        wait_for(round);
        // It comes back when the next ones are wanted.
        assert_eq!(driver.wait_used(STATISTICS), (head, 0));
    }
    let all = balloon.statistics().unwrap();
    assert_eq!(all, Statistics { free: Some(1), total: Some(1 << 30), ..Statistics::default() });
    assert_eq!(all.to_string(), "0 MiB free and ? available of 1024 MiB");
}

#[test]
fn of_several_buffers_for_statistics_one_is_kept() {
    let (_, mut driver) = balloon(BalloonConfig { statistics: 3600, ..BalloonConfig::default() });
    let heads: Vec<_> =
        (0..50).map(|n| driver.push(STATISTICS, &[&statistic(4, n)], &[])).collect();
    driver.kick(STATISTICS);
    for head in &heads[..49] {
        assert_eq!(driver.wait_used(STATISTICS), (*head, 0));
    }
    assert_eq!(driver.used(STATISTICS), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whatever is in a request, all that is not named in it stays.
    #[test]
    fn only_whole_pages_that_are_named_are_taken(pages in prop::collection::btree_set(0_u64..64, 0..40)) {
        let (_, mut driver) = balloon(BalloonConfig::default());
        let small = host_page() / PAGE;
        let place = filled(&mut driver, 64u64.div_ceil(small));
        let numbers: Vec<u8> =
            pages.iter().rev().flat_map(|page| page_numbers(place + page * PAGE, PAGE)).collect();
        driver.request(INFLATE, &[&numbers], &[]);
        for page in 0..64 {
            let group = page / small * small;
            let whole = (group..group + small).all(|page| pages.contains(&page));
            prop_assert_eq!(byte(&driver, place + page * PAGE) == 0, whole);
        }
    }
}
