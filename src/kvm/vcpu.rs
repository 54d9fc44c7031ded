//! A vCPU of KVM's.

use std::{io, sync::Arc};

use kvm_bindings::kvm_coalesced_mmio;
use kvm_ioctls::VcpuFd;

use super::{arch, debug::Debugged, exits::Pending, kick::Kick};
use crate::{
    addr::{AccessWidth, GuestPhysAddr, Port},
    hal::{
        AxArchVCpu, AxVCpuExitReason, HalError, HalResult, StopCause, VCpuDump, VCpuId, VCpuKick,
        VCpuSetup, VMId,
    },
};

/// A vCPU's file descriptor, and what its architecture wants to know at set-up.
pub struct KvmVCpuCreateConfig {
    pub(super) fd: VcpuFd,
    pub(super) arch: arch::VCpuConfig,
    /// Whether this vCPU empties the ring of coalesced writes, which all vCPUs share.
    pub(super) drains_ring: bool,
}

/// One vCPU of KVM's.
pub struct KvmVCpu {
    vm_id: VMId,
    vcpu_id: VCpuId,
    pub(super) fd: VcpuFd,
    pub(super) arch: arch::VCpuConfig,
    entry: GuestPhysAddr,
    pub(super) pending: Pending,
    pub(super) debugged: Debugged,
    drains_ring: bool,
    kick: Arc<Kick>,
}

impl KvmVCpu {
    /// The next write that KVM kept in its ring instead of exiting.
    fn coalesced(&mut self) -> Option<AxVCpuExitReason> {
        let write = self.fd.coalesced_mmio_read().ok().flatten()?;
        let width = AccessWidth::try_from(write.len as usize).ok()?;
        let data = u64::from_le_bytes(write.data) & width.mask();
        Some(if is_port(&write) {
            AxVCpuExitReason::IoWrite { port: Port(write.phys_addr as u16), width, data }
        } else {
            AxVCpuExitReason::MmioWrite { addr: GuestPhysAddr(write.phys_addr), width, data }
        })
    }
}

fn is_port(write: &kvm_coalesced_mmio) -> bool {
    // SAFETY: both members of the union are plain 32-bit numbers.
    unsafe { write.__bindgen_anon_1.pio != 0 }
}

impl AxArchVCpu for KvmVCpu {
    type CreateConfig = KvmVCpuCreateConfig;
    type SetupConfig = VCpuSetup;

    fn new(vm_id: VMId, vcpu_id: VCpuId, mut config: KvmVCpuCreateConfig) -> HalResult<Self> {
        if config.drains_ring {
            config
                .fd
                .map_coalesced_mmio_ring()
                .map_err(|errno| HalError::failed("map the ring of coalesced writes", errno))?;
        }
        Ok(Self {
            vm_id,
            vcpu_id,
            fd: config.fd,
            arch: config.arch,
            entry: GuestPhysAddr(0),
            pending: Pending::default(),
            debugged: Debugged::default(),
            drains_ring: config.drains_ring,
            kick: Arc::default(),
        })
    }

    fn set_entry(&mut self, entry: GuestPhysAddr) -> HalResult {
        self.entry = entry;
        Ok(())
    }

    fn setup(&mut self, config: VCpuSetup) -> HalResult {
        self.pending = Pending::default();
        arch::setup_vcpu(&self.fd, &self.arch, self.entry, &config)
    }

    fn run(&mut self) -> HalResult<AxVCpuExitReason> {
        if let Some(piece) = self.pending.next(self.fd.get_kvm_run()) {
            return Ok(piece);
        }
        // What the ring holds was written before the exit that comes next.
        if self.drains_ring {
            if let Some(write) = self.coalesced() {
                return Ok(write);
            }
        }
        self.pending.enter(&mut self.fd)
    }

    fn bind(&mut self) -> HalResult {
        let immediate_exit = &raw mut self.fd.get_kvm_run().immediate_exit;
        self.kick.bind(self.vm_id, self.vcpu_id, immediate_exit)
    }

    fn unbind(&mut self) -> HalResult {
        self.pending.drain(&mut self.fd);
        self.kick.unbind();
        Ok(())
    }

    fn set_gpr(&mut self, reg: usize, val: u64) {
        if self.pending.answer(self.fd.get_kvm_run(), val) {
            return;
        }
        if let Err(error) = arch::set_gpr(&self.fd, reg, val) {
            log::error!("vCPU {}: {error}", self.vcpu_id);
        }
    }

    fn inject_interrupt(&mut self, vector: usize) -> HalResult {
        Err(HalError::failed(
            format!("inject vector {vector:#x} into the vCPU: the interrupt controller does that"),
            io::Error::from(io::ErrorKind::Unsupported),
        ))
    }

    fn set_return_value(&mut self, val: u64) {
        if self.pending.completes_on_entry() && arch::answer_hypercall(self.fd.get_kvm_run(), val) {
            return;
        }
        if let Err(error) = arch::set_gpr(&self.fd, arch::RETURN_REGISTER, val) {
            log::error!("vCPU {}: {error}", self.vcpu_id);
        }
    }

    fn set_second_return_value(&mut self, val: u64) {
        arch::set_second_return_value(&mut self.fd, val);
    }

    fn refuse_sys_reg(&mut self) {
        self.pending.cut_short();
        if let Err(error) = arch::refuse_sys_reg(&mut self.fd) {
            log::error!("vCPU {}: {error}", self.vcpu_id);
        }
    }

    fn stop_cause(&self) -> StopCause {
        self.pending.cause.clone().unwrap_or(StopCause::Shutdown)
    }

    fn pc(&mut self) -> u64 {
        arch::pc(&mut self.fd, &self.arch)
    }

    fn dump(&self) -> VCpuDump {
        arch::dump(&self.fd)
    }

    fn kicker(&self) -> Arc<dyn VCpuKick> {
        self.kick.clone()
    }
}
