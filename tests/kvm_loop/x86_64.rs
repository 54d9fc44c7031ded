//! The guests of `kvm_loop` in x86_64's code, and what only x86_64 has.

use std::sync::Arc;

use axvmm::{
    addr::{AccessWidth, GuestPhysAddr, Port, PortRange},
    devices::AxVmDevices,
    hal::{DescriptorTable, EntryMode, VCpuSetup},
    vm::StopReason,
};

use super::{Fixture, Wants, fixture, fixture_with, run};

pub const RAM: GuestPhysAddr = GuestPhysAddr(0);
pub const CODE: GuestPhysAddr = GuestPhysAddr(0x8000);
pub const SUSPENDER: GuestPhysAddr = GuestPhysAddr(0xb_0000);
/// A vector.
pub const INTERRUPT: usize = 0x30;
/// The register that [`suspends`] reads into.
pub const LOADS_INTO: &str = "RAX";

pub type Counter = super::Counter<PortRange>;

pub fn add_counter(devices: &mut AxVmDevices) -> Arc<Counter> {
    let counter = Arc::new(Counter::new(PortRange::new(Port(0x10), 8).unwrap()));
    devices.add_port_dev(counter.clone()).unwrap();
    counter
}

pub fn spins() -> &'static [u8] {
    &[0xeb, 0xfe] // jmp $
}

/// Reads the suspender, tells the counter, and powers off.
#[rustfmt::skip]
pub fn suspends() -> &'static [u8] {
    &[
        0xb8, 0x00, 0xb0,       // mov ax, 0xb000
        0x8e, 0xd8,             // mov ds, ax
        0xa0, 0x00, 0x00,       // mov al, [0]: the suspender
        0xe6, 0x10,             // out 0x10, al
        0xb0, 0xff, 0xe6, 0x10, // power off
    ]
}

/// A guest that tells the counter when it is ready, halts, and powers off when it is interrupted.
pub fn halts_until_interrupted() -> Fixture {
    let gdt = DescriptorTable { base: GuestPhysAddr(0x500), limit: 0x1f };
    let setup = VCpuSetup { mode: EntryMode::Protected32 { gdt }, gprs: vec![(4, 0x7000)] };
    #[rustfmt::skip]
    let code = [
        0x0f, 0x01, 0x1d, 0x00, 0x06, 0x00, 0x00,                   // lidt [0x600]
        0xc7, 0x05, 0xf0, 0x00, 0xe0, 0xfe, 0xff, 0x01, 0x00, 0x00, // enable the local APIC
        0xb0, 0x01, 0xe6, 0x10,                                     // out 0x10, 1: ready
        0xfb, 0xf4, 0xeb, 0xfd,                                     // sti; hlt, again and again
    ];
    let fixture = fixture_with(&code, Wants { setup, ..Wants::default() });
    let memory = fixture.vm.address_space();
    let write = |at, bytes: &[u8]| memory.write(GuestPhysAddr(at), bytes).unwrap();
    write(0x510, &0x00cf_9b00_0000_ffff_u64.to_le_bytes()); // flat code
    write(0x518, &0x00cf_9300_0000_ffff_u64.to_le_bytes()); // flat data
    write(0x600, &[0xff, 0x07, 0x00, 0x10, 0, 0]); // 256 gates at 0x1000
    write(0x1000 + 8 * 0x30, &0x0000_8e00_0010_9000_u64.to_le_bytes());
    write(0x9000, &[0xb0, 0xff, 0xe6, 0x10]); // power off
    fixture
}

#[test]
fn a_port_read_leaves_the_rest_of_the_register_alone() {
    #[rustfmt::skip]
    let fixture = fixture(&[
        0x66, 0xb8, 0x44, 0x33, 0x22, 0x11, // mov eax, 0x11223344
        0xe4, 0x10,                         // in al, 0x10
        0x66, 0xe7, 0x10,                   // out 0x10, eax
        0xe5, 0x10,                         // in ax, 0x10
        0x66, 0xe7, 0x10,                   // out 0x10, eax
        0xb0, 0xff, 0xe6, 0x10,             // power off
    ]);
    assert_eq!(run(&fixture).exit_status(), 0);
    let written = fixture.counter.written();
    let dword = AccessWidth::Dword;
    assert_eq!(written[..2], [(dword, 0x1122_3301), (dword, 0x1122_0002)]);
}

#[test]
fn string_instructions_reach_the_device_element_by_element() {
    #[rustfmt::skip]
    let fixture = fixture(&[
        0xba, 0x10, 0x00,       // mov dx, 0x10
        0xbf, 0x00, 0x90,       // mov di, 0x9000
        0xb9, 0x03, 0x00,       // mov cx, 3
        0xf3, 0x6d,             // rep insw
        0xbe, 0x00, 0x90,       // mov si, 0x9000
        0xb9, 0x06, 0x00,       // mov cx, 6
        0xf3, 0x6e,             // rep outsb
        0xb0, 0xff, 0xee,       // power off
    ]);
    assert_eq!(run(&fixture).exit_status(), 0);
    assert_eq!(fixture.counter.values(), [1, 0, 2, 0, 3, 0, 0xff]);
}

#[test]
fn a_vector_that_does_not_exist_is_refused() {
    let fixture = fixture(&[0xf4]);
    assert!(fixture.vm.inject_interrupt_to_vcpu([0], 3).is_err());
    assert!(fixture.vm.inject_interrupt_to_vcpu([0], 256).is_err());
    assert!(fixture.vm.stop(StopReason::Shutdown));
}
