//! Calls by blocks in memory.

use axvmm::{
    addr::{AccessWidth, GuestPhysAddr},
    hal::AxVMHal,
    scripted::{ScriptedHal, Step},
    vm::{AxVM, AxVMRef},
};

use crate::fixture::*;

/// What the last word of a block is before the call.
const UNANSWERED: u64 = 0x5a5a;
const UNKNOWN: u64 = ScriptedHal::UNKNOWN_HYPERCALL;

/// Rings for each of these blocks, the first of which is filled.
fn rings(call: [u64; 7], blocks: &[u64]) -> AxVMRef<ScriptedHal> {
    let ring = |block: &u64| Step::Exit(store(BELL, AccessWidth::Qword, *block));
    let script: Vec<_> = blocks.iter().map(ring).chain([Step::Exit(Exit::Halt)]).collect();
    let fixture = booted([script]);
    let bytes: Vec<_> = call.iter().chain([&UNANSWERED]).flat_map(|w| w.to_le_bytes()).collect();
    fixture.vm.address_space().write(GuestPhysAddr(blocks[0] & !7), &bytes).unwrap();
    assert_eq!(fixture.vm.run_vcpu(0).unwrap(), Exit::Halt);
    assert_eq!(fixture.asked(), [], "no register has an answer");
    fixture.vm
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
        assert_eq!(word(&vm, RAM.0 + 56), UNKNOWN);
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
