use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::{
    addr::{GuestPhysAddr, GuestPhysAddrRange},
    devices::{AxVmDevices, IrqLine},
};

const BASE: u64 = 0x1000;

/// One register of 8 bytes, and how often it was asked.
#[derive(Default)]
struct Register {
    value: AtomicU64,
    asked: AtomicU64,
}

impl BaseDeviceOps<GuestPhysAddrRange> for Register {
    fn name(&self) -> &str {
        "register"
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        GuestPhysAddrRange::new(GuestPhysAddr(BASE), 16).unwrap()
    }

    fn parts(&self) -> Vec<String> {
        vec!["upper".to_owned()]
    }

    fn part_at(&self, offset: u64) -> Option<usize> {
        (offset >= 8).then_some(0)
    }

    fn handle_read(&self, _: u64, _: AccessWidth) -> Result<u64, Access> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(self.value.load(Ordering::Relaxed))
    }

    fn handle_write(&self, _: u64, _: AccessWidth, val: u64) -> Result<Effect, Access> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.value.store(val, Ordering::Relaxed);
        Ok(Effect::None)
    }
}

fn fault(device: &str, action: FaultAction, when: FaultWhen) -> FaultConfig {
    FaultConfig {
        device: device.to_owned(),
        addresses: None,
        access: FaultAccess::Any,
        action,
        when,
    }
}

/// A bus with the register, which has these faults.
fn bus(faults: &[FaultConfig]) -> (AxVmDevices, Arc<Register>) {
    let (mut devices, register) = (AxVmDevices::new(), Arc::<Register>::default());
    devices.add_mmio_dev(register.clone()).unwrap();
    let faults: Vec<_> = faults.iter().cloned().map(Fault::new).collect();
    devices.interpose(&faults);
    (devices, register)
}

fn read(devices: &AxVmDevices, addr: u64) -> u64 {
    devices.handle_mmio_read(GuestPhysAddr(addr), AccessWidth::Dword)
}

fn write(devices: &AxVmDevices, addr: u64, value: u64) {
    let _ = devices.handle_mmio_write(GuestPhysAddr(addr), AccessWidth::Dword, value);
}

#[test]
fn what_fails_does_not_reach_the_device() {
    let (devices, register) = bus(&[fault("register", FaultAction::Fail, FaultWhen::Nth(2))]);
    write(&devices, BASE, 5);
    write(&devices, BASE, 6);
    assert_eq!((read(&devices, BASE), register.asked.load(Ordering::Relaxed)), (5, 2));
    let reads = FaultConfig {
        access: FaultAccess::Read,
        ..fault("register", FaultAction::Fail, FaultWhen::Always)
    };
    let (devices, register) = bus(&[reads]);
    write(&devices, BASE, 5);
    assert_eq!(read(&devices, BASE), 0xffff_ffff);
    assert_eq!(register.value.load(Ordering::Relaxed), 5);
    assert_eq!(devices.unowned().reads, 1, "it is counted");
}

#[test]
fn bits_are_those_that_are_given_and_the_width_stays() {
    let bits = |value, mask| FaultAction::Bits { value, mask };
    let (devices, _) = bus(&[
        fault("register", bits(0xf0, 0xf0), FaultWhen::Always),
        fault("register", bits(0, 0x10), FaultWhen::Always),
    ]);
    write(&devices, BASE, 0x1_0000);
    assert_eq!(read(&devices, BASE), 0x1_00e0);
    let (devices, register) =
        bus(&[fault("register", bits(u64::MAX, u64::MAX), FaultWhen::Always)]);
    write(&devices, BASE, 0);
    assert_eq!(register.value.load(Ordering::Relaxed), 0xffff_ffff);
}

#[test]
fn a_fault_is_at_its_addresses_and_of_its_part() {
    let at = |first, last| FaultConfig {
        addresses: Some((first, last)),
        ..fault("register", FaultAction::Fail, FaultWhen::Always)
    };
    let (devices, _) = bus(&[at(BASE + 4, BASE + 7)]);
    let failed = |addr| read(&devices, addr) == 0xffff_ffff;
    assert_eq!([BASE, BASE + 4, BASE + 7, BASE + 8].map(failed), [false, true, true, false]);
    let (devices, _) = bus(&[fault("upper", FaultAction::Fail, FaultWhen::Always)]);
    let failed = |addr| read(&devices, addr) == 0xffff_ffff;
    assert_eq!([BASE, BASE + 8].map(failed), [false, true]);
}

#[test]
fn times_are_counted_for_each_fault_and_chance_repeats_itself() {
    let failures = |when| {
        let (devices, _) = bus(&[fault("register", FaultAction::Fail, when)]);
        (1..=1000_u64).filter(|_| read(&devices, BASE) != 0).collect::<Vec<_>>()
    };
    assert_eq!(failures(FaultWhen::Always).len(), 1000);
    assert_eq!(failures(FaultWhen::Nth(7)), [7]);
    assert_eq!(failures(FaultWhen::Every(300)), [300, 600, 900]);
    let one_in = |times, seed| failures(FaultWhen::OneIn { times, seed });
    let some = one_in(10, 1);
    assert!((50..200).contains(&some.len()), "{}", some.len());
    assert_eq!(some, one_in(10, 1));
    assert_ne!(some, one_in(10, 2));
    assert_eq!(one_in(1, 3).len(), 1000);
}

#[derive(Default)]
struct Lines(Mutex<Vec<(u32, bool)>>);

impl IrqSink for Lines {
    fn set_irq(&self, irq: u32, high: bool) {
        self.0.lock().push((irq, high));
    }
}

#[test]
fn an_interrupt_that_is_lost_does_not_come_and_the_next_one_does() {
    let lines = Arc::<Lines>::default();
    let loss = Fault::new(fault("any", FaultAction::LoseInterrupt, FaultWhen::Nth(1)));
    let losing: Arc<dyn IrqSink> = Arc::new(Losing::<dyn IrqSink>::new(lines.clone(), vec![loss]));
    let line = IrqLine::new(losing, 4);
    for _ in 0..2 {
        line.set(true);
        line.set(false);
    }
    line.pulse();
    let came = std::mem::take(&mut *lines.0.lock());
    assert_eq!(came, [(4, false), (4, true), (4, false), (4, true), (4, false)]);
}
