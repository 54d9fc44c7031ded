//! A VM of KVM's, as `AxVMHal` wants it.

use std::{
    collections::HashMap,
    io,
    ops::RangeInclusive,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, IoEventAddress, NoDatamatch, VmFd};
use parking_lot::{Mutex, MutexGuard};
use vm_memory::{GuestAddress, GuestMemoryRegion, GuestRegionMmap};
use vmm_sys_util::eventfd::EventFd;

use super::{
    KvmHost, arch, kick,
    messages::Routes,
    vcpu::{KvmVCpu, KvmVCpuCreateConfig},
};
use crate::{
    addr::{
        DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange, MappingFlags, PortRange,
        SysRegAddrRange,
    },
    hal::{
        AxVCpuHal, AxVMHal, DoorbellAddr, Doorbells, ExternalIrq, HalError, HalResult,
        InterruptController, IrqSink, MemorySlots, Platform, VCpuId, VMId,
    },
    ratelimit::RateLimit,
};

/// A VM's file descriptor and all that hangs on it.
pub struct KvmHal {
    host: KvmHost,
    pub(super) vm: VmFd,
    pub(super) arch: arch::VmState,
    controller: OnceLock<InterruptController>,
    /// The controller is made when something first needs it, which is after the memory: KVM frees
    /// its old tables of devices in the background, and a change of memory meanwhile waits for
    /// that, for milliseconds.
    controller_is_made: OnceLock<()>,
    making: Mutex<()>,
    pub(super) routes: Routes,
    /// What backs each memory slot; KVM reads and writes there as long as the slot stands.
    slots: Mutex<HashMap<u32, Arc<GuestRegionMmap>>>,
    irq_trouble: RateLimit,
    created: Instant,
}

impl KvmHal {
    /// Creates a VM; no memory and no vCPUs yet.
    pub fn new() -> HalResult<Arc<Self>> {
        let host = KvmHost::open()?;
        host.check()?;
        let vm = arch::create_vm(&host).map_err(|errno| match errno.errno() {
            libc::EBUSY => HalError::host_cannot("create a VM (KVM_CREATE_VM)")
                .because(errno)
                .hint("Another hypervisor may be using the hardware: stop it."),
            _ => HalError::failed("create a VM (KVM_CREATE_VM)", errno),
        })?;
        let arch = arch::VmState::new(&host, &vm)?;
        Ok(Arc::new(Self {
            host,
            vm,
            arch,
            controller: OnceLock::new(),
            controller_is_made: OnceLock::new(),
            making: Mutex::default(),
            routes: Routes::default(),
            slots: Mutex::default(),
            irq_trouble: RateLimit::new(1, Duration::from_secs(10)),
            created: Instant::now(),
        }))
    }

    /// Makes the interrupt controller, if that is not done yet.
    pub(super) fn need_interrupt_controller(&self) -> HalResult {
        if self.controller_is_made.get().is_some() {
            return Ok(());
        }
        let _making = self.making.lock();
        if self.controller_is_made.get().is_none() {
            self.arch.create_interrupt_controller(&self.vm, self.interrupt_controller())?;
            self.controller_is_made.get_or_init(|| ());
        }
        Ok(())
    }

    /// Which interrupt controller the VM has, or will have.
    pub(super) fn interrupt_controller(&self) -> &InterruptController {
        self.controller.get_or_init(|| arch::USUAL_CONTROLLER)
    }

    fn set_slot(&self, region: kvm_userspace_memory_region) -> io::Result<()> {
        // SAFETY: the region's host range lies in the mapping of a `GuestRegionMmap` that `slots` keeps
        // alive until the slot is gone, or is empty, which deletes the slot.
        unsafe { self.vm.set_user_memory_region(region) }.map_err(io::Error::from)
    }

    fn held_slots(&self) -> MutexGuard<'_, HashMap<u32, Arc<GuestRegionMmap>>> {
        self.slots.lock()
    }
}

