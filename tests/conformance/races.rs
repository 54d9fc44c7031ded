//! The states of a vCPU when several threads want it at once: one has it, the others are told so,
//! and nobody waits for long.

use std::{
    process,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use axvmm::{
    hal::{StopCause, VCpuSetup},
    scripted::{Call, Step},
    vcpu::{self, VCpuState},
    vm::Error,
};

use crate::fixture::*;

const THREADS: usize = 4;

/// In each round has all threads do this at the same moment; of each round, how many it went well
/// for. What a winner holds, it keeps until all have tried.
fn winners<T>(
    rounds: usize,
    attempt: impl Fn(usize) -> Result<T, vcpu::Error> + Sync,
) -> Vec<usize> {
    let barrier = Barrier::new(THREADS);
    let won: Vec<_> = (0..rounds).map(|_| AtomicUsize::default()).collect();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for (round, won) in won.iter().enumerate() {
                    barrier.wait();
                    let result = attempt(round);
                    match &result {
                        Ok(_) => {
                            won.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(vcpu::Error::BadState { .. }) => {}
                        // Here the barrier would keep the others for ever.
                        Err(other) => {
                            eprintln!("{other}");
                            process::abort();
                        }
                    }
                    barrier.wait();
                }
            });
        }
    });
    won.into_iter().map(AtomicUsize::into_inner).collect()
}

#[test]
fn of_all_that_bind_at_once_one_has_it() {
    let fixture = fixture([vec![]]);
    let vcpu = fixture.vm.vcpu(0).unwrap();
    assert_eq!(winners(200, |_| vcpu.bind()), [1; 200]);
    assert_eq!(vcpu.state(), VCpuState::Free);
}

#[test]
fn of_all_that_change_the_state_at_once_one_does() {
    let fixture = fixture([vec![]]);
    let vcpu = fixture.vm.vcpu(0).unwrap();
    let (free, blocked) = (VCpuState::Free, VCpuState::Blocked);
    let there_and_back = |round| match round % 2 {
        0 => vcpu.transition_state(free, blocked),
        _ => vcpu.transition_state(blocked, free),
    };
    assert_eq!(winners(200, there_and_back), [1; 200]);
    assert_eq!(vcpu.state(), VCpuState::Free);
}

#[test]
fn of_all_that_run_a_vcpu_at_once_one_does() {
    let fixture = booted([vec![Step::UntilKicked, Step::Exit(Exit::Halt)]]);
    let refused = AtomicUsize::default();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| match fixture.vm.run_vcpu(0) {
                Ok(reason) => assert_eq!(reason, Exit::Nothing),
                Err(Error::VCpu(vcpu::Error::BadState { operation: "bind", .. })) => {
                    refused.fetch_add(1, Ordering::SeqCst);
                }
                Err(other) => panic!("{other}"),
            });
        }
        wait_until("the others are refused", || refused.load(Ordering::SeqCst) == THREADS - 1);
        assert_eq!(fixture.state(0), VCpuState::Running);
        fixture.vm.vcpu(0).unwrap().kick();
    });
    assert_eq!(fixture.vm.run_vcpu(0).unwrap(), Exit::Halt);
}

#[test]
fn whatever_threads_do_in_whatever_order_one_holds_it_and_it_stays_alive() {
    let fixture = fixture([vec![Step::Exit(Exit::Nothing); 40_000]]);
    let vcpu = fixture.vm.vcpu(0).unwrap();
    let holders = AtomicUsize::default();
    thread::scope(|scope| {
        for id in 0..THREADS {
            let holders = &holders;
            scope.spawn(move || {
                for turn in 0..5_000 {
                    let (free, blocked) = (VCpuState::Free, VCpuState::Blocked);
                    let result = match (id + turn) % 5 {
                        0 => vcpu.setup(RAM, 0, VCpuSetup::default()),
                        1 => vcpu.transition_state(free, blocked),
                        2 => vcpu.transition_state(blocked, free),
                        _ => vcpu.bind().map(|mut bound| {
                            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                            bound.run().unwrap();
                            assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1);
                        }),
                    };
                    if let Err(error) = result {
                        assert!(matches!(error, vcpu::Error::BadState { .. }), "{error}");
                    }
                }
            });
        }
    });
    vcpu.setup(RAM, 0, VCpuSetup::default()).unwrap();
    assert_eq!(vcpu.bind().unwrap().run().unwrap(), Exit::Nothing);
}

#[test]
fn a_vcpu_that_says_it_is_free_can_be_bound() {
    let fixture = fixture([vec![]]);
    let vcpu = fixture.vm.vcpu(0).unwrap();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..10_000 {
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

#[test]
fn a_setup_is_never_refused_for_what_the_vcpus_thread_is_about_to_wait_for() {
    let fixture = fixture([vec![]]);
    let vcpu = fixture.vm.vcpu(0).unwrap();
    let (free, blocked) = (VCpuState::Free, VCpuState::Blocked);
    let (begin, waits) = (Barrier::new(2), AtomicBool::new(true));
    thread::scope(|scope| {
        scope.spawn(|| {
            begin.wait();
            while waits.load(Ordering::Relaxed) {
                vcpu.transition_state(free, blocked).unwrap();
                // The other thread's setup may have come between.
                let _ = vcpu.transition_state(blocked, free);
            }
        });
        begin.wait();
        let refused = (0..20_000).find_map(|_| vcpu.setup(RAM, 0, VCpuSetup::default()).err());
        waits.store(false, Ordering::Relaxed);
        assert!(refused.is_none(), "{refused:?}");
    });
}

#[test]
fn a_cpu_can_be_started_also_while_its_thread_only_begins_to_wait_for_that() {
    let up = Step::Exit(Exit::CpuUp { target_cpu: 1, entry_point: RAM, arg: 0 });
    for _ in 0..50 {
        let fixture = fixture([
            vec![up.clone(), Step::Down(StopCause::Shutdown)],
            vec![Step::Exit(Exit::CpuDown { _state: 0 })],
        ]);
        assert_eq!(fixture.run().exit_status(), 0);
        assert_eq!(fixture.asked(), [answer(0)]);
        let setups = |call: &Call| matches!(call, Call::Setup { vcpu_id: 1, .. });
        assert_eq!(fixture.hal.calls().iter().filter(|call| setups(call)).count(), 2);
    }
}
