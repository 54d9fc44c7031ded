//! From `kvm_run` to `AxVCpuExitReason`.

use kvm_bindings::{
    KVM_SYSTEM_EVENT_CRASH, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN, kvm_debug_exit_arch,
    kvm_run,
};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::{
    arch,
    run_page::{self, Io},
};
use crate::{
    addr::{AccessWidth, GuestPhysAddr, MappingFlags, Port},
    hal::{AxVCpuExitReason, HalError, HalResult, StopCause},
};

/// An access that KVM reports once and devices see in pieces: string port I/O element by element,
/// and MMIO of a length that no register has (the parts of an access that crosses a page) byte by
/// byte. What only one architecture has may come in pieces too.
#[derive(Clone, Copy)]
enum Access {
    Io { io: Io, width: AccessWidth },
    Mmio { addr: u64, width: AccessWidth, is_read: bool },
    Own(arch::OwnExit),
}

/// What the last `KVM_RUN` left to be done before the next one.
#[derive(Default)]
pub struct Pending {
    access: Option<Access>,
    /// Pieces given out, of `count`.
    given: u32,
    count: u32,
    /// KVM finishes the instruction when it is entered again.
    completes_on_entry: bool,
    pub cause: Option<StopCause>,
    /// The last exit, if it was one for a debugger.
    pub debug_exit: Option<kvm_debug_exit_arch>,
}

impl Pending {
    /// The next piece of the access under way, if there is one.
    pub fn next(&mut self, run: &mut kvm_run) -> Option<AxVCpuExitReason> {
        if self.given == self.count {
            return None;
        }
        let index = self.given;
        self.given += 1;
        Some(match self.access? {
            Access::Io { io, width } if io.is_read => {
                AxVCpuExitReason::IoRead { port: Port(io.port), width }
            }
            Access::Io { io, width } => AxVCpuExitReason::IoWrite {
                port: Port(io.port),
                width,
                data: run_page::io_element(run, &io, index),
            },
            Access::Mmio { addr, width, is_read } => {
                let offset = index as usize * width.size();
                // KVM never reports an access that wraps: it splits at pages.
                let addr = GuestPhysAddr(addr.wrapping_add(offset as u64));
                if is_read {
                    AxVCpuExitReason::MmioRead {
                        addr,
                        width,
                        reg: 0,
                        reg_width: AccessWidth::Qword,
                        signed_ext: false,
                    }
                } else {
                    let data = run_page::mmio_data(run, offset, width);
                    AxVCpuExitReason::MmioWrite { addr, width, data }
                }
            }
            Access::Own(exit) => exit.piece(run, index),
        })
    }

    /// Answers the piece given out last, if it was a read; `false`: no read is pending.
    pub fn answer(&self, run: &mut kvm_run, value: u64) -> bool {
        let Some(index) = self.given.checked_sub(1) else {
            return false;
        };
        match self.access {
            Some(Access::Io { io, .. }) if io.is_read => {
                run_page::set_io_element(run, &io, index, value);
            }
            Some(Access::Mmio { width, is_read: true, .. }) => {
                run_page::set_mmio_data(run, index as usize * width.size(), width, value);
            }
            Some(Access::Own(exit)) => return exit.answer(run, index, value),
            _ => return false,
        }
        true
    }

    /// The rest of the access under way is not to be given out.
    pub fn cut_short(&mut self) {
        self.given = self.count;
    }

    /// Whether KVM must be entered once more before the registers are consistent.
    pub fn completes_on_entry(&self) -> bool {
        self.completes_on_entry
    }

    /// Nothing is pending: KVM has been entered again.
    pub fn clear(&mut self) {
        self.access = None;
        self.given = 0;
        self.count = 0;
        self.completes_on_entry = false;
    }

    fn begin(&mut self, access: Access, count: u32) {
        self.access = Some(access);
        self.given = 0;
        self.count = count;
        self.completes_on_entry = true;
    }

