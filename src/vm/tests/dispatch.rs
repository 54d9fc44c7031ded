//! What the loop makes of each exit.

use super::*;

#[test]
fn mmio_reads_extend_to_the_register_as_the_load_says() {
    use AccessWidth::{Byte, Dword, Qword, Word};
    check_handled(mmio_read(MMIO, Byte, Qword, false), &[gpr(5, 0xff)]);
    check_handled(mmio_read(MMIO, Byte, Qword, true), &[gpr(5, u64::MAX)]);
    check_handled(mmio_read(MMIO, Word, Dword, true), &[gpr(5, 0xffff_eeff)]);
    check_handled(mmio_read(MMIO, Qword, Qword, false), &[gpr(5, VALUE)]);
}

#[test]
fn reads_where_nobody_is_give_ones_of_the_width() {
    let nowhere = GuestPhysAddr(0xffff_ffff_ffff_fff8);
    let exit = mmio_read(nowhere, AccessWidth::Dword, AccessWidth::Qword, false);
    check_handled(exit, &[gpr(5, 0xffff_ffff)]);
    let exit = Exit::IoRead { port: Port(0xffff), width: AccessWidth::Word };
    let fixture = check_handled(exit, &[gpr(0, 0xffff)]);
    assert_eq!(fixture.vm.get_devices().unowned().reads, 1);
}

#[test]
fn a_port_read_hands_over_no_more_than_its_width() {
    let exit = Exit::IoRead { port: PORT, width: AccessWidth::Byte };
    check_handled(exit, &[gpr(0, 0xff)]);
}

#[test]
fn writes_reach_the_device_with_their_width() {
    let data = 0x1_22;
    let fixture =
        check_handled(Exit::MmioWrite { addr: MMIO, width: AccessWidth::Byte, data }, &[]);
    assert_eq!(*fixture.written.lock().unwrap(), [(AccessWidth::Byte, 0x22)]);
    let fixture = check_handled(Exit::IoWrite { port: PORT, width: AccessWidth::Word, data }, &[]);
    assert_eq!(*fixture.written.lock().unwrap(), [(AccessWidth::Word, 0x122)]);
    let nowhere = Exit::IoWrite { port: Port(1), width: AccessWidth::Word, data };
    assert_eq!(check_handled(nowhere, &[]).vm.get_devices().unowned().writes, 1);
}

#[test]
fn system_registers_are_answered_whole_or_refused() {
    check_handled(Exit::SysRegRead { addr: SYS_REG, reg: 3 }, &[gpr(3, VALUE)]);
    check_handled(Exit::SysRegRead { addr: SysRegAddr(9), reg: 3 }, &[Call::RefuseSysReg(0)]);
    let fixture = check_handled(Exit::SysRegWrite { addr: SYS_REG, value: VALUE }, &[]);
    assert_eq!(*fixture.written.lock().unwrap(), [(AccessWidth::Qword, VALUE)]);
    let write = Exit::SysRegWrite { addr: SysRegAddr(9), value: 1 };
    check_handled(write, &[Call::RefuseSysReg(0)]);
}

#[test]
fn a_page_fault_in_lazy_memory_is_settled_once_and_elsewhere_not() {
    let fault = |addr, access_flags| Exit::NestedPageFault { addr, access_flags };
    let fixture = check_handled(fault(LAZY, MappingFlags::READ), &[]);
    let range = GuestPhysAddrRange::new(LAZY, 0x1000).unwrap();
    let mapped = Call::Map { slot: 1, range, flags: MappingFlags::READ };
    assert_eq!(fixture.hal.calls().iter().filter(|call| **call == mapped).count(), 1);
    check_returned(fault(LAZY, MappingFlags::WRITE));
    check_returned(fault(RAM, MappingFlags::READ));
    check_returned(fault(GuestPhysAddr(u64::MAX), MappingFlags::READ));
}

#[test]
fn all_other_reasons_come_back() {
    for exit in [
        Exit::Hypercall { nr: 1, args: [0; 6] },
        Exit::ExternalInterrupt { vector: 3 },
        Exit::Halt,
        Exit::CpuUp { target_cpu: 1, entry_point: RAM, arg: 0 },
        Exit::CpuDown { _state: 0 },
        Exit::SystemDown,
        Exit::Nothing,
        Exit::FailEntry { hardware_entry_failure_reason: 1 },
        Exit::SendIPI {
            target_cpu: 0,
            target_cpu_aux: 0,
            send_to_all: false,
            send_to_self: true,
            vector: 2,
        },
    ] {
        check_returned(exit);
    }
}

