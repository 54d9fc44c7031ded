//! vCPUs on threads of their own, and the life of the VM.

use std::{
    hint,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axvmm::{
    addr::AccessWidth,
    hal::StopCause,
    scripted::{Call, Step},
    vcpu::VCpuState,
    vm::{Error, VCpuThreads, VMStatus},
};

use crate::fixture::*;

fn up(target_cpu: u64) -> Step {
    Step::Exit(Exit::CpuUp { target_cpu, entry_point: LAZY, arg: 42 })
}

#[test]
fn cpus_go_on_line_as_the_guest_says() {
    // Nobody, oneself, the other; then the other ends the machine.
    let script = vec![up(9), up(0), up(1)];
    let fixture = fixture([script, vec![Step::Down(StopCause::Shutdown)]]);
    assert_eq!(fixture.run().exit_status(), 0);
    assert_eq!(fixture.asked(), [answer(u64::MAX), answer(u64::MAX), answer(0)]);
    let started = fixture.hal.calls().into_iter().any(|call| {
        matches!(call, Call::Setup { vcpu_id: 1, entry: LAZY, setup } if setup.gprs == [(0, 42)])
    });
    assert!(started);
}

#[test]
fn a_cpu_that_went_off_line_is_blocked_until_another_starts_it() {
    let off = Step::Exit(Exit::CpuDown { _state: 0 });
    let fixture =
        fixture([vec![up(1), Step::UntilIrq, up(1)], vec![off, Step::Down(StopCause::Shutdown)]]);
    let threads = VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
    fixture.vm.boot().unwrap();
    let exits = || fixture.vm.stats()[1].counts().total();
    wait_until("it went off line", || exits() == 1 && fixture.state(1) == VCpuState::Blocked);
    fixture.vm.inject_interrupt_to_vcpu([1], 8).unwrap();
    fixture.vm.inject_interrupt_to_vcpu([0], 8).unwrap();
    assert_eq!(threads.join().exit_status(), 0);
    assert_eq!(exits(), 2);
}

#[test]
fn no_vcpu_runs_before_boot_while_suspended_or_after_the_end() {
    let fixture = fixture([vec![Step::Exit(Exit::Halt); 4]]);
    let vm = &fixture.vm;
    let refused = |found| match vm.run_vcpu(0) {
        Err(Error::BadState { operation: "run_vcpu", found: is, .. }) => assert_eq!(is, found),
        other => panic!("{other:?}"),
    };
    refused(VMStatus::Loaded);
    vm.boot().unwrap();
    assert_eq!(vm.run_vcpu(0).unwrap(), Exit::Halt);
    vm.suspend().unwrap();
    assert_eq!(vm.run_vcpu(0).unwrap(), Exit::Nothing);
    vm.resume().unwrap();
    assert_eq!(vm.run_vcpu(0).unwrap(), Exit::Halt);
    vm.shutdown();
    refused(VMStatus::Stopped);
    assert_eq!(vm.stats()[0].counts().total(), 2);
    assert_eq!(fixture.state(0), VCpuState::Free);
    assert!(matches!(vm.run_vcpu(1), Err(Error::NoSuchVCpu { vcpu_id: 1, count: 1, .. })));
}

#[test]
fn each_change_of_the_vms_status_is_done_or_refused() {
    let to = |status| {
        let fixture = fixture([vec![]]);
        match status {
            VMStatus::Loaded => {}
            VMStatus::Running => fixture.vm.boot().unwrap(),
            VMStatus::Suspended => {
                fixture.vm.boot().unwrap();
                fixture.vm.suspend().unwrap();
            }
            _ => assert!(fixture.vm.shutdown()),
        }
        assert_eq!(fixture.vm.status(), status);
        fixture
    };
    use VMStatus::{Loaded, Running, Stopped, Suspended};
    for status in [Loaded, Running, Suspended, Stopped] {
        for (operation, from, leads_to) in [
            ("boot", Loaded, Running),
            ("suspend", Running, Suspended),
            ("resume", Suspended, Running),
        ] {
            let vm = to(status).vm;
            let result = match operation {
                "boot" => vm.boot(),
                "suspend" => vm.suspend(),
                _ => vm.resume(),
            };
            assert_eq!(result.is_ok(), status == from, "{operation} of one that is {status}");
            assert_eq!(vm.status(), if status == from { leads_to } else { status });
        }
        let fixture = to(status);
        assert_eq!(fixture.vm.shutdown(), status != Stopped, "the first reason stands");
        assert_eq!(fixture.vm.status(), Stopped);
    }
}

#[test]
fn suspended_vcpus_leave_the_guest_and_come_back() {
    let fixture = fixture([vec![], vec![]]);
    let threads = VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
    fixture.vm.boot().unwrap();
    for _ in 0..100 {
        fixture.vm.suspend().unwrap();
        fixture.wait_for(0, VCpuState::Free);
        fixture.vm.resume().unwrap();
    }
    assert!(fixture.vm.shutdown());
    assert_eq!(threads.join().exit_status(), 0);
}

#[test]
fn a_suspension_that_comes_with_the_resumption_loses_no_thread() {
    let fixture = fixture([vec![up(1), up(2)], vec![], vec![]]);
    let vm = &fixture.vm;
    let threads = VCpuThreads::spawn(vm, || ()).unwrap();
    vm.boot().unwrap();
    (0..3).for_each(|vcpu_id| fixture.wait_for(vcpu_id, VCpuState::Running));
    for round in 0..5000_u32 {
        // At each of the moments at which a thread can be while it wakes up.
        (0..round % 50 * 20).for_each(|_| hint::spin_loop());
        vm.suspend().unwrap();
        if round % 8 == 0 {
            assert!(vm.wait_until_at_rest());
        }
        vm.resume().unwrap();
    }
    (0..3).for_each(|vcpu_id| fixture.wait_for(vcpu_id, VCpuState::Running));
    assert!(vm.shutdown());
    assert_eq!(threads.join().exit_status(), 0);
}

#[test]
fn the_first_of_many_reasons_stands_and_the_end_is_told_once() {
    for _ in 0..50 {
        let byte = |data| Step::Exit(store(MMIO, AccessWidth::Byte, data));
        let fixture = fixture([vec![up(1), byte(0xf1)], vec![byte(0xf0)]]);
        let last = Arc::new(AtomicUsize::default());
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
fn ipis_reach_whom_they_name() {
    let ipi = |target_cpu, target_cpu_aux, send_to_all, send_to_self| {
        let vector = 8;
        Step::Exit(Exit::SendIPI { target_cpu, target_cpu_aux, send_to_all, send_to_self, vector })
    };
    let fixture = fixture([
        vec![
            ipi(2, 0, false, false),
            ipi(9, 0, false, false),
            ipi(0, 0, true, false),
            ipi(0, 0, false, true),
            ipi(0, 0b110, false, false),
            Step::Down(StopCause::Shutdown),
        ],
        vec![],
        vec![],
    ]);
    assert_eq!(fixture.run().exit_status(), 0);
    let injected = [2, 1, 2, 0, 1, 2].map(|vcpu_id| Call::Inject { vcpu_id, irq: 8 });
    assert_eq!(fixture.asked(), injected);
}