    /// Enters KVM and says why it came back.
    pub fn enter(&mut self, fd: &mut VcpuFd) -> HalResult<AxVCpuExitReason> {
        self.clear();
        self.cause = None;
        let reason = match fd.run() {
            Ok(VcpuExit::IoIn(..) | VcpuExit::IoOut(..)) => {
                let io = run_page::io(fd.get_kvm_run());
                // KVM's ports are 1, 2 or 4 bytes wide; bytes would be right for any other.
                let width =
                    AccessWidth::try_from(usize::from(io.size)).unwrap_or(AccessWidth::Byte);
                self.begin(Access::Io { io, width }, io.count);
                return Ok(self.next(fd.get_kvm_run()).unwrap_or(AxVCpuExitReason::Nothing));
            }
            Ok(VcpuExit::MmioRead(..) | VcpuExit::MmioWrite(..)) => {
                let (addr, len, is_read) = run_page::mmio(fd.get_kvm_run());
                let (width, count) = match AccessWidth::try_from(len) {
                    Ok(width) => (width, 1),
                    Err(()) => (AccessWidth::Byte, len as u32),
                };
                self.begin(Access::Mmio { addr, width, is_read }, count);
                return Ok(self.next(fd.get_kvm_run()).unwrap_or(AxVCpuExitReason::Nothing));
            }
            Ok(VcpuExit::Hlt) => AxVCpuExitReason::Halt,
            Ok(VcpuExit::Shutdown) => self.stop(StopCause::TripleFault),
            Ok(VcpuExit::SystemEvent(kind, _)) => match kind {
                KVM_SYSTEM_EVENT_SHUTDOWN => self.stop(StopCause::Shutdown),
                KVM_SYSTEM_EVENT_RESET => self.stop(StopCause::Reset),
                KVM_SYSTEM_EVENT_CRASH => self.stop(StopCause::Crash),
                other => self.stop(StopCause::Failure(format!(
                    "KVM reports a system event of the unknown type {other}"
                ))),
            },
            Ok(VcpuExit::FailEntry(reason, cpu)) => self.fail(
                reason,
                StopCause::Failure(format!(
                    "the hardware refused to enter the guest on host CPU {cpu} ({reason:#x})"
                )),
            ),
            Ok(VcpuExit::InternalError) => {
                let cause = run_page::internal_error(fd.get_kvm_run());
                self.fail(u64::from(kvm_bindings::KVM_EXIT_INTERNAL_ERROR), cause)
            }
            Ok(VcpuExit::MemoryFault { gpa, .. }) => AxVCpuExitReason::NestedPageFault {
                addr: GuestPhysAddr(gpa),
                access_flags: MappingFlags::empty(),
            },
            Ok(VcpuExit::Debug(exit)) => {
                self.debug_exit = Some(exit);
                AxVCpuExitReason::Nothing
            }
            Ok(VcpuExit::Intr | VcpuExit::IrqWindowOpen | VcpuExit::IoapicEoi(_)) => {
                AxVCpuExitReason::Nothing
            }
            Ok(_) => {
                if let Some((exit, count)) = arch::OwnExit::decode(fd) {
                    self.begin(Access::Own(exit), count);
                    return Ok(self.next(fd.get_kvm_run()).unwrap_or(AxVCpuExitReason::Nothing));
                }
                let reason = fd.get_kvm_run().exit_reason;
                if let Some((fault, what)) = arch::page_fault(fd) {
                    self.cause = Some(StopCause::Unemulated(what));
                    return Ok(fault);
                }
                self.fail(
                    u64::from(reason),
                    StopCause::Failure(format!(
                        "KVM exited for reason {reason}, which axvmm does not know"
                    )),
                )
            }
            Err(errno) if matches!(errno.errno(), libc::EINTR | libc::EAGAIN) => {
                fd.set_kvm_immediate_exit(0);
                AxVCpuExitReason::Nothing
            }
            Err(errno) => {
                if arch::raise_fault(fd, errno.errno()) {
                    return Ok(AxVCpuExitReason::Nothing);
                }
                match arch::guests_fault(errno.errno()) {
                    Some(what) => {
                        let cause = StopCause::Unemulated(format!("{what} ({errno})"));
                        self.fail(errno.errno() as u64, cause)
                    }
                    None => return Err(run_failed(errno)),
                }
            }
        };
        Ok(reason)
    }

    /// Lets KVM finish the pending instruction without running the guest on.
    pub fn drain(&mut self, fd: &mut VcpuFd) {
        if !self.completes_on_entry {
            return;
        }
        fd.set_kvm_immediate_exit(1);
        // EINTR is what is meant to come; whatever else does is nothing that could be acted on.
        let _ = fd.run();
        fd.set_kvm_immediate_exit(0);
        self.clear();
    }

    fn stop(&mut self, cause: StopCause) -> AxVCpuExitReason {
        self.cause = Some(cause);
        AxVCpuExitReason::SystemDown
    }

    fn fail(&mut self, hardware_entry_failure_reason: u64, cause: StopCause) -> AxVCpuExitReason {
        self.cause = Some(cause);
        AxVCpuExitReason::FailEntry { hardware_entry_failure_reason }
    }
}

fn run_failed(errno: kvm_ioctls::Error) -> HalError {
    let failed = HalError::failed("run the guest (KVM_RUN)", errno);
    match errno.errno() {
        libc::EFAULT | libc::EHWPOISON => failed.hint(
            "The host cannot give the guest some of its memory: the host has none left, or a file that \
             is in it (pmem, a kernel, an initrd) has become shorter, or its disk fails.",
        ),
        _ => failed,
    }
}
