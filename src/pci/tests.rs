use parking_lot::Mutex;
use proptest::prelude::*;

use super::{
    config_space::reg,
    testing::{Asked, Host},
    *,
};
use crate::{
    addr::{DeviceAddrRange, GuestPhysAddrRange},
    addrspace::{AddrSpace, testing},
    devices::{
        BaseDeviceOps,
        testing::{WIDTHS, touch_everything, window},
    },
    hal::Msi,
};

const ADDRESS: u64 = 0x1000_0000;
const BAR: u32 = 0x1000_4000;
const BAR_SIZE: u32 = 0x4000;
const TABLE: u64 = 0x2000;
const SLOT: u8 = 3;
/// Where the function's registers are in the window of configuration space.
const CONFIG: u64 = (SLOT as u64) << 15;
/// Where its capabilities are: MSI-X, then one of the device's, then its window on the BAR.
const MSIX: u64 = CONFIG + 0x40;
const WINDOW: u64 = CONFIG + 0x54;

/// Answers a read with the offset; takes no words; powers off when 0xff is written.
#[derive(Default)]
struct Probe {
    moves: Mutex<Vec<Option<u64>>>,
    written: Mutex<Vec<(u64, AccessWidth, u64)>>,
}

impl PciDevice for Probe {
    fn name(&self) -> &str {
        "probe"
    }

    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        assert!(offset + width.size() as u64 <= BAR_SIZE.into());
        assert!(!(TABLE..TABLE + MSIX_SIZE).contains(&offset));
        match width {
            AccessWidth::Word => Err(Access::BadWidth),
            _ => Ok(offset),
        }
    }

    fn write(&self, offset: u64, width: AccessWidth, value: u64) -> Result<Effect, Access> {
        assert!(offset + width.size() as u64 <= BAR_SIZE.into());
        self.written.lock().push((offset, width, value));
        Ok(if value == 0xff { Effect::PowerOff } else { Effect::None })
    }

    fn moved(&self, to: Option<GuestPhysAddr>) {
        self.moves.lock().push(to.map(|to| to.0));
    }
}

fn function(probe: Arc<dyn PciDevice>, msix: Arc<Msix>, bar: u32) -> Function {
    let own = Capability { id: VENDOR_SPECIFIC, body: vec![1, 2, 3, 4], writable: vec![0, 0xf0] };
    let window = Capability {
        id: VENDOR_SPECIFIC,
        body: vec![0; 18],
        writable: [&[0, 0, 0xff, 0, 0, 0][..], &[0xff; 12]].concat(),
    };
    let parts = FunctionParts {
        identity: Identity {
            vendor: 0x1af4,
            device: 0x1044,
            class: 0xff_0102,
            revision: 7,
            subsystem_vendor: 0x1234,
            subsystem: 0x5678,
        },
        bar_size: BAR_SIZE,
        msix,
        msix_at: TABLE as u32,
        capabilities: vec![own, window],
        bar_window: Some((1, BarWindow { bar: 4, offset: 8, length: 12, data: 16 })),
        device: probe,
    };
    Function::new(parts, bar).unwrap()
}

struct Fixture {
    host: Arc<Host>,
    probe: Arc<Probe>,
    msix: Arc<Msix>,
    bus: Arc<Bus>,
    ecam: Ecam,
    memory: Arc<AddrSpace>,
    aperture: Aperture,
}

fn fixture_with(host: Host) -> Fixture {
    let (host, probe) = (Arc::new(host), Arc::<Probe>::default());
    let msix = Arc::new(Msix::new("probe", 3, host.clone(), requester_id(SLOT)));
    let range = GuestPhysAddrRange::new(GuestPhysAddr(ADDRESS), 0x10_0000).unwrap();
    let other = Arc::new(Msix::new("other", 1, host.clone(), requester_id(SLOT + 1)));
    let other = function(Arc::<Probe>::default(), other, BAR + 2 * BAR_SIZE);
    let bus = Bus::new(
        [
            (SLOT, Box::new(function(probe.clone(), msix.clone(), BAR)) as Box<dyn PciFunction>),
            (9, Box::new(other)),
        ],
        range,
    );
    let memory = Arc::new(testing::coherent());
    let ecam = Ecam::new(bus.clone(), window(ECAM_SIZE), memory.clone());
    let aperture = Aperture::new(bus.clone());
    Fixture { host, probe, msix, bus, ecam, memory, aperture }
}

