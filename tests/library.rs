//! The library, as a program of one's own uses it: the example, over this machine's KVM.

mod common;

#[path = "../examples/own_device.rs"]
#[expect(dead_code, reason = "its main, which asks for a command line")]
mod own_device;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axvmm::{
    AxVMHal,
    config::{self, OneOff},
    devices::{
        Effect,
        console::RecordingConsole,
        custom::{Device, Kinds, NoKeys, Parts, Register},
    },
    kvm::KvmHal,
    machine::{Machine, Plan},
    vm::StopReason,
};
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

/// The example's device, as a kind that configurations ask for.
#[derive(Default)]
struct Doubler(AtomicU64);

impl Device for Doubler {
    const KIND: &'static str = "doubler";
    const REGISTERS: &'static [Register] = &[Register::dword("VALUE", 0)];
    type Keys = NoKeys;

    fn new(_: NoKeys, _: Parts) -> Result<Self, String> {
        Ok(Self::default())
    }

    fn read(&self, _: u64) -> u64 {
        2 * self.0.load(Ordering::Relaxed)
    }

    fn write(&self, _: u64, value: u64) -> Effect {
        self.0.store(value, Ordering::Relaxed);
        Effect::None
    }
}

#[test]
fn a_device_of_a_kind_of_ones_own_is_in_a_guest_that_asks_for_it() {
    let kernel = guest("own-device").to_str().unwrap().to_owned();
    let guest = OneOff { kernel, memory: Some("16M".to_owned()), ..OneOff::default() };
    let row = "devices.custom=[{kind = \"doubler\", at = 0xd000_0000}]";
    let kinds = Kinds::new().with::<Doubler>();
    let hardware = KvmHal::new().unwrap();
    let config = config::from_args_with(&guest, &[row.into()], &kinds).unwrap();
    let plan = Plan::new(&config, &hardware.platform().unwrap()).unwrap();
    let console = Arc::<RecordingConsole>::default();
    let machine = Machine::build(&plan, hardware, console.clone(), &Arc::default()).unwrap();
    assert!(matches!(machine.run().unwrap(), StopReason::Shutdown));
    assert_eq!(String::from_utf8(console.bytes()).unwrap(), "own-device: 21 doubled is 42\r\n");
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
