//! The guests of `kvm_loop` in x86_64's code, and what only x86_64 has.

use std::sync::{Arc, Mutex};

use axvmm::{
    addr::{AccessWidth, GuestPhysAddr, Port, PortRange, SysRegAddr, SysRegAddrRange},
    devices::{Access, AxVmDevices, BaseDeviceOps, Effect},
    hal::{DescriptorTable, EntryMode, Msi, MsiSink, VCpuSetup},
    vm::{StopReason, VCpuThreads},
};
use vmm_sys_util::eventfd::EventFd;

use super::{Fixture, Wants, fixture, fixture_with, run, wait_until};

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

/// Two registers: one keeps what is written, the other refuses to be read.
struct Msrs(Mutex<u64>);

const MSRS: SysRegAddr = SysRegAddr(0x5000_0000);

impl BaseDeviceOps<SysRegAddrRange> for Msrs {
    fn name(&self) -> &str {
        "msrs"
    }

    fn address_range(&self) -> SysRegAddrRange {
        SysRegAddrRange::inclusive(MSRS, SysRegAddr(MSRS.0 + 1)).unwrap()
    }

    fn handle_read(&self, offset: u64, width: AccessWidth) -> Result<u64, Access> {
        assert_eq!(width, AccessWidth::Qword);
        if offset == 0 { Ok(*self.0.lock().unwrap()) } else { Err(Access::WriteOnly) }
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        assert_eq!((offset, width), (0, AccessWidth::Qword));
        *self.0.lock().unwrap() = val;
        Ok(Effect::None)
    }
}

/// EDX:EAX whole, both ways, and #GP for what is refused.
#[test]
fn msrs_of_devices_exit() {
    #[rustfmt::skip]
    let code = [
        0x66, 0xb9, 0x00, 0x00, 0x00, 0x50, // mov ecx, 0x50000000
        0x66, 0xb8, 0x88, 0x77, 0x66, 0x55, // mov eax, 0x55667788
        0x66, 0xba, 0x44, 0x33, 0x22, 0x11, // mov edx, 0x11223344
        0x0f, 0x30,                         // wrmsr
        0x66, 0x31, 0xc0, 0x66, 0x31, 0xd2, // xor eax, eax; xor edx, edx
        0x0f, 0x32,                         // rdmsr
        0x66, 0xe7, 0x10,                   // out 0x10, eax
        0x66, 0x89, 0xd0, 0x66, 0xe7, 0x10, // mov eax, edx; out 0x10, eax
        0x66, 0x41,                         // inc ecx
        0x0f, 0x32,                         // rdmsr: refused
        0xf4,                               // hlt
    ];
    let mut devices = AxVmDevices::new();
    let msrs = Arc::new(Msrs(Mutex::default()));
    devices.add_sys_reg_dev(msrs.clone()).unwrap();
    let fixture = fixture_with(&code, Wants { devices, ..Wants::default() });
    let memory = fixture.vm.address_space();
    // The handler of #GP, which tells the counter its vector and powers off.
    memory.write(GuestPhysAddr(13 * 4), &[0x00, 0x90, 0x00, 0x00]).unwrap();
    let handler = [0xb0, 0x0d, 0xe6, 0x10, 0xb0, 0xff, 0xe6, 0x10];
    memory.write(GuestPhysAddr(0x9000), &handler).unwrap();
    assert_eq!(run(&fixture).exit_status(), 0);
    assert_eq!(*msrs.0.lock().unwrap(), 0x1122_3344_5566_7788);
    assert_eq!(fixture.counter.values(), [0x5566_7788, 0x1122_3344, 0x0d, 0xff]);
    let exits = fixture.vm.stats()[0].counts();
    let of = |name| exits.iter().find(|(reason, _)| *reason == name).map(|(_, count)| count);
    assert_eq!((of("SysRegRead"), of("SysRegWrite")), (Some(2), Some(1)));
}

