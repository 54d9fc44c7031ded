//! What a broken or hostile driver puts into a queue: never more than a device that waits for its
//! reset, and then works again. All devices go through this, with each of their queues.

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::subjects::SUBJECTS;
use crate::virtio::testing::{Desc, Driver, RAM, RAM_SIZE, at, rings_at};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const EVENT_IDX_BIT: u64 = 1 << 29;
const INDIRECT_BIT: u64 = 1 << 28;

const fn desc(addr: u64, len: u32, flags: u16, next: u16) -> Desc {
    Desc { addr, len, flags, next }
}

/// Each device needs a reset after `break_it` is done to a queue, and comes back by one.
#[track_caller]
fn breaks(what: &str, without: u64, break_it: impl Fn(&mut Driver, u16)) {
    for subject in SUBJECTS {
        for queue in subject.queues {
            let mut driver = Driver::new((subject.make)(), without);
            let what = format!("{what}: {} {queue}", driver.control.name());
            break_it(&mut driver, *queue);
            driver.kick(*queue);
            driver.wait_broken();
            assert!(driver.interrupts.config.load(Ordering::SeqCst) > 0, "{what}");
            // It stays so, whatever comes.
            driver.push(*queue, &[], &[16]);
            driver.kick(*queue);
            driver.begin(0);
            assert_eq!(driver.used_index(*queue), 0, "{what}: nothing malformed is answered");
            assert_eq!(driver.control.status() & 0x40, 0, "{what}");
        }
    }
}

#[test]
fn chains_that_are_loops() {
    breaks("its own next", 0, |it, queue| {
        it.write_desc(queue, 0, desc(RAM, 16, NEXT | WRITE, 0));
        it.publish(queue, 0);
    });
    breaks("a cycle of two", 0, |it, queue| {
        it.write_desc(queue, 0, desc(RAM, 16, NEXT | WRITE, 1));
        it.write_desc(queue, 1, desc(RAM, 16, NEXT | WRITE, 0));
        it.publish(queue, 0);
    });
    breaks("a cycle in an indirect table", 0, |it, queue| {
        let table = it.room(32);
        it.write_desc_at(table, desc(RAM, 16, NEXT | WRITE, 1));
        it.write_desc_at(table + 16, desc(RAM, 16, NEXT | WRITE, 0));
        it.push_raw(queue, &[desc(table, 32, INDIRECT, 0)]);
    });
}

#[test]
fn a_chain_that_is_longer_than_the_queue() {
    breaks("by a table", 0, |it, queue| {
        let size = it.size(queue);
        let table = it.room(16 * u64::from(size));
        for i in 0..size {
            let next = if i + 1 == size { 0 } else { NEXT };
            it.write_desc_at(table + 16 * u64::from(i), desc(RAM, 1, next | WRITE, i + 1));
        }
        let last = desc(table, u32::from(size) * 16, INDIRECT, 0);
        it.push_raw(queue, &[desc(RAM, 1, WRITE, 0), last]);
    });
}

#[test]
fn numbers_that_are_none_of_the_tables() {
    breaks("a next beyond", 0, |it, queue| {
        it.write_desc(queue, 0, desc(RAM, 16, NEXT | WRITE, it.size(queue)));
        it.publish(queue, 0);
    });
    breaks("a head beyond", 0, |it, queue| it.publish(queue, it.size(queue)));
    breaks("a head far beyond", EVENT_IDX_BIT, |it, queue| it.publish(queue, u16::MAX));
    breaks("an index that has run away", 0, |it, queue| {
        it.set_available(queue, it.size(queue) + 1)
    });
    breaks("an index far away", EVENT_IDX_BIT, |it, queue| it.set_available(queue, 0x8000));
}

#[test]
fn buffers_that_are_not_in_memory() {
    let end = RAM + RAM_SIZE;
    for (addr, len) in [
        (0, 1),
        (RAM - 1, 2),
        (end - 1, 2),
        (end, 1),
        (u64::MAX, 1),
        (u64::MAX - 15, 32),
        (RAM, u32::MAX),
        (1 << 63, u32::MAX),
    ] {
        for flags in [0, WRITE] {
            breaks(&format!("{len} at {addr:#x}"), 0, |it, queue| {
                _ = it.push_raw(queue, &[desc(addr, len, flags, 0)]);
            });
        }
    }
}

