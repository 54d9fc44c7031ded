//! `AxVM::run_vcpu` over this machine's own KVM, through the public API.
#![cfg(target_arch = "x86_64")]

use std::{
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use axvmm::{
    addr::{AccessWidth, GuestPhysAddr, GuestPhysAddrRange, MappingFlags, Port, PortRange},
    addrspace::AddrSpace,
    devices::{Access, AxVmDevices, BaseDeviceOps, Effect, EmuDeviceType},
    hal::{AxVMHal, DescriptorTable, EntryMode, VCpuSetup},
    kvm::KvmHal,
    vcpu::VCpuState,
    vm::{AxVM, AxVMParts, AxVMRef, StopReason, VCpuThreads, VMStatus, config::CpuConfig},
};

const CODE: GuestPhysAddr = GuestPhysAddr(0x8000);
const MMIO: GuestPhysAddr = GuestPhysAddr(0xb_0000);

/// Ports 0x10 to 0x17. Reads count up from 1, byte by byte; writes are recorded; writing 0xff
/// powers off.
#[derive(Default)]
struct Counter {
    reads: AtomicU64,
    written: Mutex<Vec<(AccessWidth, u64)>>,
}

impl BaseDeviceOps<PortRange> for Counter {
    fn name(&self) -> &str {
        "counter"
    }

    fn emu_type(&self) -> EmuDeviceType {
        EmuDeviceType::Dummy
    }

    fn address_range(&self) -> PortRange {
        PortRange::new(Port(0x10), 8).unwrap()
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
        GuestPhysAddrRange::new(MMIO, 8).unwrap()
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
    counter: Arc<Counter>,
}

/// A VM of one vCPU that runs `code` in real mode.
fn fixture(code: &[u8]) -> Fixture {
    fixture_with(code, VCpuSetup::default())
}

fn fixture_with(code: &[u8], setup: VCpuSetup) -> Fixture {
    let hal = KvmHal::new().expect("these tests need /dev/kvm");
    let mut address_space = AddrSpace::new_empty(hal.clone());
    address_space.map_alloc(GuestPhysAddr(0), 0xa_0000, MappingFlags::all(), true).unwrap();
    address_space.write(CODE, code).unwrap();
    let counter = Arc::new(Counter::default());
    let suspender = Arc::new(Suspender::default());
    let mut devices = AxVmDevices::new();
    devices.add_port_dev(counter.clone()).unwrap();
    devices.add_mmio_dev(suspender.clone()).unwrap();
    let vm = AxVM::new(AxVMParts {
        id: 1,
        name: "test".to_owned(),
        cpus: CpuConfig { num: 1, phys_cpu_ids: vec![], phys_cpu_sets: vec![1] },
        hal,
        address_space,
        devices,
        entry: CODE,
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
fn a_port_read_leaves_the_rest_of_the_register_alone() {
    #[rustfmt::skip]
    let fixture = fixture(&[
        0x66, 0xb8, 0x44, 0x33, 0x22, 0x11, // mov eax, 0x11223344
        0xe4, 0x10,                         // in al, 0x10
        0x66, 0xe7, 0x10,                   // out 0x10, eax
        0xe5, 0x10,                         // in ax, 0x10
        0x66, 0xe7, 0x10,                   // out 0x10, eax
        0xb0, 0xff, 0xe6, 0x10,             // power off
    ]);
    assert_eq!(run(&fixture).exit_status(), 0);
    let written = fixture.counter.written.lock().unwrap();
    let dword = AccessWidth::Dword;
    assert_eq!(written[..2], [(dword, 0x1122_3301), (dword, 0x1122_0002)]);
}

#[test]
fn string_instructions_reach_the_device_element_by_element() {
    #[rustfmt::skip]
    let fixture = fixture(&[
        0xba, 0x10, 0x00,       // mov dx, 0x10
        0xbf, 0x00, 0x90,       // mov di, 0x9000
        0xb9, 0x03, 0x00,       // mov cx, 3
        0xf3, 0x6d,             // rep insw
        0xbe, 0x00, 0x90,       // mov si, 0x9000
        0xb9, 0x06, 0x00,       // mov cx, 6
        0xf3, 0x6e,             // rep outsb
        0xb0, 0xff, 0xee,       // power off
    ]);
    assert_eq!(run(&fixture).exit_status(), 0);
    let written: Vec<_> = fixture.counter.written.lock().unwrap().iter().map(|w| w.1).collect();
    assert_eq!(written, [1, 0, 2, 0, 3, 0, 0xff]);
}

#[test]
fn a_read_that_suspends_the_vm_is_complete_before_and_right_after() {
    #[rustfmt::skip]
    let fixture = fixture(&[
        0xb8, 0x00, 0xb0,       // mov ax, 0xb000
        0x8e, 0xd8,             // mov ds, ax
        0xa0, 0x00, 0x00,       // mov al, [0]: the suspender
        0xe6, 0x10,             // out 0x10, al
        0xb0, 0xff, 0xe6, 0x10, // power off
    ]);
    let threads = VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
    fixture.vm.boot().unwrap();
    let vcpu = fixture.vm.vcpu(0).unwrap();
    wait_until("suspended and out of the guest", || {
        fixture.vm.status() == VMStatus::Suspended && vcpu.state() == VCpuState::Free
    });
    let dump = vcpu.bind().unwrap().dump();
    let rax = dump.registers.iter().find(|(name, _)| *name == "RAX").unwrap().1;
    assert_eq!(rax & 0xff, 0x5a, "the load is complete while suspended");
    assert!(fixture.counter.written.lock().unwrap().is_empty());
    fixture.vm.resume().unwrap();
    assert_eq!(threads.join().exit_status(), 0);
    assert_eq!(fixture.counter.written.lock().unwrap()[0].1, 0x5a);
}

#[test]
fn a_spinning_guest_is_stopped_suspended_and_told_apart_by_state() {
    let fixture = fixture(&[0xeb, 0xfe]); // jmp $
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
    let gdt = DescriptorTable { base: GuestPhysAddr(0x500), limit: 0x1f };
    let setup = VCpuSetup { mode: EntryMode::Protected32 { gdt }, gprs: vec![(4, 0x7000)] };
    #[rustfmt::skip]
    let code = [
        0x0f, 0x01, 0x1d, 0x00, 0x06, 0x00, 0x00,                   // lidt [0x600]
        0xc7, 0x05, 0xf0, 0x00, 0xe0, 0xfe, 0xff, 0x01, 0x00, 0x00, // enable the local APIC
        0xb0, 0x01, 0xe6, 0x10,                                     // out 0x10, 1: ready
        0xfb, 0xf4, 0xeb, 0xfd,                                     // sti; hlt, again and again
    ];
    let fixture = fixture_with(&code, setup);
    let memory = fixture.vm.address_space();
    let write = |at, bytes: &[u8]| memory.write(GuestPhysAddr(at), bytes).unwrap();
    write(0x510, &0x00cf_9b00_0000_ffff_u64.to_le_bytes()); // flat code
    write(0x518, &0x00cf_9300_0000_ffff_u64.to_le_bytes()); // flat data
    write(0x600, &[0xff, 0x07, 0x00, 0x10, 0, 0]); // 256 gates at 0x1000
    write(0x1000 + 8 * 0x30, &0x0000_8e00_0010_9000_u64.to_le_bytes());
    write(0x9000, &[0xb0, 0xff, 0xe6, 0x10]); // power off
    let threads = VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
    fixture.vm.boot().unwrap();
    wait_until("ready", || !fixture.counter.written.lock().unwrap().is_empty());
    fixture.vm.inject_interrupt_to_vcpu([0], 0x30).unwrap();
    wait_until("stopped", || fixture.vm.status() == VMStatus::Stopped);
    assert_eq!(threads.join().exit_status(), 0);
}

#[test]
fn a_vector_or_vcpu_that_does_not_exist_is_refused() {
    let fixture = fixture(&[0xf4]);
    assert!(fixture.vm.inject_interrupt_to_vcpu([0], 3).is_err());
    assert!(fixture.vm.inject_interrupt_to_vcpu([0], 256).is_err());
    assert!(fixture.vm.inject_interrupt_to_vcpu([1], 0x30).is_err());
    assert!(fixture.vm.stop(StopReason::Shutdown));
}

#[test]
fn hardware_support_is_what_kvm_says() {
    assert!(axvmm::kvm::has_hardware_support());
}
