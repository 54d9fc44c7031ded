//! A guest under a debugger: who stops, who is told, and how all go on.

use std::sync::{
    Arc, Mutex,
    mpsc::{Sender, channel},
};

use axvmm::{
    hal::{DebugStop, DebugVCpu, StopCause, VCpuId},
    scripted::{Call, Step},
    vm::{Debugging, GuestStop, StopReason, VCpuThreads, Watcher},
};

use crate::fixture::*;

struct Told(Mutex<Sender<(VCpuId, GuestStop)>>);

impl Watcher for Told {
    fn stopped(&self, vcpu_id: VCpuId, why: GuestStop) {
        self.0.lock().unwrap().send((vcpu_id, why)).unwrap();
    }
}

#[test]
fn a_debuggers_breakpoint_stops_all_and_the_guests_own_is_its_own() {
    let (own, ours) = (DebugStop::Breakpoint(RAM.0 + 8), DebugStop::Breakpoint(RAM.0));
    let script = vec![Step::Debug(own), Step::Debug(ours), Step::Down(StopCause::Shutdown)];
    let fixture = fixture([script, vec![]]);
    let vm = &fixture.vm;
    let (sender, stops) = channel();
    let watcher = Arc::new(Told(Mutex::new(sender)));
    let threads = VCpuThreads::spawn(vm, || ()).unwrap();
    assert!(vm.wait_until_at_rest(), "not booted is at rest");
    vm.set_debugging(Some(Debugging { watcher, watches: vec![], breakpoints: vec![RAM] }));
    vm.go_on(|_| false).unwrap();
    assert_eq!(stops.recv().unwrap(), (0, GuestStop::Hardware(ours)));
    assert!(vm.wait_until_at_rest());
    let passed = fixture.hal.calls().iter().filter(|it| **it == Call::PassBreakpoint(0)).count();
    assert_eq!(passed, 1);
    for vcpu_id in 0..2 {
        vm.inspect(vcpu_id, |vcpu| vcpu.registers().unwrap()).unwrap();
    }
    vm.go_on(|_| false).unwrap();
    let ended = threads.join();
    assert!(matches!(ended, StopReason::Shutdown), "{ended}");
    assert!(stops.try_recv().is_err(), "nothing else");
}
