//! What a driver may ask, and what it must not.

use std::fs;

use super::*;
use crate::virtio::block::ImageError;

#[test]
fn what_is_written_is_read_again_and_is_in_the_file() {
    for way in WAYS {
        let images = Images::new();
        let config = images.config(way);
        let mut driver = DiskDriver::new(disk(way, &config));
        let data: Vec<u8> = (0..8192_u32).map(|i| (i % 251) as u8).collect();
        assert_eq!(driver.write(100, &data), OK, "{way:?}");
        assert_eq!(driver.flush(), OK);
        assert_eq!(driver.read(100, 8192), (data.clone(), OK), "{way:?}");
        assert_eq!(driver.read(0, 512), (vec![0; 512], OK));
        if way != Way::Qcow2 {
            assert_eq!(fs::read(&config.path).unwrap()[51200..][..8192], data);
        }
        // And when another opens it.
        drop(driver);
        let mut driver = DiskDriver::new(disk(way, &config));
        assert_eq!(driver.read(100, 8192), (data, OK), "{way:?}");
    }
}

#[test]
fn a_request_may_be_divided_in_any_way() {
    for way in WAYS {
        let mut driver = DiskDriver::new(Images::new().disk(way));
        let header = header(OUT, 7);
        let data: Vec<u8> = (0..1024_u32).map(|i| (i / 3) as u8).collect();
        let parts: Vec<&[u8]> = vec![
            &header[..1],
            &header[1..9],
            &header[9..],
            &data[..1],
            &data[1..600],
            &data[600..],
        ];
        assert_eq!(driver.0.request(0, &parts, &[1]), [OK], "{way:?}");
        // Header and data together, status and data together.
        let all = [&super::header(OUT, 9)[..], &data].concat();
        assert_eq!(driver.0.request(0, &[&all], &[1]), [OK]);
        for sector in [7, 9] {
            let back = driver.0.request(0, &[&super::header(IN, sector)], &[3, 500, 522]);
            assert_eq!(back, [&data[..], &[OK]].concat(), "{way:?}");
        }
    }
}

#[test]
fn what_lies_outside_or_is_no_sector_fails_and_changes_nothing() {
    for way in WAYS {
        let images = Images::new();
        let config = images.config(way);
        let before = fs::read(&config.path).unwrap();
        let mut driver = DiskDriver::new(disk(way, &config));
        let last = SIZE / 512 - 1;
        let bad = [
            (last + 1, 512),
            (last, 1024),
            (u64::MAX, 512),
            (u64::MAX / 512, 512),
            (u64::MAX / 512 + 1, 512),
            (1 << 55, 512),
            (0, 0),
            (0, 1),
            (0, 511),
            (0, 513),
        ];
        for (sector, len) in bad {
            let data = vec![0xff; len];
            assert_eq!(driver.write(sector, &data), IOERR, "{way:?} {sector:#x} {len}");
            assert_eq!(driver.read(sector, len as u32).1, IOERR, "{way:?} {sector:#x} {len}");
        }
        assert_eq!(driver.read(last, 512), (vec![0; 512], OK));
        let after = fs::read(&config.path).unwrap();
        assert!(before == after, "{way:?}");
    }
}

#[test]
fn requests_that_are_none() {
    let mut driver = DiskDriver::new(Images::new().disk(Way::Raw));
    for kind in [2, 3, 5, 9, 10, 12, 14, 16, 0x8000_0000, 0x8000_0001, u32::MAX] {
        assert_eq!(driver.request(kind, 0, &[0; 512], 512).1, UNSUPP, "{kind:#x}");
    }
    // No whole header.
    assert_eq!(driver.0.request(0, &[&[0; 15]], &[512, 1])[0], 0);
    let head = driver.0.push(0, &[&[0; 15]], &[1]);
    driver.0.kick(0);
    assert_eq!(driver.0.wait_used(0), (head, 1));
    assert_eq!(driver.0.written(0, head), [IOERR]);
    // No room for a status.
    let head = driver.0.push(0, &[&header(IN, 0)], &[]);
    driver.0.kick(0);
    assert_eq!(driver.0.wait_used(0), (head, 0));
    assert_eq!(driver.read(0, 512).1, OK, "it goes on after all that");
}

#[test]
fn the_serial_number_is_cut_to_what_there_is_room_for() {
    let images = Images::new();
    let serial = "a serial number that is too long".to_owned();
    let config = BlockConfig { serial: Some(serial), ..images.config(Way::Raw) };
    let mut driver = DiskDriver::new(disk(Way::Raw, &config));
    assert_eq!(driver.request(GET_ID, 0, &[], 20), (b"a serial number that".to_vec(), OK));
    assert_eq!(driver.request(GET_ID, 9, &[], 5), (b"a ser".to_vec(), OK));
    assert_eq!(&driver.request(GET_ID, 0, &[], 40).0[..21], b"a serial number that\0");
    drop(driver);
    let mut driver = DiskDriver::new(images.disk(Way::Qcow2));
    assert_eq!(&driver.request(GET_ID, 0, &[], 20).0[..6], b"disk0\0");
}

