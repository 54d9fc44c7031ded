//! What `axvm` got wrong: for each known bug of its loop and of its VM, what must hold instead.
//! Others than these are about hardware that the host kernel keeps to itself, or stand elsewhere in
//! this suite: the bind that an error left behind in `errors`, lost wake-ups in `interrupts`, a
//! VM's status in `threads`.

use std::{
    sync::{Arc, Barrier},
    thread,
};

use axvmm::{
    addr::{
        AccessWidth::{self, Byte, Dword, Qword, Word},
        GuestPhysAddr, GuestPhysAddrRange, Port, PortRange, SysRegAddr, SysRegAddrRange,
    },
    devices::{Access, AxVmDevices, BaseDeviceOps, Effect},
    hal::StopCause,
    scripted::{Call, ScriptedHal, Step},
    vcpu::VCpuState,
    vm::config::CpuConfig,
};

use crate::fixture::*;

#[test]
fn a_port_read_answers_no_more_than_its_width() {
    for (width, value) in [(Byte, 0xff), (Word, 0xeeff), (Dword, 0xccdd_eeff)] {
        check_settled(Exit::IoRead { port: PORT, width }, &[gpr(0, value)]);
        check_settled(Exit::IoRead { port: Port(0xffff), width }, &[gpr(0, width.mask())]);
    }
}

#[test]
fn a_system_register_has_64_bits_both_ways_and_its_access_is_done_once() {
    let fixture = check_settled(Exit::SysRegRead { addr: SYS_REG, reg: 3 }, &[gpr(3, VALUE)]);
    assert_eq!(fixture.vm.stats()[0].counts().total(), 2);
    let fixture = check_settled(Exit::SysRegWrite { addr: SYS_REG, value: VALUE }, &[]);
    assert_eq!(*fixture.written.lock().unwrap(), [(Qword, VALUE)]);
}

#[test]
fn a_load_extends_to_its_register_as_it_says() {
    for (width, reg_width, signed_ext, value) in [
        (Byte, Qword, false, 0xff),
        (Byte, Qword, true, u64::MAX),
        (Word, Dword, true, 0xffff_eeff),
        (Word, Word, true, 0xeeff),
        (Dword, Qword, false, 0xccdd_eeff),
        (Dword, Qword, true, 0xffff_ffff_ccdd_eeff),
        (Qword, Qword, false, VALUE),
        (Qword, Qword, true, VALUE),
    ] {
        let exit = Exit::MmioRead { addr: MMIO, width, reg: 5, reg_width, signed_ext };
        check_settled(exit, &[gpr(5, value)]);
    }
}

/// A guest that accesses what nobody owns must not bring down whoever runs it.
#[test]
fn no_address_at_all_is_a_panic() {
    let edges = [0, 1, 7, MMIO.0 - 1, MMIO.0 + 7, BELL.0 + 0xfff, u64::MAX - 7, u64::MAX];
    for at in edges {
        for width in [Byte, Word, Dword, Qword] {
            let (addr, port) = (GuestPhysAddr(at), Port(at as u16));
            let steps = [
                load(addr, width),
                store(addr, width, u64::MAX),
                Exit::IoRead { port, width },
                Exit::IoWrite { port, width, data: u64::MAX },
                Exit::SysRegRead { addr: SysRegAddr(at), reg: usize::MAX },
                Exit::SysRegWrite { addr: SysRegAddr(at), value: u64::MAX },
            ];
            let script: Vec<_> =
                steps.into_iter().map(Step::Exit).chain([Step::Exit(Exit::Halt)]).collect();
            assert_eq!(booted([script]).vm.run_vcpu(0).unwrap(), Exit::Halt, "{addr} {width:?}");
        }
    }
}

#[test]
fn two_devices_at_one_address_are_refused_naming_both() {
    let mut devices = devices(&Written::default());
    let mmio = GuestPhysAddrRange::at(GuestPhysAddr(MMIO.0 + 7));
    let port = PortRange::at(PORT_REFUSES);
    let sys_reg = SysRegAddrRange::at(SYS_REG);
    for (error, old) in [
        (devices.add_mmio_dev(register_at(mmio)), "register"),
        (devices.add_port_dev(register_at(port)), "refuses"),
        (devices.add_sys_reg_dev(register_at(sys_reg)), "register"),
    ] {
        let error = error.unwrap_err();
        assert_eq!((error.new.as_str(), error.old.as_str()), ("register", old));
        assert!(error.to_string().contains("overlaps"), "{error}");
    }
}

/// Comes back when two vCPUs are in it at once.
struct Meeting(Barrier);

const MEETING: GuestPhysAddr = GuestPhysAddr(0xe000_0000);

impl BaseDeviceOps<GuestPhysAddrRange> for Meeting {
    fn name(&self) -> &str {
        "meeting"
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        GuestPhysAddrRange::new(MEETING, 8).unwrap()
    }

    fn handle_read(&self, _: u64, _: AccessWidth) -> Result<u64, Access> {
        self.0.wait();
        Ok(1)
    }

    fn handle_write(&self, _: u64, _: AccessWidth, _: u64) -> Result<Effect, Access> {
        Err(Access::ReadOnly)
    }
}

