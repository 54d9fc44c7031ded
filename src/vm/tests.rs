//! The loop, the lifecycle and the threads, over scripts.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{config::CpuConfig, *};
use crate::{
    addr::{AccessWidth, MappingFlags, Port, PortRange, SysRegAddr, SysRegAddrRange},
    devices::{Access, BaseDeviceOps, Effect, EmuDeviceType},
    hal::{AxVCpuExitReason as Exit, StopCause},
    scripted::{Call, ScriptedHal, Step},
    vcpu::VCpuState,
};

const RAM: GuestPhysAddr = GuestPhysAddr(0x10_0000);
const RAM_SIZE: u64 = 0x1_0000;
const LAZY: GuestPhysAddr = GuestPhysAddr(0x4000_0000);
const MMIO: GuestPhysAddr = GuestPhysAddr(0xd000_0000);
const PORT: Port = Port(0x100);
const SYS_REG: SysRegAddr = SysRegAddr(0x10);
/// What the register reads as.
const VALUE: u64 = 0x8899_aabb_ccdd_eeff;

/// A register that reads [`VALUE`], records writes, and powers off, resets and so on when told.
struct Register<R> {
    range: R,
    written: Arc<Mutex<Vec<(AccessWidth, u64)>>>,
}

impl<R: DeviceAddrRange> BaseDeviceOps<R> for Register<R> {
    fn name(&self) -> &str {
        "register"
    }

    fn emu_type(&self) -> EmuDeviceType {
        EmuDeviceType::Dummy
    }

    fn address_range(&self) -> R {
        self.range
    }

    fn handle_read(&self, _: u64, _: AccessWidth) -> Result<u64, Access> {
        Ok(VALUE)
    }

    fn handle_write(&self, _: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        self.written.lock().unwrap().push((width, val));
        Ok(match val {
            0xf0 => Effect::PowerOff,
            0xf1 => Effect::Reset,
            0xf2 => Effect::Panicked,
            0xf3 => Effect::Exit(7),
            _ => Effect::None,
        })
    }
}

struct Fixture {
    vm: AxVMRef<ScriptedHal>,
    hal: Arc<ScriptedHal>,
    written: Arc<Mutex<Vec<(AccessWidth, u64)>>>,
}

fn fixture(scripts: Vec<Vec<Step>>) -> Fixture {
    let cpus = scripts.len();
    let hal = ScriptedHal::new(scripts);
    let written = Arc::default();
    let vm = build(&hal, cpus, &written).unwrap();
    Fixture { vm, hal, written }
}

fn build(
    hal: &Arc<ScriptedHal>,
    cpus: usize,
    written: &Arc<Mutex<Vec<(AccessWidth, u64)>>>,
) -> Result<AxVMRef<ScriptedHal>, Error> {
    let mut address_space = AddrSpace::new_empty(hal.clone());
    let rwx = MappingFlags::READ | MappingFlags::WRITE | MappingFlags::EXECUTE;
    address_space.map_alloc(RAM, RAM_SIZE, rwx, true)?;
    address_space.map_alloc(LAZY, 0x1000, MappingFlags::READ, false)?;
    let mut devices = AxVmDevices::new();
    let mmio = GuestPhysAddrRange::new(MMIO, 8).unwrap();
    devices.add_mmio_dev(Arc::new(Register { range: mmio, written: written.clone() }))?;
    let port = PortRange::new(PORT, 4).unwrap();
    devices.add_port_dev(Arc::new(Register { range: port, written: written.clone() }))?;
    let sys_reg = SysRegAddrRange::inclusive(SYS_REG, SYS_REG).unwrap();
    devices.add_sys_reg_dev(Arc::new(Register { range: sys_reg, written: written.clone() }))?;
    AxVM::new(AxVMParts {
        id: 1,
        name: "test".to_owned(),
        cpus: CpuConfig { num: cpus, phys_cpu_ids: Vec::new(), phys_cpu_sets: Vec::new() },
        hal: hal.clone(),
        address_space,
        devices,
        entry: RAM,
        setup: VCpuSetup::default(),
    })
}

/// What a vCPU was asked by the loop itself, between binding and unbinding.
fn asked(hal: &ScriptedHal) -> Vec<Call> {
    let calls = hal.calls().into_iter();
    calls
        .filter(|call| {
            matches!(
                call,
                Call::SetGpr { .. } | Call::RefuseSysReg(_) | Call::SetReturnValue { .. }
            )
        })
        .collect()
}

/// Runs one exit and a `Halt` through the loop; what the vCPU was asked meanwhile.
#[track_caller]
fn check_handled(exit: Exit, expect: &[Call]) -> Fixture {
    let fixture = fixture(vec![vec![Step::Exit(exit), Step::Exit(Exit::Halt)]]);
    fixture.vm.boot().unwrap();
    assert_eq!(fixture.vm.run_vcpu(0).unwrap(), Exit::Halt);
    assert_eq!(asked(&fixture.hal), expect);
    assert_eq!(fixture.vm.vcpu(0).unwrap().state(), VCpuState::Free);
    fixture
}