#[test]
fn a_device_that_ends_the_machine_ends_the_loop_with_its_reason() {
    for (data, status) in [(0xf0, 0), (0xf1, 32), (0xf2, 34), (0xf3, 7)] {
        let exit = Exit::IoWrite { port: PORT, width: AccessWidth::Byte, data };
        let fixture = check_returned(exit);
        assert_eq!(fixture.vm.stop_reason().unwrap().exit_status(), status);
        assert_eq!(fixture.vm.status(), VMStatus::Stopped);
    }
}

#[test]
fn an_error_unbinds_and_a_new_setup_makes_the_vcpu_usable() {
    let script = vec![Step::Fail(libc::EFAULT), Step::Exit(Exit::Halt)];
    let Fixture { vm, hal, .. } = fixture(vec![script]);
    vm.boot().unwrap();
    assert!(matches!(vm.run_vcpu(0), Err(Error::VCpu(_))));
    assert_eq!(hal.calls().last(), Some(&Call::Unbind(0)));
    let vcpu = vm.vcpu(0).unwrap();
    assert_eq!(vcpu.state(), VCpuState::Invalid);
    assert!(vm.run_vcpu(0).is_err());
    vcpu.setup(RAM, 0, VCpuSetup::default()).unwrap();
    assert_eq!(vm.run_vcpu(0).unwrap(), Exit::Halt);
}

#[test]
fn a_failed_bind_leaves_the_vcpu_as_it_was() {
    let Fixture { vm, hal, .. } = fixture(vec![vec![]]);
    vm.boot().unwrap();
    hal.fail_after("bind", 0);
    assert!(vm.run_vcpu(0).is_err());
    assert_eq!(vm.vcpu(0).unwrap().state(), VCpuState::Free);
    hal.fail_after("bind", usize::MAX);
    vm.suspend().unwrap();
    assert_eq!(vm.run_vcpu(0).unwrap(), Exit::Nothing);
}

#[test]
fn wrong_calls_are_refused_and_change_nothing() {
    let Fixture { vm, .. } = fixture(vec![vec![]]);
    assert!(matches!(vm.run_vcpu(0), Err(Error::BadState { .. })), "not booted yet");
    assert!(matches!(vm.run_vcpu(1), Err(Error::NoSuchVCpu { vcpu_id: 1, count: 1, .. })));
    assert!(matches!(vm.resume(), Err(Error::BadState { found: VMStatus::Loaded, .. })));
    vm.boot().unwrap();
    assert!(matches!(vm.boot(), Err(Error::BadState { found: VMStatus::Running, .. })));
    let vcpu = vm.vcpu(0).unwrap().clone();
    let bound = vcpu.bind().unwrap();
    assert!(matches!(vm.run_vcpu(0), Err(Error::VCpu(vcpu::Error::BadState { .. }))));
    assert!(vcpu.setup(RAM, 0, VCpuSetup::default()).is_err());
    assert_eq!(vcpu.state(), VCpuState::Ready);
    drop(bound);
    assert_eq!(vcpu.state(), VCpuState::Free);
    assert!(vcpu.transition_state(VCpuState::Ready, VCpuState::Running).is_err());
    assert_eq!(vcpu.state(), VCpuState::Free);
}

#[test]
fn a_device_in_memory_is_refused_naming_both() {
    let hal = ScriptedHal::new([vec![]]);
    let address_space = AddrSpace::new_empty(hal.clone());
    address_space.map_alloc(MMIO, 0x1000, MappingFlags::all(), true).unwrap();
    let mut devices = AxVmDevices::new();
    let range = GuestPhysAddrRange::new(GuestPhysAddr(MMIO.0 - 4), 8).unwrap();
    devices.add_mmio_dev(Arc::new(Register { range, written: Arc::default() })).unwrap();
    let error = check_overlap(&address_space, &devices).unwrap_err();
    assert_eq!((error.new.as_str(), error.old.as_str()), ("register", "guest memory"));
}

