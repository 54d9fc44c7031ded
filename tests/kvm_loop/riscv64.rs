//! The guests of `kvm_loop` in riscv64's code, and what only riscv64 has.

use std::{
    arch::global_asm,
    sync::{Arc, Mutex},
};

use axvmm::{
    addr::{AccessWidth, GuestPhysAddr, GuestPhysAddrRange, SysRegAddr, SysRegAddrRange},
    addrspace::AddrSpace,
    devices::{Access, AxVmDevices, BaseDeviceOps, Effect, EmuDeviceType, HypercallOps},
    hal::{AxVMHal, HypercallResult, InterruptController, IrqSink, Msi, MsiSink, Platform},
    kvm::KvmHal,
    vm::{StopReason, VCpuThreads},
};
use vmm_sys_util::eventfd::EventFd;

use super::{Fixture, Wants, fixture, fixture_with, run, wait_until};

pub const RAM: GuestPhysAddr = GuestPhysAddr(0x8000_0000);
pub const CODE: GuestPhysAddr = RAM;
pub const SUSPENDER: GuestPhysAddr = GuestPhysAddr(0x1000_1000);
/// Any would do: there is only the external interrupt.
pub const INTERRUPT: usize = 9;
/// The register that [`suspends`] reads into.
pub const LOADS_INTO: &str = "a0";

const COUNTER: GuestPhysAddr = GuestPhysAddr(0x1000_0000);
const APLIC: GuestPhysAddr = GuestPhysAddr(0x0d00_0000);
const IMSICS: GuestPhysAddr = GuestPhysAddr(0x2800_0000);

pub type Counter = super::Counter<GuestPhysAddrRange>;

pub fn add_counter(devices: &mut AxVmDevices) -> Arc<Counter> {
    let counter = Arc::new(Counter::new(GuestPhysAddrRange::new(COUNTER, 8).unwrap()));
    devices.add_mmio_dev(counter.clone()).unwrap();
    counter
}

