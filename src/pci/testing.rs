//! A host for tests: what it is asked for.

use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use vmm_sys_util::eventfd::EventFd;

use crate::hal::{DoorbellAddr, Doorbells, HalError, HalResult, Msi, MsiSink};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Signal(Msi),
    Connect(u32, Msi),
    Disconnect(u32),
    Doorbell(DoorbellAddr),
    NoDoorbell(DoorbellAddr),
}

/// It does all, or so many messages and so many doorbells, and refuses what comes then.
#[derive(Default)]
pub struct Host {
    pub asked: Mutex<Vec<Asked>>,
    pub made_routes: AtomicU32,
    pub messages_left: Option<AtomicU32>,
    pub doorbells_left: Option<AtomicU32>,
}

impl Host {
    /// All since the last call.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock())
    }

    pub fn routes(&self) -> u32 {
        self.made_routes.load(Ordering::Relaxed)
    }

    fn ask(&self, what: Asked, left: Option<&AtomicU32>) -> HalResult {
        let less = |left: u32| left.checked_sub(1);
        let order = Ordering::Relaxed;
        let refuses = left.is_some_and(|left| left.fetch_update(order, order, less).is_err());
        self.asked.lock().push(what);
        if refuses { Err(HalError::host_cannot("do any more")) } else { Ok(()) }
    }
}

impl MsiSink for Host {
    fn signal_msi(&self, msi: Msi) -> HalResult {
        self.ask(Asked::Signal(msi), self.messages_left.as_ref())
    }

    fn add_msi_route(&self) -> HalResult<u32> {
        Ok(self.made_routes.fetch_add(1, Ordering::Relaxed))
    }

    fn connect_msi(&self, route: u32, _: &EventFd, msi: Msi) -> HalResult {
        self.ask(Asked::Connect(route, msi), self.messages_left.as_ref())
    }

    fn disconnect_msi(&self, route: u32, _: &EventFd) -> HalResult {
        self.ask(Asked::Disconnect(route), None)
    }
}

impl Doorbells for Host {
    fn register_doorbell(&self, at: DoorbellAddr, value: Option<u32>, _: &EventFd) -> HalResult {
        assert_eq!(value, None, "an address is one queue's");
        self.ask(Asked::Doorbell(at), self.doorbells_left.as_ref())
    }

    fn unregister_doorbell(&self, at: DoorbellAddr, value: Option<u32>, _: &EventFd) -> HalResult {
        assert_eq!(value, None);
        self.ask(Asked::NoDoorbell(at), None)
    }
}
