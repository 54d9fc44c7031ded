use proptest::prelude::*;

use super::*;
use crate::{
    addr::GuestPhysAddrRange,
    devices::{
        BaseDeviceOps,
        testing::{WIDTHS, touch_everything, window},
    },
    hal::Msi,
    pci::{
        Aperture, Bus, ECAM_SIZE, Ecam, Function,
        testing::{Asked, Host},
    },
    virtio::{
        probe::Probe,
        testing::{RAM, RAM_SIZE, memory},
    },
};

const BAR: u64 = 0xe100_0000;
const SLOT: u8 = 1;
const CONFIG: u64 = 1 << 15;
const MSIX_CONTROL: u64 = CONFIG + 0x42;

/// Offsets of the common configuration.
mod at {
    pub const DEVICE_FEATURE_SELECT: u64 = 0;
    pub const DEVICE_FEATURE: u64 = 4;
    pub const DRIVER_FEATURE_SELECT: u64 = 8;
    pub const DRIVER_FEATURE: u64 = 12;
    pub const CONFIG_MSIX_VECTOR: u64 = 16;
    pub const NUM_QUEUES: u64 = 18;
    pub const DEVICE_STATUS: u64 = 20;
    pub const CONFIG_GENERATION: u64 = 21;
    pub const QUEUE_SELECT: u64 = 22;
    pub const QUEUE_SIZE: u64 = 24;
    pub const QUEUE_MSIX_VECTOR: u64 = 26;
    pub const QUEUE_ENABLE: u64 = 28;
    pub const QUEUE_NOTIFY_OFF: u64 = 30;
    pub const QUEUE_DESC: u64 = 32;
    pub const QUEUE_DRIVER: u64 = 40;
    pub const QUEUE_DEVICE: u64 = 48;
}

struct Fixture {
    probe: Arc<Probe>,
    host: Arc<Host>,
    ecam: Ecam,
    bar: Aperture,
}

/// A function that answers, and so has its doorbells.
fn fixture() -> Fixture {
    fixture_on(Host::default())
}

fn fixture_on(host: Host) -> Fixture {
    let (host, probe) = (Arc::new(host), Arc::<Probe>::default());
    let parts =
        PciTransport::function(probe.clone(), SLOT, memory(), host.clone(), host.clone()).unwrap();
    let function = Function::new(parts, BAR as u32).unwrap();
    let range = GuestPhysAddrRange::new(GuestPhysAddr(BAR), 0x1_0000).unwrap();
    let bus = Bus::new([(SLOT, Box::new(function) as Box<dyn crate::pci::PciFunction>)], range);
    let ecam = Ecam::new(bus.clone(), window(ECAM_SIZE), memory());
    assert_eq!(host.take(), [], "nothing before the guest has it answer");
    assert!(ecam.handle_write(CONFIG + 4, AccessWidth::Word, 6).is_ok());
    Fixture { probe, host, ecam, bar: Aperture::new(bus) }
}

impl Fixture {
    #[track_caller]
    fn read(&self, offset: u64, width: AccessWidth) -> u64 {
        self.bar.handle_read(offset, width).unwrap()
    }

    #[track_caller]
    fn write(&self, offset: u64, width: AccessWidth, value: u64) {
        assert_eq!(self.bar.handle_write(offset, width, value), Ok(Effect::None), "{offset:#x}");
    }

    fn status(&self) -> u64 {
        self.read(at::DEVICE_STATUS, AccessWidth::Byte)
    }

    fn set_status(&self, value: u64) {
        self.write(at::DEVICE_STATUS, AccessWidth::Byte, value);
    }

    fn select(&self, queue: u64) {
        self.write(at::QUEUE_SELECT, AccessWidth::Word, queue);
    }

