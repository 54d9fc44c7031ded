//! The loop, the lifecycle and the threads, over scripts.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{config::CpuConfig, *};
use crate::{
    addr::{AccessWidth, DeviceAddrRange, Port, PortRange, SysRegAddr, SysRegAddrRange},
    devices::{Access, BaseDeviceOps, Effect, EmuDeviceType, IvcWindow},
    hal::{AxVCpuExitReason as Exit, StopCause},
    scripted::{Call, ScriptedHal, Step},
    vcpu::VCpuState,
};

mod dispatch;
mod hypercall;
mod threads;

const RAM: GuestPhysAddr = GuestPhysAddr(0x10_0000);
const RAM_SIZE: u64 = 0x1_0000;
const LAZY: GuestPhysAddr = GuestPhysAddr(0x4000_0000);
const MMIO: GuestPhysAddr = GuestPhysAddr(0xd000_0000);
const PORT: Port = Port(0x100);
const SYS_REG: SysRegAddr = SysRegAddr(0x10);
/// What the register reads as.
const VALUE: u64 = 0x8899_aabb_ccdd_eeff;

/// A register that reads [`VALUE`], records writes, and powers off, resets and so on when told.
struct Register<R> {
    range: R,
    written: Arc<Mutex<Vec<(AccessWidth, u64)>>>,
}

impl<R: DeviceAddrRange> BaseDeviceOps<R> for Register<R> {
    fn name(&self) -> &str {
        "register"
    }

    fn emu_type(&self) -> EmuDeviceType {
        EmuDeviceType::Dummy
    }

    fn address_range(&self) -> R {
        self.range
    }

    fn handle_read(&self, _: u64, _: AccessWidth) -> Result<u64, Access> {
        Ok(VALUE)
    }

    fn handle_write(&self, _: u64, width: AccessWidth, val: u64) -> Result<Effect, Access> {
        self.written.lock().unwrap().push((width, val));
        Ok(match val {
            0xf0 => Effect::PowerOff,
            0xf1 => Effect::Reset,
            0xf2 => Effect::Panicked,
            0xf3 => Effect::Exit(7),
            _ => Effect::None,
        })
    }
}

struct Fixture {
    vm: AxVMRef<ScriptedHal>,
    hal: Arc<ScriptedHal>,
    written: Arc<Mutex<Vec<(AccessWidth, u64)>>>,
}

fn fixture(scripts: Vec<Vec<Step>>) -> Fixture {
    let cpus = scripts.len();
    let hal = ScriptedHal::new(scripts);
    let written = Arc::default();
    let vm = build(&hal, cpus, &written).unwrap();
    Fixture { vm, hal, written }
}

fn build(
    hal: &Arc<ScriptedHal>,
    cpus: usize,
    written: &Arc<Mutex<Vec<(AccessWidth, u64)>>>,
) -> Result<AxVMRef<ScriptedHal>, Error> {
    let mut devices = AxVmDevices::new();
    let mmio = GuestPhysAddrRange::new(MMIO, 8).unwrap();
    devices.add_mmio_dev(Arc::new(Register { range: mmio, written: written.clone() }))?;
    let port = PortRange::new(PORT, 4).unwrap();
    devices.add_port_dev(Arc::new(Register { range: port, written: written.clone() }))?;
    let sys_reg = SysRegAddrRange::inclusive(SYS_REG, SYS_REG).unwrap();
    devices.add_sys_reg_dev(Arc::new(Register { range: sys_reg, written: written.clone() }))?;
    build_with(hal, cpus, devices)
}

fn build_with(
    hal: &Arc<ScriptedHal>,
    cpus: usize,
    devices: AxVmDevices,
) -> Result<AxVMRef<ScriptedHal>, Error> {
    let address_space = AddrSpace::new_empty(hal.clone());
    let rwx = MappingFlags::READ | MappingFlags::WRITE | MappingFlags::EXECUTE;
    address_space.map_alloc(RAM, RAM_SIZE, rwx, true)?;
    address_space.map_alloc(LAZY, 0x1000, MappingFlags::READ, false)?;
    AxVM::new(AxVMParts {
        id: 1,
        name: "test".to_owned(),
        cpus: CpuConfig { num: cpus, phys_cpu_ids: Vec::new(), phys_cpu_sets: Vec::new() },
        hal: hal.clone(),
        address_space,
        devices,
        entry: RAM,
        setup: VCpuSetup::default(),
    })
}

/// What a vCPU was asked by the loop itself, between binding and unbinding.
fn asked(hal: &ScriptedHal) -> Vec<Call> {
    let calls = hal.calls().into_iter();
    calls
        .filter(|call| {
            matches!(
                call,
                Call::SetGpr { .. } | Call::RefuseSysReg(_) | Call::SetReturnValue { .. }
            )
        })
        .collect()
}

/// Runs one exit and a `Halt` through the loop; what the vCPU was asked meanwhile.
#[track_caller]
fn check_handled(exit: Exit, expect: &[Call]) -> Fixture {
    let fixture = fixture(vec![vec![Step::Exit(exit), Step::Exit(Exit::Halt)]]);
    fixture.vm.boot().unwrap();
    assert_eq!(fixture.vm.run_vcpu(0).unwrap(), Exit::Halt);
    assert_eq!(asked(&fixture.hal), expect);
    assert_eq!(fixture.vm.vcpu(0).unwrap().state(), VCpuState::Free);
    fixture
}

#[track_caller]
fn check_returned(exit: Exit) -> Fixture {
    let fixture = fixture(vec![vec![Step::Exit(exit)]]);
    fixture.vm.boot().unwrap();
    assert_eq!(fixture.vm.run_vcpu(0).unwrap(), exit);
    assert_eq!(asked(&fixture.hal), []);
    assert_eq!(fixture.vm.vcpu(0).unwrap().state(), VCpuState::Free);
    fixture
}

fn gpr(reg: usize, val: u64) -> Call {
    Call::SetGpr { vcpu_id: 0, reg, val }
}

fn mmio_read(addr: GuestPhysAddr, width: AccessWidth, reg_width: AccessWidth, sign: bool) -> Exit {
    Exit::MmioRead { addr, width, reg: 5, reg_width, signed_ext: sign }
}
