//! What a machine has for a device: memory, and where its interrupts go.

use std::{
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use super::{
    device::{CONFIG, Description},
    session::{Session, Trouble},
};
use crate::addrspace::AddrSpace;

/// Where the COMMAND register is in a configuration space.
const COMMAND: u64 = 4;

/// An eventfd that a server signals.
pub type Signal = Arc<dyn AsRawFd + Send + Sync>;

/// A machine, as a server is connected with it.
pub struct Attached {
    /// The guest's memory.
    pub memory: Arc<AddrSpace>,
    /// Which kind of interrupts is used, and where each goes.
    pub irqs: Option<(u32, Vec<Signal>)>,
    /// What the guest has in COMMAND, for a device on PCI.
    pub command: Option<Arc<AtomicU16>>,
}

impl Attached {
    /// Makes the device ready: reset, with the guest's memory and interrupts.
    ///
    /// # Errors
    /// The server ends, or does not want interrupts.
    pub fn connect(&self, session: &Session, device: &Description) -> Result<(), Trouble> {
        or_refused(session.reset(device))?;
        session.dma().set(Some(self.memory.clone()));
        for region in self.memory.shared_regions() {
            // It has no use for memory then, or asks for it by messages.
            or_refused(session.map(&region))?;
        }
        if let Some((index, fds)) = &self.irqs {
            session.connect_irqs(*index, fds)?;
        }
        match self.command.as_ref().map(|command| command.load(Ordering::Relaxed)) {
            None | Some(0) => Ok(()),
            Some(command) => or_refused(session.write(CONFIG, COMMAND, &command.to_le_bytes())),
        }
    }

    /// The machine ends: the device is reset, so that it leaves the memory alone, and forgets it.
    pub fn disconnect(&self, session: &Session, device: &Description) {
        let forget = || {
            or_refused(session.reset(device))?;
            if let Some((index, _)) = &self.irqs {
                or_refused(session.disconnect_irqs(*index))?;
            }
            for region in self.memory.shared_regions() {
                or_refused(session.unmap(&region))?;
            }
            Ok::<_, Trouble>(())
        };
        if let Err(trouble) = forget() {
            log::debug!("at the machine's end the server {trouble}");
        }
        session.dma().set(None);
    }
}

/// What a server does not want is no trouble.
fn or_refused(done: Result<(), Trouble>) -> Result<(), Trouble> {
    match done {
        Err(Trouble::Refused(errno)) => {
            log::debug!("a vfio-user server refuses with errno {errno}");
            Ok(())
        }
        done => done,
    }
}