#[test]
fn no_lock_keeps_vcpus_or_others_waiting_for_one_that_is_in_a_device() {
    let script = || vec![Step::Exit(load(MEETING, Byte)), Step::Exit(Exit::Halt)];
    let hal = ScriptedHal::new([script(), script()]);
    let mut devices = AxVmDevices::new();
    devices.add_mmio_dev(Arc::new(Meeting(Barrier::new(2)))).unwrap();
    let vm = build(&hal, cpus(2), devices).unwrap();
    vm.boot().unwrap();
    thread::scope(|scope| {
        let first = scope.spawn(|| vm.run_vcpu(0));
        wait_until("it is in the device", || vm.stats()[0].counts().total() == 1);
        // All that others may want meanwhile.
        assert!(vm.running());
        assert_eq!(vm.vcpu(0).unwrap().state(), VCpuState::Ready);
        vm.write_to_guest_of(RAM, &7u32).unwrap();
        let read = axvmm::addr::MappingFlags::READ;
        assert!(vm.address_space().handle_page_fault(LAZY, read));
        vm.inject_interrupt_to_vcpu([0, 1], 8).unwrap();
        vm.vcpu(0).unwrap().kick();
        assert_eq!(vm.run_vcpu(1).unwrap(), Exit::Halt);
        assert_eq!(first.join().unwrap().unwrap(), Exit::Halt);
    });
}

#[test]
fn a_running_vcpu_tells_its_state_and_its_exits_to_any_thread() {
    let script = vec![Step::Exit(load(MMIO, Byte)), Step::UntilKicked];
    let fixture = booted([script]);
    thread::scope(|scope| {
        let runs = scope.spawn(|| fixture.vm.run_vcpu(0));
        let counted = || fixture.vm.stats()[0].counts().total() == 1;
        wait_until("it runs", || counted() && fixture.state(0) == VCpuState::Running);
        assert!(format!("{:?}", fixture.vm).contains("Running"));
        fixture.vm.vcpu(0).unwrap().kick();
        assert_eq!(runs.join().unwrap().unwrap(), Exit::Nothing);
    });
}

#[test]
fn memory_that_cannot_be_had_is_told_once_and_can_be_asked_for_again() {
    let hal = ScriptedHal::new([vec![]]);
    let space = axvmm::addrspace::AddrSpace::new_empty(hal.clone());
    let flags = axvmm::addr::MappingFlags::all();
    hal.fail_after("map_memory", 0);
    space.map_alloc(RAM, RAM_SIZE, flags, true).unwrap_err();
    assert!(space.memory_areas().is_empty());
    hal.fail_after("map_memory", usize::MAX);
    space.map_alloc(RAM, RAM_SIZE, flags, true).unwrap();
    assert!(space.map_alloc(RAM, RAM_SIZE, flags, true).is_err(), "it is there now");
}

#[test]
fn objects_in_guest_memory_lie_in_it_as_a_whole() {
    let vm = fixture([vec![]]).vm;
    let end = RAM.0 + RAM_SIZE;
    // As large as many a page, and each byte its own.
    let large: [u16; 8192] = std::array::from_fn(|i| i as u16);
    vm.write_to_guest_of(RAM, &large).unwrap();
    assert_eq!(vm.read_from_guest_of::<[u16; 8192]>(RAM).unwrap(), large);
    vm.write_to_guest_of(GuestPhysAddr(end - 8), &VALUE).unwrap();
    assert_eq!(vm.read_from_guest_of::<u64>(GuestPhysAddr(end - 8)).unwrap(), VALUE);
    for bad in [end - 4, end, RAM.0 - 8, u64::MAX - 7, u64::MAX] {
        assert!(vm.read_from_guest_of::<u64>(GuestPhysAddr(bad)).is_err(), "{bad:#x}");
        assert!(vm.write_to_guest_of(GuestPhysAddr(bad), &0u64).is_err(), "{bad:#x}");
    }
    assert_eq!(vm.read_from_guest_of::<u64>(GuestPhysAddr(end - 8)).unwrap(), VALUE);
}

/// The fixture's VM has the id 0.
#[test]
fn a_vm_with_the_id_0_runs_without_delay() {
    let fixture = fixture([vec![Step::Down(StopCause::Shutdown)]]);
    assert_eq!(fixture.vm.id(), 0);
    assert_eq!(fixture.run().exit_status(), 0);
}

#[test]
fn a_halted_vcpu_is_blocked_and_free_again_when_it_goes_on() {
    let fixture = fixture([vec![Step::Exit(Exit::Halt)]]);
    let threads = axvmm::vm::VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
    fixture.vm.boot().unwrap();
    fixture.wait_for(0, VCpuState::Blocked);
    fixture.vm.inject_interrupt_to_vcpu([0], 8).unwrap();
    fixture.wait_for(0, VCpuState::Running);
    fixture.vm.shutdown();
    threads.join();
    assert_eq!(fixture.state(0), VCpuState::Free);
}

#[test]
fn lists_of_cpus_may_be_too_long_or_too_short() {
    let hal = ScriptedHal::new([vec![], vec![]]);
    let cpus = CpuConfig { num: 2, phys_cpu_ids: vec![7], phys_cpu_sets: vec![1, 1, 1, 1] };
    let vm = build(&hal, cpus, AxVmDevices::new()).unwrap();
    let told = |id| {
        let vcpu = vm.vcpu(id).unwrap();
        (vcpu.phys_id(), vcpu.phys_cpu_set())
    };
    assert_eq!((told(0), told(1)), ((7, Some(1)), (1, Some(1))));
    assert_eq!(hal.calls().iter().filter(|call| matches!(call, Call::Setup { .. })).count(), 2);
}
