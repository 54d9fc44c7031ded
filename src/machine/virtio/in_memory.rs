//! virtio devices that have to do with the guest's memory: where persistent memory is, and how much a
//! balloon can have.

use super::{DevicePlan, Hardware, Model, VirtioPlan, Window, problem};
use crate::{
    addr::{DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange},
    machine::Error,
    virtio::DeviceConfig,
    vm::config::{DevicesConfig, VirtioConfig},
};

/// Where persistent memory may begin: kernels handle memory in sections, of 1 GiB at most, and like
/// no section that is RAM and something else.
const ALIGN: u64 = 1 << 30;
/// What is below is RAM's and devices' on all boards.
const LOWEST: u64 = 1 << 32;

/// Finds places for persistent memory, above all RAM and beside all devices, and compares balloons
/// with the RAM that there is. `plans` are those of the devices that are asked for.
///
/// # Errors
/// No such place, or a balloon as large as all memory.
pub fn place(
    plans: &mut [VirtioPlan],
    asked: &DevicesConfig,
    hardware: &mut Hardware,
    ram: &[GuestPhysAddrRange],
    address_bits: u8,
) -> Result<(), Error> {
    let total: u64 = ram.iter().map(GuestPhysAddrRange::len).sum();
    for (plan, config) in plans.iter_mut().zip(&asked.virtio) {
        match &mut plan.device {
            DeviceConfig::Balloon(balloon) if balloon.size >= total => {
                let (size, total) = (balloon.size >> 20, total >> 20);
                let what = format!("{size} MiB in the balloon of a guest that has {total} MiB");
                return Err(problem(config, what));
            }
            DeviceConfig::Pmem(pmem) => {
                let range = area(config, pmem.size, hardware, ram, address_bits)?;
                pmem.place = range.first();
                hardware.devices.push(DevicePlan {
                    name: config.name.clone(),
                    model: Model::PersistentMemory,
                    window: Window::Mmio(range),
                    irq: None,
                    compatible: None,
                });
            }
            _ => {}
        }
    }
    hardware.devices.sort_by_key(|device| device.window.key());
    Ok(())
}

fn area(
    config: &VirtioConfig,
    size: u64,
    hardware: &Hardware,
    ram: &[GuestPhysAddrRange],
    address_bits: u8,
) -> Result<GuestPhysAddrRange, Error> {
    let windows = hardware.devices.iter().filter_map(|device| device.window.mmio());
    let mut taken: Vec<_> = windows.chain(ram.iter().copied()).collect();
    taken.sort_by_key(|range| range.first());
    let end_of_ram = ram.iter().map(|range| range.last().0).max().unwrap_or(0);
    let mut first = end_of_ram.max(LOWEST - 1).checked_add(1).and_then(aligned);
    for other in taken {
        let here = first.and_then(|first| GuestPhysAddrRange::new(first, size));
        if here.is_some_and(|here| here.overlaps(&other)) {
            first = other.last().checked_add(1).and_then(|end| aligned(end.0));
        }
    }
    let range = first.and_then(|first| GuestPhysAddrRange::new(first, size));
    let reachable = |range: &GuestPhysAddrRange| {
        range.last().0.checked_shr(address_bits.into()).unwrap_or(0) == 0
    };
    range.filter(reachable).ok_or_else(|| {
        let size = size >> 20;
        problem(config, format!("the guest's addresses have no room for {size} MiB above its RAM"))
    })
}

fn aligned(at: u64) -> Option<GuestPhysAddr> {
    at.checked_next_multiple_of(ALIGN).map(GuestPhysAddr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hal::{Arch, Platform},
        machine::{Plan, testing},
        virtio::{balloon::BalloonConfig, pmem::PmemConfig},
    };

    const GIB: u64 = 1 << 30;

    fn device(name: &str, device: DeviceConfig) -> VirtioConfig {
        let at = Default::default();
        VirtioConfig { name: name.to_owned(), device, transport: None, place: None, at }
    }

    fn pmem(name: &str, size: u64) -> VirtioConfig {
        let (path, place) = (name.into(), GuestPhysAddr(0));
        device(name, DeviceConfig::Pmem(PmemConfig { path, readonly: false, size, place }))
    }

    fn plan(arch: Arch, ram: u64, virtio: Vec<VirtioConfig>) -> Result<Plan, Error> {
        let (mut config, _file) = testing::config_for(arch, ram);
        config.devices.virtio = virtio;
        Plan::new(&config, &Platform::usual(arch))
    }

    fn places(plan: &Plan) -> Vec<u64> {
        let place = |plan: &VirtioPlan| match &plan.device {
            DeviceConfig::Pmem(pmem) => Some(pmem.place.0),
            _ => None,
        };
        plan.virtio.iter().filter_map(place).collect()
    }

    #[test]
    fn persistent_memory_is_above_all_ram_and_beside_devices() {
        for (arch, ram, lowest) in [
            (Arch::X86_64, 16 << 20, 4 * GIB),
            (Arch::X86_64, 4 * GIB, 5 * GIB),
            (Arch::Aarch64, 16 << 20, 4 * GIB),
            (Arch::Aarch64, 8 * GIB, 9 * GIB),
            (Arch::Riscv64, 16 << 20, 4 * GIB),
            (Arch::Riscv64, 2 * GIB, 4 * GIB),
        ] {
            let devices = vec![pmem("a", 2 << 20), pmem("b", GIB + (2 << 20)), pmem("c", GIB)];
            let plan = plan(arch, ram, devices).unwrap();
            let places = places(&plan);
            assert!(places[0] >= lowest && places[0] < lowest + 256 * GIB, "{arch} {places:x?}");
            let ends = [places[0] + (2 << 20), places[1] + GIB + (2 << 20), places[2] + GIB];
            assert!(ends[0] <= places[1] && ends[1] <= places[2], "{arch} {places:x?}");
            assert!(places.iter().all(|place| place % GIB == 0));
            let told = format!("{:#x}-{:#x}", places[0], ends[0] - 1);
            assert!(plan.to_string().contains(&told), "{told} in {plan}");
            assert!(plan.ram.iter().all(|area| area.gpa.0 + area.size <= places[0]));
        }
    }

    #[test]
    fn what_the_guest_cannot_address_is_an_error() {
        let error = plan(Arch::Aarch64, 16 << 20, vec![pmem("big", 1 << 50)]).unwrap_err();
        assert!(error.to_string().contains("no room for 1073741824 MiB"), "{error}");
        let error = plan(Arch::X86_64, 16 << 20, vec![pmem("big", u64::MAX - 1)]).unwrap_err();
        assert!(error.to_string().contains("no room"), "{error}");
    }

    #[test]
    fn a_balloon_has_less_than_all_memory() {
        let balloon = |size| {
            let config = BalloonConfig { size, ..BalloonConfig::default() };
            vec![device("balloon0", DeviceConfig::Balloon(config))]
        };
        plan(Arch::Riscv64, 16 << 20, balloon(15 << 20)).unwrap();
        let error = plan(Arch::Riscv64, 16 << 20, balloon(16 << 20)).unwrap_err();
        let expect = "\"balloon0\": 16 MiB in the balloon of a guest that has 16 MiB";
        assert!(error.to_string().contains(expect), "{error}");
    }
}