    /// A driver's way to DRIVER_OK with two of the three queues (virtio 1.2, 4.1.5.1).
    fn bring_up(&self) {
        self.set_status(0);
        self.set_status(1);
        self.set_status(3);
        for half in [0, 1] {
            self.write(at::DEVICE_FEATURE_SELECT, AccessWidth::Dword, half);
            self.write(at::DRIVER_FEATURE_SELECT, AccessWidth::Dword, half);
            let offered = self.read(at::DEVICE_FEATURE, AccessWidth::Dword);
            self.write(at::DRIVER_FEATURE, AccessWidth::Dword, offered);
            assert_eq!(self.read(at::DRIVER_FEATURE, AccessWidth::Dword), offered);
        }
        self.set_status(11);
        assert_eq!(self.status(), 11);
        self.write(at::CONFIG_MSIX_VECTOR, AccessWidth::Word, 0);
        for queue in [0, 1] {
            let rings = RAM + queue * 0x4000;
            self.select(queue);
            assert_eq!(self.read(at::QUEUE_NOTIFY_OFF, AccessWidth::Word), queue);
            self.write(at::QUEUE_SIZE, AccessWidth::Word, 16);
            self.write(at::QUEUE_MSIX_VECTOR, AccessWidth::Word, queue + 1);
            assert_eq!(self.read(at::QUEUE_MSIX_VECTOR, AccessWidth::Word), queue + 1);
            // In halves, and as a whole.
            self.write(at::QUEUE_DESC, AccessWidth::Dword, rings);
            self.write(at::QUEUE_DESC + 4, AccessWidth::Dword, 0);
            self.write(at::QUEUE_DRIVER, AccessWidth::Qword, rings + 0x1000);
            self.write(at::QUEUE_DEVICE, AccessWidth::Qword, rings + 0x2000);
            assert_eq!(self.read(at::QUEUE_DRIVER, AccessWidth::Dword), rings + 0x1000);
            assert_eq!(self.read(at::QUEUE_DESC, AccessWidth::Qword), rings);
            self.write(at::QUEUE_ENABLE, AccessWidth::Word, 1);
            assert_eq!(self.read(at::QUEUE_ENABLE, AccessWidth::Word), 1);
        }
        self.set_status(15);
    }

    /// Three vectors that are open.
    fn use_msix(&self) {
        for vector in 0..3 {
            let entry = u64::from(MSIX) + 16 * vector;
            self.write(entry, AccessWidth::Qword, 0xfee0_0000);
            self.write(entry + 8, AccessWidth::Qword, 0x40 + vector);
        }
        assert!(self.ecam.handle_write(MSIX_CONTROL, AccessWidth::Word, 0x8000).is_ok());
    }

    fn messages(&self) -> Vec<u32> {
        let message = |asked| match asked {
            Asked::Signal(Msi { data, requester: 8, .. }) => Some(data),
            _ => None,
        };
        self.host.take().into_iter().filter_map(message).collect()
    }
}

#[test]
fn it_is_found_as_a_modern_device() {
    let fixture = fixture();
    let get = |at, width| fixture.ecam.handle_read(CONFIG + at, width).unwrap();
    assert_eq!(get(0, AccessWidth::Dword), 0x1042_1af4);
    assert_eq!(get(8, AccessWidth::Dword), 0x0180_0001);
    // Its capabilities by type: where they are in the BAR, and how many bytes.
    let mut found = Vec::new();
    let mut next = get(0x34, AccessWidth::Byte);
    while next != 0 {
        if get(next, AccessWidth::Byte) == 9 {
            let part = [8, 12].map(|field| get(next + field, AccessWidth::Dword));
            found.push((get(next + 3, AccessWidth::Byte), get(next + 2, AccessWidth::Byte), part));
            assert_eq!(get(next + 4, AccessWidth::Byte), 0, "the only BAR");
        }
        next = get(next + 1, AccessWidth::Byte);
    }
    let expect = [
        (1, 16, [0, 56]),
        (2, 20, [0x3000, 12]),
        (3, 16, [0x800, 1]),
        (4, 16, [0x1000, 0x1000]),
        (5, 20, [0, 0]),
    ];
    assert_eq!(found, expect);
    assert_eq!(get(0x42, AccessWidth::Word), 3, "a vector for each queue and the configuration");
}

