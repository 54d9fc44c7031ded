//! The states of a vCPU: what each operation makes of each of them, tried by the thread that has
//! the vCPU and by another.

use std::{sync::Arc, thread};

use axvmm::{
    addr::GuestPhysAddr,
    hal::{AxVMHal, VCpuSetup},
    scripted::{ScriptedHal, ScriptedVCpu, Step},
    vcpu::{
        AxVCpu, Error,
        VCpuState::{self, Blocked, Created, Free, Invalid, Ready, Running},
    },
};

use crate::fixture::{Exit, wait_until};

const ALL: [VCpuState; 6] = [Invalid, Created, Free, Ready, Running, Blocked];

type VCpu = AxVCpu<ScriptedVCpu>;

/// A vCPU that was just made, with this script.
fn created(script: Vec<Step>) -> (Arc<ScriptedHal>, VCpu) {
    let hal = ScriptedHal::new([script]);
    let config = hal.vcpu_create_config(0, 0, 1).unwrap();
    let vcpu = VCpu::new(0, 0, 0, None, config).unwrap();
    (hal, vcpu)
}

fn setup(vcpu: &VCpu) -> Result<(), Error> {
    vcpu.setup(GuestPhysAddr(0x1000), 0, VCpuSetup::default())
}

/// What another thread does to a vCPU.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Setup,
    SetEntry,
    /// Binds and lets go.
    Bind,
    /// Binds, runs and lets go.
    Run,
    Transition(VCpuState, VCpuState),
}

impl Operation {
    fn all() -> impl Iterator<Item = Self> {
        let pairs = ALL.into_iter().flat_map(|from| ALL.map(|to| Self::Transition(from, to)));
        [Self::Setup, Self::SetEntry, Self::Bind, Self::Run].into_iter().chain(pairs)
    }

    fn apply(self, vcpu: &VCpu) -> Result<(), Error> {
        match self {
            Self::Setup => setup(vcpu),
            Self::SetEntry => vcpu.set_entry(GuestPhysAddr(0x2000)),
            Self::Bind => vcpu.bind().map(drop),
            Self::Run => vcpu.bind()?.run().map(drop),
            Self::Transition(from, to) => vcpu.transition_state(from, to),
        }
    }

    /// The state that it leads to from `state`; `None`: it is refused.
    fn leads_to(self, state: VCpuState) -> Option<VCpuState> {
        let is_bound = matches!(state, Ready | Running);
        match self {
            Self::Setup => (!is_bound).then_some(Free),
            Self::SetEntry => (!is_bound).then_some(state),
            Self::Bind | Self::Run => (state == Free).then_some(Free),
            Self::Transition(Free, Blocked) => (state == Free).then_some(Blocked),
            Self::Transition(Blocked, Free) => (state == Blocked).then_some(Free),
            Self::Transition(..) => None,
        }
    }
}

/// Calls `with` a vCPU in this state, whatever holds it there, and leaves it.
fn in_state(state: VCpuState, with: impl FnOnce(&ScriptedHal, &VCpu) + Send) {
    let halt = || Step::Exit(Exit::Halt);
    match state {
        Created => {
            let (hal, vcpu) = created(vec![halt()]);
            with(&hal, &vcpu);
        }
        Invalid => {
            let (hal, vcpu) = created(vec![Step::Fail(libc::EFAULT), halt()]);
            setup(&vcpu).unwrap();
            vcpu.bind().unwrap().run().unwrap_err();
            with(&hal, &vcpu);
        }
        Free | Blocked => {
            let (hal, vcpu) = created(vec![halt()]);
            setup(&vcpu).unwrap();
            if state == Blocked {
                vcpu.transition_state(Free, Blocked).unwrap();
            }
            with(&hal, &vcpu);
        }
        Ready => {
            let (hal, vcpu) = created(vec![]);
            setup(&vcpu).unwrap();
            let bound = vcpu.bind().unwrap();
            thread::scope(|scope| scope.spawn(|| with(&hal, &vcpu)).join().unwrap());
            drop(bound);
            assert_eq!(vcpu.state(), Free);
        }
        Running => {
            let (hal, vcpu) = created(vec![Step::UntilKicked]);
            setup(&vcpu).unwrap();
            thread::scope(|scope| {
                let runs = scope.spawn(|| vcpu.bind().unwrap().run());
                wait_until("it runs", || vcpu.state() == Running);
                with(&hal, &vcpu);
                vcpu.kick();
                assert_eq!(runs.join().unwrap().unwrap(), Exit::Nothing);
            });
            assert_eq!(vcpu.state(), Free);
        }
    }
}

#[test]
fn each_operation_on_each_state_does_its_step_or_changes_nothing() {
    for state in ALL {
        for operation in Operation::all() {
            in_state(state, |hal, vcpu| {
                assert_eq!(vcpu.state(), state);
                let before = hal.calls().len();
                let result = operation.apply(vcpu);
                let what = format!("{operation:?} of one that is {state}: {result:?}");
                assert_eq!(result.is_ok(), operation.leads_to(state).is_some(), "{what}");
                assert_eq!(vcpu.state(), operation.leads_to(state).unwrap_or(state), "{what}");
                if result.is_err() {
                    assert_eq!(hal.calls().len(), before, "the hardware was asked: {what}");
                }
            });
        }
    }
}

#[test]
fn a_refusal_says_what_was_found_and_what_is_needed() {
    in_state(Running, |_, vcpu| {
        let error = vcpu.bind().err().unwrap();
        assert_eq!(error.to_string(), "vCPU 0 is Running, and bind needs it to be Free");
    });
    in_state(Free, |_, vcpu| {
        let error = vcpu.transition_state(Created, Ready).unwrap_err();
        assert!(error.to_string().contains("cannot be made Ready from Created"), "{error}");
    });
}

#[test]
fn after_whatever_state_a_vcpu_can_be_set_up_and_run() {
    for state in [Invalid, Created, Free, Blocked] {
        in_state(state, |_, vcpu| {
            setup(vcpu).unwrap();
            assert_eq!(vcpu.bind().unwrap().run().unwrap(), Exit::Halt, "{state}");
            assert_eq!(vcpu.state(), Free);
        });
    }
}

#[test]
fn running_is_seen_from_outside_and_ready_between_runs() {
    let (_, vcpu) = created(vec![Step::UntilKicked, Step::Exit(Exit::Halt)]);
    setup(&vcpu).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut bound = vcpu.bind().unwrap();
            assert_eq!(vcpu.state(), Ready);
            assert_eq!(bound.run().unwrap(), Exit::Nothing);
            assert_eq!(vcpu.state(), Ready);
            assert_eq!(bound.run().unwrap(), Exit::Halt);
        });
        wait_until("it runs", || vcpu.state() == Running);
        vcpu.kick();
    });
    assert_eq!(vcpu.state(), Free);
}

#[test]
fn a_failed_run_is_not_followed_by_another_before_a_setup() {
    let (_, vcpu) = created(vec![Step::Fail(libc::EFAULT), Step::Exit(Exit::Halt)]);
    setup(&vcpu).unwrap();
    let mut bound = vcpu.bind().unwrap();
    bound.run().unwrap_err();
    let again = bound.run().unwrap_err();
    assert!(matches!(again, Error::BadState { wanted: Ready, found: Invalid, .. }), "{again}");
    drop(bound);
    assert_eq!(vcpu.state(), Invalid);
    setup(&vcpu).unwrap();
    assert_eq!(vcpu.bind().unwrap().run().unwrap(), Exit::Halt);
}
