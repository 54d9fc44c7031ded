//! A guest under a debugger: what vCPUs stop for, who is told, and how all of them come to a rest.
//!
//! What the debugger wants is a value ([`Debugging`]) that vCPUs take along when they enter their
//! loop. It is changed while they are at rest, so that the loop never has to look for a newer one.

use std::sync::Arc;

use super::{AxVM, Error, VMStatus};
use crate::{
    addr::{
        AccessWidth, DeviceAddr, DeviceAddrRange, GuestPhysAddr, GuestPhysAddrRange, PortRange,
    },
    hal::{AccessKind, AxVCpuExitReason, AxVMHal, DebugStop, DebugVCpu, VCpuId},
    vcpu::{self, BoundVCpu},
};

/// Addresses of devices'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchedAddrs {
    /// In guest-physical memory.
    Mmio(GuestPhysAddrRange),
    /// Ports of x86.
    Port(PortRange),
}

impl WatchedAddrs {
    fn covers(&self, exit: &AxVCpuExitReason) -> bool {
        match (*self, *exit) {
            (
                Self::Mmio(range),
                AxVCpuExitReason::MmioRead { addr, width, .. }
                | AxVCpuExitReason::MmioWrite { addr, width, .. },
            ) => touches(&range, addr, width),
            (
                Self::Port(range),
                AxVCpuExitReason::IoRead { port, width }
                | AxVCpuExitReason::IoWrite { port, width, .. },
            ) => touches(&range, port, width),
            _ => false,
        }
    }
}

/// Whether an access has one of the addresses.
fn touches<R: DeviceAddrRange>(range: &R, addr: R::Addr, width: AccessWidth) -> bool {
    let last = addr.number().saturating_add(width.size() as u64 - 1);
    addr <= range.last() && last >= range.first().number()
}

/// Accesses to devices that the guest is to stop after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// To where.
    pub at: WatchedAddrs,
    /// Of which kind.
    pub on: AccessKind,
}

impl Watch {
    /// Whether it is for this exit.
    pub fn covers(&self, exit: &AxVCpuExitReason) -> bool {
        self.on.covers(exit.is_write()) && self.at.covers(exit)
    }
}

/// Why the guest stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestStop {
    /// The vCPU came to what the hardware or a breakpoint stops at.
    Hardware(DebugStop),
    /// The vCPU has made this access, which is watched, and a read got this answer.
    Access(AxVCpuExitReason, Option<u64>),
}

/// Who is told that the guest stops, on the threads of vCPUs.
pub trait Watcher: Send + Sync {
    /// A vCPU stopped. All others are on their way out; [`AxVM::wait_until_at_rest`] waits for them.
    fn stopped(&self, vcpu_id: VCpuId, why: GuestStop);
}

/// What a debugger wants of a guest.
pub struct Debugging {
    /// Who is told.
    pub watcher: Arc<dyn Watcher>,
    /// Accesses to devices.
    pub watches: Vec<Watch>,
    /// Where breakpoint instructions of the debugger's are. Any other is the guest's own.
    pub breakpoints: Vec<GuestPhysAddr>,
}

impl<H: AxVMHal> AxVM<H> {
    /// What the debugger wants from now on; for a guest at rest. `None`: there is no debugger.
    pub fn set_debugging(&self, debugging: Option<Debugging>) {
        self.debugging.store(debugging.map(Arc::new));
    }

    /// Waits until all vCPUs are out of the guest, of which they have been told by
    /// [`Self::suspend`]; `false`: the guest runs, or ends.
    pub fn wait_until_at_rest(&self) -> bool {
        self.lifecycle.wait_until_parked()
    }

    /// Lets the guest run, from its beginning or from where it was suspended, but for those vCPUs
    /// that are `held`.
    ///
    /// # Errors
    /// It is not at rest.
    pub fn go_on(&self, held: impl Fn(VCpuId) -> bool) -> Result<(), Error> {
        self.lifecycle.hold(held);
        match self.status() {
            VMStatus::Loaded => self.boot(),
            _ => self.resume(),
        }
    }

