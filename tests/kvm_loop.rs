//! `AxVM::run_vcpu` over this machine's own KVM, through the public API.

#[cfg_attr(target_arch = "x86_64", path = "kvm_loop/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "kvm_loop/aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "kvm_loop/riscv64.rs")]
mod arch;

use std::{
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use axvmm::{
    addr::{AccessWidth, DeviceAddrRange, GuestPhysAddrRange, MappingFlags},
    addrspace::AddrSpace,
    devices::{Access, AxVmDevices, BaseDeviceOps, Effect, EmuDeviceType},
    hal::{AxVMHal, VCpuSetup},
    kvm::KvmHal,
    vcpu::VCpuState,
    vm::{AxVM, AxVMParts, AxVMRef, StopReason, VCpuThreads, VMStatus, config::CpuConfig},
};

/// A device of 8 bytes. Reads count up from 1, byte by byte; writes are recorded; writing 0xff
/// powers off.
struct Counter<R> {
    range: R,
    reads: AtomicU64,
    written: Mutex<Vec<(AccessWidth, u64)>>,
}

impl<R> Counter<R> {
    fn new(range: R) -> Self {
        Self { range, reads: AtomicU64::default(), written: Mutex::default() }
    }

    fn written(&self) -> Vec<(AccessWidth, u64)> {
        self.written.lock().unwrap().clone()
    }

    fn values(&self) -> Vec<u64> {
        self.written().into_iter().map(|(_, value)| value).collect()
    }
}

impl<R: DeviceAddrRange + Copy + Send + Sync> BaseDeviceOps<R> for Counter<R> {
    fn name(&self) -> &str {
        "counter"
    }

    fn emu_type(&self) -> EmuDeviceType {
        EmuDeviceType::Dummy
    }

    fn address_range(&self) -> R {
        self.range
    }

    fn handle_read(&self, _: u64, _: AccessWidth) -> Result<u64, Access> {
        Ok(self.reads.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn handle_write(&self, _: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        self.written.lock().unwrap().push((width, val));
        Ok(if val == 0xff { Effect::PowerOff } else { Effect::None })
    }
}

/// A register in memory whose reading suspends the VM.
#[derive(Default)]
struct Suspender {
    vm: OnceLock<Weak<AxVM<KvmHal>>>,
}

impl BaseDeviceOps<GuestPhysAddrRange> for Suspender {
    fn name(&self) -> &str {
        "suspender"
    }

    fn emu_type(&self) -> EmuDeviceType {
        EmuDeviceType::Dummy
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        GuestPhysAddrRange::new(arch::SUSPENDER, 8).unwrap()
    }

    fn handle_read(&self, _: u64, _: AccessWidth) -> Result<u64, Access> {
        self.vm.get().and_then(Weak::upgrade).unwrap().suspend().unwrap();
        Ok(0x5a)
    }

    fn handle_write(&self, _: u64, _: AccessWidth, _: u64) -> Result<Effect, Access> {
        Err(Access::ReadOnly)
    }
}

struct Fixture {
    vm: AxVMRef<KvmHal>,
    counter: Arc<arch::Counter>,
}

/// What a test wants of its VM beside the code.
struct Wants {
    cpus: usize,
    setup: VCpuSetup,
    /// Devices beside the counter and the suspender.
    devices: AxVmDevices,
    hal: Arc<KvmHal>,
}

impl Default for Wants {
    fn default() -> Self {
        let hal = KvmHal::new().expect("these tests need /dev/kvm");
        Self { cpus: 1, setup: VCpuSetup::default(), devices: AxVmDevices::new(), hal }
    }
}

/// A VM of one vCPU that runs `code` as the architecture leaves reset.
fn fixture(code: &[u8]) -> Fixture {
    fixture_with(code, Wants::default())
}

fn fixture_with(code: &[u8], wants: Wants) -> Fixture {
    let Wants { cpus, setup, mut devices, hal } = wants;
    let address_space = Arc::new(AddrSpace::new_empty(hal.clone()));
    address_space.map_alloc(arch::RAM, 0xa_0000, MappingFlags::all(), true).unwrap();
    address_space.write(arch::CODE, code).unwrap();
    let suspender = Arc::new(Suspender::default());
    let counter = arch::add_counter(&mut devices);
    devices.add_mmio_dev(suspender.clone()).unwrap();
    let vm = AxVM::new(AxVMParts {
        id: 1,
        name: "test".to_owned(),
        cpus: CpuConfig { num: cpus, phys_cpu_ids: vec![], phys_cpu_sets: vec![1; cpus] },
        hal,
        address_space,
        devices,
        entry: arch::CODE,
        setup,
    })
    .unwrap();
    suspender.vm.set(Arc::downgrade(&vm)).unwrap();
    Fixture { vm, counter }
}

fn run(fixture: &Fixture) -> StopReason {
    let threads = VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
    fixture.vm.boot().unwrap();
    threads.join()
}

#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "never: {what}");
        thread::yield_now();
    }
}

#[test]
fn a_read_that_suspends_the_vm_is_complete_before_and_right_after() {
    let fixture = fixture(arch::suspends());
    let threads = VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
    fixture.vm.boot().unwrap();
    let vcpu = fixture.vm.vcpu(0).unwrap();
    wait_until("suspended and out of the guest", || {
        fixture.vm.status() == VMStatus::Suspended && vcpu.state() == VCpuState::Free
    });
    let dump = vcpu.bind().unwrap().dump();
    let loaded = dump.registers.iter().find(|(name, _)| *name == arch::LOADS_INTO).unwrap().1;
    assert_eq!(loaded & 0xff, 0x5a, "the load is complete while suspended");
    assert!(fixture.counter.written().is_empty());
    fixture.vm.resume().unwrap();
    assert_eq!(threads.join().exit_status(), 0);
    assert_eq!(fixture.counter.written()[0].1, 0x5a);
}

#[test]
fn a_spinning_guest_is_stopped_suspended_and_told_apart_by_state() {
    let fixture = fixture(arch::spins());
    let threads = VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
    let vcpu = fixture.vm.vcpu(0).unwrap().clone();
    assert_eq!(vcpu.state(), VCpuState::Free);
    fixture.vm.boot().unwrap();
    wait_until("running", || vcpu.state() == VCpuState::Running);
    assert_eq!(KvmHal::current_vcpu(), None, "this thread is bound to none");
    fixture.vm.suspend().unwrap();
    wait_until("out of the guest", || vcpu.state() == VCpuState::Free);
    fixture.vm.resume().unwrap();
    wait_until("running again", || vcpu.state() == VCpuState::Running);
    assert!(fixture.vm.stop(StopReason::Timeout));
    assert_eq!(threads.join().exit_status(), 124);
    assert_eq!(fixture.vm.status(), VMStatus::Stopped);
}

#[test]
fn an_injected_interrupt_wakes_a_halted_vcpu() {
    let fixture = arch::halts_until_interrupted();
    let threads = VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
    fixture.vm.boot().unwrap();
    wait_until("ready", || !fixture.counter.written().is_empty());
    fixture.vm.inject_interrupt_to_vcpu([0], arch::INTERRUPT).unwrap();
    wait_until("stopped", || fixture.vm.status() == VMStatus::Stopped);
    assert_eq!(threads.join().exit_status(), 0);
}

#[test]
fn a_vcpu_that_does_not_exist_is_not_interrupted() {
    let fixture = fixture(arch::spins());
    assert!(fixture.vm.inject_interrupt_to_vcpu([1], arch::INTERRUPT).is_err());
    assert!(fixture.vm.stop(StopReason::Shutdown));
}

#[test]
fn hardware_support_is_what_kvm_says() {
    assert!(axvmm::kvm::has_hardware_support());
}