#[test]
fn discards_and_zeroes() {
    for way in WAYS {
        let mut driver = DiskDriver::new(Images::new().disk(way));
        for kind_and_flags in [(WRITE_ZEROES, 0), (WRITE_ZEROES, 1), (DISCARD, 0)] {
            let (kind, flags) = kind_and_flags;
            assert_eq!(driver.write(0, &vec![7; 256 << 10]), OK);
            // From the middle of a cluster to the middle of another.
            assert_eq!(driver.request(kind, 0, &range(3, 300, flags), 0).1, OK, "{way:?}");
            let (data, _) = driver.read(0, 256 << 10);
            assert!(data[..1536].iter().all(|byte| *byte == 7), "{way:?} {kind_and_flags:?}");
            assert!(data[303 * 512..].iter().all(|byte| *byte == 7), "{way:?} {kind_and_flags:?}");
            if kind == WRITE_ZEROES {
                assert!(data[1536..303 * 512].iter().all(|byte| *byte == 0), "{way:?} {flags}");
            }
        }
        let sectors = (SIZE / 512) as u32;
        for (kind, data, status) in [
            (DISCARD, range(0, 1, 1), UNSUPP),
            (DISCARD, range(0, 1, 2), UNSUPP),
            (WRITE_ZEROES, range(0, 1, 2), UNSUPP),
            (WRITE_ZEROES, range(0, 1, u32::MAX), UNSUPP),
            (DISCARD, range(0, 0, 0), IOERR),
            (DISCARD, range(1, sectors, 0), IOERR),
            (DISCARD, range(u64::MAX, 1, 0), IOERR),
            (WRITE_ZEROES, range(u64::MAX / 512, u32::MAX, 0), IOERR),
            (WRITE_ZEROES, range(1, sectors, 0), IOERR),
        ] {
            assert_eq!(driver.request(kind, 0, &data, 0).1, status, "{way:?} {kind} {data:?}");
        }
        for data in [&[][..], &[0; 15], &[0; 17], &[0; 32]] {
            assert_eq!(driver.request(DISCARD, 0, data, 0).1, IOERR, "{} bytes", data.len());
        }
    }
}

#[test]
fn what_is_not_negotiated_is_not_known() {
    let mut driver = DiskDriver::without(Images::new().disk(Way::Raw), 1 << 13 | 1 << 14);
    for kind in [DISCARD, WRITE_ZEROES] {
        assert_eq!(driver.request(kind, 0, &range(0, 8, 0), 0).1, UNSUPP);
    }
}

#[test]
fn a_disk_that_is_only_read() {
    for way in WAYS {
        let images = Images::new();
        let config = BlockConfig { readonly: true, ..images.config(way) };
        let before = fs::read(&config.path).unwrap();
        let block = disk(way, &config);
        assert_eq!(block.features() & (1 << 5 | 1 << 13 | 1 << 14), 1 << 5);
        let mut driver = DiskDriver::new(block);
        assert_eq!(driver.write(0, &[1; 512]), IOERR);
        assert_eq!(driver.request(DISCARD, 0, &range(0, 8, 0), 0).1, UNSUPP);
        assert_eq!(driver.request(WRITE_ZEROES, 0, &range(0, 8, 0), 0).1, UNSUPP);
        assert_eq!(driver.flush(), OK, "{way:?}");
        assert_eq!(driver.read(0, 512), (vec![0; 512], OK));
        // Others may read it as well, and nobody may write.
        drop(open(&config).unwrap());
        let writer = BlockConfig { readonly: false, ..config.clone() };
        assert!(matches!(open(&writer), Err(ImageError::InUse { .. })), "{way:?}");
        drop(driver);
        assert!(fs::read(&config.path).unwrap() == before, "{way:?}");
    }
}

#[test]
fn the_configuration_space() {
    let images = Images::new();
    let config = BlockConfig { queues: Some(3), ..images.config(Way::Raw) };
    let block = disk(Way::Raw, &config);
    let field = |at: usize, len: usize| {
        let bytes = block.config()[at..at + len].to_vec();
        bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
    };
    assert_eq!(block.config().len(), 60);
    assert_eq!(field(0, 8), SIZE / 512);
    assert_eq!((field(12, 4), field(20, 4)), (254, 512));
    assert_eq!((field(24, 1), field(26, 2)), (3, 8), "physical blocks of 4096 bytes");
    assert_eq!((field(32, 1), field(34, 2)), (1, 3));
    assert_eq!((field(40, 4), field(52, 4), field(56, 1)), (1, 1, 1));
    // A driver may write one field, wherever else it writes.
    for (offset, bytes) in [(0, &[0xff; 32][..]), (33, &[0xff; 27]), (59, &[1])] {
        block.write_config(offset, bytes);
    }
    assert_eq!((field(0, 8), field(32, 1)), (SIZE / 512, 1));
    block.write_config(30, &[0xff, 0xff, 0, 0xff]);
    assert_eq!(field(32, 1), 0);
    block.reset();
    assert_eq!(field(32, 1), 1);
}

#[test]
fn several_queues_work_side_by_side() {
    for way in WAYS {
        let images = Images::new();
        let config = BlockConfig { queues: Some(4), ..images.config(way) };
        let mut driver = DiskDriver::new(disk(way, &config)).0;
        for queue in 0..4_u16 {
            for i in 0..16 {
                let data = [queue as u8 * 16 + i as u8; 512];
                let sector = u64::from(queue) * 64 + i;
                driver.push(queue, &[&header(OUT, sector), &data], &[1]);
            }
            driver.kick(queue);
        }
        for queue in 0..4 {
            for _ in 0..16 {
                let (head, len) = driver.wait_used(queue);
                assert_eq!((driver.written(queue, head), len), (vec![OK], 1), "{way:?}");
            }
            let back = driver.request(queue, &[&header(IN, u64::from(queue) * 64 + 9)], &[512, 1]);
            assert!(back[..512].iter().all(|byte| *byte == queue as u8 * 16 + 9));
        }
    }
}
