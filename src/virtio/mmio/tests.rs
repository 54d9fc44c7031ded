use proptest::prelude::*;

use super::*;
use crate::{
    devices::testing::{
        CountingSink, LevelSink, WIDTHS, read32, touch_everything, window, write32,
    },
    virtio::{
        probe::Probe,
        testing::{RAM, RAM_SIZE, memory},
    },
};

fn transport() -> (MmioTransport, Arc<Probe>, Arc<LevelSink>) {
    let (probe, (sink, line)) = (Arc::<Probe>::default(), LevelSink::line());
    (MmioTransport::new(probe.clone(), window(SIZE), line, memory()).unwrap(), probe, sink)
}

/// A driver's way to DRIVER_OK with two of the three queues (virtio 1.2, 4.2.3.1).
fn bring_up(mmio: &MmioTransport) {
    write32(mmio, reg::STATUS, 0);
    write32(mmio, reg::STATUS, 1);
    write32(mmio, reg::STATUS, 3);
    for half in [0, 1] {
        write32(mmio, reg::DEVICE_FEATURES_SEL, half);
        write32(mmio, reg::DRIVER_FEATURES_SEL, half);
        write32(mmio, reg::DRIVER_FEATURES, read32(mmio, reg::DEVICE_FEATURES));
    }
    write32(mmio, reg::STATUS, 11);
    assert_eq!(read32(mmio, reg::STATUS), 11);
    for queue in [0, 1] {
        let at = RAM as u32 + queue * 0x4000;
        write32(mmio, reg::QUEUE_SEL, queue);
        assert_eq!(read32(mmio, reg::QUEUE_READY), 0);
        write32(mmio, reg::QUEUE_SIZE, 16);
        for (low, high, at) in [
            (reg::QUEUE_DESC_LOW, reg::QUEUE_DESC_HIGH, at),
            (reg::QUEUE_DRIVER_LOW, reg::QUEUE_DRIVER_HIGH, at + 0x1000),
            (reg::QUEUE_DEVICE_LOW, reg::QUEUE_DEVICE_HIGH, at + 0x2000),
        ] {
            write32(mmio, low, at);
            write32(mmio, high, 0);
        }
        write32(mmio, reg::QUEUE_READY, 1);
        assert_eq!(read32(mmio, reg::QUEUE_READY), 1);
    }
    write32(mmio, reg::STATUS, 15);
}

#[test]
fn the_registers_say_what_it_is() {
    let (mmio, ..) = transport();
    for (register, value) in [
        (reg::MAGIC_VALUE, 0x7472_6976),
        (reg::VERSION, 2),
        (reg::DEVICE_ID, 2),
        (reg::STATUS, 0),
        (reg::INTERRUPT_STATUS, 0),
        (reg::CONFIG_GENERATION, 0),
        (reg::SHM_LEN_LOW, u32::MAX),
        (reg::SHM_BASE_HIGH, u32::MAX),
    ] {
        assert_eq!(read32(&mmio, register), value, "{register:#x}");
    }
    let offered = |half| {
        write32(&mmio, reg::DEVICE_FEATURES_SEL, half);
        read32(&mmio, reg::DEVICE_FEATURES)
    };
    // VERSION_1, EVENT_IDX, INDIRECT_DESC, and its own.
    assert_eq!([0, 1, 2, u32::MAX].map(offered), [1 << 5 | 3 << 28, 1 | 1 << 8, 0, 0]);
}

#[test]
fn a_driver_brings_it_up_and_down() {
    let (mmio, probe, _sink) = transport();
    for round in 1..4 {
        bring_up(&mmio);
        assert_eq!(read32(&mmio, reg::STATUS), 15);
        write32(&mmio, reg::STATUS, 15);
        assert_eq!(*probe.activations.lock(), round, "DRIVER_OK counts once");
        let active = probe.active.lock();
        let active = active.as_ref().unwrap();
        let there: Vec<_> = active.queues.iter().map(Option::is_some).collect();
        assert_eq!(there, [true, true, false]);
        assert_eq!(active.queues[1].as_ref().unwrap().rings()[0], RAM + 0x4000);
        assert_eq!(active.features, 1 << 5 | 3 << 28 | 1 << 32 | 1 << 40);
    }
    write32(&mmio, reg::STATUS, 0);
    assert!(probe.active.lock().is_none());
    assert_eq!(read32(&mmio, reg::QUEUE_READY), 0);
}

#[test]
fn queues_that_are_not_there_are_not() {
    let (mmio, ..) = transport();
    for queue in [3, 0xffff, 0x1_0000, u32::MAX] {
        write32(&mmio, reg::QUEUE_SEL, queue);
        assert_eq!(read32(&mmio, reg::QUEUE_SIZE_MAX), 0, "{queue:#x}");
        for register in [
            reg::QUEUE_SIZE,
            reg::QUEUE_READY,
            reg::QUEUE_DESC_LOW,
            reg::QUEUE_DEVICE_HIGH,
            reg::QUEUE_NOTIFY,
        ] {
            write32(&mmio, register, queue);
        }
        assert_eq!(read32(&mmio, reg::QUEUE_READY), 0);
    }
    write32(&mmio, reg::QUEUE_SEL, 2);
    assert_eq!(read32(&mmio, reg::QUEUE_SIZE_MAX), 1);
    for size in [0, 2, 3, 0x1_0001, u32::MAX] {
        write32(&mmio, reg::QUEUE_SIZE, size);
        write32(&mmio, reg::QUEUE_DESC_LOW, RAM as u32);
        write32(&mmio, reg::QUEUE_DRIVER_LOW, RAM as u32 + 0x1000);
        write32(&mmio, reg::QUEUE_DEVICE_LOW, RAM as u32 + 0x2000);
        write32(&mmio, reg::QUEUE_READY, 1);
        assert_eq!(read32(&mmio, reg::QUEUE_READY), 0, "size {size:#x}");
    }
}