#[test]
fn indirect_tables_that_are_none() {
    breaks("not negotiated", INDIRECT_BIT, |it, queue| {
        let table = it.room(16);
        it.write_desc_at(table, desc(RAM, 16, WRITE, 0));
        it.push_raw(queue, &[desc(table, 16, INDIRECT, 0)]);
    });
    breaks("with a next", 0, |it, queue| {
        let table = it.room(16);
        it.write_desc_at(table, desc(RAM, 16, WRITE, 0));
        it.push_raw(queue, &[desc(table, 16, INDIRECT, 0), desc(RAM, 16, WRITE, 0)]);
    });
    breaks("nested", 0, |it, queue| {
        let table = it.room(16);
        it.write_desc_at(table, desc(table, 16, INDIRECT, 0));
        it.push_raw(queue, &[desc(table, 16, INDIRECT, 0)]);
    });
    for len in [0, 1, 15, 17, 1 << 20, u32::MAX, !15] {
        breaks(&format!("{len} bytes"), 0, |it, queue| {
            it.push_raw(queue, &[desc(RAM + 0x10_0000, len, INDIRECT, 0)]);
        });
    }
    for table in [0, RAM + RAM_SIZE - 16, u64::MAX - 15] {
        breaks(&format!("at {table:#x}"), 0, |it, queue| {
            it.push_raw(queue, &[desc(table, 32, INDIRECT, 0)]);
        });
    }
}

#[test]
fn what_the_device_reads_behind_what_it_writes() {
    breaks("order", 0, |it, queue| {
        it.push_raw(queue, &[desc(RAM, 16, WRITE, 0), desc(RAM, 16, 0, 0)]);
    });
}

#[test]
fn a_used_ring_that_the_driver_scribbles_over() {
    for subject in SUBJECTS {
        for queue in subject.queues {
            let mut driver = Driver::new((subject.make)(), 0);
            let index = at(rings_at(*queue) + 0x3002);
            driver.memory.write(index, &0x1234_u16.to_le_bytes()).unwrap();
            driver.push(*queue, &[&[0; 16]], &[16]);
            driver.kick(*queue);
            // The device counts by itself, if it does not take such a request for a reason to give up.
            while driver.used_index(*queue) != 1 && driver.control.status() & 0x40 == 0 {
                std::thread::yield_now();
            }
        }
    }
}

/// What is looked at is read once: the device does not look again whether it is still so.
#[test]
fn a_driver_that_changes_chains_while_they_are_looked_at() {
    for subject in SUBJECTS {
        for queue in subject.queues {
            let mut driver = Driver::new((subject.make)(), 0);
            let memory = driver.memory.clone();
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let places = [RAM + 0x20_0000, 0, RAM + RAM_SIZE - 8, u64::MAX - 8];
                    let lens = [16_u32, 0, 0x1000, u32::MAX];
                    let mut n = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        n += 1;
                        let entry = at(rings_at(*queue) + 16 * (n as u64 % 4));
                        let mut bytes = places[n / 3 % 4].to_le_bytes().to_vec();
                        bytes.extend(lens[n / 5 % 4].to_le_bytes());
                        bytes.extend([(n % 4) as u8, 0, (n / 7 % 6) as u8, 0]);
                        memory.write(entry, &bytes).unwrap();
                    }
                });
                for n in 0..300 {
                    driver.publish(*queue, n % 4);
                    driver.kick(*queue);
                    if driver.control.status() & 0x40 != 0 {
                        driver.begin(0);
                    }
                }
                is_over.store(true, Ordering::Relaxed);
            });
            driver.begin(0);
            assert_eq!(driver.control.status() & 0x40, 0, "{}", driver.control.name());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Rings full of anything at all.
    #[test]
    fn any_contents(
        descriptors in prop::collection::vec((any::<u64>(), any::<u32>(), any::<u16>(), any::<u16>()), 16),
        heads in prop::collection::vec(any::<u16>(), 1..8),
        low in prop::bool::ANY,
    ) {
        for subject in SUBJECTS {
            for queue in subject.queues {
                let mut driver = Driver::new((subject.make)(), 0);
                let size = driver.size(*queue);
                for (i, (addr, len, flags, next)) in (0..size).zip(&descriptors) {
                    // Half of them are nearly right, so that more than the first check is reached.
                    let (addr, len, next) = match low {
                        true => (RAM + addr % RAM_SIZE, len % 0x2000, next % 20),
                        false => (*addr, *len, *next),
                    };
                    driver.write_desc(*queue, i, desc(addr, len, *flags, next));
                }
                for head in &heads {
                    driver.publish(*queue, if low { head % 16 } else { *head });
                }
                driver.kick(*queue);
                driver.begin(0);
                prop_assert_eq!(driver.control.status() & 0x40, 0);
            }
        }
    }
}