impl MemorySlots for KvmHal {
    fn map_memory(
        &self,
        slot: u32,
        region: &Arc<GuestRegionMmap>,
        range: GuestPhysAddrRange,
        flags: MappingFlags,
    ) -> HalResult {
        let (first, last) = (range.first().0, range.last().0);
        let start = region.start_addr().0;
        let what = || {
            format!("give the guest memory at {first:#x}-{last:#x} (KVM_SET_USER_MEMORY_REGION)")
        };
        if first < start || last > region.last_addr().0 {
            return Err(HalError::failed(what(), io::Error::from(io::ErrorKind::InvalidInput)));
        }
        let mut slots = self.held_slots();
        self.set_slot(kvm_userspace_memory_region {
            slot,
            flags: if flags.contains(MappingFlags::WRITE) { 0 } else { KVM_MEM_READONLY },
            guest_phys_addr: first,
            memory_size: range.len(),
            userspace_addr: region.get_mmap().as_ptr() as u64 + (first - start),
        })
        .map_err(|error| HalError::failed(what(), error))?;
        slots.insert(slot, region.clone());
        Ok(())
    }

    fn unmap_memory(&self, slot: u32) -> HalResult {
        let mut slots = self.held_slots();
        self.set_slot(kvm_userspace_memory_region { slot, ..Default::default() }).map_err(
            |error| {
                HalError::failed(
                    format!("take memory slot {slot} away (KVM_SET_USER_MEMORY_REGION)"),
                    error,
                )
            },
        )?;
        slots.remove(&slot);
        Ok(())
    }

    fn is_coherent(&self) -> bool {
        arch::COHERENT
    }
}

impl IrqSink for KvmHal {
    fn set_irq(&self, irq: u32, high: bool) {
        let driven = self.need_interrupt_controller().and_then(|()| {
            let failed = |errno| {
                HalError::failed(format!("drive interrupt line {irq} (KVM_IRQ_LINE)"), errno)
            };
            self.vm.set_irq_line(arch::irq_line(irq), high).map_err(failed)
        });
        if let Err(error) = driven {
            if self.irq_trouble.pass().is_some() {
                log::error!("{error}");
            }
        }
    }
}

impl ExternalIrq for KvmHal {
    fn set_external_irq(&self, vcpu_id: VCpuId, high: bool) {
        if let Err(error) = self.arch.set_external_irq(vcpu_id, high) {
            if self.irq_trouble.pass().is_some() {
                log::error!("{error}");
            }
        }
    }
}

impl Doorbells for KvmHal {
    fn register_doorbell(&self, at: DoorbellAddr, value: Option<u32>, fd: &EventFd) -> HalResult {
        let addr = io_event(at);
        match value {
            Some(value) => self.vm.register_ioevent(fd, &addr, value),
            None => self.vm.register_ioevent(fd, &addr, NoDatamatch),
        }
        .map_err(|errno| {
            HalError::failed(format!("register a doorbell at {at:?} (KVM_IOEVENTFD)"), errno)
        })
    }

    fn unregister_doorbell(&self, at: DoorbellAddr, value: Option<u32>, fd: &EventFd) -> HalResult {
        let addr = io_event(at);
        match value {
            Some(value) => self.vm.unregister_ioevent(fd, &addr, value),
            None => self.vm.unregister_ioevent(fd, &addr, NoDatamatch),
        }
        .map_err(|errno| {
            HalError::failed(format!("take back the doorbell at {at:?} (KVM_IOEVENTFD)"), errno)
        })
    }
}

const fn io_event(at: DoorbellAddr) -> IoEventAddress {
    match at {
        DoorbellAddr::Mmio(gpa) => IoEventAddress::Mmio(gpa.0),
        DoorbellAddr::Port(port) => IoEventAddress::Pio(port.0 as u64),
    }
}

impl AxVCpuHal for KvmHal {}