#[test]
fn a_notification_rings_that_queues_doorbell() {
    let (mmio, probe, _sink) = transport();
    bring_up(&mmio);
    write32(&mmio, reg::QUEUE_NOTIFY, 1);
    write32(&mmio, reg::QUEUE_NOTIFY, 7);
    let active = probe.active.lock();
    let doorbell = |queue: usize| {
        let queue = active.as_ref().unwrap().queues[queue].as_ref().unwrap();
        queue.doorbell().read().ok()
    };
    assert_eq!([0, 1].map(doorbell), [None, Some(1)]);
}

#[test]
fn the_line_is_high_until_all_is_acknowledged() {
    let (mmio, probe, sink) = transport();
    bring_up(&mmio);
    let interrupt = probe.active.lock().as_ref().unwrap().interrupt.clone();
    interrupt.queue(0);
    interrupt.queue(1);
    assert_eq!((read32(&mmio, reg::INTERRUPT_STATUS), sink.high()), (1, true));
    interrupt.config_changed();
    assert_eq!(read32(&mmio, reg::CONFIG_GENERATION), 1);
    assert_eq!(sink.take_driven(), 1, "it is high already");
    write32(&mmio, reg::INTERRUPT_ACK, 4);
    write32(&mmio, reg::INTERRUPT_ACK, 1);
    assert_eq!((read32(&mmio, reg::INTERRUPT_STATUS), sink.high()), (2, true));
    write32(&mmio, reg::INTERRUPT_ACK, 2);
    assert_eq!((read32(&mmio, reg::INTERRUPT_STATUS), sink.high()), (0, false));
    sink.take_driven();
    write32(&mmio, reg::INTERRUPT_ACK, u32::MAX);
    assert_eq!(sink.take_driven(), 0);
    interrupt.needs_reset(&"a test");
    assert_eq!((read32(&mmio, reg::STATUS), sink.high()), (15 | 0x40, true));
    write32(&mmio, reg::STATUS, 0);
    assert_eq!((read32(&mmio, reg::STATUS), sink.high()), (0, false));
}

#[test]
fn who_waits_for_edges_gets_one_for_what_is_left() {
    let (sink, line) = CountingSink::line();
    let probe = Arc::<Probe>::default();
    let mmio = MmioTransport::new(probe.clone(), window(SIZE), line, memory()).unwrap();
    bring_up(&mmio);
    let interrupt = probe.active.lock().as_ref().unwrap().interrupt.clone();
    interrupt.queue(0);
    interrupt.config_changed();
    assert_eq!(sink.take(), 1);
    write32(&mmio, reg::INTERRUPT_ACK, 1);
    assert_eq!(sink.take(), 1);
}

#[test]
fn configuration_of_any_width_anywhere() {
    let (mmio, probe, _sink) = transport();
    *probe.config.lock() = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
    let read = |offset, width| mmio.handle_read(reg::CONFIG + offset, width).unwrap();
    assert_eq!(read(0, AccessWidth::Qword), 0x0807_0605_0403_0201);
    assert_eq!(read(9, AccessWidth::Byte), 10);
    assert_eq!(read(8, AccessWidth::Dword), 0x0a09, "zeros behind the end");
    assert_eq!(read(0xff, AccessWidth::Byte), 0);
    for (offset, width) in
        [(9, AccessWidth::Word), (10, AccessWidth::Byte), (0xf8, AccessWidth::Qword)]
    {
        assert!(mmio.handle_write(reg::CONFIG + offset, width, 0xff).is_ok());
    }
    assert_eq!(probe.config()[9], 10);
    assert!(mmio.handle_write(reg::CONFIG + 8, AccessWidth::Word, 0xbbaa).is_ok());
    assert_eq!(probe.config()[8..], [0xaa, 0xbb]);
}

#[test]
fn every_offset_with_every_width() {
    touch_everything(&transport().0);
    let (mmio, ..) = transport();
    for width in WIDTHS.into_iter().filter(|width| *width != AccessWidth::Dword) {
        assert_eq!(mmio.handle_read(reg::MAGIC_VALUE, width), Err(Access::BadWidth));
        assert_eq!(mmio.handle_write(reg::STATUS, width, 1), Err(Access::BadWidth));
    }
    for register in [reg::MAGIC_VALUE, reg::VERSION, reg::DEVICE_ID, reg::CONFIG_GENERATION] {
        assert_eq!(mmio.handle_write(register, AccessWidth::Dword, 7), Err(Access::ReadOnly));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Any sequence of writes to the registers, with values that are near to right ones: no queue is
    /// ever active but one whose rings lie in memory.
    #[test]
    fn any_sequence_of_writes(
        writes in prop::collection::vec((0_u64..0x30, prop_oneof![0_u32..18, RAM as u32..(RAM + RAM_SIZE) as u32, any::<u32>()]), 1..80),
    ) {
        let (mmio, probe, _sink) = transport();
        for (register, value) in writes {
            let _ = mmio.handle_write(0x10 + 4 * register, AccessWidth::Dword, value.into());
            let active = probe.active.lock();
            for queue in active.iter().flat_map(|it| it.queues.iter().flatten()) {
                for ring in queue.rings() {
                    prop_assert!((RAM..RAM + RAM_SIZE).contains(&ring));
                }
            }
        }
    }
}