/// Defines a function that gives a guest's code. In all of it `s0` is the counter's address, and a
/// jump to `9f` powers off.
macro_rules! guest {
    ($(#[$doc:meta])* $vis:vis fn $name:ident: $($line:literal),* $(,)?) => {
        global_asm!(
            ".pushsection .rodata.guests, \"a\"",
            ".option push",
            // Whether the compiler hands the target's extensions on depends on how it is called.
            ".option arch, rv64gc",
            ".option norvc",
            ".option norelax",
            ".balign 4",
            concat!(".globl guest_", stringify!($name)),
            concat!(".globl guest_", stringify!($name), "_end"),
            concat!("guest_", stringify!($name), ":"),
            "li s0, 0x10000000",
            $($line,)*
            "9: li a0, 0xff",
            "sb a0, 0(s0)",
            "j .",
            concat!("guest_", stringify!($name), "_end:"),
            ".option pop",
            ".popsection",
        );
        $(#[$doc])*
        $vis fn $name() -> &'static [u8] {
            // SAFETY: the assembly above defines both symbols.
            unsafe extern "C" {
                #[link_name = concat!("guest_", stringify!($name))]
                static START: u8;
                #[link_name = concat!("guest_", stringify!($name), "_end")]
                static END: u8;
            }
            // SAFETY: the two symbols are the ends of the code, in this order, in read-only data.
            unsafe {
                let (start, end) = (&raw const START, &raw const END);
                std::slice::from_raw_parts(start, end as usize - start as usize)
            }
        }
    };
}

guest! { pub fn spins: "j ." }

guest! {
    /// Reads the suspender, tells the counter, and powers off.
    pub fn suspends:
    "li s1, 0x10001000",
    "lbu a0, 0(s1)",
    "sb a0, 0(s0)",
}

guest! {
    /// Tells the counter when it is ready, waits for an external interrupt, and powers off.
    fn waits:
    "lla t0, 5f",
    "csrw stvec, t0",
    "li t0, 1 << 9", // the external interrupt, in sie
    "csrw sie, t0",
    "li t0, 1",
    "sb t0, 0(s0)",
    "csrsi sstatus, 2", // interrupts on
    "1: wfi",
    "j 1b",
    ".balign 4",
    "5: csrr t0, scause",
    "sd t0, 0(s0)",
}

pub fn halts_until_interrupted() -> Fixture {
    fixture(waits())
}

#[test]
fn it_is_the_external_interrupt_that_comes() {
    let fixture = halts_until_interrupted();
    let threads = VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
    fixture.vm.boot().unwrap();
    wait_until("ready", || !fixture.counter.written().is_empty());
    fixture.vm.inject_interrupt_to_vcpu([0], INTERRUPT).unwrap();
    assert_eq!(threads.join().exit_status(), 0);
    assert_eq!(fixture.counter.values(), [1, 1 << 63 | 9, 0xff]);
}

guest! {
    fn loads:
    "li a0, -1",
    "lbu a0, 0(s0)",
    "sd a0, 0(s0)",
    "li a0, -1",
    "lw a0, 0(s0)",
    "sw a0, 4(s0)",
    "ld a0, 0(s0)",
    "sh a0, 2(s0)",
}

#[test]
fn loads_and_stores_have_their_widths() {
    let fixture = fixture(loads());
    assert_eq!(run(&fixture).exit_status(), 0);
    let expected = [(AccessWidth::Qword, 1), (AccessWidth::Dword, 2), (AccessWidth::Word, 3)];
    assert_eq!(fixture.counter.written()[..3], expected);
}

guest! {
    /// Tells the answers of an SBI call that nobody knows, in a range that KVM leaves to us; then
    /// asks for power off.
    fn calls:
    "li a0, 5",
    "li a1, 6",
    "li a7, 0x08000001",
    "li a6, 3",
    "ecall",
    "sd a0, 0(s0)",
    "sd a1, 0(s0)",
    "li a7, 0x53525354", // SRST
    "li a6, 0",
    "li a0, 0",
    "li a1, 0",
    "ecall",
    "li a0, 0x77",
    "sd a0, 0(s0)",
}

#[test]
fn an_sbi_call_that_nobody_knows_is_not_supported() {
    let fixture = fixture(calls());
    assert!(matches!(run(&fixture), StopReason::Shutdown));
    let not_supported = -2_i64 as u64;
    assert_eq!(fixture.counter.values(), [not_supported, 0]);
}

guest! {
    /// Tells what call 7 of AxVisor's extension answers, and what is then in a1; then the same of
    /// the number that the extension has upstream.
    fn calls_axvisor:
    "li a7, 0x08485643",
    "1: li a6, 7",
    "li a0, 1",
    "li a1, 2",
    "li a2, 3",
    "li a3, 4",
    "li a4, 5",
    "li a5, -1",
    "ecall",
    "sd a0, 0(s0)",
    "sd a1, 0(s0)",
    "li t0, 0x485643",
    "beq a7, t0, 9f",
    "mv a7, t0",
    "j 1b",
}

/// Knows call 7 only, and what it was called with.
#[derive(Default)]
struct Seventh(Mutex<Vec<[u64; 6]>>);

impl HypercallOps for Seventh {
    fn call(&self, _: &AddrSpace, nr: u64, args: [u64; 6]) -> Option<HypercallResult> {
        self.0.lock().unwrap().push(args);
        (nr == 7).then_some(HypercallResult { value: 0x55, second: None })
    }
}

#[test]
fn axvisors_calls_come_by_an_experimental_extension() {
    let service = Arc::new(Seventh::default());
    let mut devices = AxVmDevices::new();
    devices.add_hypercalls(service.clone());
    let fixture = fixture_with(calls_axvisor(), Wants { devices, ..Wants::default() });
    assert_eq!(run(&fixture).exit_status(), 0);
    assert_eq!(*service.0.lock().unwrap(), [[1, 2, 3, 4, 5, u64::MAX]]);
    let not_supported = -2_i64 as u64;
    assert_eq!(fixture.counter.values(), [0x55, 0, not_supported, 0, 0xff]);
}

guest! {
    /// Each hart tells its number and what it was given; the first starts the others one by one.
    fn starts_others:
    "mv s1, a0",
    "sd s1, 0(s0)",
    "bnez s1, 4f",
    "li s2, 1",
    "1: mv a0, s2",
    "lla a1, 3f",
    "li a2, 0x100",
    "add a2, a2, s2",
    "li a7, 0x48534d", // HSM, hart_start
    "li a6, 0",
    "ecall",
    "bnez a0, 9f",
    "lla s3, 8f",
    "2: lb t0, 0(s3)", // until it has told
    "bne t0, s2, 2b",
    "addi s2, s2, 1",
    "li t0, 4",
    "bne s2, t0, 1b",
    "j 9f",
    "3: li s0, 0x10000000",
    "sd a0, 0(s0)",
    "sd a1, 0(s0)",
    "lla s3, 8f",
    "sb a0, 0(s3)",
    "4: wfi",
    "j 4b",
    "8: .word 0",
}

#[test]
fn harts_start_each_other() {
    let fixture = fixture_with(starts_others(), Wants { cpus: 4, ..Wants::default() });
    assert_eq!(run(&fixture).exit_status(), 0);
    assert_eq!(fixture.counter.values(), [0, 1, 0x101, 2, 0x102, 3, 0x103, 0xff]);
}

guest! {
    /// Goes on in the trap handler after a jump to where no memory can be, as kexec does.
    fn trampolines:
    "lla t0, 5f",
    "csrw stvec, t0",
    "li t0, -4096",
    "jr t0",
    ".balign 4",
    "5: csrr t0, scause",
    "sd t0, 0(s0)",
    "csrr t0, stval",
    "sd t0, 0(s0)",
}

#[test]
fn code_at_no_address_raises_an_exception() {
    let fixture = fixture(trampolines());
    assert_eq!(run(&fixture).exit_status(), 0);
    assert_eq!(fixture.counter.values(), [1, -4096_i64 as u64, 0xff]);
}

guest! {
    fn falls_for_ever:
    "li t0, -4096",
    "csrw stvec, t0",
    "jr t0",
}
guest! { fn runs_away: "li t0, 0x40000000", "jr t0" }
guest! { fn misaligned: "ld t0, 1(s0)" }
guest! { fn atomic: "amoadd.w t0, t0, (s0)" }

#[test]
fn what_kvm_does_not_emulate_is_the_guests_fault() {
    for (guest, what) in [
        (runs_away(), "where no memory is"),
        (falls_for_ever(), "where no memory is"),
        (atomic(), "no plain load or store"),
        (misaligned(), "not aligned"),
    ] {
        let fixture = fixture(guest);
        let reason = run(&fixture);
        assert_eq!(reason.exit_status(), 33, "{reason}");
        assert!(reason.to_string().contains(what), "{reason}");
    }
}

guest! {
    /// Reads and writes a CSR, and tells what it read; when that raises an exception tells the
    /// cause, how far `sepc` is from the instruction, and that no register has changed.
    fn accesses_a_csr:
    "lla t0, 5f",
    "csrw stvec, t0",
    "li t1, 0x5a5",
    "li t2, 0x0f0",
    "csrsi sstatus, 2",
    "3: csrrs t1, 0x15c, t2", // stopei
    "sd t1, 0(s0)",
    "j 9f",
    ".balign 4",
    "5: csrr t3, scause",
    "sd t3, 0(s0)",
    "lla t4, 3b",
    "csrr t5, sepc",
    "sub t5, t5, t4",
    "sd t5, 0(s0)",
    "sd t1, 0(s0)",
    "csrr t5, sstatus",
    "andi t5, t5, 0x122", // SPP, SPIE, SIE
    "sd t5, 0(s0)",
}

/// KVM leaves the CSRs of the AIA to us if the processor has it and the VM has not. Otherwise it
/// raises the exception itself.
#[test]
fn a_csr_that_nobody_has_is_an_illegal_instruction() {
    let fixture = fixture(accesses_a_csr());
    assert_eq!(run(&fixture).exit_status(), 0);
    assert_eq!(fixture.counter.values(), [2, 0, 0x5a5, 0x120, 0xff]);
}

/// A CSR that reads as 0xf00 and records what is written.
#[derive(Default)]
struct Csr(Mutex<Vec<u64>>);

impl BaseDeviceOps<SysRegAddrRange> for Csr {
    fn name(&self) -> &str {
        "csr"
    }

    fn emu_type(&self) -> EmuDeviceType {
        EmuDeviceType::Dummy
    }

    fn address_range(&self) -> SysRegAddrRange {
        SysRegAddrRange::at(SysRegAddr(0x15c))
    }

    fn handle_read(&self, _: u64, _: AccessWidth) -> Result<u64, Access> {
        Ok(0xf00)
    }

    fn handle_write(&self, _: u64, _: AccessWidth, val: u64) -> Result<Effect, Access> {
        self.0.lock().unwrap().push(val);
        Ok(Effect::None)
    }
}

#[test]
fn a_csr_that_somebody_has_is_read_and_written() {
    let csr = Arc::new(Csr::default());
    let mut devices = AxVmDevices::new();
    devices.add_sys_reg_dev(csr.clone()).unwrap();
    let wants = Wants { devices, ..Wants::default() };
    let Platform::Riscv64(platform) = wants.hal.platform().unwrap() else { unreachable!() };
    let fixture = fixture_with(accesses_a_csr(), wants);
    assert_eq!(run(&fixture).exit_status(), 0);
    let written = csr.0.lock().unwrap();
    if platform.extensions.contains(&"ssaia") {
        assert_eq!(fixture.counter.values(), [0xf00, 0xff]);
        assert_eq!(*written, [0xff0]);
    } else {
        assert_eq!(fixture.counter.values()[0], 2, "KVM keeps it from us");
        assert!(written.is_empty());
    }
}

guest! {
    /// Enables its IMSIC and source 10 of the APLIC, tells when it is ready, and then the identity
    /// of each interrupt; 7 is the last.
    fn uses_the_aia:
    "lla t0, 5f",
    "csrw stvec, t0",
    "li t0, 0x70", // eidelivery
    "csrw 0x150, t0", // siselect
    "li t1, 1",
    "csrw 0x151, t1", // sireg
    "li t0, 0x72", // eithreshold: none
    "csrw 0x150, t0",
    "csrw 0x151, x0",
    "li t0, 0xc0", // eie0: identities 1 to 63
    "csrw 0x150, t0",
    "li t1, -2",
    "csrw 0x151, t1",
    "li s1, 0x0d000000",
    "li t0, 0x104", // domaincfg: on, by messages
    "sw t0, 0(s1)",
    "li t0, 4", // sourcecfg[10]: rising edge
    "sw t0, 0x28(s1)",
    "li t0, 10", // target[10]: hart 0, identity 10
    "li t1, 0x3028",
    "add t1, t1, s1",
    "sw t0, 0(t1)",
    "li t1, 0x1edc", // setienum
    "add t1, t1, s1",
    "sw t0, 0(t1)",
    "li t0, 1 << 9",
    "csrw sie, t0",
    "li t0, 1",
    "sb t0, 0(s0)",
    "csrsi sstatus, 2",
    "1: wfi",
    "j 1b",
    ".balign 4",
    "5: csrrw t0, 0x15c, x0", // stopei: claims
    "srli t0, t0, 16",
    "sw t0, 0(s0)",
    "li t1, 7",
    "beq t0, t1, 9f",
    "sret",
}

#[test]
fn the_aia_takes_messages_lines_and_eventfds() {
    let wants = Wants::default();
    let hal: Arc<KvmHal> = wants.hal.clone();
    let Platform::Riscv64(platform) = hal.platform().unwrap() else { unreachable!() };
    let ids = platform.aia.map_or(255, |aia| aia.ids);
    let aia = InterruptController::Aia { aplic: APLIC, imsics: IMSICS, sources: 95, ids };
    hal.use_interrupt_controller(&aia).unwrap();
    if platform.aia.is_none() {
        let error = hal.vcpus_are_made().unwrap_err().to_string();
        assert!(error.contains("AIA"), "{error}");
        return;
    }
    let fixture = fixture_with(uses_the_aia(), wants);
    let threads = VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
    fixture.vm.boot().unwrap();
    let comes = |value| {
        wait_until("an interrupt", || fixture.counter.values().last() == Some(&value));
    };
    comes(1);
    let msi = |data| Msi { addr: IMSICS, data, requester: 0 };
    hal.signal_msi(msi(33)).unwrap();
    comes(33);
    let (route, eventfd) = (hal.add_msi_route().unwrap(), EventFd::new(0).unwrap());
    hal.connect_msi(route, &eventfd, msi(34)).unwrap();
    eventfd.write(1).unwrap();
    comes(34);
    hal.pulse_irq(10);
    comes(10);
    fixture.vm.inject_interrupt_to_vcpu([0], 21).unwrap();
    comes(21);
    let eventfd = EventFd::new(0).unwrap();
    hal.register_irqfd(10, &eventfd).unwrap();
    eventfd.write(1).unwrap();
    comes(10);
    fixture.vm.inject_interrupt_to_vcpu([0], 7).unwrap();
    assert_eq!(threads.join().exit_status(), 0);
}
