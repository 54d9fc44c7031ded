//! Calls by blocks in memory.

use super::*;
use crate::{
    addrspace::AddrSpace,
    devices::{HypercallOps, doorbell::Doorbell},
    hal::HypercallResult,
};

const BELL: GuestPhysAddr = GuestPhysAddr(0xd000_1000);
/// What the last word of a block is before the call.
const UNANSWERED: u64 = 0x5a5a;

/// Knows call 3, whose answer has all arguments in it, and leaves 1 where the first points.
struct Sums;

impl HypercallOps for Sums {
    fn call(&self, mem: &AddrSpace, nr: u64, args: [u64; 6]) -> Option<HypercallResult> {
        let _ = mem.write(GuestPhysAddr(args[0]), &1_u64.to_le_bytes());
        let value = args.iter().sum();
        (nr == 3).then_some(HypercallResult { value, second: Some(9) })
    }
}

/// Rings for each of these blocks, the first of which is filled.
fn rings(call: [u64; 7], blocks: &[u64]) -> AxVMRef<ScriptedHal> {
    let ring = |block: &u64| {
        let (addr, width) = (BELL, AccessWidth::Qword);
        Step::Exit(Exit::MmioWrite { addr, width, data: *block })
    };
    let script: Vec<_> = blocks.iter().map(ring).chain([Step::Exit(Exit::Halt)]).collect();
    let hal = ScriptedHal::new([script]);
    let mut devices = AxVmDevices::new();
    devices.add_hypercalls(Arc::new(Sums));
    let window = GuestPhysAddrRange::new(BELL, 0x1000).unwrap();
    devices.add_mmio_dev(Arc::new(Doorbell::new(window))).unwrap();
    let vm = build_with(&hal, 1, devices).unwrap();
    let bytes: Vec<_> = call.iter().chain([&UNANSWERED]).flat_map(|w| w.to_le_bytes()).collect();
    vm.address_space().write(GuestPhysAddr(blocks[0] & !7), &bytes).unwrap();
    vm.boot().unwrap();
    assert_eq!(vm.run_vcpu(0).unwrap(), Exit::Halt);
    assert_eq!(asked(&hal), [], "no register has an answer");
    vm
}

fn word(vm: &AxVM<ScriptedHal>, at: u64) -> u64 {
    let mut bytes = [0; 8];
    vm.address_space().read(GuestPhysAddr(at), &mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

#[test]
fn a_block_is_answered_in_its_last_word() {
    let block = RAM.0 + 8;
    let vm = rings([3, RAM.0, 2, 3, 4, 5, 6], &[block]);
    assert_eq!(word(&vm, block + 56), RAM.0 + 20);
    assert_eq!(word(&vm, block + 48), 6);
    assert_eq!(word(&vm, RAM.0), 1);
    // Just at the end.
    let block = RAM.0 + RAM_SIZE - 64;
    assert_eq!(word(&rings([3, 0, 1, 0, 0, 0, 0], &[block]), block + 56), 1);
}

#[test]
fn an_unknown_call_is_answered_as_such() {
    for nr in [4, 3 << 32, u64::MAX] {
        let vm = rings([nr, 0, 0, 0, 0, 0, 0], &[RAM.0]);
        assert_eq!(word(&vm, RAM.0 + 56), u64::MAX);
    }
}

#[test]
fn a_bad_block_is_no_call_and_the_guest_goes_on() {
    let bad = [RAM.0 + 4, RAM.0 + RAM_SIZE - 56, MMIO.0, 0, u64::MAX, u64::MAX - 7];
    for block in bad {
        // Where there is one behind the good one, it must be left alone.
        let vm = rings([3, RAM.0 + 0x100, 0, 0, 0, 0, 0], &[RAM.0 + 0x800, block, block]);
        assert_eq!(word(&vm, RAM.0 + 0x838), RAM.0 + 0x100);
        assert_eq!(word(&vm, RAM.0 + RAM_SIZE - 8), 0);
    }
    // Not aligned, and in memory that the guest may only read: the call is not made.
    for block in [RAM.0 + 0x804, LAZY.0] {
        let vm = rings([3, RAM.0 + 0x100, 0, 0, 0, 0, 0], &[block]);
        let result = word(&vm, (block & !7) + 56);
        assert_eq!((result, word(&vm, RAM.0 + 0x100)), (UNANSWERED, 0), "{block:#x}");
    }
}