#[track_caller]
fn check_returned(exit: Exit) -> Fixture {
    let fixture = fixture(vec![vec![Step::Exit(exit)]]);
    fixture.vm.boot().unwrap();
    assert_eq!(fixture.vm.run_vcpu(0).unwrap(), exit);
    assert_eq!(asked(&fixture.hal), []);
    assert_eq!(fixture.vm.vcpu(0).unwrap().state(), VCpuState::Free);
    fixture
}

fn gpr(reg: usize, val: u64) -> Call {
    Call::SetGpr { vcpu_id: 0, reg, val }
}

fn mmio_read(addr: GuestPhysAddr, width: AccessWidth, reg_width: AccessWidth, sign: bool) -> Exit {
    Exit::MmioRead { addr, width, reg: 5, reg_width, signed_ext: sign }
}

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
    let mapped = Call::Map { slot: 1, gpa: LAZY, size: 0x1000 };
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
    let mut address_space = AddrSpace::new_empty(hal.clone());
    address_space.map_alloc(MMIO, 0x1000, MappingFlags::all(), true).unwrap();
    let mut devices = AxVmDevices::new();
    let range = GuestPhysAddrRange::new(GuestPhysAddr(MMIO.0 - 4), 8).unwrap();
    devices.add_mmio_dev(Arc::new(Register { range, written: Arc::default() })).unwrap();
    let error = check_overlap(&address_space, &devices).unwrap_err();
    assert_eq!((error.new.as_str(), error.old.as_str()), ("register", "guest memory"));
}

/// Boots with threads and waits for the end.
fn run(fixture: &Fixture) -> StopReason {
    let threads = VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
    fixture.vm.boot().unwrap();
    threads.join()
}

#[test]
fn what_ends_a_guest_becomes_its_exit_status() {
    for (step, status) in [
        (Step::Down(StopCause::Shutdown), 0),
        (Step::Down(StopCause::Reset), 32),
        (Step::Down(StopCause::Crash), 34),
        (Step::Down(StopCause::TripleFault), 33),
        (Step::FailEntry(0x8000_0021, "refused".to_owned()), 33),
        (Step::Fail(libc::EFAULT), 1),
        (
            Step::Exit(Exit::NestedPageFault {
                addr: GuestPhysAddr(0),
                access_flags: MappingFlags::READ,
            }),
            33,
        ),
    ] {
        let fixture = fixture(vec![vec![step.clone()], vec![]]);
        let reason = run(&fixture);
        assert_eq!(reason.exit_status(), status, "{step:?}: {reason}");
        assert_eq!(fixture.vm.status(), VMStatus::Stopped);
    }
}

