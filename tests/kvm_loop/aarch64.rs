//! The guests of `kvm_loop` in aarch64's code, and what only aarch64 has.

use std::{
    arch::global_asm,
    sync::{Arc, Mutex},
};

use axvmm::{
    addr::{AccessWidth, GuestPhysAddr, GuestPhysAddrRange, SysRegAddr, SysRegAddrRange},
    addrspace::AddrSpace,
    devices::{AxVmDevices, HypercallOps},
    hal::{
        AxVMHal, GicVersion, HypercallResult, InterruptController, IrqSink, Msi, MsiSink, Platform,
        VCpuSetup,
    },
    kvm::KvmHal,
    vm::{StopReason, VCpuThreads},
};
use vmm_sys_util::eventfd::EventFd;

use super::{Fixture, Wants, fixture, fixture_with, run, wait_until};

pub const RAM: GuestPhysAddr = GuestPhysAddr(0x4000_0000);
pub const CODE: GuestPhysAddr = RAM;
pub const SUSPENDER: GuestPhysAddr = GuestPhysAddr(0x0900_1000);
/// An SPI: KVM makes no others pending for us.
pub const INTERRUPT: usize = 40;
/// The register that [`suspends`] reads into.
pub const LOADS_INTO: &str = "X0";

const COUNTER: GuestPhysAddr = GuestPhysAddr(0x0900_0000);
const SPI: u32 = 40;

pub type Counter = super::Counter<GuestPhysAddrRange>;

pub fn add_counter(devices: &mut AxVmDevices) -> Arc<Counter> {
    let counter = Arc::new(Counter::new(GuestPhysAddrRange::new(COUNTER, 8).unwrap()));
    devices.add_mmio_dev(counter.clone()).unwrap();
    counter
}

