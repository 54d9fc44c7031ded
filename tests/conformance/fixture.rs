//! A VM over a script, with memory and devices of every kind that the loop can meet.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

pub use axvmm::hal::AxVCpuExitReason as Exit;
use axvmm::{
    addr::{
        AccessWidth, DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange, MappingFlags, Port,
        PortRange, SysRegAddr, SysRegAddrRange,
    },
    addrspace::AddrSpace,
    devices::{Access, AxVmDevices, BaseDeviceOps, Effect, HypercallOps, doorbell::Doorbell},
    hal::{HypercallResult, VCpuId, VCpuSetup},
    scripted::{Call, ScriptedHal, Step},
    vcpu::VCpuState,
    vm::{AxVM, AxVMParts, AxVMRef, Error, StopReason, VCpuThreads, VMStatus, config::CpuConfig},
};

pub const RAM: GuestPhysAddr = GuestPhysAddr(0x10_0000);
pub const RAM_SIZE: u64 = 0x1_0000;
/// A page that may be read, and comes at its first touch.
pub const LAZY: GuestPhysAddr = GuestPhysAddr(0x4000_0000);
/// A page that may be run and not read.
pub const SECRET: GuestPhysAddr = GuestPhysAddr(0x5000_0000);
/// On each bus a register, and behind it what refuses every access, by offset: [`REFUSALS`].
pub const MMIO: GuestPhysAddr = GuestPhysAddr(0xd000_0000);
pub const MMIO_REFUSES: GuestPhysAddr = GuestPhysAddr(0xd000_0100);
pub const PORT: Port = Port(0x100);
pub const PORT_REFUSES: Port = Port(0x110);
pub const SYS_REG: SysRegAddr = SysRegAddr(0x10);
pub const SYS_REG_REFUSES: SysRegAddr = SysRegAddr(0x20);
/// What panics, as our own mistakes do.
pub const MMIO_PANICS: GuestPhysAddr = GuestPhysAddr(0xd000_0200);
pub const BELL: GuestPhysAddr = GuestPhysAddr(0xd000_1000);
/// What a register reads as.
pub const VALUE: u64 = 0x8899_aabb_ccdd_eeff;

pub const REFUSALS: [Access; 5] =
    [Access::NoRegister, Access::BadWidth, Access::Unaligned, Access::ReadOnly, Access::WriteOnly];

pub type Written = Arc<Mutex<Vec<(AccessWidth, u64)>>>;

/// What a device of the fixture does with an access.
enum Kind {
    /// Reads [`VALUE`], records writes, and powers off, resets and so on when told.
    Register(Written),
    Refuses,
    Panics,
}

struct Device<R> {
    name: &'static str,
    range: R,
    kind: Kind,
}

impl<R: DeviceAddrRange> Device<R> {
    fn new(name: &'static str, range: R, kind: Kind) -> Arc<Self> {
        Arc::new(Self { name, range, kind })
    }
}

impl<R: DeviceAddrRange> BaseDeviceOps<R> for Device<R> {
    fn name(&self) -> &str {
        self.name
    }

    fn address_range(&self) -> R {
        self.range
    }

    fn handle_read(&self, offset: u64, _: AccessWidth) -> Result<u64, Access> {
        match self.kind {
            Kind::Register(_) => Ok(VALUE),
            Kind::Refuses => Err(REFUSALS[offset as usize % REFUSALS.len()]),
            Kind::Panics => panic!("as the test has it"),
        }
    }

    fn handle_write(&self, offset: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        match &self.kind {
            Kind::Register(written) => written.lock().unwrap().push((width, val)),
            Kind::Refuses => return Err(REFUSALS[offset as usize % REFUSALS.len()]),
            Kind::Panics => panic!("as the test has it"),
        }
        Ok(match val {
            0xf0 => Effect::PowerOff,
            0xf1 => Effect::Reset,
            0xf2 => Effect::Panicked,
            0xf3 => Effect::Exit(7),
            _ => Effect::None,
        })
    }
}

/// Knows three calls: 3 answers the sum of all arguments and leaves 1 where the first points; 5 has
/// no second answer; 6 fails.
struct Sums;

impl HypercallOps for Sums {
    fn call(&self, mem: &AddrSpace, nr: u64, args: [u64; 6]) -> Option<HypercallResult> {
        match nr {
            3 => {
                let _ = mem.write(GuestPhysAddr(args[0]), &1_u64.to_le_bytes());
                Some(HypercallResult { value: args.iter().sum(), second: Some(9) })
            }
            5 => Some(HypercallResult { value: 55, second: None }),
            6 => Some(HypercallResult::FAILURE),
            _ => None,
        }
    }
}

fn mmio_window(first: GuestPhysAddr, size: u64) -> GuestPhysAddrRange {
    GuestPhysAddrRange::new(first, size).unwrap()
}

