use std::sync::Arc;

use super::*;
use crate::{
    addr::{GuestPhysAddrRange, MappingFlags},
    addrspace::AddrSpace,
    devices::{HyperCallCode as Code, HypercallOps, IvcWindow},
    hal::{HalResult, HypercallResult, IrqSink, MemorySlots},
};

const RAM: u64 = 0x10_0000;
const WINDOW: u64 = 0x20_0000;
const WINDOW_SIZE: u64 = 0x10_0000;
/// Where the calls leave address and size.
const BASE_PTR: u64 = RAM + 0x100;
const SIZE_PTR: u64 = RAM + 0x108;
const RW: MappingFlags = MappingFlags::READ.union(MappingFlags::WRITE);

/// Slots and lines that are counted.
#[derive(Default)]
struct Hardware {
    slots: Mutex<Vec<u32>>,
    pulses: Mutex<Vec<u32>>,
}

impl MemorySlots for Hardware {
    fn map_memory(
        &self,
        slot: u32,
        _: &Arc<vm_memory::GuestRegionMmap>,
        _: GuestPhysAddrRange,
        _: MappingFlags,
    ) -> HalResult {
        self.slots.lock().push(slot);
        Ok(())
    }

    fn unmap_memory(&self, slot: u32) -> HalResult {
        self.slots.lock().retain(|other| *other != slot);
        Ok(())
    }
}

impl IrqSink for Hardware {
    fn set_irq(&self, irq: u32, high: bool) {
        if high {
            self.pulses.lock().push(irq);
        }
    }
}

/// A VM as far as channels need one.
struct Vm {
    endpoint: IvcEndpoint,
    mem: AddrSpace,
    hardware: Arc<Hardware>,
}

impl Vm {
    fn new(hub: &Arc<IvcHub>, id: VMId, rights: MappingFlags) -> Self {
        let hardware = Arc::new(Hardware::default());
        let mem = AddrSpace::new_empty(hardware.clone());
        mem.map_alloc(GuestPhysAddr(RAM), 0x1000, RW, true).unwrap();
        let range = GuestPhysAddrRange::new(GuestPhysAddr(WINDOW), WINDOW_SIZE).unwrap();
        let window = Arc::new(IvcWindow::new(range).unwrap());
        let line = IrqLine::new(hardware.clone(), 40 + id as u32);
        Self { endpoint: IvcEndpoint::new(hub.clone(), id, window, line, rights), mem, hardware }
    }

    /// Whether the call succeeds.
    #[track_caller]
    fn call(&self, code: Code, args: &[u64]) -> bool {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        match self.endpoint.call(&self.mem, code as u64, all).unwrap() {
            HypercallResult::SUCCESS => true,
            HypercallResult::FAILURE => false,
            other => panic!("{other:?}"),
        }
    }

    fn publish(&self, key: u64, size: u64, rights: u64) -> bool {
        self.mem.write(GuestPhysAddr(SIZE_PTR), &size.to_le_bytes()).unwrap();
        self.call(Code::HIVCPublishChannel, &[key, BASE_PTR, SIZE_PTR, rights])
    }

    fn subscribe(&self, publisher: u64, key: u64) -> bool {
        self.call(Code::HIVCSubscribChannel, &[publisher, key, BASE_PTR, SIZE_PTR])
    }

    /// Where the last call has put the channel, and how large it is.
    fn told(&self) -> (GuestPhysAddr, u64) {
        let word = |at| self.mem.read_obj::<u64>(GuestPhysAddr(at)).unwrap();
        (GuestPhysAddr(word(BASE_PTR)), word(SIZE_PTR))
    }

    fn slots(&self) -> usize {
        self.hardware.slots.lock().len()
    }

    fn pulses(&self) -> Vec<u32> {
        self.hardware.pulses.lock().clone()
    }
}

fn two() -> (Arc<IvcHub>, Vm, Vm) {
    let hub = Arc::new(IvcHub::default());
    let (one, two) = (Vm::new(&hub, 1, RW), Vm::new(&hub, 2, RW));
    (hub, one, two)
}