/// Defines a function that gives a guest's code. In all of it `x19` is the counter's address, and a
/// branch to `9f` powers off.
macro_rules! guest {
    ($(#[$doc:meta])* $vis:vis fn $name:ident: $($line:literal),* $(,)?) => {
        global_asm!(
            ".pushsection .rodata.guests, \"a\"",
            ".balign 8",
            concat!(".globl guest_", stringify!($name)),
            concat!(".globl guest_", stringify!($name), "_end"),
            concat!("guest_", stringify!($name), ":"),
            "mov x19, #0x09000000",
            $($line,)*
            "9: mov w0, #0xff",
            "strb w0, [x19]",
            "b .",
            ".ltorg",
            concat!("guest_", stringify!($name), "_end:"),
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

guest! { pub fn spins: "b ." }

guest! {
    /// Reads the suspender, tells the counter, and powers off.
    pub fn suspends:
    "add x20, x19, #0x1000",
    "ldrb w0, [x20]",
    "strb w0, [x19]",
}

guest! {
    /// Enables SPIs 40 and 41 of a GICv3, by edges, tells the counter when it is ready, and then the
    /// INTID of each interrupt; after `x0` of them it is done. Interrupts stay masked: `wfi` ends
    /// all the same.
    fn waits:
    "mov x20, x0",
    "ldr x1, =0x080a0014", // GICR_WAKER
    "str wzr, [x1]",
    "1: ldr w2, [x1]",
    "tbnz w2, #2, 1b",
    "mov x1, #0x08000000", // the distributor
    "mov w2, #0x12", // group 1, affinity routing
    "str w2, [x1]",
    "mov w2, #3 << 8",
    "str w2, [x1, #0x84]", // IGROUPR
    "mov w2, #0xa << 16",
    "ldr x3, =0x08000c08", // ICFGR
    "str w2, [x3]",
    "strb wzr, [x1, #0x428]", // IPRIORITYR
    "strb wzr, [x1, #0x429]",
    "ldr x3, =0x08006140", // IROUTER: CPU 0
    "str xzr, [x3]",
    "str xzr, [x3, #8]",
    "mov w2, #3 << 8",
    "str w2, [x1, #0x104]", // ISENABLER
    "mrs x2, S3_0_C12_C12_5", // ICC_SRE_EL1
    "orr x2, x2, #1",
    "msr S3_0_C12_C12_5, x2",
    "isb",
    "mov x2, #0xff",
    "msr S3_0_C4_C6_0, x2", // ICC_PMR_EL1
    "mov x2, #1",
    "msr S3_0_C12_C12_7, x2", // ICC_IGRPEN1_EL1
    "isb",
    "mov w0, #1",
    "strb w0, [x19]",
    "2: wfi",
    "mrs x0, S3_0_C12_C12_0", // ICC_IAR1_EL1
    "isb",
    "cmp x0, #1020",
    "b.hs 2b",
    "str x0, [x19]",
    "msr S3_0_C12_C12_1, x0", // ICC_EOIR1_EL1
    "isb",
    "sub x20, x20, #1",
    "cbnz x20, 2b",
}

/// A VM with a GICv3 and an ITS.
fn with_gic(code: &[u8], cpus: usize, x0: u64) -> Fixture {
    let setup = VCpuSetup { gprs: vec![(0, x0)], ..VCpuSetup::default() };
    let wants = Wants { cpus, setup, ..Wants::default() };
    let Platform::Aarch64(platform) = wants.hal.platform().unwrap() else { unreachable!() };
    assert_eq!(platform.gic, GicVersion::V3, "{platform:?}");
    let window = |first, size| GuestPhysAddrRange::new(GuestPhysAddr(first), size).unwrap();
    let gic = InterruptController::GicV3 {
        distributor: window(0x0800_0000, 0x1_0000),
        redistributors: window(0x080a_0000, 0x2_0000 * cpus as u64),
        its: platform.its.then(|| window(0x0808_0000, 0x2_0000)),
        lines: 64,
    };
    wants.hal.use_interrupt_controller(&gic).unwrap();
    fixture_with(code, wants)
}

pub fn halts_until_interrupted() -> Fixture {
    with_gic(waits(), 1, 1)
}

#[test]
fn the_gic_takes_lines_eventfds_and_injected_interrupts() {
    let fixture = with_gic(waits(), 1, 4);
    let threads = VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
    fixture.vm.boot().unwrap();
    let seen = |count: usize| {
        wait_until("an interrupt", || fixture.counter.values().len() == count);
    };
    seen(1);
    let hal: &Arc<KvmHal> = fixture.vm.hal();
    hal.pulse_irq(SPI);
    seen(2);
    let eventfd = EventFd::new(0).unwrap();
    hal.register_irqfd(SPI, &eventfd).unwrap();
    eventfd.write(1).unwrap();
    seen(3);
    fixture.vm.inject_interrupt_to_vcpu([0], SPI as usize).unwrap();
    seen(4);
    for none in [0, 15, 16, 31, 1020] {
        assert!(fixture.vm.inject_interrupt_to_vcpu([0], none).is_err(), "{none}");
    }
    fixture.vm.inject_interrupt_to_vcpu([0], 41).unwrap();
    assert_eq!(threads.join().exit_status(), 0);
    assert_eq!(fixture.counter.values(), [1, 40, 40, 40, 41, 0xff]);
}

guest! {
    /// Makes the writes that stand in the table of addresses, values and sizes in bytes, as the
    /// processor of a GICv3; then as `waits`, for any INTID.
    fn writes_and_waits:
    "mov x20, x0",
    "mov x1, #0x080a0000", // not from a pool: the assembler would share waits'
    "add x1, x1, #0x14", // GICR_WAKER
    "str wzr, [x1]",
    "1: ldr w2, [x1]",
    "tbnz w2, #2, 1b",
    "mov x1, #0x40000000",
    "add x1, x1, #0x1000", // the table
    "2: ldp x2, x3, [x1], #16",
    "ldr x4, [x1], #8",
    "cbz x2, 4f",
    "cmp x4, #8",
    "b.eq 3f",
    "str w3, [x2]",
    "b 2b",
    "3: str x3, [x2]",
    "b 2b",
    "4: mrs x2, S3_0_C12_C12_5", // ICC_SRE_EL1
    "orr x2, x2, #1",
    "msr S3_0_C12_C12_5, x2",
    "isb",
    "mov x2, #0xff",
    "msr S3_0_C4_C6_0, x2", // ICC_PMR_EL1
    "mov x2, #1",
    "msr S3_0_C12_C12_7, x2", // ICC_IGRPEN1_EL1
    "isb",
    "mov w0, #1",
    "strb w0, [x19]",
    "5: wfi",
    "mrs x0, S3_0_C12_C12_0", // ICC_IAR1_EL1
    "isb",
    "cmp x0, #1023",
    "b.eq 5b",
    "str x0, [x19]",
    "msr S3_0_C12_C12_1, x0", // ICC_EOIR1_EL1
    "isb",
    "sub x20, x20, #1",
    "cbnz x20, 5b",
}

/// Arm's GIC architecture specification (IHI 0069), 5.2 and 5.3: a device and an event become an
/// INTID of a message-signalled interrupt.
#[test]
fn the_its_takes_messages_of_devices() {
    const TABLE: u64 = RAM.0 + 0x1000;
    const CONFIGURATION: u64 = RAM.0 + 0x1_0000; // of each LPI, a byte
    const PENDING: u64 = RAM.0 + 0x2_0000;
    const COMMANDS: u64 = RAM.0 + 0x3_0000;
    const DEVICES: u64 = RAM.0 + 0x4_0000;
    const COLLECTIONS: u64 = RAM.0 + 0x5_0000;
    const EVENTS: u64 = RAM.0 + 0x6_0000;
    const REDISTRIBUTOR: u64 = 0x080a_0000;
    const ITS: u64 = 0x0808_0000;
    const VALID: u64 = 1 << 63;
    const PAGES_OF_64K: u64 = 2 << 8;
    const DEVICE: u64 = 0x10;
    const EVENT: u64 = 3;
    const LPI: u64 = 8192 + 5;

    let fixture = with_gic(writes_and_waits(), 1, 2);
    let write = |at: u64, words: &[u64]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        fixture.vm.address_space().write(GuestPhysAddr(at), &bytes).unwrap();
    };
    #[rustfmt::skip]
    let writes = [
        (0x0800_0000, 0x12, 4),                             // GICD_CTLR: group 1, affinities
        (REDISTRIBUTOR + 0x70, CONFIGURATION | 15, 8),      // GICR_PROPBASER: 16 bits
        (REDISTRIBUTOR + 0x78, PENDING | 1 << 62, 8),       // GICR_PENDBASER: zero
        (REDISTRIBUTOR, 1, 4),                              // GICR_CTLR: LPIs
        (ITS + 0x100, VALID | DEVICES | PAGES_OF_64K, 8),   // GITS_BASER0
        (ITS + 0x108, VALID | COLLECTIONS | PAGES_OF_64K, 8),
        (ITS + 0x80, VALID | COMMANDS, 8),                  // GITS_CBASER: a page of 4 KiB
        (ITS, 1, 4),                                        // GITS_CTLR
        (ITS + 0x88, 3 * 32, 8),                            // GITS_CWRITER: do them
        (0, 0, 0),
    ];
    write(TABLE, &writes.into_iter().flat_map(<[u64; 3]>::from).collect::<Vec<_>>());
    write(CONFIGURATION, &[0xa1a1_a1a1_a1a1_a1a1]); // enabled
    #[rustfmt::skip]
    write(COMMANDS, &[
        0x09, 0, VALID, 0,                                  // MAPC: collection 0 is CPU 0
        0x08 | DEVICE << 32, 4, VALID | EVENTS, 0,          // MAPD: 32 events
        0x0a | DEVICE << 32, EVENT | LPI << 32, 0, 0,       // MAPTI
    ]);
    let threads = VCpuThreads::spawn(&fixture.vm, || ()).unwrap();
    fixture.vm.boot().unwrap();
    let came = |count| {
        wait_until("an interrupt", || fixture.counter.values().len() == count);
    };
    let (hal, addr) = (fixture.vm.hal(), GuestPhysAddr(ITS + 0x1_0040));
    let msi = Msi { addr, data: EVENT as u32, requester: DEVICE as u32 };
    came(1);
    hal.signal_msi(msi).unwrap();
    came(2);
    // By an eventfd.
    let (route, eventfd) = (hal.add_msi_route().unwrap(), EventFd::new(0).unwrap());
    hal.connect_msi(route, &eventfd, msi).unwrap();
    eventfd.write(1).unwrap();
    assert_eq!(threads.join().exit_status(), 0);
    assert_eq!(fixture.counter.values(), [1, LPI, LPI, 0xff]);
}

guest! {
    fn loads:
    "mov x0, #-1",
    "ldrb w0, [x19]",
    "str x0, [x19]",
    "mov x0, #-1",
    "ldr w0, [x19]",
    "str w0, [x19, #4]",
    "ldr x0, [x19]",
    "strh w0, [x19, #2]",
}

#[test]
fn loads_and_stores_have_their_widths() {
    let fixture = fixture(loads());
    assert_eq!(run(&fixture).exit_status(), 0);
    let expected = [(AccessWidth::Qword, 1), (AccessWidth::Dword, 2), (AccessWidth::Word, 3)];
    assert_eq!(fixture.counter.written()[..3], expected);
}

guest! {
    /// Tells what a call in a vendor's range answers, which KVM keeps to itself; then asks for power
    /// off.
    fn calls:
    "ldr w0, =0xc6000001",
    "hvc #0",
    "str x0, [x19]",
    "ldr w0, =0x84000008", // SYSTEM_OFF
    "hvc #0",
    "mov w0, #0x77",
    "str x0, [x19]",
}

#[test]
fn a_call_that_nobody_knows_is_not_supported() {
    let fixture = fixture(calls());
    assert!(matches!(run(&fixture), StopReason::Shutdown));
    assert_eq!(fixture.counter.values(), [u64::MAX]);
}

guest! {
    /// Each CPU tells its affinity and what it was given; the first starts the others one by one.
    fn starts_others:
    "mrs x0, mpidr_el1",
    "and x0, x0, #0xffffff",
    "str x0, [x19]",
    "mov x21, #1",
    "1: ldr w0, =0xc4000003", // CPU_ON
    "mov x1, x21",
    "adr x2, 3f",
    "add x3, x21, #0x100",
    "hvc #0",
    "cbnz x0, 9f",
    "adr x22, 8f",
    "2: ldr w0, [x22]", // until it has told
    "cmp w0, w21",
    "b.ne 2b",
    "add x21, x21, #1",
    "cmp x21, #4",
    "b.ne 1b",
    "b 9f",
    "3: mov x19, #0x09000000",
    "mov x1, x0",
    "mrs x0, mpidr_el1",
    "and x0, x0, #0xffffff",
    "str x0, [x19]",
    "str x1, [x19]",
    "adr x22, 8f",
    "str w0, [x22]",
    "4: wfi",
    "b 4b",
    "8: .word 0",
}

#[test]
fn cpus_start_each_other() {
    let fixture = with_gic(starts_others(), 4, 0);
    assert_eq!(run(&fixture).exit_status(), 0);
    assert_eq!(fixture.counter.values(), [0, 1, 0x101, 2, 0x102, 3, 0x103, 0xff]);
}

guest! {
    /// Tells what calls 7 and 6 answer, and what is in x1 behind each; then what 8 answers.
    fn calls_axvisor:
    "mov x0, #7",
    "1: mov x20, x0",
    "mov x1, #1",
    "mov x2, #2",
    "mov x3, #3",
    "mov x4, #4",
    "mov x5, #5",
    "mov x6, #-1",
    "hvc #0",
    "str x0, [x19]",
    "str x1, [x19]",
    "sub x0, x20, #1",
    "cmp x0, #6",
    "b.eq 1b",
    "mov x0, #8",
    "hvc #0",
    "str x0, [x19]",
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
fn hypercalls_come_when_they_are_asked_for() {
    let service = Arc::new(Seventh::default());
    let mut devices = AxVmDevices::new();
    devices.add_hypercalls(service.clone());
    let fixture = fixture_with(calls_axvisor(), Wants { devices, ..Wants::default() });
    assert!(fixture.vm.hal().forward_hypercalls(0..=7).unwrap(), "this KVM is older than 6.4");
    assert_eq!(run(&fixture).exit_status(), 0);
    assert_eq!(*service.0.lock().unwrap(), [[1, 2, 3, 4, 5, u64::MAX]; 2]);
    let not_supported = u64::MAX;
    assert_eq!(fixture.counter.values(), [0x55, 1, not_supported, 1, not_supported, 0xff]);
    let error = KvmHal::new().unwrap().forward_hypercalls(0..=1 << 32).unwrap_err();
    assert!(error.to_string().contains("ids have 32 bits"), "{error}");
}

guest! { fn loads_a_pair: "ldp x0, x1, [x19]" }
guest! { fn moves_on: "str w0, [x19], #4" }
guest! { fn loads_a_vector: "mov x0, #(3 << 20)", "msr cpacr_el1, x0", "isb", "ldr q0, [x19]" }

#[test]
fn what_kvm_does_not_emulate_is_the_guests_fault() {
    for (guest, what) in [
        (loads_a_pair(), "it read 0x9000000"),
        (moves_on(), "it wrote 0x9000000"),
        (loads_a_vector(), "no SIMD"),
    ] {
        let fixture = fixture(guest);
        let reason = run(&fixture);
        assert_eq!(reason.exit_status(), 33, "{reason}");
        assert!(reason.to_string().contains(what), "{reason}");
        assert!(fixture.counter.written().is_empty());
    }
}

#[test]
fn a_vm_tells_its_platform_and_refuses_what_it_has_not() {
    let hal = KvmHal::new().unwrap();
    let Platform::Aarch64(platform) = hal.platform().unwrap() else { unreachable!() };
    assert!((36..=52).contains(&platform.ipa_bits), "{platform:?}");
    assert_eq!(platform.its, platform.gic == GicVersion::V3);
    hal.use_interrupt_controller(&InterruptController::Pc).unwrap();
    let error = hal.vcpu_create_config(0, 0, 1).map(drop).unwrap_err().to_string();
    assert!(error.contains("its KVM emulates a GIC"), "{error}");
    let error = KvmHal::new().unwrap().vcpu_create_config(1, 7, 2).map(drop).unwrap_err();
    assert!(error.to_string().contains("affinity 0x7"), "{error}");
    let registers = SysRegAddrRange::at(SysRegAddr(0));
    let error = KvmHal::new().unwrap().trap_sys_regs(&[registers]).unwrap_err().to_string();
    assert!(error.contains("keeps them all"), "{error}");
}
