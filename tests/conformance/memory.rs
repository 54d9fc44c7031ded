//! Accesses to memory, by the guest and from outside.

use std::sync::Arc;

use axvmm::{
    addr::{AccessWidth, DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange, MappingFlags},
    addrspace::SharedMemory,
    devices::{AxVmDevices, IvcWindow},
    scripted::{Call, ScriptedHal, Step},
    vm::Error,
};

use crate::fixture::*;

#[test]
fn a_page_fault_in_lazy_memory_is_settled_once() {
    let fault = Exit::NestedPageFault { addr: LAZY, access_flags: MappingFlags::READ };
    let fixture = check_settled(fault, &[]);
    let range = GuestPhysAddrRange::new(LAZY, 0x1000).unwrap();
    let maps = |call: &Call| matches!(call, Call::Map { range: of, .. } if *of == range);
    assert_eq!(fixture.hal.calls().iter().filter(|call| maps(call)).count(), 1);
}

#[test]
fn an_access_that_could_not_be_made_is_tried_again_with_all_memory() {
    let unemulated = || Step::Unemulated("no such instruction".to_owned());
    let fixture = booted([vec![unemulated(), Step::Exit(Exit::Halt)]]);
    assert_eq!(fixture.vm.run_vcpu(0).unwrap(), Exit::Halt);
    assert!(fixture.vm.address_space().memory_areas().iter().all(|area| area.given == area.size));
}

#[test]
fn accesses_to_memory_are_page_faults_whatever_the_hardware_calls_them() {
    let (addr, width, reg_width) = (LAZY, AccessWidth::Dword, AccessWidth::Qword);
    // The first touch finds what was loaded there.
    let fixture = booted([vec![
        Step::Exit(Exit::MmioRead { addr, width, reg: 5, reg_width, signed_ext: true }),
        Step::Exit(store(addr, width, 1)),
    ]]);
    fixture.vm.address_space().write(LAZY, &0xffff_fffeu32.to_le_bytes()).unwrap();
    let reason = fixture.vm.run_vcpu(0).unwrap();
    assert_eq!(fixture.asked(), [gpr(5, 0xffff_ffff_ffff_fffe)]);
    // Its flags forbid the write.
    let access_flags = MappingFlags::WRITE;
    assert_eq!(reason, Exit::NestedPageFault { addr, access_flags });
    assert_eq!(fixture.vm.read_from_guest_of::<u32>(LAZY).unwrap(), 0xffff_fffe);
    assert_eq!(fixture.vm.get_devices().unowned(), Default::default());
    let counts = fixture.vm.stats()[0].counts();
    assert_eq!(counts.iter().collect::<Vec<_>>(), [("NestedPageFault", 2)]);
}

#[test]
fn memory_comes_and_goes_while_the_guest_runs() {
    let memory = SharedMemory::new(0x1000).unwrap();
    let free = GuestPhysAddr(0x7000_0000);
    let vm = fixture([vec![]]).vm;
    vm.map_region(free, &memory, MappingFlags::READ).unwrap();
    assert!(vm.write_to_guest_of(free, &1u8).is_err(), "it may only be read");
    for taken in [RAM, LAZY, MMIO, GuestPhysAddr(free.0 + 1)] {
        assert!(vm.map_region(taken, &memory, MappingFlags::READ).is_err(), "{taken}");
    }
    vm.unmap_region(free, 0x1000).unwrap();
    assert!(vm.unmap_region(free, 0x1000).is_err());
    assert!(vm.read_from_guest_of::<u8>(free).is_err());
}

#[test]
fn a_device_in_memory_is_refused_naming_both() {
    let mut devices = devices(&Written::default());
    let first = GuestPhysAddr(RAM.0 + RAM_SIZE - 4);
    devices.add_mmio_dev(register_at(GuestPhysAddrRange::new(first, 8).unwrap())).unwrap();
    let error = build(&ScriptedHal::new([vec![]]), cpus(1), devices).unwrap_err();
    let Error::Overlap(error) = error else { panic!("{error}") };
    assert_eq!((error.new.as_str(), error.old.as_str()), ("register", "guest memory"));
}

#[test]
fn channels_have_addresses_where_there_is_a_window() {
    let without = fixture([vec![]]).vm;
    assert!(without.alloc_ivc_channel(1).is_err() && without.release_ivc_channel(RAM, 1).is_err());
    let range = GuestPhysAddrRange::new(GuestPhysAddr(0x7000_0000), 0x3000).unwrap();
    let mut devices = AxVmDevices::new();
    devices.set_ivc_window(Arc::new(IvcWindow::new(range).unwrap()));
    let vm = build(&ScriptedHal::new([vec![]]), cpus(1), devices).unwrap();
    let (gpa, size) = vm.alloc_ivc_channel(0x1001).unwrap();
    assert_eq!((gpa, size), (range.first(), 0x2000));
    assert!(vm.alloc_ivc_channel(0x1001).is_err(), "no room");
    vm.release_ivc_channel(gpa, size).unwrap();
    assert!(vm.release_ivc_channel(gpa, size).is_err());
    assert_eq!(vm.alloc_ivc_channel(0x3000).unwrap(), (gpa, 0x3000));
}
