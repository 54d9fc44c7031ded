//! A machine like a recorded one, and its accesses.

use std::{path::Path, sync::Arc, time::Duration};

use crate::{
    addr::{AccessWidth, GuestPhysAddr, Port, SysRegAddr},
    cli::{
        Failure,
        bare::{Bare, Nowhere, with_aia},
    },
    config,
    devices::{Effect, custom::Kinds},
    hal::{Arch, Platform},
    trace::{About, AboutVm, Record},
    vm::{
        AxVMConfig,
        config::{CpuConfig, DevicesConfig, KernelConfig, MemoryConfig},
    },
};

/// The devices of a recorded machine, as they are at its start.
pub fn build(
    about: &About,
    vm: &AboutVm,
    config: Option<&Path>,
    kinds: &Kinds,
) -> Result<Bare, Failure> {
    let arch = Arch::from_name(&about.arch).ok_or_else(|| {
        Failure::usage(format!("the recording is of a {} machine: there is none", about.arch))
    })?;
    let mut config = match config {
        Some(path) => config::load_all(&[path.to_owned()], &[], kinds).remove(0)?,
        None => AxVMConfig {
            id: vm.id,
            name: vm.name.clone(),
            cpus: CpuConfig { num: vm.vcpus, phys_cpu_ids: vec![], phys_cpu_sets: vec![] },
            memory: MemoryConfig::LazySize(vm.memory),
            kernel: KernelConfig::default(),
            devices: DevicesConfig::default(),
            notes: Vec::new(),
            files: Vec::new(),
        },
    };
    config.cpus.num = vm.vcpus;
    let began = Duration::from_nanos(about.began);
    Bare::build(&config, &platform(arch, vm), began, Arc::new(Nowhere))
}

/// A host like the one that it was recorded on, as far as its devices tell.
fn platform(arch: Arch, vm: &AboutVm) -> Platform {
    let platform = Platform::usual(arch);
    match vm.windows.iter().any(|window| window.device == "plic") {
        true => platform,
        false => with_aia(platform),
    }
}

/// Makes a recorded access at its time. A read's answer; `None` for a write, and for what is none.
pub fn access(bare: &Bare, record: &Record, width: AccessWidth) -> Option<u64> {
    bare.set_time(Duration::from_nanos(record.time()));
    // Nobody asks where interrupts went.
    drop(bare.calls());
    let (devices, addr, value) = (bare.devices(), record.addr(), record.value());
    let _: Effect = match record.reason()?.name() {
        "MmioRead" => return Some(devices.handle_mmio_read(GuestPhysAddr(addr), width)),
        "IoRead" => return Some(devices.handle_port_read(Port(addr as u16), width)),
        // One that is refused is answered by a fault, which is recorded as 0.
        "SysRegRead" => return Some(devices.handle_sys_reg_read(SysRegAddr(addr)).unwrap_or(0)),
        "MmioWrite" => devices.handle_mmio_write(GuestPhysAddr(addr), width, value),
        "IoWrite" => devices.handle_port_write(Port(addr as u16), width, value),
        "SysRegWrite" => {
            devices.handle_sys_reg_write(SysRegAddr(addr), value).unwrap_or(Effect::None)
        }
        _ => return None,
    };
    None
}
