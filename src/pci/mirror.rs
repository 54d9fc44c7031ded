//! Configuration space as memory that the guest may only read: its reads are no exits then. A kernel
//! reads a hundred registers of a function before its driver begins; its writes still come here.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    Bus, PciFunction,
    bus::{FUNCTION, FUNCTIONS},
};
use crate::{
    addr::{DeviceAddrRange, GuestPhysAddrRange, MappingFlags},
    addrspace::{AddrSpace, Error, SharedMemory},
};

/// The mirror of a window. It comes with the guest's first read, so that what has no use for it, and
/// what wants the window to be free until the VM stands, need not know of it.
pub struct Mirror {
    memory: Arc<AddrSpace>,
    window: GuestPhysAddrRange,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    NotYet,
    Shown,
    /// The host cannot, or the guest reads what memory does not do.
    Off,
}

impl Mirror {
    /// That of `window`, in the guest's `memory`.
    pub fn new(memory: Arc<AddrSpace>, window: GuestPhysAddrRange) -> Self {
        let state = match memory.is_coherent() {
            true => State::NotYet,
            false => State::Off,
        };
        Self { memory, window, state: Mutex::new(state) }
    }

    /// The guest reads: the next time it reads from memory.
    pub fn show(&self, bus: &Bus) {
        let mut state = self.state.lock();
        if *state == State::NotYet && bus.reads_through() {
            *state = State::Off;
        }
        if *state == State::NotYet {
            *state = match self.try_show(bus) {
                Ok(()) => State::Shown,
                Err(error) => {
                    log::debug!("PCI configuration has an exit for each read: {error}");
                    State::Off
                }
            };
        }
    }

    fn try_show(&self, bus: &Bus) -> Result<(), Error> {
        // Where nobody is, this is what says so.
        let mut bytes = vec![0xff; self.window.len() as usize];
        let slots = bytes.chunks_mut((FUNCTIONS * FUNCTION) as usize);
        for (slot, bytes) in slots.enumerate() {
            if let Some(function) = bus.function(slot) {
                function.read_config(0, &mut bytes[..FUNCTION as usize]);
            }
        }
        let shared = SharedMemory::with(&bytes)?;
        self.memory.map_region(self.window.first(), &shared, MappingFlags::READ)
    }

    /// The guest has written `len` bytes at `offset` of the function in `slot`: the memory has what
    /// became of them.
    pub fn follow(&self, slot: usize, function: &dyn PciFunction, offset: usize, len: usize) {
        let mut state = self.state.lock();
        if function.reads_through() {
            // What is read then depends on what the BAR has at that moment.
            if *state == State::Shown {
                self.report(self.memory.unmap_region(self.window.first(), self.window.len()));
            }
            *state = State::Off;
        }
        if *state != State::Shown {
            return;
        }
        let first = slot as u64 * FUNCTIONS * FUNCTION;
        for register in (offset & !3..offset + len).step_by(4) {
            let mut bytes = [0; 4];
            function.read_config(register, &mut bytes);
            // All four at once: another vCPU reads what was there, or what is.
            if let Some(gpa) = self.window.first().checked_add(first + register as u64) {
                self.report(self.memory.write(gpa, &bytes));
            }
        }
    }

    fn report(&self, done: Result<(), Error>) {
        if let Err(error) = done {
            log::error!("PCI configuration: {error}");
        }
    }
}
