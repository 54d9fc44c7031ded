//! A virtual machine: what it is made of, and what can be done to it.
//!
//! - `dispatch`: [`AxVM::run_vcpu`], the loop that every exit goes through.
//! - `hypercall`: calls whose number and arguments are in the guest's memory.
//! - `threads`: one thread per vCPU, which decides on what the loop did not handle.
//! - `lifecycle`: statuses, and how all threads learn of a change.
//! - `stats`, `times`, `thread_clock`: what exits there were, and where time goes.
//! - `stop`: why a VM stopped.
//! - `debug`: a guest under a debugger.
//! - `stuck`: what is told of a guest that does not get on.

pub mod config;
mod debug;
mod dispatch;
mod hypercall;
mod lifecycle;
mod record;
mod stats;
mod stop;
mod stuck;
mod thread_clock;
mod threads;
mod times;

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
pub use config::AxVMConfig;
pub use debug::{Debugging, GuestStop, Watch, WatchedAddrs, Watcher};
use lifecycle::Lifecycle;
pub use lifecycle::VMStatus;
pub use record::{ExitRecorder, HandledExit};
pub use stats::{AccessCounts, ExitCounts, VCpuStats};
pub use stop::{FaultReport, StopReason};
pub use threads::VCpuThreads;
pub use times::HandlingTimes;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{
    addr::{GuestPhysAddr, GuestPhysAddrRange, MappingFlags},
    addrspace::{self, AddrSpace, SharedMemory},
    devices::{AxVmDevices, BusError},
    hal::{AxVMHal, HalError, VCpuId, VCpuSetup, VMId},
    ratelimit::RateLimit,
    vcpu::{self, AxVCpu},
};

/// A vCPU, shared.
pub type AxVCpuRef<H> = Arc<AxVCpu<<H as AxVMHal>::VCpu>>;
/// A VM, shared.
pub type AxVMRef<H> = Arc<AxVM<H>>;

