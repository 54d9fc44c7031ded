//! Interrupts: injected by any thread into any vCPUs, and through a controller that is a device.

use std::{sync::Arc, thread};

use axvmm::{
    addr::{AccessWidth, GuestPhysAddr, GuestPhysAddrRange},
    devices::{
        Access, AxVmDevices, BaseDeviceOps, Effect, IrqLine,
        plic::{self, Plic},
    },
    hal::StopCause,
    scripted::{Call, ScriptedHal, Step},
    vcpu::VCpuState,
    vm::{Error, VCpuThreads},
};

use crate::fixture::*;

const OFF: Step = Step::Down(StopCause::Shutdown);

fn injected(fixture: &Fixture) -> Vec<usize> {
    let id = |call| match call {
        Call::Inject { vcpu_id, irq: 0x30 } => Some(vcpu_id),
        _ => None,
    };
    fixture.hal.calls().into_iter().filter_map(id).collect()
}

#[test]
fn an_injection_wakes_a_vcpu_that_is_halted_in_the_thread_or_below() {
    for halt in [Step::Exit(Exit::Halt), Step::UntilIrq] {
        let fixture = fixture([vec![halt.clone(), OFF]]);
        let threads = VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
        fixture.vm.boot().unwrap();
        let is_halted = match halt {
            Step::UntilIrq => VCpuState::Running,
            _ => VCpuState::Blocked,
        };
        fixture.wait_for(0, is_halted);
        fixture.vm.inject_interrupt_to_vcpu([0], 0x30).unwrap();
        assert_eq!(threads.join().exit_status(), 0);
        assert_eq!(injected(&fixture), [0]);
    }
}

#[test]
fn an_injection_that_comes_before_the_halt_is_not_lost() {
    for halt in [Step::Exit(Exit::Halt), Step::UntilIrq] {
        let fixture = fixture([vec![halt, OFF]]);
        fixture.vm.inject_interrupt_to_vcpu([0], 0x30).unwrap();
        assert_eq!(fixture.run().exit_status(), 0);
    }
}

#[test]
fn a_kick_is_no_interrupt() {
    let fixture = booted([vec![Step::UntilIrq, Step::Exit(Exit::Halt)]]);
    fixture.vm.vcpu(0).unwrap().kick();
    assert_eq!(fixture.vm.run_vcpu(0).unwrap(), Exit::Nothing);
    fixture.vm.inject_interrupt_to_vcpu([0], 0x30).unwrap();
    assert_eq!(fixture.vm.run_vcpu(0).unwrap(), Exit::Halt);
}

#[test]
fn targets_are_any_iterator_of_ids_and_more_than_64() {
    let fixture = fixture([const { Vec::new() }; 130]);
    let inject = |targets: &mut dyn FnMut() -> Vec<usize>| {
        fixture.vm.inject_interrupt_to_vcpu(targets(), 0x30).unwrap();
    };
    let mut expect = Vec::new();
    for mask in [vec![], vec![0], vec![129, 64, 63], (0..130).collect()] {
        inject(&mut || mask.clone());
        expect.extend(mask);
        assert_eq!(injected(&fixture), expect);
    }
    let mask = 0b1010_u64;
    let of_mask = (0..64).filter(|id| mask >> id & 1 == 1);
    fixture.vm.inject_interrupt_to_vcpu(of_mask, 0x30).unwrap();
    assert_eq!(injected(&fixture)[expect.len()..], [1, 3]);
}

#[test]
fn with_one_target_that_is_not_there_nobody_is_interrupted() {
    let fixture = fixture([vec![], vec![]]);
    for targets in [vec![0, 1, 2], vec![usize::MAX], vec![2, 0]] {
        let error = fixture.vm.inject_interrupt_to_vcpu(targets, 0x30).unwrap_err();
        assert!(matches!(error, Error::NoSuchVCpu { count: 2, .. }), "{error}");
    }
    assert!(injected(&fixture).is_empty());
}

#[test]
fn many_threads_may_inject_at_once() {
    let fixture = fixture([vec![Step::UntilIrq; 400].into_iter().chain([OFF]).collect()]);
    let threads = VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
    fixture.vm.boot().unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    fixture.vm.inject_interrupt_to_vcpu([0], 0x30).unwrap();
                }
            });
        }
    });
    assert_eq!(threads.join().exit_status(), 0);
    assert_eq!(injected(&fixture).len(), 400);
}

const PLIC: GuestPhysAddr = GuestPhysAddr(0xc00_0000);
const BUTTON: GuestPhysAddr = GuestPhysAddr(0xa00_0000);
const SOURCE: u32 = 40;

/// A level-triggered device: 1 raises its line, 0 lowers it; 2 is an edge.
struct Button {
    line: IrqLine,
}

impl BaseDeviceOps<GuestPhysAddrRange> for Button {
    fn name(&self) -> &str {
        "button"
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        GuestPhysAddrRange::new(BUTTON, 4).unwrap()
    }

    fn handle_read(&self, _: u64, _: AccessWidth) -> Result<u64, Access> {
        Err(Access::WriteOnly)
    }

