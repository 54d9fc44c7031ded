//! The library, as a program of one's own uses it: the example, over this machine's KVM.

mod common;

#[path = "../examples/own_device.rs"]
#[expect(dead_code, reason = "its main, which asks for a command line")]
mod own_device;

use std::sync::Arc;

use axvmm::{devices::console::RecordingConsole, vm::StopReason};
use common::{axvmm, guest, run};

#[test]
fn a_vmm_with_a_device_of_its_own_runs_a_guest() {
    let console = Arc::<RecordingConsole>::default();
    let guest = guest("own-device").to_str().unwrap().to_owned();
    let ended = own_device::run(guest.clone(), console.clone()).unwrap();
    assert!(matches!(ended, StopReason::Shutdown), "{ended}");
    assert_eq!(String::from_utf8(console.bytes()).unwrap(), "own-device: 21 doubled is 42\r\n");
    // It is the example's device that the guest found: axvmm itself has none there.
    let without = run(axvmm().args(["run", "-m", "16M", "-k"]).arg(guest));
    without.assert(0, "own-device: 21 doubled is 4294967295");
}

#[test]
fn a_vmm_is_fewer_than_60_lines() {
    let lines = include_str!("../examples/own_device.rs").lines().count();
    assert!(lines < 60, "{lines}");
}

#[test]
fn what_is_wrong_is_the_librarys_own_error() {
    let console = Arc::<RecordingConsole>::default();
    let error = own_device::run("no/such/guest".to_owned(), console).unwrap_err();
    assert!(error.to_string().contains("no/such/guest"), "{error}");
}
