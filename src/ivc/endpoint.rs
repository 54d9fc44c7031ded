//! One VM's end of its channels: what its guest's hypercalls do.

use std::{sync::Arc, time::Duration};

use log::Level;

use super::{Channel, Error, HEADER_SIZE, IvcHub, Member, Name};
use crate::{
    addr::{GuestPhysAddr, MappingFlags},
    addrspace::{AddrSpace, SharedMemory},
    devices::{HyperCallCode, HypercallOps, IrqLine, IvcWindow},
    hal::{HypercallResult, VMId},
    ratelimit::RateLimit,
};

const READ_WRITE: MappingFlags = MappingFlags::READ.union(MappingFlags::WRITE);

/// Answers the calls about channels for one VM. When it goes, so does the VM's part in all of them.
pub struct IvcEndpoint {
    hub: Arc<IvcHub>,
    vm: VMId,
    window: Arc<IvcWindow>,
    /// By which the others tell this guest.
    line: IrqLine,
    /// What this guest may do with channels at most.
    rights: MappingFlags,
    trouble: RateLimit,
}

impl IvcEndpoint {
    /// The end of the VM `vm`, whose channels come to be in `window`; with no right to write it can
    /// only subscribe.
    pub fn new(
        hub: Arc<IvcHub>,
        vm: VMId,
        window: Arc<IvcWindow>,
        line: IrqLine,
        rights: MappingFlags,
    ) -> Self {
        let trouble = RateLimit::new(5, Duration::from_secs(10));
        Self { hub, vm, window, line, rights, trouble }
    }

    fn publish(&self, mem: &AddrSpace, args: [u64; 6]) -> Result<(), Error> {
        let [key, base_ptr, size_ptr, rights, ..] = args;
        let (base_ptr, size_ptr) = (GuestPhysAddr(base_ptr), GuestPhysAddr(size_ptr));
        let subscribers = match rights {
            0 => READ_WRITE,
            1 => MappingFlags::READ,
            other => return Err(Error::Rights(other)),
        };
        if !self.rights.contains(MappingFlags::WRITE) {
            return Err(Error::OnlyReads);
        }
        let name = Name { publisher: self.vm, key };
        let size = match mem.read_obj(size_ptr)? {
            0 => return Err(Error::Empty),
            size => size,
        };
        let mut place = self.place(mem, size)?;
        let memory = SharedMemory::new(place.size)?;
        place.map(&memory, READ_WRITE)?;
        let header = [self.vm as u64, key].map(u64::to_le_bytes).concat();
        mem.write(place.gpa, &header)?;
        place.tell(base_ptr, size_ptr)?;
        let member = Member { gpa: place.gpa, line: self.line.clone() };
        let members = [(self.vm, member)].into();
        self.hub.publish(Channel {
            name,
            memory,
            rights: subscribers,
            published: true,
            members,
        })?;
        place.keep();
        Ok(())
    }

    fn subscribe(&self, mem: &AddrSpace, args: [u64; 6]) -> Result<(), Error> {
        let [publisher, key, base_ptr, size_ptr, ..] = args;
        self.hub.subscribe(name(publisher, key)?, self.vm, |memory, rights| {
            let mut place = self.place(mem, memory.size())?;
            place.map(memory, rights & self.rights)?;
            place.tell(GuestPhysAddr(base_ptr), GuestPhysAddr(size_ptr))?;
            let member = Member { gpa: place.gpa, line: self.line.clone() };
            place.keep();
            Ok(member)
        })
    }

    fn leave(&self, mem: &AddrSpace, name: Name) -> Result<(), Error> {
        let (gpa, size) = self.hub.leave(name, self.vm)?;
        mem.unmap_region(gpa, size)?;
        self.window.release(gpa, size);
        Ok(())
    }

    fn notify(&self, name: Name) -> Result<(), Error> {
        for line in self.hub.others(name, self.vm)? {
            line.pulse();
        }
        Ok(())
    }

    fn place<'a>(&'a self, mem: &'a AddrSpace, size: u64) -> Result<Place<'a>, Error> {
        let (gpa, size) = self.window.alloc(size.max(HEADER_SIZE)).ok_or(Error::NoRoom(size))?;
        Ok(Place { mem, window: &self.window, gpa, size, mapped: false, kept: false })
    }
}

fn name(publisher: u64, key: u64) -> Result<Name, Error> {
    let publisher = VMId::try_from(publisher).map_err(|_| Error::NoSuchChannel)?;
    Ok(Name { publisher, key })
}

impl HypercallOps for IvcEndpoint {
    fn call(&self, mem: &AddrSpace, nr: u64, args: [u64; 6]) -> Option<HypercallResult> {
        let code = HyperCallCode::from_number(nr)?;
        let [first, second, ..] = args;
        let done = match code {
            HyperCallCode::HIVCPublishChannel => self.publish(mem, args),
            HyperCallCode::HIVCSubscribChannel => self.subscribe(mem, args),
            HyperCallCode::HIVCUnPublishChannel => {
                self.leave(mem, Name { publisher: self.vm, key: first })
            }
            // Its own channels are unpublished, not unsubscribed from.
            HyperCallCode::HIVCUnSubscribChannel if first == self.vm as u64 => {
                Err(Error::NoSuchChannel)
            }
            HyperCallCode::HIVCUnSubscribChannel => {
                name(first, second).and_then(|name| self.leave(mem, name))
            }
            HyperCallCode::HIVCNotify => name(first, second).and_then(|name| self.notify(name)),
            _ => return None,
        };
        let Err(error) = done else { return Some(HypercallResult::SUCCESS) };
        // Who waits for another to publish asks again and again.
        let expected = matches!(error, Error::NoSuchChannel);
        let level = if expected { Level::Debug } else { Level::Info };
        if let Some(untold) = self.trouble.pass() {
            log::log!(
                level,
                "VM[{}] {code:?}{args:x?} failed: {error} ({untold} more such since the last told)",
                self.vm
            );
        }
        Some(HypercallResult::FAILURE)
    }
}

impl Drop for IvcEndpoint {
    fn drop(&mut self) {
        self.hub.leave_all(self.vm);
    }
}

/// Addresses for a channel, given back unless they are kept.
struct Place<'a> {
    mem: &'a AddrSpace,
    window: &'a IvcWindow,
    gpa: GuestPhysAddr,
    /// In bytes, whole pages.
    size: u64,
    mapped: bool,
    kept: bool,
}

impl Place<'_> {
    fn map(&mut self, memory: &SharedMemory, rights: MappingFlags) -> Result<(), Error> {
        self.mem.map_region(self.gpa, memory, rights)?;
        self.mapped = true;
        Ok(())
    }

    /// Tells the guest where it is and how large.
    fn tell(&self, base_ptr: GuestPhysAddr, size_ptr: GuestPhysAddr) -> Result<(), Error> {
        self.mem.write_obj(base_ptr, &self.gpa.0)?;
        Ok(self.mem.write_obj(size_ptr, &self.size)?)
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if self.mapped {
            if let Err(error) = self.mem.unmap_region(self.gpa, self.size) {
                log::error!("{error}");
            }
        }
        self.window.release(self.gpa, self.size);
    }
}