#[test]
fn an_access_that_could_not_be_made_is_tried_again_with_all_memory() {
    let unemulated = || Step::Unemulated("no such instruction".to_owned());
    // Memory was missing: once it is there, the guest goes on.
    let lazy = fixture(vec![vec![unemulated(), Step::Exit(Exit::Halt)]]);
    lazy.vm.boot().unwrap();
    assert_eq!(lazy.vm.run_vcpu(0).unwrap(), Exit::Halt);
    assert!(lazy.vm.address_space().memory_areas().iter().all(|area| area.given == area.size));
    // It was not that: it comes back.
    let other = fixture(vec![vec![unemulated(), unemulated()]]);
    other.vm.boot().unwrap();
    let reason = other.vm.run_vcpu(0).unwrap();
    assert_eq!(reason, Exit::FailEntry { hardware_entry_failure_reason: 0 });
}

#[test]
fn accesses_to_memory_are_page_faults_whatever_the_hardware_calls_them() {
    let read = |addr| Exit::MmioRead {
        addr,
        width: AccessWidth::Dword,
        reg: 5,
        reg_width: AccessWidth::Qword,
        signed_ext: true,
    };
    // The first touch finds what was loaded there.
    let fixture = fixture(vec![vec![
        Step::Exit(read(LAZY)),
        Step::Exit(Exit::MmioWrite { addr: LAZY, width: AccessWidth::Dword, data: 1 }),
    ]]);
    fixture.vm.address_space().write(LAZY, &0xffff_fffeu32.to_le_bytes()).unwrap();
    fixture.vm.boot().unwrap();
    let reason = fixture.vm.run_vcpu(0).unwrap();
    let set = Call::SetGpr { vcpu_id: 0, reg: 5, val: 0xffff_ffff_ffff_fffe };
    assert_eq!(asked(&fixture.hal), [set]);
    // Its flags forbid the write.
    let access_flags = MappingFlags::WRITE;
    assert_eq!(reason, Exit::NestedPageFault { addr: LAZY, access_flags });
    assert_eq!(fixture.vm.read_from_guest_of::<u32>(LAZY).unwrap(), 0xffff_fffe);
    assert_eq!(fixture.vm.get_devices().unowned(), Default::default());
    let counts = fixture.vm.stats()[0].counts();
    assert_eq!(counts.iter().collect::<Vec<_>>(), [("NestedPageFault", 2)]);
}

#[test]
fn memory_comes_and_goes_while_the_guest_runs() {
    let memory = SharedMemory::new(0x1000).unwrap();
    let free = GuestPhysAddr(0x7000_0000);
    let fixture = fixture(vec![vec![]]);
    fixture.vm.map_region(free, &memory, MappingFlags::READ).unwrap();
    assert!(fixture.vm.write_to_guest_of(free, &1u8).is_err(), "it may only be read");
    for taken in [RAM, LAZY, MMIO, GuestPhysAddr(free.0 + 1)] {
        assert!(fixture.vm.map_region(taken, &memory, MappingFlags::READ).is_err(), "{taken}");
    }
    fixture.vm.unmap_region(free, 0x1000).unwrap();
    assert!(fixture.vm.unmap_region(free, 0x1000).is_err());
    assert!(fixture.vm.read_from_guest_of::<u8>(free).is_err());
}

#[test]
fn channels_have_addresses_where_there_is_a_window() {
    let without = fixture(vec![vec![]]).vm;
    assert!(without.alloc_ivc_channel(1).is_err() && without.release_ivc_channel(RAM, 1).is_err());
    let range = GuestPhysAddrRange::new(GuestPhysAddr(0x7000_0000), 0x3000).unwrap();
    let mut devices = AxVmDevices::new();
    devices.set_ivc_window(Arc::new(IvcWindow::new(range).unwrap()));
    let vm = build_with(&ScriptedHal::new([vec![]]), 1, devices).unwrap();
    let (gpa, size) = vm.alloc_ivc_channel(0x1001).unwrap();
    assert_eq!((gpa, size), (range.first(), 0x2000));
    assert!(vm.alloc_ivc_channel(0x1001).is_err(), "no room");
    vm.release_ivc_channel(gpa, size).unwrap();
    assert!(vm.release_ivc_channel(gpa, size).is_err());
    assert_eq!(vm.alloc_ivc_channel(0x3000).unwrap(), (gpa, 0x3000));
}