#[test]
fn a_channel_is_the_same_memory_on_both_sides() {
    let (_hub, one, two) = two();
    assert!(one.publish(0x11, 0x5001, 0));
    assert!(two.subscribe(1, 0x11));
    let ((here, size), (there, same)) = (one.told(), two.told());
    assert_eq!((size, same), (0x6000, 0x6000));
    assert_eq!(two.mem.read_obj::<[u64; 2]>(there).unwrap(), [1, 0x11], "the header");
    let last = |gpa: GuestPhysAddr| GuestPhysAddr(gpa.0 + size - 8);
    one.mem.write_obj(last(here), &7u64).unwrap();
    assert_eq!(two.mem.read_obj::<u64>(last(there)).unwrap(), 7);
    two.mem.write_obj(last(there), &8u64).unwrap();
    assert_eq!(one.mem.read_obj::<u64>(last(here)).unwrap(), 8);
}

#[test]
fn rights_are_those_that_were_declared() {
    let hub = Arc::new(IvcHub::default());
    let (one, two) = (Vm::new(&hub, 1, RW), Vm::new(&hub, 2, RW));
    let reader = Vm::new(&hub, 3, MappingFlags::READ);
    assert!(one.publish(1, 0x1000, 1) && one.publish(2, 0x1000, 0));
    assert!(two.subscribe(1, 1), "the publisher lets it read");
    let (gpa, size) = two.told();
    assert!(two.mem.allows(gpa, size, MappingFlags::READ));
    assert!(!two.mem.allows(gpa, 1, MappingFlags::WRITE));
    assert!(reader.subscribe(1, 2), "its configuration lets it read");
    let (gpa, size) = reader.told();
    assert!(reader.mem.allows(gpa, size, MappingFlags::READ));
    assert!(!reader.mem.allows(gpa, 1, MappingFlags::WRITE));
    assert!(!reader.publish(3, 0x1000, 0));
    assert!(!one.publish(3, 0x1000, 2), "there are no such rights");
    assert_eq!(hub.len(), 2);
}

#[test]
fn all_others_are_told_and_only_members_tell() {
    let (hub, one, two) = two();
    let three = Vm::new(&hub, 3, RW);
    assert!(one.publish(5, 1, 0) && two.subscribe(1, 5));
    let notify = |vm: &Vm| vm.call(Code::HIVCNotify, &[1, 5]);
    assert!(!notify(&three));
    assert!(three.subscribe(1, 5));
    assert!(notify(&one) && notify(&three));
    assert_eq!((one.pulses(), two.pulses(), three.pulses()), (vec![41], vec![42, 42], vec![43]));
    assert!(two.call(Code::HIVCUnSubscribChannel, &[1, 5]));
    assert!(notify(&one) && !notify(&two));
    assert_eq!(two.pulses().len(), 2);
}

#[test]
fn what_is_given_back_is_gone_and_can_be_had_again() {
    let (hub, one, two) = two();
    for _ in 0..1000 {
        assert!(one.publish(9, WINDOW_SIZE, 0), "all of the window, again and again");
        assert!(two.subscribe(1, 9));
        let (gpa, _) = two.told();
        assert!(!one.call(Code::HIVCUnSubscribChannel, &[1, 9]), "its own");
        assert!(two.call(Code::HIVCUnSubscribChannel, &[1, 9]));
        assert!(!two.mem.contains(gpa));
        assert!(!two.call(Code::HIVCUnSubscribChannel, &[1, 9]));
        assert!(one.call(Code::HIVCUnPublishChannel, &[9]));
        assert!(!one.call(Code::HIVCUnPublishChannel, &[9]));
    }
    assert_eq!((hub.len(), one.slots(), two.slots()), (0, 1, 1));
}

