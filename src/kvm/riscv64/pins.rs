//! The external interrupt pin of each vCPU, for an interrupt controller outside the kernel.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::OnceLock,
};

use kvm_bindings::{KVM_INTERRUPT_SET, KVM_INTERRUPT_UNSET, KVMIO, kvm_interrupt};
use kvm_ioctls::VcpuFd;
use vmm_sys_util::{ioctl::ioctl_with_ref, ioctl_iow_nr};

use crate::hal::{HalError, HalResult, VCpuId};

ioctl_iow_nr!(KVM_INTERRUPT, KVMIO, 0x86, kvm_interrupt);

/// The pins of all vCPUs. The vCPUs themselves belong to their threads; KVM takes this one call from
/// any thread, also while the vCPU runs, through a descriptor of ours.
#[derive(Default)]
pub struct Pins(OnceLock<Box<[OnceLock<OwnedFd>]>>);

impl Pins {
    /// Learns of a vCPU, one of `vcpu_num`.
    pub fn add(&self, vcpu_id: VCpuId, vcpu_num: usize, fd: &VcpuFd) -> HalResult {
        // SAFETY: the vCPU's descriptor is open as long as `fd` lives, which is longer than this
        // function runs.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) };
        let own = borrowed.try_clone_to_owned().map_err(|error| {
            HalError::failed(format!("duplicate the descriptor of vCPU {vcpu_id}"), error)
        })?;
        let pins = self.0.get_or_init(|| (0..vcpu_num).map(|_| OnceLock::new()).collect());
        pins.get(vcpu_id).and_then(|pin| pin.set(own).ok()).ok_or_else(|| {
            let why = io::Error::from(io::ErrorKind::InvalidInput);
            HalError::failed(format!("connect the interrupt pin of vCPU {vcpu_id} again"), why)
        })
    }

    /// Drives the pin of a vCPU, from any thread.
    pub fn set(&self, vcpu_id: VCpuId, high: bool) -> HalResult {
        let pin = self.0.get().and_then(|pins| pins.get(vcpu_id)).and_then(OnceLock::get);
        let Some(pin) = pin else {
            let why = io::Error::from(io::ErrorKind::NotFound);
            return Err(HalError::failed(format!("interrupt vCPU {vcpu_id}"), why));
        };
        let level = if high { KVM_INTERRUPT_SET } else { KVM_INTERRUPT_UNSET };
        let interrupt = kvm_interrupt { irq: level as u32 };
        // SAFETY: the descriptor is a vCPU's, and KVM reads the structure and keeps nothing of it.
        if unsafe { ioctl_with_ref(&pin.as_fd(), KVM_INTERRUPT(), &interrupt) } == 0 {
            return Ok(());
        }
        let errno = io::Error::last_os_error();
        Err(HalError::failed(format!("interrupt vCPU {vcpu_id} (KVM_INTERRUPT)"), errno))
    }
}