    /// Does something with a vCPU of a guest at rest.
    ///
    /// # Errors
    /// There is no such vCPU, or it is in the guest.
    pub fn inspect<R>(
        &self,
        vcpu_id: VCpuId,
        act: impl FnOnce(&mut H::VCpu) -> R,
    ) -> Result<R, Error> {
        Ok(self.known(vcpu_id)?.inspect(act)?)
    }

    /// Where a virtual address is in guest-physical memory for a vCPU of a guest at rest.
    ///
    /// # Errors
    /// There is no such vCPU, it is in the guest, or its host does not tell.
    pub fn translate(&self, vcpu_id: VCpuId, addr: u64) -> Result<Option<GuestPhysAddr>, Error> {
        let read = |at| self.word(at);
        let translated = self.inspect(vcpu_id, |vcpu| vcpu.translate(addr, &read))?;
        translated.map_err(|source| vcpu::Error::Hal { vcpu_id, source }.into())
    }

    /// The watcher, if there is something to watch in the loop.
    pub(super) fn watcher(&self) -> Option<Arc<Debugging>> {
        self.debugging.load_full().filter(|it| !it.watches.is_empty())
    }

    /// Looks at an exit that has been handled: whether it is watched.
    #[cold]
    pub(super) fn look(
        &self,
        debugging: &Debugging,
        vcpu_id: VCpuId,
        exit: &AxVCpuExitReason,
        answer: Option<u64>,
    ) {
        if debugging.watches.iter().any(|watch| watch.covers(exit)) {
            self.stop_for(debugging, vcpu_id, GuestStop::Access(*exit, answer));
        }
    }

    /// A vCPU came back for the debugger.
    pub(super) fn stopped_for_debugger(
        &self,
        vcpu_id: VCpuId,
        vcpu: &mut BoundVCpu<'_, H::VCpu>,
        stop: DebugStop,
    ) {
        let debugging = self.debugging.load_full();
        if let DebugStop::Breakpoint(pc) = stop {
            let at = vcpu.translate(pc, &|at| self.word(at)).ok().flatten();
            let is_ours = |it: &Arc<Debugging>| at.is_some_and(|at| it.breakpoints.contains(&at));
            if !debugging.as_ref().is_some_and(is_ours) {
                if let Err(error) = vcpu.pass_breakpoint() {
                    log::error!("{error}");
                }
                return;
            }
        }
        if let Some(debugging) = debugging {
            self.stop_for(&debugging, vcpu_id, GuestStop::Hardware(stop));
        }
    }

    fn stop_for(&self, debugging: &Debugging, vcpu_id: VCpuId, why: GuestStop) {
        // Another may have done so first, or the guest ends.
        let _ = self.suspend();
        debugging.watcher.stopped(vcpu_id, why);
    }

    fn word(&self, at: GuestPhysAddr) -> Option<u64> {
        let mut bytes = [0; 8];
        self.address_space.read(at, &mut bytes).ok()?;
        Some(u64::from_le_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Port;

    #[test]
    fn accesses_are_watched_by_address_and_kind() {
        let first = GuestPhysAddr(0x900_0030);
        let watched = WatchedAddrs::Mmio(GuestPhysAddrRange::new(first, 4).unwrap());
        let write =
            |addr, width| AxVCpuExitReason::MmioWrite { addr: GuestPhysAddr(addr), width, data: 0 };
        assert!(watched.covers(&write(0x900_0030, AccessWidth::Byte)));
        assert!(watched.covers(&write(0x900_0033, AccessWidth::Byte)));
        assert!(watched.covers(&write(0x900_002c, AccessWidth::Qword)));
        assert!(!watched.covers(&write(0x900_0034, AccessWidth::Dword)));
        assert!(!watched.covers(&write(0x900_002c, AccessWidth::Dword)));
        assert!(!watched.covers(&AxVCpuExitReason::Halt));
        let ports = WatchedAddrs::Port(PortRange::at(Port(0x3f8)));
        let out =
            AxVCpuExitReason::IoWrite { port: Port(0x3f8), width: AccessWidth::Byte, data: 0 };
        assert!(ports.covers(&out) && !watched.covers(&out));
        assert!(AccessKind::Any.covers(true) && AccessKind::Any.covers(false));
        assert!(AccessKind::Write.covers(true) && !AccessKind::Write.covers(false));
    }
}