pub fn devices(written: &Written) -> AxVmDevices {
    let mut devices = AxVmDevices::new();
    let register = || Kind::Register(written.clone());
    for (name, first, size, kind) in [
        ("register", MMIO, 8, register()),
        ("refuses", MMIO_REFUSES, 0x10, Kind::Refuses),
        ("panics", MMIO_PANICS, 8, Kind::Panics),
    ] {
        devices.add_mmio_dev(Device::new(name, mmio_window(first, size), kind)).unwrap();
    }
    for (name, first, kind) in
        [("register", PORT, register()), ("refuses", PORT_REFUSES, Kind::Refuses)]
    {
        let range = PortRange::new(first, 8).unwrap();
        devices.add_port_dev(Device::new(name, range, kind)).unwrap();
    }
    for (name, first, kind) in
        [("register", SYS_REG, register()), ("refuses", SYS_REG_REFUSES, Kind::Refuses)]
    {
        let range = SysRegAddrRange::inclusive(first, SysRegAddr(first.0 + 7)).unwrap();
        devices.add_sys_reg_dev(Device::new(name, range, kind)).unwrap();
    }
    devices.add_mmio_dev(Arc::new(Doorbell::new(mmio_window(BELL, 0x1000)))).unwrap();
    devices.add_hypercalls(Arc::new(Sums));
    devices
}

pub struct Fixture {
    pub vm: AxVMRef<ScriptedHal>,
    pub hal: Arc<ScriptedHal>,
    pub written: Written,
}

/// A VM with a vCPU a script, not booted yet.
pub fn fixture<const N: usize>(scripts: [Vec<Step>; N]) -> Fixture {
    let hal = ScriptedHal::new(scripts);
    let written = Written::default();
    let vm = build(&hal, cpus(N), devices(&written)).unwrap();
    Fixture { vm, hal, written }
}

/// The same, running: `run_vcpu` may be called.
pub fn booted<const N: usize>(scripts: [Vec<Step>; N]) -> Fixture {
    let fixture = fixture(scripts);
    fixture.vm.boot().unwrap();
    fixture
}

pub fn cpus(num: usize) -> CpuConfig {
    CpuConfig { num, phys_cpu_ids: Vec::new(), phys_cpu_sets: Vec::new() }
}

pub fn build(
    hal: &Arc<ScriptedHal>,
    cpus: CpuConfig,
    devices: AxVmDevices,
) -> Result<AxVMRef<ScriptedHal>, Error> {
    let address_space = Arc::new(AddrSpace::new_empty(hal.clone()));
    address_space.map_alloc(RAM, RAM_SIZE, MappingFlags::all(), true)?;
    address_space.map_alloc(LAZY, 0x1000, MappingFlags::READ, false)?;
    address_space.map_alloc(SECRET, 0x1000, MappingFlags::EXECUTE, false)?;
    AxVM::new(AxVMParts {
        id: 0,
        name: "test".to_owned(),
        cpus,
        hal: hal.clone(),
        address_space,
        devices,
        entry: RAM,
        setup: VCpuSetup::default(),
    })
}

impl Fixture {
    /// Boots with threads and waits for the end.
    pub fn run(&self) -> StopReason {
        let threads = VCpuThreads::spawn(&self.vm, || ()).unwrap();
        self.vm.boot().unwrap();
        let reason = threads.join();
        assert_eq!(self.vm.status(), VMStatus::Stopped, "{reason}");
        reason
    }

    pub fn state(&self, vcpu_id: VCpuId) -> VCpuState {
        self.vm.vcpu(vcpu_id).unwrap().state()
    }

    /// Waits until the vCPU is in this state.
    pub fn wait_for(&self, vcpu_id: VCpuId, state: VCpuState) {
        wait_until(&format!("vCPU {vcpu_id} is {state}"), || self.state(vcpu_id) == state);
    }

    /// What the vCPUs were asked because of an exit, in order.
    pub fn asked(&self) -> Vec<Call> {
        let because_of_an_exit = |call: &Call| {
            matches!(
                call,
                Call::SetGpr { .. }
                    | Call::RefuseSysReg(_)
                    | Call::SetReturnValue { .. }
                    | Call::SetSecondReturnValue { .. }
                    | Call::Inject { .. }
            )
        };
        self.hal.calls().into_iter().filter(because_of_an_exit).collect()
    }
}

/// Runs one exit and then a `Halt` through the loop, which settles the one and returns the other.
#[track_caller]
pub fn check_settled(exit: Exit, asked: &[Call]) -> Fixture {
    let fixture = booted([vec![Step::Exit(exit), Step::Exit(Exit::Halt)]]);
    assert_eq!(fixture.vm.run_vcpu(0).unwrap(), Exit::Halt);
    assert_eq!(fixture.asked(), asked);
    assert_eq!(fixture.state(0), VCpuState::Free);
    fixture
}

/// Waits, within reason.
#[track_caller]
pub fn wait_until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "this never came: {what}");
        thread::yield_now();
    }
}

pub fn gpr(reg: usize, val: u64) -> Call {
    Call::SetGpr { vcpu_id: 0, reg, val }
}

pub fn answer(val: u64) -> Call {
    Call::SetReturnValue { vcpu_id: 0, val }
}

/// A load into a whole register.
pub fn load(addr: GuestPhysAddr, width: AccessWidth) -> Exit {
    Exit::MmioRead { addr, width, reg: 5, reg_width: AccessWidth::Qword, signed_ext: false }
}

pub fn store(addr: GuestPhysAddr, width: AccessWidth, data: u64) -> Exit {
    Exit::MmioWrite { addr, width, data }
}

/// One more register, of which nobody looks at what is written.
pub fn register_at<R: DeviceAddrRange>(range: R) -> Arc<impl BaseDeviceOps<R>> {
    Device::new("register", range, Kind::Register(Written::default()))
}
