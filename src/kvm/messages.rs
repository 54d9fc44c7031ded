//! Message-signalled interrupts: sent by a call, or by the host kernel when an eventfd is signalled
//! (api.rst, KVM_SIGNAL_MSI, KVM_IRQFD, KVM_SET_GSI_ROUTING).

use std::io;

use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_MSI_VALID_DEVID, KvmIrqRouting,
    kvm_irq_routing_entry,
};
use kvm_ioctls::VmFd;
use parking_lot::{Mutex, MutexGuard};
use vmm_sys_util::eventfd::EventFd;

use super::{KvmHal, arch};
use crate::hal::{HalError, HalResult, Msi, MsiSink};

/// How many routes KVM has room for, those of lines included (`KVM_MAX_IRQ_ROUTES`).
const MOST_ROUTES: usize = 4096;

/// What the routes that are not lines lead to, by their numbers. Their GSIs follow those of lines.
#[derive(Default)]
pub struct Routes(Mutex<Vec<Option<Msi>>>);

impl Routes {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Msi>>> {
        self.0.lock()
    }
}

impl MsiSink for KvmHal {
    fn signal_msi(&self, msi: Msi) -> HalResult {
        self.need_interrupt_controller()?;
        // 0 means that the guest blocks the interrupt just now, which is its business.
        self.vm.signal_msi(arch::msi(msi)).map(|_| ()).map_err(|errno| {
            HalError::failed(format!("send an MSI to {} (KVM_SIGNAL_MSI)", msi.addr), errno)
        })
    }

    fn add_msi_route(&self) -> HalResult<u32> {
        let mut messages = self.routes.lock();
        let lines = arch::line_routes(self.interrupt_controller()).len();
        if lines == 0 || lines + messages.len() >= MOST_ROUTES {
            return Err(HalError::host_cannot(format!(
                "make more than {} ways from eventfds to messages",
                messages.len()
            )));
        }
        messages.push(None);
        Ok(messages.len() as u32 - 1)
    }

    fn connect_msi(&self, route: u32, fd: &EventFd, msi: Msi) -> HalResult {
        self.need_interrupt_controller()?;
        let what = || format!("have an eventfd send messages to {}", msi.addr);
        let mut messages = self.routes.lock();
        let lines = arch::line_routes(self.interrupt_controller());
        let known = messages.get_mut(route as usize).ok_or_else(|| no_such_route(what()))?;
        let gsi = lines.len() as u32 + route;
        if known.replace(msi) != Some(msi) {
            set_routes(&self.vm, lines, &messages).map_err(|errno| {
                HalError::failed(format!("{} (KVM_SET_GSI_ROUTING)", what()), errno)
            })?;
        }
        self.vm
            .register_irqfd(fd, gsi)
            .map_err(|errno| HalError::failed(format!("{} (KVM_IRQFD)", what()), errno))
    }

    fn disconnect_msi(&self, route: u32, fd: &EventFd) -> HalResult {
        let what = "take an eventfd from its messages (KVM_IRQFD)";
        let messages = self.routes.lock();
        let lines = arch::line_routes(self.interrupt_controller()).len() as u32;
        if route as usize >= messages.len() {
            return Err(no_such_route(what));
        }
        let off = self.vm.unregister_irqfd(fd, lines + route);
        off.map_err(|errno| HalError::failed(what, errno))
    }
}

fn no_such_route(what: impl Into<String>) -> HalError {
    HalError::failed(what, io::Error::from(io::ErrorKind::NotFound))
}

/// Replaces the whole table of routes, so the lines' own must be in it.
fn set_routes(
    vm: &VmFd,
    lines: Vec<Vec<kvm_irq_routing_entry>>,
    messages: &[Option<Msi>],
) -> Result<(), kvm_ioctls::Error> {
    let first = lines.len() as u32;
    let mut entries = lines.concat();
    let messages = (first..).zip(messages).filter_map(|(gsi, msi)| Some((gsi, (*msi)?)));
    entries.extend(messages.map(|(gsi, msi)| message(gsi, msi)));
    // There are fewer than KVM takes, and so than the wrapper does.
    let table =
        KvmIrqRouting::from_entries(&entries).map_err(|_| kvm_ioctls::Error::new(libc::E2BIG))?;
    vm.set_gsi_routing(&table)
}

/// A route to an interrupt controller's pin.
pub fn pin(gsi: u32, irqchip: u32, pin: u32) -> kvm_irq_routing_entry {
    let mut entry =
        kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_IRQCHIP, ..Default::default() };
    entry.u.irqchip.irqchip = irqchip;
    entry.u.irqchip.pin = pin;
    entry
}

fn message(gsi: u32, msi: Msi) -> kvm_irq_routing_entry {
    let msi = arch::msi(msi);
    let mut entry = kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_MSI,
        flags: msi.flags & KVM_MSI_VALID_DEVID,
        ..Default::default()
    };
    entry.u.msi.address_lo = msi.address_lo;
    entry.u.msi.address_hi = msi.address_hi;
    entry.u.msi.data = msi.data;
    entry.u.msi.__bindgen_anon_1.devid = msi.devid;
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{addr::GuestPhysAddr, hal::InterruptController};

    #[test]
    fn each_line_keeps_a_route_of_its_own_number() {
        let lines = arch::line_routes(&arch::USUAL_CONTROLLER);
        for (gsi, routes) in (0..).zip(&lines) {
            assert!(!routes.is_empty() && routes.iter().all(|route| route.gsi == gsi));
        }
        assert!(lines.len() < MOST_ROUTES);
        assert!(arch::line_routes(&InterruptController::Board).is_empty());
    }

    #[test]
    fn a_route_is_for_those_who_have_one() {
        let hal = KvmHal::new().unwrap();
        let fd = EventFd::new(0).unwrap();
        let msi = Msi { addr: GuestPhysAddr(0xfee0_0000), data: 0x30, requester: 8 };
        assert!(hal.connect_msi(0, &fd, msi).is_err());
        assert!(hal.disconnect_msi(0, &fd).is_err());
    }
}