#[test]
fn a_fault_is_told_with_registers_code_and_the_way_there() {
    let script = vec![
        Step::Exit(Exit::IoRead { port: PORT, width: AccessWidth::Byte }),
        Step::Down(StopCause::TripleFault),
    ];
    let fixture = fixture(vec![script]);
    fixture.vm.address_space().write(RAM, &[0x0f, 0x0b]).unwrap();
    let text = run(&fixture).to_string();
    for part in ["vCPU 0", "triple fault", "0f 0b 00", "IoRead", "SystemDown", "PC"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}

#[test]
fn hypercalls_that_nobody_knows_are_not_supported_and_the_guest_goes_on() {
    let fixture = fixture(vec![vec![
        Step::Exit(Exit::Hypercall { nr: 0xdead, args: [0; 6] }),
        Step::Down(StopCause::Shutdown),
    ]]);
    assert_eq!(run(&fixture).exit_status(), 0);
    let answer = Call::SetReturnValue { vcpu_id: 0, val: u64::MAX };
    assert_eq!(asked(&fixture.hal), [answer]);
}

#[test]
fn cpus_go_on_and_off_line() {
    let up = |target_cpu| Step::Exit(Exit::CpuUp { target_cpu, entry_point: LAZY, arg: 42 });
    let fixture = fixture(vec![
        // Nobody, oneself, the other, the other again; then the other ends the machine.
        vec![up(9), up(0), up(1), up(1)],
        vec![Step::Down(StopCause::Shutdown)],
    ]);
    assert_eq!(run(&fixture).exit_status(), 0);
    let answers: Vec<_> = asked(&fixture.hal)
        .into_iter()
        .map(|call| match call {
            Call::SetReturnValue { val, .. } => val,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(answers[..3], [u64::MAX, u64::MAX, 0]);
    let started = fixture.hal.calls().into_iter().any(|call| {
        matches!(call, Call::Setup { vcpu_id: 1, entry: LAZY, setup } if setup.gprs == [(0, 42)])
    });
    assert!(started);
}

#[test]
fn injection_wakes_a_halted_vcpu_from_another_thread() {
    let fixture = fixture(vec![vec![Step::Exit(Exit::Halt), Step::Down(StopCause::Shutdown)]]);
    let threads = VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
    fixture.vm.boot().unwrap();
    while fixture.vm.vcpu(0).unwrap().state() != VCpuState::Blocked {
        thread::yield_now();
    }
    fixture.vm.inject_interrupt_to_vcpu([0], 0x30).unwrap();
    assert_eq!(threads.join().exit_status(), 0);
    assert!(fixture.hal.calls().contains(&Call::Inject { vcpu_id: 0, irq: 0x30 }));
    assert!(matches!(
        fixture.vm.inject_interrupt_to_vcpu([1], 0x30),
        Err(Error::NoSuchVCpu { .. })
    ));
}

#[test]
fn ipis_reach_whom_they_name() {
    let ipi = |target_cpu, send_to_all, send_to_self| {
        Step::Exit(Exit::SendIPI {
            target_cpu,
            target_cpu_aux: 0,
            send_to_all,
            send_to_self,
            vector: 8,
        })
    };
    let script = vec![
        ipi(2, false, false),
        ipi(9, false, false),
        ipi(0, true, false),
        ipi(0, false, true),
        Step::Down(StopCause::Shutdown),
    ];
    let fixture = fixture(vec![script, vec![], vec![]]);
    assert_eq!(run(&fixture).exit_status(), 0);
    let targets: Vec<_> = fixture
        .hal
        .calls()
        .into_iter()
        .filter_map(|call| match call {
            Call::Inject { vcpu_id, irq: 8 } => Some(vcpu_id),
            _ => None,
        })
        .collect();
    assert_eq!(targets, [2, 1, 2, 0]);
}

#[test]
fn suspended_vcpus_leave_the_guest_and_come_back() {
    let fixture = fixture(vec![vec![], vec![]]);
    let threads = VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
    fixture.vm.boot().unwrap();
    for _ in 0..100 {
        fixture.vm.suspend().unwrap();
        while fixture.vm.vcpu(0).unwrap().state() != VCpuState::Free {
            thread::yield_now();
        }
        fixture.vm.resume().unwrap();
    }
    assert!(fixture.vm.shutdown());
    assert_eq!(threads.join().exit_status(), 0);
}

#[test]
fn the_first_of_many_reasons_stands() {
    for _ in 0..50 {
        let reset = Step::Exit(Exit::IoWrite { port: PORT, width: AccessWidth::Byte, data: 0xf1 });
        let off = Step::Exit(Exit::IoWrite { port: PORT, width: AccessWidth::Byte, data: 0xf0 });
        let fixture = fixture(vec![vec![reset], vec![off]]);
        for vcpu in 1..2 {
            fixture.vm.lifecycle.set_on(vcpu, true);
        }
        let last = Arc::new(AtomicUsize::new(0));
        let counted = last.clone();
        let threads = VCpuThreads::spawn(&fixture.vm, move || {
            counted.fetch_add(1, Ordering::SeqCst);
        })
        .unwrap();
        fixture.vm.boot().unwrap();
        let status = threads.join().exit_status();
        assert!(status == 32 || status == 0);
        assert!(!fixture.vm.shutdown(), "a later reason does not replace it");
        assert_eq!(fixture.vm.stop_reason().unwrap().exit_status(), status);
        assert_eq!(last.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn each_call_below_may_fail_and_nothing_is_left_behind() {
    for operation in ["map_memory", "create_vcpu", "setup"] {
        let hal = ScriptedHal::new([vec![], vec![]]);
        hal.fail_after(operation, if operation == "map_memory" { 0 } else { 1 });
        assert!(build(&hal, 2, &Arc::default()).is_err(), "{operation}");
        assert_eq!(Arc::strong_count(&hal), 1, "{operation}");
    }
}

#[test]
fn exits_are_counted_by_reason() {
    let fixture =
        check_handled(Exit::IoRead { port: PORT, width: AccessWidth::Byte }, &[gpr(0, 0xff)]);
    let counts = fixture.vm.stats()[0].counts();
    assert_eq!(counts.total(), 2);
    assert_eq!(counts.iter().collect::<Vec<_>>(), [("IoRead", 1), ("Halt", 1)]);
}

#[test]
fn a_mask_with_no_cpu_of_this_host_is_refused_before_any_thread() {
    assert!(threads::check_affinity(3, None).is_ok());
    let error = threads::check_affinity(3, Some(1 << 63)).unwrap_err();
    assert!(error.to_string().contains("vCPU 3"), "{error}");
}

#[test]
fn a_vcpu_that_says_it_is_free_can_be_bound() {
    let Fixture { vm, .. } = fixture(vec![vec![]]);
    let vcpu = vm.vcpu(0).unwrap();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    match vcpu.bind() {
                        Ok(bound) => drop(bound),
                        // The other one was faster, and only then.
                        Err(vcpu::Error::BadState { found, .. }) => {
                            assert_ne!(found, VCpuState::Free);
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
            });
        }
    });
    assert_eq!(vcpu.state(), VCpuState::Free);
}