fn fixture() -> Fixture {
    fixture_with(Host::default())
}

impl Fixture {
    #[track_caller]
    fn get(&self, at: u64, width: AccessWidth) -> u64 {
        let value = self.ecam.handle_read(at, width).unwrap();
        assert_eq!(self.in_memory(at, width).unwrap_or(value), value, "{at:#x}");
        value
    }

    /// What the guest reads without an exit; `None`: it does not.
    fn in_memory(&self, at: u64, width: AccessWidth) -> Option<u64> {
        let mut bytes = [0; 8];
        let gpa = window(ECAM_SIZE).first().checked_add(at)?;
        self.memory.read(gpa, &mut bytes[..width.size()]).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    #[track_caller]
    fn set(&self, at: u64, width: AccessWidth, value: u64) {
        assert_eq!(self.ecam.handle_write(at, width, value), Ok(Effect::None));
    }

    fn command(&self, value: u64) {
        self.set(CONFIG + reg::COMMAND as u64, AccessWidth::Word, value);
    }

    fn place(&self, bar: u64) {
        self.set(CONFIG + reg::BAR0 as u64, AccessWidth::Dword, bar);
    }

    fn moves(&self) -> Vec<Option<u64>> {
        std::mem::take(&mut self.probe.moves.lock())
    }

    /// Writes an entry of the MSI-X table through the aperture.
    fn entry(&self, vector: u64, addr: u64, data: u64, control: u64) {
        let at = u64::from(BAR) - ADDRESS + TABLE + vector * 16;
        for (offset, value) in [(0, addr & 0xffff_ffff), (4, addr >> 32), (8, data), (12, control)]
        {
            let done = self.aperture.handle_write(at + offset, AccessWidth::Dword, value);
            assert_eq!(done, Ok(Effect::None));
        }
    }

    fn pending(&self) -> u64 {
        let at = u64::from(BAR) - ADDRESS + TABLE + 0x800;
        self.aperture.handle_read(at, AccessWidth::Qword).unwrap()
    }
}

fn msi(addr: u64, data: u32) -> Msi {
    Msi { addr: GuestPhysAddr(addr), data, requester: 0x18 }
}

#[test]
fn the_header_says_what_it_is() {
    let fixture = fixture();
    let get = |at, width| fixture.get(CONFIG + at, width);
    assert_eq!(get(0, AccessWidth::Dword), 0x1044_1af4);
    assert_eq!(get(0, AccessWidth::Qword), 0x0010_0000_1044_1af4); // a list, and nothing on
    assert_eq!(get(8, AccessWidth::Dword), 0xff01_0207);
    assert_eq!(get(0x0e, AccessWidth::Byte), 0, "one function");
    assert_eq!(get(0x2c, AccessWidth::Dword), 0x5678_1234);
    assert_eq!(get(0x3d, AccessWidth::Byte), 0, "no interrupt line");
    // The capabilities, each pointing to the next.
    assert_eq!(get(0x34, AccessWidth::Byte), 0x40);
    assert_eq!(get(0x40, AccessWidth::Dword), 0x0002_4c11); // 3 vectors
    assert_eq!(get(0x44, AccessWidth::Dword), 0x2000);
    assert_eq!(get(0x48, AccessWidth::Dword), 0x2800);
    assert_eq!(get(0x4c, AccessWidth::Dword), 0x0201_5409);
    assert_eq!(get(0x54, AccessWidth::Word), 0x0009);
    assert_eq!(get(0x100, AccessWidth::Dword), 0, "no extended capabilities");
    // Nobody else is there, nor another function.
    assert_eq!(fixture.get(0, AccessWidth::Dword), 0xffff_ffff);
    assert_eq!(fixture.get(CONFIG + 0x1000, AccessWidth::Word), 0xffff);
    assert_eq!(fixture.get(ECAM_SIZE - 4, AccessWidth::Dword), 0xffff_ffff);
}

#[test]
fn what_is_fixed_stays() {
    let fixture = fixture();
    let read_all = |fixture: &Fixture| -> Vec<u64> {
        (0..256).map(|at| fixture.get(CONFIG + at, AccessWidth::Byte)).collect()
    };
    let before = read_all(&fixture);
    for at in (0..256).step_by(4) {
        fixture.set(CONFIG + at, AccessWidth::Dword, 0xffff_ffff);
    }
    let changed = (0_usize..).zip(before.into_iter().zip(read_all(&fixture)));
    let changed = changed.filter(|(_, (old, new))| old != new).map(|(at, (_, new))| (at, new));
    let changed: Vec<_> = changed.collect();
    #[rustfmt::skip]
    assert_eq!(changed, [
        (0x04, 0x06), (0x05, 0x04),                 // memory, bus master, no INTx
        (0x11, 0xc0), (0x12, 0xff), (0x13, 0xff),   // the BAR's address
        (0x3c, 0xff),
        (0x43, 0xc0),                               // MSI-X: on, masked
        (0x4f, 0xf2),
        (0x58, 0xff),
        (0x5c, 0xff), (0x5d, 0xff), (0x5e, 0xff), (0x5f, 0xff),
        (0x60, 0xff), (0x61, 0xff), (0x62, 0xff), (0x63, 0xff),
        (0x64, 0xff), (0x65, 0xff), (0x66, 0xff), (0x67, 0xff),
    ]);
}

#[test]
fn a_bar_tells_its_size_and_answers_where_it_is_put() {
    let fixture = fixture();
    let read = |at: u64| fixture.aperture.handle_read(at - ADDRESS, AccessWidth::Dword);
    let bar = u64::from(BAR);
    assert_eq!(read(bar + 8), Err(Access::NoRegister), "not before it is told to");
    fixture.place(0xffff_ffff);
    assert_eq!(fixture.get(CONFIG + 0x10, AccessWidth::Dword), 0xffff_c000);
    fixture.place(bar);
    assert_eq!(fixture.moves(), [], "sizing moves nothing");
    fixture.command(2);
    assert_eq!(read(bar + 8), Ok(8));
    assert_eq!(read(bar + 0x3fff), Err(Access::NoRegister), "all of an access is inside");
    fixture.place(bar + 0x8000);
    assert_eq!((read(bar), read(bar + 0x8004)), (Err(Access::NoRegister), Ok(4)));
    // Out of the aperture nobody can get at it.
    fixture.place(ADDRESS + 0x10_0000);
    assert_eq!(fixture.moves(), [Some(bar), Some(bar + 0x8000), None]);
    fixture.place(bar);
    fixture.command(0);
    fixture.command(4);
    fixture.command(6);
    assert_eq!(fixture.moves(), [Some(bar), None, Some(bar)]);
    let off = fixture.aperture.handle_write(bar - ADDRESS, AccessWidth::Byte, 0xff);
    assert_eq!(off, Ok(Effect::PowerOff));
}

#[test]
fn of_bars_over_each_other_one_answers() {
    let fixture = fixture();
    let other = 9 << 15;
    fixture.set(other + 4, AccessWidth::Word, 2);
    fixture.set(other + 0x10, AccessWidth::Dword, u64::from(BAR));
    fixture.command(2);
    let write = |value| {
        let at = u64::from(BAR) - ADDRESS;
        fixture.aperture.handle_write(at, AccessWidth::Dword, value).unwrap()
    };
    assert_eq!(write(1), Effect::None);
    assert_eq!(fixture.probe.written.lock().len(), 1, "the one in the lowest slot");
    fixture.command(0);
    assert_eq!(write(2), Effect::None);
    assert_eq!(fixture.probe.written.lock().len(), 1);
}

#[test]
fn the_window_in_configuration_space_reaches_the_bar() {
    let fixture = fixture();
    let at = |bar, offset, length| {
        fixture.set(WINDOW + 4, AccessWidth::Byte, bar);
        fixture.set(WINDOW + 8, AccessWidth::Dword, offset);
        fixture.set(WINDOW + 12, AccessWidth::Dword, length);
    };
    at(0, 0x120, 4);
    assert_eq!(fixture.get(WINDOW + 16, AccessWidth::Dword), 0x120, "the BAR need not answer");
    fixture.set(WINDOW + 16, AccessWidth::Dword, 0xabcd);
    at(0, 0x121, 1);
    assert_eq!(fixture.get(WINDOW + 16, AccessWidth::Byte), 0x21);
    let off = fixture.ecam.handle_write(WINDOW + 16, AccessWidth::Byte, 0xff);
    assert_eq!(off, Ok(Effect::PowerOff));
    let written = fixture.probe.written.lock().clone();
    assert_eq!(written, [(0x120, AccessWidth::Dword, 0xabcd), (0x121, AccessWidth::Byte, 0xff)]);
    at(0, 0x122, 2);
    assert_eq!(fixture.get(WINDOW + 16, AccessWidth::Word), 0xffff, "the device refuses");
    // What cannot be done is not.
    fixture.set(WINDOW + 16, AccessWidth::Dword, 0x1234_5678);
    let count = fixture.probe.written.lock().len();
    for (bar, offset, length) in [
        (1, 0, 4),
        (0, 0x122, 4),
        (0, 0, 0),
        (0, 0, 3),
        (0, 0, 8),
        (0, 0x4000, 4),
        (0, 0xffff_fffc, 4),
        (0, 0, 0xffff_ffff),
    ] {
        at(bar, offset, length);
        fixture.set(WINDOW + 16, AccessWidth::Dword, 7);
        assert_eq!(fixture.get(WINDOW + 16, AccessWidth::Dword), 7, "{bar} {offset:#x} {length}");
    }
    assert_eq!(fixture.probe.written.lock().len(), count);
    // The MSI-X table is the function's own.
    at(0, TABLE + 12, 4);
    assert_eq!(fixture.get(WINDOW + 16, AccessWidth::Dword), 1);
    fixture.set(WINDOW + 16, AccessWidth::Dword, 0);
    assert_eq!(fixture.get(WINDOW + 16, AccessWidth::Dword), 0);
}

#[test]
fn the_guest_reads_from_memory_what_needs_nobody() {
    let fixture = fixture();
    let id = |at| fixture.in_memory(at, AccessWidth::Dword);
    fixture.command(4);
    assert_eq!(id(CONFIG), None, "who does not look has none");
    assert_eq!(fixture.get(CONFIG + 4, AccessWidth::Word), 4);
    assert_eq!(id(CONFIG), Some(0x1044_1af4));
    assert_eq!(
        [0, 0x1000, 0x8000].map(|at| id(CONFIG + at)),
        [Some(0x1044_1af4), Some(0xffff_ffff), Some(0xffff_ffff)]
    );
    fixture.place(0xffff_ffff);
    let bar = Some(u64::from(!(BAR_SIZE - 1)));
    assert_eq!(id(CONFIG + reg::BAR0 as u64), bar, "what it has written it reads");
    // The window makes reading the BAR of reading the configuration space.
    fixture.set(WINDOW + 8, AccessWidth::Dword, 0x124);
    assert_eq!(id(CONFIG), Some(0x1044_1af4));
    fixture.set(WINDOW + 12, AccessWidth::Dword, 4);
    assert_eq!(id(CONFIG), None);
    assert_eq!(fixture.get(WINDOW + 16, AccessWidth::Dword), 0x124);
    fixture.set(WINDOW + 12, AccessWidth::Dword, 0);
    assert_eq!((fixture.get(CONFIG, AccessWidth::Word), id(CONFIG)), (0x1af4, None), "for good");
    // A window that was open before.
    let early = self::fixture();
    early.set(WINDOW + 12, AccessWidth::Dword, 4);
    assert_eq!(early.get(WINDOW + 16, AccessWidth::Dword), 0);
    assert_eq!(early.in_memory(CONFIG, AccessWidth::Dword), None);
    // Where what is written here stays in a cache that the guest does not look into.
    let incoherent = Arc::new(testing::empty());
    let ecam = Ecam::new(fixture.bus.clone(), window(ECAM_SIZE), incoherent.clone());
    assert_eq!(ecam.handle_read(CONFIG, AccessWidth::Word), Ok(0x1af4));
    assert_eq!(incoherent.memory_areas(), []);
}

#[test]
fn masked_interrupts_wait() {
    let fixture = fixture();
    fixture.command(2);
    fixture.entry(1, 0x1_fee0_1000, 0x41, 0);
    fixture.msix.signal(1);
    assert_eq!((fixture.host.take(), fixture.pending()), (vec![], 0), "MSI-X is off");
    fixture.set(MSIX + 2, AccessWidth::Word, 0x8000);
    assert!(fixture.msix.is_enabled());
    fixture.msix.signal(1);
    assert_eq!(fixture.host.take(), [Asked::Signal(msi(0x1_fee0_1000, 0x41))]);
    for nobody in [0, 3, 0xffff] {
        fixture.msix.signal(nobody); // masked, and none at all
    }
    assert_eq!((fixture.host.take(), fixture.pending()), (vec![], 1));
    fixture.entry(1, 0xfee0_2000, 0x42, 1);
    fixture.msix.signal(1);
    fixture.msix.signal(1);
    assert_eq!((fixture.host.take(), fixture.pending()), (vec![], 3));
    fixture.entry(1, 0xfee0_2000, 0x43, 0);
    assert_eq!(fixture.host.take(), [Asked::Signal(msi(0xfee0_2000, 0x43))], "once");
    // All of them masked.
    fixture.set(MSIX + 2, AccessWidth::Word, 0xc000);
    fixture.entry(0, 0xfee0_0000, 0x40, 0);
    fixture.msix.signal(1);
    assert_eq!((fixture.host.take(), fixture.pending()), (vec![], 3));
    fixture.set(MSIX + 3, AccessWidth::Byte, 0x80);
    let (first, second) = (msi(0xfee0_0000, 0x40), msi(0xfee0_2000, 0x43));
    assert_eq!(fixture.host.take(), [Asked::Signal(first), Asked::Signal(second)]);
    assert_eq!(fixture.pending(), 0);
}

#[test]
fn eventfds_are_connected_while_their_vector_is_open() {
    let fixture = fixture();
    fixture.command(2);
    let eventfd = fixture.msix.eventfd(2).unwrap();
    assert!(fixture.msix.eventfd(3).is_none());
    assert_eq!(fixture.host.take(), []);
    fixture.entry(2, 0xfee0_0000, 0x50, 0);
    fixture.set(MSIX + 2, AccessWidth::Word, 0x8000);
    assert_eq!(fixture.host.take(), [Asked::Connect(0, msi(0xfee0_0000, 0x50))]);
    let at = u64::from(BAR) - ADDRESS + TABLE + 2 * 16;
    let write = |offset, value| {
        fixture.aperture.handle_write(at + offset, AccessWidth::Dword, value).unwrap()
    };
    let _ = write(12, 1);
    assert_eq!(fixture.host.take(), [Asked::Disconnect(0)]);
    // A signal meanwhile is a pending bit, and an interrupt later.
    eventfd.write(1).unwrap();
    assert_eq!(fixture.pending(), 4);
    let _ = (write(0, 0xfee0_3000), write(8, 0x51));
    assert_eq!(fixture.host.take(), []);
    let _ = write(12, 0);
    let new = msi(0xfee0_3000, 0x51);
    assert_eq!(fixture.host.take(), [Asked::Signal(new), Asked::Connect(0, new)]);
    let _ = write(8, 0x52);
    let newer = msi(0xfee0_3000, 0x52);
    assert_eq!(fixture.host.take(), [Asked::Disconnect(0), Asked::Connect(0, newer)]);
    fixture.set(MSIX + 2, AccessWidth::Word, 0);
    assert_eq!(fixture.host.take(), [Asked::Disconnect(0)]);
    assert!(fixture.msix.eventfd(2).is_some());
    assert_eq!(fixture.host.routes(), 1, "a vector has one way");
}

#[test]
fn a_host_that_refuses_is_survived() {
    let fixture = fixture_with(Host { messages_left: Some(0.into()), ..Host::default() });
    fixture.command(2);
    let _eventfd = fixture.msix.eventfd(0).unwrap();
    fixture.set(MSIX + 2, AccessWidth::Word, 0x8000);
    fixture.entry(0, 0xfee0_0000, 1, 0);
    fixture.msix.signal(0);
    let message = msi(0xfee0_0000, 1);
    let tried = [Asked::Connect(0, message), Asked::Signal(message), Asked::Connect(0, message)];
    assert_eq!(fixture.host.take(), tried, "the next interrupt tries again");
}

#[test]
fn every_offset_takes_every_width_both_ways() {
    let fixture = fixture();
    fixture.command(2);
    touch_everything(&fixture.aperture);
    // Of the whole window only the function's own 4 KiB are interesting.
    for at in (CONFIG..CONFIG + 0x1000).chain([0, 8, CONFIG + 0x1000, ECAM_SIZE - 1, ECAM_SIZE]) {
        for width in WIDTHS {
            for value in
                [0, 1, 0x55, 0xff].map(|byte| (byte * 0x0101_0101_0101_0101) & width.mask())
            {
                let _ = fixture.ecam.handle_write(at, width, value);
                let read = fixture.ecam.handle_read(at, width);
                assert!(
                    read.is_err() || fixture.in_memory(at, width).is_none_or(|it| Ok(it) == read)
                );
                assert!(read.is_err() || read.unwrap() & !width.mask() == 0, "{at:#x}");
            }
        }
    }
}

#[test]
fn what_answers_behind_a_bar_is_counted_for_itself() {
    let fixture = fixture();
    let offset = u64::from(BAR) - fixture.bus.aperture().first().0;
    assert_eq!(fixture.aperture.parts(), ["probe"; 2]);
    assert_eq!(fixture.aperture.part_at(offset), None, "memory is not enabled");
    let _ = fixture.ecam.handle_write(CONFIG + 4, AccessWidth::Word, 2);
    let last = offset + u64::from(BAR_SIZE) - 1;
    assert_eq!([offset, last].map(|it| fixture.aperture.part_at(it)), [Some(0); 2]);
    assert_eq!([offset - 1, last + 1].map(|it| fixture.aperture.part_at(it)), [None; 2]);
    assert_eq!(fixture.aperture.part_at(u64::MAX), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Whatever a guest does, a BAR answers where it says that it is, or nowhere.
    #[test]
    fn hostile_guests_get_what_they_ask(
        accesses in proptest::collection::vec(
            (any::<bool>(), prop_oneof![0_u64..0x70, 0_u64..0x1000], 0_usize..4, any::<u64>()),
            1..60,
        ),
    ) {
        let fixture = fixture();
        for (is_bar, at, width, value) in accesses {
            let width = WIDTHS[width];
            let value = value & width.mask();
            if is_bar {
                let at = at * 4;
                let _ = fixture.aperture.handle_write(at, width, value);
                let _ = fixture.aperture.handle_read(at, width);
            } else {
                let _ = fixture.ecam.handle_write(CONFIG + at, width, value);
                let read = fixture.ecam.handle_read(CONFIG + at, width);
                let in_memory = fixture.in_memory(CONFIG + at, width);
                prop_assert!(read.is_err() || in_memory.is_none_or(|it| Ok(it) == read));
            }
            let place = fixture.bus.function(SLOT.into()).unwrap().places().pop();
            let inside = place.map(|(_, range)| range).filter(|it| {
                let aperture = fixture.bus.aperture();
                aperture.contains(it.first()) && aperture.contains(it.last())
            });
            let moves = fixture.probe.moves.lock();
            prop_assert_eq!(moves.last().copied().flatten(), inside.map(|it| it.first().0));
            prop_assert!(moves.windows(2).all(|two| two[0] != two[1]));
        }
    }
}