#[test]
fn subscribers_keep_what_the_publisher_has_left() {
    let (hub, one, two) = two();
    assert!(one.publish(9, 1, 0) && two.subscribe(1, 9));
    let (gpa, _) = two.told();
    two.mem.write_obj(GuestPhysAddr(gpa.0 + 16), &3u64).unwrap();
    drop(one);
    assert_eq!(two.mem.read_obj::<u64>(GuestPhysAddr(gpa.0 + 16)).unwrap(), 3);
    // It comes back, as after a reset, and publishes another.
    let one = Vm::new(&hub, 1, RW);
    assert!(one.publish(9, 1, 0));
    assert_eq!(hub.len(), 2);
    assert!(!two.subscribe(1, 9), "it has the old one");
    assert!(two.call(Code::HIVCNotify, &[1, 9]));
    assert!(one.pulses().is_empty(), "which nobody else has");
    assert!(two.call(Code::HIVCUnSubscribChannel, &[1, 9]));
    assert!(two.subscribe(1, 9));
    assert_eq!(two.mem.read_obj::<u64>(GuestPhysAddr(two.told().0.0 + 16)).unwrap(), 0);
    assert_eq!(hub.len(), 1);
    drop((one, two));
    assert!(hub.is_empty());
}

#[test]
fn wrong_calls_fail_and_leave_nothing_behind() {
    let (hub, one, two) = two();
    assert!(one.publish(1, 0x1000, 0));
    for size in [0, WINDOW_SIZE, WINDOW_SIZE + 1, u64::MAX] {
        assert!(!one.publish(2, size, 0), "{size:#x}");
    }
    assert!(!one.publish(1, 0x1000, 0), "the key is taken");
    for (publisher, key) in [(1, 2), (2, 1), (0, 1), (u64::MAX, 1), (1, u64::MAX)] {
        assert!(!two.subscribe(publisher, key), "{publisher} {key}");
    }
    let beyond = WINDOW + WINDOW_SIZE;
    for bad in [0, BASE_PTR + 4, RAM + 0x1000 - 4, beyond, u64::MAX, u64::MAX - 7] {
        one.mem.write(GuestPhysAddr(SIZE_PTR), &1u64.to_le_bytes()).unwrap();
        for pointers in [[bad, SIZE_PTR], [BASE_PTR, bad]] {
            let [base, size] = pointers;
            assert!(!one.call(Code::HIVCPublishChannel, &[2, base, size, 0]), "{pointers:x?}");
            assert!(!two.call(Code::HIVCSubscribChannel, &[1, 1, base, size]), "{pointers:x?}");
        }
    }
    assert_eq!((hub.len(), one.slots(), two.slots()), (1, 2, 1));
    assert!(two.subscribe(1, 1) && !two.subscribe(1, 1) && !one.subscribe(1, 1));
    assert!(one.endpoint.call(&one.mem, Code::HyperVisorDebug as u64, [0; 6]).is_none());
    assert!(one.endpoint.call(&one.mem, 8, [0; 6]).is_none());
}

#[test]
fn a_vm_has_a_bounded_number_of_channels() {
    let (hub, one, two) = two();
    for key in 0..MOST_CHANNELS as u64 {
        assert!(one.publish(key, 1, 0) && two.subscribe(1, key));
    }
    assert!(!one.publish(u64::MAX, 1, 0));
    assert!(!one.publish(u64::MAX, 1, 0) && !two.publish(1, 1, 0));
    assert_eq!((hub.len(), one.slots()), (MOST_CHANNELS, 1 + MOST_CHANNELS));
}

#[test]
fn many_vcpus_may_call_at_once() {
    let (hub, one, two) = two();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (one, two) = (&one, &two);
            scope.spawn(move || {
                // The words for address and size are the threads' own.
                let base = RAM + 0x200 + thread * 16;
                for _ in 0..200 {
                    one.mem.write(GuestPhysAddr(base + 8), &1u64.to_le_bytes()).unwrap();
                    assert!(one.call(Code::HIVCPublishChannel, &[thread, base, base + 8, 0]));
                    assert!(two.call(Code::HIVCSubscribChannel, &[1, thread, base, base + 8]));
                    assert!(two.call(Code::HIVCNotify, &[1, thread]));
                    assert!(one.call(Code::HIVCUnPublishChannel, &[thread]));
                    assert!(two.call(Code::HIVCUnSubscribChannel, &[1, thread]));
                }
            });
        }
    });
    assert_eq!((hub.len(), one.slots(), two.slots()), (0, 1, 1));
    assert_eq!(one.pulses().len(), 800);
}
