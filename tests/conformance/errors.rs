//! Errors on every way through a vCPU's life: told, and never the end of the vCPU itself.

use std::{
    env, panic,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axvmm::{
    addr::{AccessWidth, GuestPhysAddr},
    hal::{StopCause, VCpuSetup},
    scripted::{Call, ScriptedHal, Step},
    vcpu::{self, VCpuState},
    vm::{Error, StopReason, VCpuThreads, VMStatus},
};
use nix::{
    sys::resource::{Resource, setrlimit},
    unistd::{Uid, geteuid, setresuid},
};

use crate::fixture::*;

/// What may go wrong, how the vCPU is left, and whether it needs a new `setup` then.
fn goes_wrong(operation: &'static str) -> (Fixture, VCpuState) {
    let first = match operation {
        "run" => Step::Fail(libc::EFAULT),
        "device" => Step::Exit(load(MMIO_PANICS, AccessWidth::Byte)),
        "ends" => Step::Exit(store(MMIO, AccessWidth::Byte, 0xf1)),
        _ => Step::Exit(Exit::Nothing),
    };
    let fixture = booted([vec![first, Step::Exit(Exit::Halt), Step::Exit(Exit::Halt)]]);
    fixture.hal.fail_after(operation, 0);
    let vcpu = fixture.vm.vcpu(0).unwrap();
    let run = || fixture.vm.run_vcpu(0);
    let left = match operation {
        "setup" => {
            vcpu.setup(RAM, 0, VCpuSetup::default()).unwrap_err();
            VCpuState::Free
        }
        "bind" => {
            assert!(matches!(run(), Err(Error::VCpu(vcpu::Error::Hal { vcpu_id: 0, .. }))));
            VCpuState::Free
        }
        "run" => {
            assert!(matches!(run(), Err(Error::VCpu(vcpu::Error::Hal { vcpu_id: 0, .. }))));
            VCpuState::Invalid
        }
        // The run itself went well.
        "unbind" => {
            assert_eq!(run().unwrap(), Exit::Nothing);
            VCpuState::Invalid
        }
        "ends" => {
            assert!(matches!(run(), Ok(Exit::MmioWrite { .. })));
            VCpuState::Free
        }
        "device" => {
            panic::catch_unwind(panic::AssertUnwindSafe(run)).unwrap_err();
            VCpuState::Free
        }
        other => panic!("{other}"),
    };
    fixture.hal.fail_after(operation, usize::MAX);
    (fixture, left)
}

const ALL: [&str; 6] = ["setup", "bind", "run", "unbind", "ends", "device"];

#[test]
fn after_every_error_the_vcpu_can_be_set_up_and_run_again() {
    for operation in ALL {
        let (fixture, left) = goes_wrong(operation);
        let vcpu = fixture.vm.vcpu(0).unwrap();
        assert_eq!(vcpu.state(), left, "{operation}");
        // Only a vCPU whose registers cannot be trusted needs the setup.
        assert_eq!(vcpu.bind().is_ok(), left == VCpuState::Free, "{operation}");
        vcpu.setup(RAM, 0, VCpuSetup::default()).unwrap();
        vcpu.bind().unwrap().run().unwrap();
        assert_eq!(vcpu.state(), VCpuState::Free, "{operation}");
    }
}

#[test]
fn whatever_was_bound_is_unbound() {
    for operation in ALL {
        let (fixture, _) = goes_wrong(operation);
        let count = |what| fixture.hal.calls().into_iter().filter(|call| *call == what).count();
        assert_eq!(count(Call::Bind(0)), count(Call::Unbind(0)), "{operation}");
    }
}

#[test]
fn an_error_of_one_vcpu_ends_the_vm_and_all_threads() {
    for first in [
        Step::Fail(libc::EFAULT),
        Step::Exit(load(MMIO_PANICS, AccessWidth::Byte)),
        Step::Exit(store(MMIO_PANICS, AccessWidth::Byte, 1)),
    ] {
        let up = Step::Exit(Exit::CpuUp { target_cpu: 1, entry_point: RAM, arg: 0 });
        // One runs, one waits to be started, and the third has the error.
        let up_2 = Step::Exit(Exit::CpuUp { target_cpu: 2, entry_point: RAM, arg: 0 });
        let fixture = fixture([vec![up, up_2], vec![first.clone()], vec![], vec![]]);
        let last = Arc::new(AtomicUsize::default());
        let counted = last.clone();
        let counts = move || {
            counted.fetch_add(1, Ordering::SeqCst);
        };
        let threads = VCpuThreads::spawn(&fixture.vm, counts).unwrap();
        fixture.vm.boot().unwrap();
        let reason = threads.join();
        assert_eq!(reason.exit_status(), 1, "{first:?}: {reason}");
        assert!(matches!(reason, StopReason::Failed(_)), "{first:?}: {reason}");
        assert_eq!(fixture.vm.status(), VMStatus::Stopped);
        assert_eq!(last.load(Ordering::SeqCst), 1, "{first:?}");
        for vcpu in fixture.vm.vcpu_list() {
            vcpu.setup(RAM, 0, VCpuSetup::default()).unwrap();
            assert_eq!(vcpu.bind().map(drop).map_err(|error| error.to_string()), Ok(()));
        }
    }
}

#[test]
fn a_bind_or_unbind_that_fails_on_a_thread_ends_the_vm() {
    for (operation, successes) in [("bind", 0), ("bind", 1), ("unbind", 0)] {
        let fixture = fixture([vec![Step::Exit(Exit::Nothing), Step::Exit(Exit::Nothing)]]);
        fixture.hal.fail_after(operation, successes);
        let reason = fixture.run();
        assert!(matches!(reason, StopReason::Failed(_)), "{operation}: {reason}");
    }
}

#[test]
fn a_host_cpu_that_is_not_there_is_told_before_any_thread_starts() {
    let hal = ScriptedHal::new([vec![], vec![]]);
    let config = axvmm::vm::config::CpuConfig { phys_cpu_sets: vec![usize::MAX, 0], ..cpus(2) };
    let vm = build(&hal, config, Default::default()).unwrap();
    let error = VCpuThreads::spawn(&vm, || ()).err().unwrap();
    assert!(matches!(error, Error::Affinity { vcpu_id: 1, mask: 0, .. }), "{error}");
    assert!(error.to_string().contains("vCPU 1"), "{error}");
    assert_eq!(vm.vcpu(0).unwrap().state(), VCpuState::Free);
}

/// Makes the same test again in a process that may have no more than so many threads.
const IN_A_PROCESS_OF_ITS_OWN: &str = "AXVMM_TEST_WITHOUT_THREADS";

#[test]
fn a_thread_that_cannot_start_ends_those_that_have() {
    if env::var_os(IN_A_PROCESS_OF_ITS_OWN).is_none() {
        let own = "errors::a_thread_that_cannot_start_ends_those_that_have";
        let status = Command::new(env::current_exe().unwrap())
            .args(["--exact", own, "--test-threads=1"])
            .env(IN_A_PROCESS_OF_ITS_OWN, "1")
            .status();
        assert!(status.unwrap().success());
        return;
    }
    const VCPUS: usize = 16;
    let hal = ScriptedHal::new([const { Vec::new() }; VCPUS]);
    let vm = build(&hal, cpus(VCPUS), Default::default()).unwrap();
    setrlimit(Resource::RLIMIT_NPROC, 4, 4).unwrap();
    // The limit is one for users, and counts all that they run: this one runs nothing else. Whoever
    // is no superuser runs more than that already, and has no thread at all.
    let is_root = geteuid().is_root();
    if is_root {
        let nobody = Uid::from_raw(4_294_900_000);
        setresuid(nobody, nobody, nobody).unwrap();
    }
    let error = VCpuThreads::spawn(&vm, || ()).err().unwrap();
    let Error::Spawn { vcpu_id, .. } = error else { panic!("{error}") };
    assert!((usize::from(is_root)..VCPUS).contains(&vcpu_id), "{error}");
    assert_eq!(vm.status(), VMStatus::Stopped);
    assert_eq!(vm.stop_reason().unwrap().exit_status(), 1);
    for vcpu in vm.vcpu_list() {
        assert_eq!(vcpu.bind().map(drop).map_err(|error| error.to_string()), Ok(()));
    }
}

#[test]
fn each_call_below_may_fail_while_the_vm_is_made_and_nothing_is_left_behind() {
    for (operation, successes) in [
        ("map_memory", 0),
        ("create_vcpu", 1),
        ("setup", 1),
        ("trap_sys_regs", 0),
        ("vcpus_are_made", 0),
    ] {
        let fixture = fixture([vec![]]);
        drop(fixture.vm);
        assert_eq!(Arc::strong_count(&fixture.hal), 1);
        let hal = ScriptedHal::new([vec![], vec![]]);
        hal.fail_after(operation, successes);
        let made = build(&hal, cpus(2), devices(&Written::default()));
        let error = made.map(drop).unwrap_err().to_string();
        assert!(error.contains(operation) || operation == "map_memory", "{operation}: {error}");
        assert_eq!(Arc::strong_count(&hal), 1, "{operation}");
    }
}

#[test]
fn a_fault_is_told_with_registers_code_and_the_way_there() {
    let fixture = fixture([vec![
        Step::Exit(Exit::IoRead { port: PORT, width: AccessWidth::Byte }),
        Step::Down(StopCause::TripleFault),
    ]]);
    fixture.vm.address_space().write(RAM, &[0x0f, 0x0b]).unwrap();
    let text = fixture.run().to_string();
    for part in ["vCPU 0", "triple fault", "0f 0b 00", "IoRead", "SystemDown", "PC"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert_eq!(fixture.vm.read_from_guest_of::<u8>(GuestPhysAddr(RAM.0 + 1)).unwrap(), 0x0b);
}