/// All vCPUs tell the counter that they are ready, and halt; an interrupt makes one tell its id
/// with 0x30 added. By x2APIC registers, which real mode can reach.
#[rustfmt::skip]
fn tells_who_is_interrupted(cpus: usize) -> Fixture {
    let code = [
        0x66, 0xb9, 0x1b, 0x00, 0x00, 0x00,       // mov ecx, IA32_APIC_BASE
        0x0f, 0x32,                               // rdmsr
        0x66, 0x0d, 0x00, 0x0c, 0x00, 0x00,       // or eax, enabled | x2APIC
        0x0f, 0x30,                               // wrmsr
        0x66, 0x89, 0xc3,                         // mov ebx, eax
        0x66, 0xb9, 0x02, 0x08, 0x00, 0x00,       // mov ecx, the id's register
        0x0f, 0x32,                               // rdmsr
        0xc1, 0xe0, 0x08, 0x05, 0x00, 0xa0,       // shl ax, 8; add ax, 0xa000
        0x89, 0xc4,                               // mov sp, ax: a stack of its own
        0x66, 0xb9, 0x0f, 0x08, 0x00, 0x00,       // mov ecx, spurious vector
        0x66, 0xb8, 0xff, 0x01, 0x00, 0x00,       // mov eax, enabled | 0xff
        0x66, 0x31, 0xd2, 0x0f, 0x30,             // xor edx, edx; wrmsr
        0x66, 0xf7, 0xc3, 0x00, 0x01, 0x00, 0x00, // test ebx, boot processor
        0x74, 0x16,                               // jz ready
        0x66, 0xb9, 0x30, 0x08, 0x00, 0x00,       // mov ecx, interrupt command
        0x66, 0xb8, 0x00, 0x45, 0x0c, 0x00,       // mov eax, INIT to all others
        0x0f, 0x30,                               // wrmsr
        0x66, 0xb8, 0x08, 0x46, 0x0c, 0x00,       // mov eax, start all others at 0x8000
        0x0f, 0x30,                               // wrmsr
        0xb0, 0x01, 0xe6, 0x10,                   // ready: out 0x10, 1
        0xfb, 0xf4, 0xeb, 0xfc,                   // sti; hlt, again and again
    ];
    let handler = [
        0x66, 0xb9, 0x02, 0x08, 0x00, 0x00, 0x0f, 0x32, // the id to eax
        0x04, 0x30, 0xe6, 0x10,                         // add al, 0x30; out 0x10, al
        0x66, 0xb9, 0x0b, 0x08, 0x00, 0x00,             // mov ecx, end of interrupt
        0x66, 0x31, 0xc0, 0x66, 0x31, 0xd2, 0x0f, 0x30, // wrmsr 0
        0xcf,                                           // iret
    ];
    let fixture = fixture_with(&code, Wants { cpus, ..Wants::default() });
    let memory = fixture.vm.address_space();
    let vector = GuestPhysAddr(INTERRUPT as u64 * 4);
    memory.write(vector, &[0x00, 0x90, 0x00, 0x00]).unwrap();
    memory.write(GuestPhysAddr(0x9000), &handler).unwrap();
    fixture
}

#[test]
fn interrupts_reach_just_the_vcpus_that_they_are_for() {
    let fixture = tells_who_is_interrupted(4);
    let threads = VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
    fixture.vm.boot().unwrap();
    let told = |since: usize, count: usize| {
        wait_until("told", || fixture.counter.values().len() >= since + count);
        let mut values = fixture.counter.values()[since..].to_vec();
        values.sort_unstable();
        values
    };
    assert_eq!(told(0, 4), [1; 4], "all are ready");
    fixture.vm.inject_interrupt_to_vcpu([1, 3], INTERRUPT).unwrap();
    assert_eq!(told(4, 2), [0x31, 0x33]);
    // One that does not exist: nobody is interrupted. The next interrupt comes after that.
    assert!(fixture.vm.inject_interrupt_to_vcpu([0, 1, 64], INTERRUPT).is_err());
    fixture.vm.inject_interrupt_to_vcpu(0..4, INTERRUPT).unwrap();
    assert_eq!(told(6, 4), [0x30, 0x31, 0x32, 0x33]);
    // A message to one of them (Intel SDM vol. 3, 12.11).
    let to = |vcpu: u64| {
        let addr = GuestPhysAddr(0xfee0_0000 | vcpu << 12);
        Msi { addr, data: INTERRUPT as u32, requester: 0 }
    };
    let hal = fixture.vm.hal();
    hal.signal_msi(to(2)).unwrap();
    assert_eq!(told(10, 1), [0x32]);
    // By eventfds, each on a way of its own.
    let (one, other) = (EventFd::new(0).unwrap(), EventFd::new(0).unwrap());
    let (first, second) = (hal.add_msi_route().unwrap(), hal.add_msi_route().unwrap());
    hal.connect_msi(first, &one, to(1)).unwrap();
    hal.connect_msi(second, &other, to(3)).unwrap();
    one.write(1).unwrap();
    assert_eq!(told(11, 1), [0x31]);
    other.write(1).unwrap();
    assert_eq!(told(12, 1), [0x33]);
    // What comes meanwhile is kept, and goes where the new message says.
    hal.disconnect_msi(first, &one).unwrap();
    one.write(1).unwrap();
    other.write(1).unwrap();
    assert_eq!(told(13, 1), [0x33]);
    hal.connect_msi(first, &one, to(0)).unwrap();
    assert_eq!(told(14, 1), [0x30]);
    fixture.vm.stop(StopReason::Shutdown);
    assert_eq!(threads.join().exit_status(), 0);
    assert_eq!(fixture.counter.values().len(), 15);
}
