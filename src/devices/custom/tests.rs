use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::Deserialize;

use super::*;
use crate::{
    addr::{AccessWidth, GuestPhysAddr, GuestPhysAddrRange},
    devices::{Access, testing},
};

/// A register of each kind, and a timer.
struct Probe {
    value: AtomicU64,
    woken: AtomicU64,
    parts: Parts,
}

#[derive(Debug, Deserialize, PartialEq)]
struct ProbeKeys {
    first: u64,
    list: Option<Vec<Inner>>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Inner {
    flag: bool,
}

impl Device for Probe {
    const KIND: &'static str = "probe";
    const REGISTERS: &'static [Register] = &[
        Register::dword("VALUE", 0),
        Register::new("ID", 8, AccessWidth::Word).read_only(),
        Register::new("GO", 10, AccessWidth::Byte).write_only(),
        Register::new("SLOT", 16, AccessWidth::Qword).times(4),
    ];
    const HAS_INTERRUPT: bool = true;
    type Keys = ProbeKeys;

    fn new(keys: ProbeKeys, parts: Parts) -> Result<Self, String> {
        match keys.first {
            13 => Err("13 is no number to begin with".to_owned()),
            first => Ok(Self { value: first.into(), woken: AtomicU64::new(0), parts }),
        }
    }

    fn read(&self, offset: u64) -> u64 {
        match offset {
            0 => self.value.load(Ordering::Relaxed),
            8 => self.woken.load(Ordering::Relaxed),
            slot => slot,
        }
    }

    fn write(&self, offset: u64, value: u64) -> Effect {
        match offset {
            0 => self.value.store(value, Ordering::Relaxed),
            10 => self.parts.clock.wake_at(Some(Duration::from_millis(value))),
            _ => _ = self.parts.memory.write(GuestPhysAddr(0x100), &value.to_le_bytes()),
        }
        Effect::None
    }

    fn woken(&self) {
        let times = self.woken.fetch_add(1, Ordering::Relaxed) + 1;
        self.parts.line.set(true);
        if times < 3 {
            self.parts.clock.wake_at(Some(self.parts.clock.now() + Duration::from_millis(1)));
        }
    }
}

#[test]
fn only_accesses_that_the_map_has_come_to_the_device() {
    let bench = Bench::<Probe>::new("first = 0x1_0000_0005").unwrap();
    assert_eq!(Of::<Probe>::SIZE, 48);
    use AccessWidth::{Byte, Dword, Qword, Word};
    for (offset, width, expect) in [
        (0, Dword, Ok(5)),
        (0, Word, Err(Access::BadWidth)),
        (2, Dword, Err(Access::Unaligned)),
        (4, Dword, Err(Access::NoRegister)),
        (8, Word, Ok(0)),
        (10, Byte, Err(Access::WriteOnly)),
        (24, Qword, Ok(24)),
        (40, Qword, Ok(40)),
        (48, Qword, Err(Access::NoRegister)),
        (u64::MAX, Byte, Err(Access::NoRegister)),
    ] {
        assert_eq!(bench.try_read(offset, width), expect, "{offset:#x}");
    }
    assert_eq!(bench.try_write(8, Word, 1), Err(Access::ReadOnly));
    assert_eq!(Probe::REGISTERS[3].name_at(32), "SLOT[2]");
    assert_eq!(Probe::REGISTERS[0].name_at(0), "VALUE");
    bench.write(16, 0x1122);
    assert_eq!(bench.memory().read_obj::<u64>(GuestPhysAddr(0x100)).unwrap(), 0x1122);
}

/// The constants of a kind.
struct Of<D>(std::marker::PhantomData<D>);

impl<D: Device> Of<D> {
    const SIZE: u64 = D::SIZE;
}

#[test]
fn time_passes_as_it_is_told_and_wakes_the_device() {
    let bench = Bench::<Probe>::new("first = 0").unwrap();
    bench.write(10, 5);
    bench.step(Duration::from_micros(4999));
    assert_eq!((bench.read(8), bench.interrupt()), (0, false));
    bench.step(Duration::from_micros(1));
    assert_eq!((bench.read(8), bench.interrupt(), bench.interrupts()), (1, true, 1));
    bench.step(Duration::from_secs(1));
    assert_eq!((bench.read(8), bench.interrupts()), (3, 1), "each in its turn");
}