/// Why a VM did not do what it was asked. Sizes are in bytes.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what each is")]
pub enum Error {
    #[error("VM[{vm}] has no vCPU {vcpu_id}: it has {count}")]
    NoSuchVCpu { vm: VMId, vcpu_id: VCpuId, count: usize },
    #[error("VM[{vm}] is {found}: {operation} needs it to be {wanted}")]
    BadState { vm: VMId, operation: &'static str, wanted: &'static str, found: VMStatus },
    #[error(
        "vCPU {vcpu_id} cannot be bound to host CPUs {mask:#x}: this host offers {allowed:#x}; \
             correct phys_cpu_sets"
    )]
    Affinity { vcpu_id: VCpuId, mask: usize, allowed: usize },
    #[error("Failed to start the thread of vCPU {vcpu_id}: {source}")]
    Spawn { vcpu_id: VCpuId, source: std::io::Error },
    #[error(
        "VM[{vm}] has no window for inter-VM channels: give it a row of type 0x0A in emu_devices"
    )]
    NoIvcWindow { vm: VMId },
    #[error("VM[{vm}] has no room for a channel of {size:#x} bytes left in its window {window}")]
    NoIvcRoom { vm: VMId, size: u64, window: GuestPhysAddrRange },
    #[error(transparent)]
    Overlap(#[from] BusError),
    #[error(transparent)]
    VCpu(#[from] vcpu::Error),
    #[error(transparent)]
    AddrSpace(#[from] addrspace::Error),
    #[error(transparent)]
    Hal(#[from] HalError),
}

/// What a VM is made of.
pub struct AxVMParts<H: AxVMHal> {
    /// Its number in this process; AxVisor's begin at 1.
    pub id: VMId,
    /// Its name, for messages.
    pub name: String,
    /// Its vCPUs.
    pub cpus: config::CpuConfig,
    /// The hardware, which is this VM's alone.
    pub hal: Arc<H>,
    /// Its memory, with all that the guest needs at its start.
    pub address_space: Arc<AddrSpace>,
    /// Its devices.
    pub devices: AxVmDevices,
    /// Where the boot processor begins.
    pub entry: GuestPhysAddr,
    /// With what registers it begins.
    pub setup: VCpuSetup,
}

/// A virtual machine over the hardware `H`.
pub struct AxVM<H: AxVMHal> {
    id: VMId,
    name: String,
    // Fields are dropped in this order: the vCPUs first, the hardware last.
    vcpus: Box<[AxVCpuRef<H>]>,
    stats: Box<[VCpuStats]>,
    recorder: OnceLock<Arc<dyn ExitRecorder>>,
    is_timed: AtomicBool,
    debugging: ArcSwapOption<Debugging>,
    devices: AxVmDevices,
    address_space: Arc<AddrSpace>,
    lifecycle: Lifecycle,
    hypercall_trouble: RateLimit,
    hal: Arc<H>,
}

impl<H: AxVMHal> AxVM<H> {
    /// Makes the VM and its vCPUs, set up and not yet running: `Loaded`. Memory is filled and the
    /// devices are in place already; a device window in memory is an error that names both.
    pub fn new(parts: AxVMParts<H>) -> Result<AxVMRef<H>, Error> {
        let AxVMParts { id, name, cpus, hal, address_space, devices, entry, setup } = parts;
        check_overlap(&address_space, &devices)?;
        let vcpus = cpus
            .affinities()
            .map(|(vcpu_id, cpu_set, phys_id)| {
                let config = hal.vcpu_create_config(vcpu_id, phys_id, cpus.num)?;
                let vcpu = AxVCpu::new(id, vcpu_id, phys_id, cpu_set, config)?;
                vcpu.setup(entry, 0, setup.clone())?;
                Ok(Arc::new(vcpu))
            })
            .collect::<Result<Box<[_]>, Error>>()?;
        let sys_regs: Vec<_> = devices.iter_sys_reg_dev().map(|d| d.address_range()).collect();
        if !sys_regs.is_empty() {
            hal.trap_sys_regs(&sys_regs)?;
        }
        hal.vcpus_are_made()?;
        Ok(Arc::new(Self {
            id,
            name,
            stats: vcpus.iter().map(|_| VCpuStats::new(devices.window_count())).collect(),
            recorder: OnceLock::new(),
            is_timed: AtomicBool::new(false),
            debugging: ArcSwapOption::empty(),
            lifecycle: Lifecycle::new(vcpus.len(), H::STARTS_SECONDARIES),
            hypercall_trouble: RateLimit::new(1, Duration::from_secs(10)),
            vcpus,
            devices,
            address_space,
            hal,
        }))
    }

    /// Its number in this process.
    pub const fn id(&self) -> VMId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// vCPU `vcpu_id`, if there is one.
    pub fn vcpu(&self, vcpu_id: VCpuId) -> Option<&AxVCpuRef<H>> {
        self.vcpus.get(vcpu_id)
    }

    /// How many vCPUs it has.
    pub fn vcpu_num(&self) -> usize {
        self.vcpus.len()
    }

    /// All vCPUs, by their numbers.
    pub fn vcpu_list(&self) -> &[AxVCpuRef<H>] {
        &self.vcpus
    }

    /// Its devices.
    pub fn get_devices(&self) -> &AxVmDevices {
        &self.devices
    }

    /// Its memory.
    pub fn address_space(&self) -> &Arc<AddrSpace> {
        &self.address_space
    }

    /// The hardware beneath.
    pub fn hal(&self) -> &Arc<H> {
        &self.hal
    }

    /// From the next entry of each vCPU on, its exits are told to `recorder`. A VM has one at most, and
    /// keeps the first.
    pub fn record_to(&self, recorder: Arc<dyn ExitRecorder>) {
        let _ = self.recorder.set(recorder);
    }

    /// From the next exit of each vCPU on, it is counted how long exits take to handle, or no longer.
    pub fn time_exits(&self, wanted: bool) {
        if wanted {
            self.stats.iter().for_each(VCpuStats::make_times);
        }
        self.is_timed.store(wanted, Ordering::Release);
    }

    /// What each vCPU has exited for, so far.
    pub fn stats(&self) -> &[VCpuStats] {
        &self.stats
    }

    /// Where it is in its life; any thread may ask.
    pub fn status(&self) -> VMStatus {
        self.lifecycle.status()
    }

    /// Whether vCPUs may run.
    pub fn running(&self) -> bool {
        self.status() == VMStatus::Running
    }

    /// Why the VM stops or has stopped.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.lifecycle.stop_reason()
    }

    /// `Loaded` to `Running`: the vCPUs' threads may enter the guest.
    pub fn boot(&self) -> Result<(), Error> {
        self.change("boot", VMStatus::Loaded, VMStatus::Running)
    }

    /// `Running` to `Suspended`: gets every vCPU out of the guest, with nothing left half done.
    /// Returns at once; the vCPUs follow.
    pub fn suspend(&self) -> Result<(), Error> {
        self.change("suspend", VMStatus::Running, VMStatus::Suspended)?;
        self.kick_all();
        Ok(())
    }

    /// `Suspended` to `Running`.
    pub fn resume(&self) -> Result<(), Error> {
        self.change("resume", VMStatus::Suspended, VMStatus::Running)
    }

    /// Ends the VM for `reason`, from any status and any thread; the first reason stands. Returns
    /// whether this was the first. The vCPUs follow; [`VCpuThreads::join`] waits for them.
    pub fn stop(&self, reason: StopReason) -> bool {
        let first = self.lifecycle.stop(reason);
        self.kick_all();
        first
    }

    /// [`Self::stop`] as a power off from outside.
    pub fn shutdown(&self) -> bool {
        self.stop(StopReason::Shutdown)
    }

    /// Makes interrupt `irq` pending on each of the vCPUs `targets`, as many as there may be, from
    /// any thread, waking those that are halted. For `irq` see [`AxVMHal::inject_irq_to_vcpu`].
    ///
    /// # Errors
    /// One of the vCPUs does not exist: none is interrupted then. The host refuses one: those after
    /// it are not.
    pub fn inject_interrupt_to_vcpu(
        &self,
        targets: impl IntoIterator<Item = VCpuId, IntoIter: Clone>,
        irq: usize,
    ) -> Result<(), Error> {
        let targets = targets.into_iter();
        for vcpu_id in targets.clone() {
            self.known(vcpu_id)?;
        }
        for vcpu_id in targets {
            self.hal.inject_irq_to_vcpu(vcpu_id, irq)?;
            self.lifecycle.wake(vcpu_id);
        }
        Ok(())
    }

    /// Makes `memory` part of the guest's memory at `gpa`, also while it runs; without
    /// [`MappingFlags::WRITE`] the guest cannot change it.
    ///
    /// # Errors
    /// Other memory or a device is there, or the range is not whole pages.
    pub fn map_region(
        &self,
        gpa: GuestPhysAddr,
        memory: &SharedMemory,
        flags: MappingFlags,
    ) -> Result<(), Error> {
        let range = GuestPhysAddrRange::new(gpa, memory.size());
        for device in self.devices.iter_mmio_dev() {
            let window = device.address_range();
            if let Some(range) = range.filter(|range| range.overlaps(&window)) {
                return Err(overlap("guest memory", range, device.name(), window).into());
            }
        }
        Ok(self.address_space.map_region(gpa, memory, flags)?)
    }

    /// Takes the memory area of `size` bytes at `gpa` away, all of it, also while the guest runs.
    ///
    /// # Errors
    /// No area has just this range.
    pub fn unmap_region(&self, gpa: GuestPhysAddr, size: u64) -> Result<(), Error> {
        Ok(self.address_space.unmap_region(gpa, size)?)
    }

    /// The value at `gpa` in the guest's memory; see [`AddrSpace::read_obj`].
    ///
    /// # Errors
    /// It does not lie, aligned and as a whole, in memory that the guest may read.
    pub fn read_from_guest_of<T: FromBytes + IntoBytes>(
        &self,
        gpa: GuestPhysAddr,
    ) -> Result<T, Error> {
        Ok(self.address_space.read_obj(gpa)?)
    }

    /// Writes a value into the guest's memory at `gpa`; see [`AddrSpace::write_obj`].
    ///
    /// # Errors
    /// It does not lie, aligned and as a whole, in memory that the guest may write.
    pub fn write_to_guest_of<T: IntoBytes + Immutable>(
        &self,
        gpa: GuestPhysAddr,
        data: &T,
    ) -> Result<(), Error> {
        Ok(self.address_space.write_obj(gpa, data)?)
    }

    /// Addresses for an inter-VM channel of `expected_size` bytes, and the size it will have: whole
    /// pages. Memory comes there by [`Self::map_region`].
    ///
    /// # Errors
    /// The guest has no window for channels, or there is no room left in it.
    pub fn alloc_ivc_channel(&self, expected_size: u64) -> Result<(GuestPhysAddr, u64), Error> {
        let (vm, size) = (self.id, expected_size);
        let window = self.devices.ivc_window().ok_or(Error::NoIvcWindow { vm })?;
        window.alloc(size).ok_or(Error::NoIvcRoom { vm, size, window: window.range() })
    }

    /// Gives back what [`Self::alloc_ivc_channel`] gave.
    ///
    /// # Errors
    /// It is not in use.
    pub fn release_ivc_channel(&self, gpa: GuestPhysAddr, size: u64) -> Result<(), Error> {
        let window = self.devices.ivc_window().ok_or(Error::NoIvcWindow { vm: self.id })?;
        match window.release(gpa, size) {
            true => Ok(()),
            false => Err(addrspace::Error::NoSuchArea { gpa, size }.into()),
        }
    }

    fn change(&self, operation: &'static str, from: VMStatus, to: VMStatus) -> Result<(), Error> {
        self.lifecycle.change(from, to).map_err(|found| Error::BadState {
            vm: self.id,
            operation,
            wanted: from.as_str(),
            found,
        })
    }

    fn kick_all(&self) {
        for vcpu in &self.vcpus {
            vcpu.kick();
        }
    }

    fn known(&self, vcpu_id: VCpuId) -> Result<&AxVCpuRef<H>, Error> {
        let count = self.vcpus.len();
        self.vcpu(vcpu_id).ok_or(Error::NoSuchVCpu { vm: self.id, vcpu_id, count })
    }
}

impl<H: AxVMHal> fmt::Debug for AxVM<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AxVM")
            .field("id", &self.id)
            .field("status", &self.status())
            .field("vcpus", &self.vcpus)
            .field("memory", &self.address_space)
            .field("devices", &self.devices)
            .finish_non_exhaustive()
    }
}

fn check_overlap(address_space: &AddrSpace, devices: &AxVmDevices) -> Result<(), BusError> {
    for device in devices.iter_mmio_dev() {
        let window = device.address_range();
        for area in address_space.memory_areas() {
            let ram = GuestPhysAddrRange::new(area.gpa, area.size);
            if let Some(ram) = ram.filter(|ram| ram.overlaps(&window)) {
                return Err(overlap(device.name(), window, "guest memory", ram));
            }
        }
    }
    Ok(())
}

fn overlap(
    new: &str,
    new_range: GuestPhysAddrRange,
    old: &str,
    old_range: GuestPhysAddrRange,
) -> BusError {
    let (new, old) = (new.to_owned(), old.to_owned());
    let (new_range, old_range) = (new_range.to_string(), old_range.to_string());
    BusError { new, new_range, old, old_range }
}
