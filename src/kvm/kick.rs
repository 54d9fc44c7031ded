//! Getting a vCPU's thread out of the guest: a signal plus `immediate_exit`.
//!
//! The signal makes a running `KVM_RUN` return. Its handler sets `immediate_exit` in the `kvm_run`
//! that the interrupted thread is bound to, so that a signal that comes just before `KVM_RUN` is
//! not lost: the call then returns at once (api.rst, 5, `immediate_exit`).

use std::{
    cell::Cell,
    io, ptr,
    sync::{
        Once,
        atomic::{AtomicI32, Ordering},
    },
};

use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use crate::hal::{HalError, HalResult, VCpuId, VCpuKick, VMId};

thread_local! {
    /// `immediate_exit` of the vCPU that this thread is bound to, or null.
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(ptr::null_mut()) };
    static CURRENT: Cell<Option<(VMId, VCpuId)>> = const { Cell::new(None) };
}

/// The VM and vCPU that the calling thread is bound to.
pub fn current_vcpu() -> Option<(VMId, VCpuId)> {
    CURRENT.get()
}

/// Who to kick: the thread that is bound to a vCPU.
#[derive(Debug, Default)]
pub struct Kick {
    /// Its thread id, or 0.
    tid: AtomicI32,
}

impl Kick {
    /// The calling thread adopts the vCPU whose `immediate_exit` is given; it must call
    /// [`Self::unbind`] before that goes away.
    pub fn bind(&self, vm_id: VMId, vcpu_id: VCpuId, immediate_exit: *mut u8) -> HalResult {
        install_handler()?;
        IMMEDIATE_EXIT.set(immediate_exit);
        CURRENT.set(Some((vm_id, vcpu_id)));
        // SAFETY: gettid has no arguments and cannot fail.
        let tid = unsafe { libc::gettid() };
        self.tid.store(tid, Ordering::SeqCst);
        Ok(())
    }

    pub fn unbind(&self) {
        self.tid.store(0, Ordering::SeqCst);
        IMMEDIATE_EXIT.set(ptr::null_mut());
        CURRENT.set(None);
    }
}

impl VCpuKick for Kick {
    fn kick(&self) {
        let tid = self.tid.load(Ordering::SeqCst);
        if tid != 0 {
            // SAFETY: tgkill takes numbers only. A thread that has just ended is an error, which is
            // fine: there is nobody left to kick.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, SIGRTMIN()) };
        }
    }
}

extern "C" fn on_kick(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let immediate_exit = IMMEDIATE_EXIT.get();
    if !immediate_exit.is_null() {
        // SAFETY: between `bind` and `unbind` the pointer is the bound vCPU's `kvm_run`, which is
        // mapped; the kernel reads the byte, so it must really be written.
        unsafe { immediate_exit.write_volatile(1) };
    }
}

fn install_handler() -> HalResult {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| result = register_signal_handler(SIGRTMIN(), on_kick));
    result.map_err(|errno| {
        HalError::failed("install the signal handler that kicks vCPUs", io::Error::from(errno))
    })
}