    fn handle_write(&self, _: u64, _: AccessWidth, val: u64) -> Result<Effect, Access> {
        match val {
            2 => self.line.pulse(),
            level => self.line.set(level == 1),
        }
        Ok(Effect::None)
    }
}

fn write(addr: u64, data: u32) -> Step {
    Step::Exit(store(GuestPhysAddr(addr), AccessWidth::Dword, data.into()))
}

/// The claim register of vCPU 1's context: read to claim, written to complete.
const CLAIM: u64 = PLIC.0 + 0x20_0000 + 0x1000 + 4;

fn claim() -> Step {
    Step::Exit(load(GuestPhysAddr(CLAIM), AccessWidth::Dword))
}

fn complete() -> Step {
    write(CLAIM, SOURCE)
}

fn button(value: u32) -> Step {
    write(BUTTON.0, value)
}

/// vCPU 0 starts vCPU 1 and does `first`, while vCPU 1 waits for the button's interrupt and does
/// `second`; then the machine is off. What vCPU 1's claims were answered, and what its pin did.
fn presses(first: Vec<Step>, second: Vec<Step>) -> (Vec<u64>, Vec<bool>) {
    let up = Step::Exit(Exit::CpuUp { target_cpu: 1, entry_point: RAM, arg: 0 });
    let enable = [
        write(PLIC.0 + 4 * u64::from(SOURCE), 1),
        write(PLIC.0 + 0x2000 + 0x80 + 4 * u64::from(SOURCE / 32), 1 << (SOURCE % 32)),
    ];
    let first: Vec<_> = enable.into_iter().chain([up]).chain(first).collect();
    let second: Vec<_> = [Step::UntilIrq].into_iter().chain(second).chain([OFF]).collect();
    let hal = ScriptedHal::new([first, second]);
    let window = GuestPhysAddrRange::new(PLIC, plic::size(2)).unwrap();
    let plic = Arc::new(Plic::new(window, hal.clone(), 2));
    let mut devices = AxVmDevices::new();
    devices.add_mmio_dev(Arc::new(Button { line: IrqLine::new(plic.clone(), SOURCE) })).unwrap();
    devices.add_mmio_dev(plic).unwrap();
    let vm = build(&hal, cpus(2), devices).unwrap();
    let fixture = Fixture { vm, hal, written: Written::default() };
    assert_eq!(fixture.run().exit_status(), 0);
    let calls = fixture.hal.calls();
    let claims = calls.iter().filter_map(|call| match call {
        Call::SetGpr { vcpu_id: 1, val, .. } => Some(*val),
        _ => None,
    });
    let pin = calls.iter().filter_map(|call| match call {
        Call::ExternalIrq { vcpu_id: 1, high } => Some(*high),
        Call::ExternalIrq { .. } => panic!("the other's pin: {calls:?}"),
        _ => None,
    });
    (claims.collect(), pin.collect())
}

#[test]
fn a_controller_in_userspace_wakes_the_vcpu_that_claims_and_completes() {
    let (claims, pin) = presses(vec![button(1)], vec![claim(), button(0), complete(), claim()]);
    assert_eq!(claims, [SOURCE.into(), 0], "one interrupt, and then none");
    assert_eq!(pin, [true, false]);
}

#[test]
fn a_level_stays_pending_until_the_device_lowers_it() {
    let second = vec![
        claim(),
        complete(),
        // The line is high still: it comes again.
        Step::UntilIrq,
        claim(),
        button(0),
        complete(),
        claim(),
    ];
    let (claims, pin) = presses(vec![button(1)], second);
    assert_eq!(claims, [SOURCE.into(), SOURCE.into(), 0]);
    assert_eq!(pin, [true, false, true, false]);
}

#[test]
fn an_edge_comes_once() {
    let (claims, pin) = presses(vec![button(2)], vec![claim(), complete(), claim()]);
    assert_eq!(claims, [SOURCE.into(), 0]);
    assert_eq!(pin, [true, false]);
}

#[test]
fn a_device_may_raise_its_line_from_any_thread() {
    let hal = ScriptedHal::new([vec![Step::UntilIrq, OFF]]);
    let window = GuestPhysAddrRange::new(PLIC, plic::size(1)).unwrap();
    let plic = Arc::new(Plic::new(window, hal.clone(), 1));
    let line = IrqLine::new(plic.clone(), 1);
    let mut devices = AxVmDevices::new();
    devices.add_mmio_dev(plic.clone()).unwrap();
    let vm = build(&hal, cpus(1), devices).unwrap();
    let fixture = Fixture { vm, hal, written: Written::default() };
    let threads = VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
    fixture.vm.boot().unwrap();
    fixture.wait_for(0, VCpuState::Running);
    line.set(true);
    for (offset, value) in [(4, 1), (0x2000, 2)] {
        assert_eq!(fixture.state(0), VCpuState::Running, "it waits until the source is enabled");
        assert_eq!(plic.handle_write(offset, AccessWidth::Dword, value), Ok(Effect::None));
    }
    assert_eq!(threads.join().exit_status(), 0);
}