impl AxVMHal for KvmHal {
    type VCpu = KvmVCpu;

    const STARTS_SECONDARIES: bool = true;
    const UNKNOWN_HYPERCALL: u64 = arch::UNKNOWN_HYPERCALL;

    fn platform(&self) -> HalResult<Platform> {
        self.arch.platform(&self.host, &self.vm)
    }

    fn use_interrupt_controller(&self, controller: &InterruptController) -> HalResult {
        self.controller.set(controller.clone()).map_err(|_| {
            HalError::failed(
                "give the VM an interrupt controller: it has one",
                io::Error::from(io::ErrorKind::AlreadyExists),
            )
        })
    }

    fn vcpus_are_made(&self) -> HalResult {
        self.need_interrupt_controller()?;
        self.arch.vcpus_are_made(&self.vm)
    }

    fn vcpu_create_config(
        &self,
        vcpu_id: VCpuId,
        phys_id: usize,
        vcpu_num: usize,
    ) -> HalResult<KvmVCpuCreateConfig> {
        let max = self.host.max_vcpus();
        if vcpu_num > max {
            return Err(HalError::host_cannot(format!(
                "give a VM {vcpu_num} vCPUs: its KVM has at most {max}"
            ))
            .hint("Set cpu_num to that or less."));
        }
        self.need_interrupt_controller()?;
        let (fd, arch) = self.arch.create_vcpu(&self.vm, vcpu_id, phys_id, vcpu_num)?;
        Ok(KvmVCpuCreateConfig {
            fd,
            arch,
            drains_ring: vcpu_id == 0 && self.vm.check_extension(Cap::CoalescedPio),
        })
    }

    fn register_irqfd(&self, irq: u32, fd: &EventFd) -> HalResult {
        self.need_interrupt_controller()?;
        self.vm.register_irqfd(fd, arch::gsi(irq)).map_err(|errno| {
            HalError::failed(format!("connect an eventfd to interrupt {irq} (KVM_IRQFD)"), errno)
        })
    }

    fn coalesce_port_writes(&self, ports: PortRange) -> HalResult<bool> {
        if !self.vm.check_extension(Cap::CoalescedPio) {
            return Ok(false);
        }
        let first = IoEventAddress::Pio(ports.first().0.into());
        self.vm.register_coalesced_mmio(first, ports.len() as u32).map_err(|errno| {
            HalError::failed(
                format!("coalesce writes to ports {ports} (KVM_REGISTER_COALESCED_MMIO)"),
                errno,
            )
        })?;
        Ok(true)
    }

    fn inject_irq_to_vcpu(&self, vcpu_id: VCpuId, irq: usize) -> HalResult {
        self.need_interrupt_controller()?;
        self.arch.inject(&self.vm, vcpu_id, irq)
    }

    fn forward_hypercalls(&self, numbers: RangeInclusive<u64>) -> HalResult<bool> {
        self.arch.forward_hypercalls(&self.vm, numbers)
    }

    fn trap_sys_regs(&self, ranges: &[SysRegAddrRange]) -> HalResult {
        self.arch.trap_sys_regs(&self.vm, ranges)
    }

    fn code_was_written(&self, at: GuestPhysAddr, len: u64) {
        let at = GuestAddress(at.0);
        let slots = self.held_slots();
        let found = slots.values().find_map(|region| Some((region, region.to_region_addr(at)?)));
        if let Some((region, offset)) = found {
            let len = len.min(region.len() - offset.0) as usize;
            if let Ok(start) = region.get_host_address(offset) {
                arch::debug::sync_code(start, len);
            }
        }
    }

    fn current_time_nanos(&self) -> u64 {
        self.created.elapsed().as_nanos() as u64
    }

    fn current_vcpu() -> Option<(VMId, VCpuId)> {
        kick::current_vcpu()
    }

    fn current_pcpu_id() -> usize {
        nix::sched::sched_getcpu().unwrap_or(0)
    }
}
