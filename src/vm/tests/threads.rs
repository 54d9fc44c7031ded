//! vCPUs on threads of their own, and what becomes of the VM.

use super::*;

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
    assert!(crate::vm::threads::check_affinity(3, None).is_ok());
    let error = crate::vm::threads::check_affinity(3, Some(1 << 63)).unwrap_err();
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