#[test]
fn a_driver_brings_it_up_and_down() {
    let fixture = fixture();
    assert_eq!(fixture.read(at::NUM_QUEUES, AccessWidth::Word), 3);
    for round in 1..4 {
        fixture.bring_up();
        assert_eq!(fixture.status(), 15);
        assert_eq!(*fixture.probe.activations.lock(), round);
        let active = fixture.probe.active.lock();
        let active = active.as_ref().unwrap();
        let there: Vec<_> = active.queues.iter().map(Option::is_some).collect();
        assert_eq!(there, [true, true, false]);
        assert_eq!(active.queues[1].as_ref().unwrap().rings()[0], RAM + 0x4000);
        assert_eq!(active.features, 1 << 5 | 3 << 28 | 1 << 32 | 1 << 40);
    }
    fixture.set_status(0);
    assert!(fixture.probe.active.lock().is_none());
    assert_eq!(fixture.read(at::CONFIG_MSIX_VECTOR, AccessWidth::Word), 0xffff);
    fixture.select(0);
    assert_eq!(fixture.read(at::QUEUE_ENABLE, AccessWidth::Word), 0);
    assert_eq!(fixture.read(at::QUEUE_MSIX_VECTOR, AccessWidth::Word), 0xffff);
}

#[test]
fn queues_and_vectors_that_are_not_there_are_not() {
    let fixture = fixture();
    for queue in [3, 0xffff] {
        fixture.select(queue);
        for register in [at::QUEUE_SIZE, at::QUEUE_MSIX_VECTOR, at::QUEUE_ENABLE] {
            fixture.write(register, AccessWidth::Word, 1);
        }
        assert_eq!(fixture.read(at::QUEUE_SIZE, AccessWidth::Word), 0);
        assert_eq!(fixture.read(at::QUEUE_ENABLE, AccessWidth::Word), 0);
        assert_eq!(fixture.read(at::QUEUE_MSIX_VECTOR, AccessWidth::Word), 0xffff);
    }
    fixture.select(0);
    for register in [at::QUEUE_MSIX_VECTOR, at::CONFIG_MSIX_VECTOR] {
        fixture.write(register, AccessWidth::Word, 3);
        assert_eq!(fixture.read(register, AccessWidth::Word), 3);
        fixture.write(register, AccessWidth::Word, 4);
        assert_eq!(fixture.read(register, AccessWidth::Word), 0xffff);
    }
}

#[test]
fn each_queue_has_its_vector() {
    let fixture = fixture();
    fixture.bring_up();
    fixture.use_msix();
    let interrupt = fixture.probe.active.lock().as_ref().unwrap().interrupt.clone();
    interrupt.queue(0);
    interrupt.queue(1);
    interrupt.queue(2); // the driver has given it none
    interrupt.config_changed();
    assert_eq!(fixture.messages(), [0x41, 0x42, 0x40]);
    assert_eq!(fixture.read(at::CONFIG_GENERATION, AccessWidth::Byte), 1);
    assert_eq!(fixture.read(ISR.into(), AccessWidth::Byte), 0);
    interrupt.needs_reset(&"a test");
    assert_eq!((fixture.status(), fixture.messages().len()), (15 | 0x40, 1));
    // For others than this process.
    assert!(interrupt.queue_eventfd(2).is_none());
    assert!(interrupt.queue_eventfd(1).is_some());
    let addr = GuestPhysAddr(0xfee0_0000);
    let connect = Asked::Connect(0, Msi { addr, data: 0x42, requester: 8 });
    assert_eq!(fixture.host.take(), [connect]);
}

#[test]
fn without_msix_there_is_a_status() {
    let fixture = fixture();
    fixture.bring_up();
    let interrupt = fixture.probe.active.lock().as_ref().unwrap().interrupt.clone();
    interrupt.queue(0);
    interrupt.config_changed();
    assert_eq!(fixture.read(ISR.into(), AccessWidth::Byte), 3);
    assert_eq!(fixture.read(ISR.into(), AccessWidth::Byte), 0, "reading acknowledges");
    assert!(fixture.messages().is_empty());
}