#[test]
fn on_a_bus_it_has_the_hosts_time() {
    let range = GuestPhysAddrRange::new(GuestPhysAddr(0xd000_0000), 48).unwrap();
    let keys = serde_json::from_str("{\"first\": 1}").unwrap();
    let recipe = Kinds::new().with::<Probe>().recipe("probe", &keys).unwrap().unwrap();
    let (sink, line) = testing::CountingSink::line();
    let memory = Arc::new(crate::addrspace::testing::empty());
    let time = crate::devices::clock::Time::Host;
    let parts = PartsBut { name: "p".to_owned(), line, memory, time };
    let device = recipe.make(range, parts).unwrap();
    assert_eq!((device.name(), device.address_range()), ("p", range));
    device.timer_expired();
    assert_eq!(device.handle_read(8, AccessWidth::Word), Ok(0), "it is not time yet");
    let _ = device.handle_write(10, AccessWidth::Byte, 2).unwrap();
    assert!(crate::devices::clock::testing::expires(device.timer(), 5000));
    device.timer_expired();
    assert_eq!((device.handle_read(8, AccessWidth::Word), sink.take()), (Ok(1), 1));
}

#[test]
fn what_is_wrong_with_keys_has_its_path() {
    let kinds = Kinds::new().with::<Probe>();
    let problem = |keys: &str| {
        let keys = serde_json::from_str(keys).unwrap();
        kinds.recipe("probe", &keys).unwrap().unwrap_err()
    };
    for (keys, path, told) in [
        ("{}", &[][..], "missing field `first`"),
        ("{\"first\": \"x\"}", &["first"], "invalid type: string \"x\", expected u64"),
        ("{\"first\": 1, \"other\": 2}", &["other"], "unknown key"),
        ("{\"first\": 1, \"list\": [{\"flag\": 1}]}", &["list", "0", "flag"], "invalid type"),
        (
            "{\"first\": 1, \"list\": [{\"flag\": true, \"x\": 1}]}",
            &["list", "0", "x"],
            "unknown key",
        ),
    ] {
        let problem = problem(keys);
        assert_eq!(problem.path, path, "{keys}");
        assert!(problem.problem.contains(told), "{keys}: {problem}");
    }
    assert!(kinds.recipe("other", &Keys::new()).is_none());
    let refused = Bench::<Probe>::new("first = 13").err().unwrap();
    assert_eq!(refused, "13 is no number to begin with");
}

/// A kind with this map.
macro_rules! kind {
    ($name:ident, $kind:literal, $map:expr) => {
        struct $name;

        impl Device for $name {
            const KIND: &'static str = $kind;
            const REGISTERS: &'static [Register] = $map;
            type Keys = NoKeys;

            fn new(_: NoKeys, _: Parts) -> Result<Self, String> {
                Ok(Self)
            }

            fn read(&self, _: u64) -> u64 {
                0
            }

            fn write(&self, _: u64, _: u64) -> Effect {
                Effect::None
            }
        }
    };
}

kind!(Empty, "empty", &[]);
kind!(Crooked, "crooked", &[Register::dword("A", 2)]);
kind!(Backwards, "backwards", &[Register::dword("A", 4), Register::dword("B", 0)]);
kind!(Endless, "endless", &[Register::dword("A", 0).times(u64::MAX)]);
kind!(Shouting, "Shouting", &[Register::dword("A", 0)]);
kind!(Plain, "plain", &[Register::dword("A", 0)]);

#[test]
fn a_kind_that_cannot_be_is_told_before_anything_runs() {
    let none = Kinds::new;
    for (kinds, told) in [
        (none().with::<Empty>(), "\"empty\" cannot be used: it has no registers"),
        (none().with::<Plain>().with::<Crooked>(), "A is at 0x2"),
        (none().with::<Backwards>(), "B, at 0x0, does not stand behind"),
        (none().with::<Endless>(), "A ends above 2^64"),
        (none().with::<Shouting>(), "small letters, digits and dashes"),
        (none().with::<Plain>().with::<Plain>(), "there are two of this name"),
    ] {
        let problem = kinds.problem().unwrap();
        assert!(problem.contains(told), "{problem}");
    }
    assert_eq!(none().with::<Plain>().with::<Probe>().problem(), None);
    assert!(Bench::<Crooked>::new("").is_err());
}