#[test]
fn notifications_come_by_doorbells_or_by_exits() {
    let fixture = fixture();
    let doorbells =
        |bar: u64| [0, 4, 8].map(|queue| DoorbellAddr::Mmio(GuestPhysAddr(bar + 0x3000 + queue)));
    let there = doorbells(BAR).map(Asked::Doorbell);
    assert_eq!(fixture.host.take(), there);
    // They follow the BAR.
    assert!(fixture.ecam.handle_write(CONFIG + 0x10, AccessWidth::Dword, BAR + 0x8000).is_ok());
    let gone = doorbells(BAR).map(Asked::NoDoorbell);
    let new = doorbells(BAR + 0x8000).map(Asked::Doorbell);
    assert_eq!(fixture.host.take(), [gone, new].concat());
    assert!(fixture.ecam.handle_write(CONFIG + 0x10, AccessWidth::Dword, BAR).is_ok());
    fixture.bring_up();
    for (offset, width) in
        [(4, AccessWidth::Word), (4, AccessWidth::Dword), (0xffc, AccessWidth::Dword)]
    {
        fixture.write(u64::from(NOTIFY) + offset, width, 1);
    }
    let active = fixture.probe.active.lock();
    let doorbell = |queue: usize| {
        let queue = active.as_ref().unwrap().queues[queue].as_ref().unwrap();
        queue.doorbell().read().ok()
    };
    assert_eq!([0, 1].map(doorbell), [None, Some(2)]);
}

#[test]
fn a_host_without_doorbells_has_exits() {
    let fixture = fixture_on(Host { doorbells_left: Some(1.into()), ..Host::default() });
    assert_eq!(fixture.host.take().len(), 3);
    assert!(fixture.ecam.handle_write(CONFIG + 4, AccessWidth::Word, 0).is_ok());
    let off = Asked::NoDoorbell(DoorbellAddr::Mmio(GuestPhysAddr(BAR + 0x3000)));
    assert_eq!(fixture.host.take(), [off], "only what was registered is taken back");
}

#[test]
fn every_offset_with_every_width() {
    let fixture = fixture();
    touch_everything(&fixture.bar);
    for (offset, width) in [
        (at::DEVICE_STATUS, AccessWidth::Dword),
        (at::QUEUE_DESC + 4, AccessWidth::Qword),
        (at::QUEUE_SELECT, AccessWidth::Byte),
    ] {
        assert_eq!(fixture.bar.handle_read(offset, width), Err(Access::BadWidth));
        assert_eq!(fixture.bar.handle_write(offset, width, 0), Err(Access::BadWidth));
    }
    let read_only = fixture.bar.handle_write(at::NUM_QUEUES, AccessWidth::Word, 9);
    assert_eq!(read_only, Err(Access::ReadOnly));
    *fixture.probe.config.lock() = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
    assert_eq!(fixture.read(0x1000, AccessWidth::Qword), 0x0807_0605_0403_0201);
    assert_eq!(fixture.read(0x1008, AccessWidth::Qword), 0x0a09, "zeros behind the end");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Any sequence of accesses to all that there is, with values that are near to right ones: no
    /// queue is ever active but one whose rings lie in memory.
    #[test]
    fn any_sequence_of_accesses(
        accesses in prop::collection::vec(
            (
                0_u8..4,
                prop_oneof![0_u64..64, 0x2000_u64..0x2040, 0_u64..0x4000],
                0_usize..4,
                prop_oneof![0_u64..18, RAM..RAM + RAM_SIZE, any::<u64>()],
            ),
            1..80,
        ),
    ) {
        let fixture = fixture();
        for (kind, offset, width, value) in accesses {
            let width = WIDTHS[width];
            let value = value & width.mask();
            let _ = match kind {
                0 => fixture.bar.handle_read(offset, width).map(drop),
                1 => fixture.ecam.handle_write(CONFIG + offset % 0x1000, width, value).map(drop),
                _ => fixture.bar.handle_write(offset, width, value).map(drop),
            };
            let active = fixture.probe.active.lock();
            for queue in active.iter().flat_map(|it| it.queues.iter().flatten()) {
                for ring in queue.rings() {
                    prop_assert!((RAM..RAM + RAM_SIZE).contains(&ring));
                }
            }
        }
    }
}
