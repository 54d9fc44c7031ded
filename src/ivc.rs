//! Channels between the VMs of a process: memory that a guest publishes under a key and others
//! subscribe to, and interrupts by which they tell each other (AxVisor's inter-VM communication).
//!
//! [`IvcHub`] knows the channels of all VMs; `endpoint` is one VM's end of them, which answers its
//! guest's hypercalls ([`crate::devices::HyperCallCode`] has the calls). A channel is shared memory
//! of any size and begins with [`HEADER_SIZE`] bytes that tell what it is; the rest is the guests'
//! own. Whoever unpublishes or unsubscribes has it no longer; it goes when nobody has it.

mod endpoint;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use endpoint::IvcEndpoint;

use parking_lot::{Mutex, MutexGuard};

use crate::{
    addr::{GuestPhysAddr, MappingFlags},
    addrspace::{self, SharedMemory},
    devices::IrqLine,
    hal::VMId,
};

/// The size in bytes of what a channel begins with, little-endian: its publisher's id and its key,
/// 8 bytes each.
pub const HEADER_SIZE: u64 = 16;

/// How many channels a VM may have at a time, published and subscribed to.
pub const MOST_CHANNELS: usize = 64;

/// Why a call failed. The guest hears -1; whoever reads the log hears this.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("a size of 0")]
    Empty,
    #[error("rights {0:#x}: there are 0 (read and write) and 1 (read)")]
    Rights(u64),
    #[error("its configuration allows it only to read channels")]
    OnlyReads,
    #[error("it has {MOST_CHANNELS} channels, as many as a VM may")]
    TooMany,
    #[error("no room for {0:#x} bytes in the window that its configuration has for channels")]
    NoRoom(u64),
    #[error("it has published a channel with this key")]
    Published,
    #[error("it has this channel already")]
    Subscribed,
    #[error("no such channel")]
    NoSuchChannel,
    #[error(transparent)]
    Memory(#[from] addrspace::Error),
}

/// A channel's name: who published it, and under which key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name {
    publisher: VMId,
    key: u64,
}

struct Channel {
    name: Name,
    memory: SharedMemory,
    /// What subscribers may do.
    rights: MappingFlags,
    /// Whether others may still subscribe.
    published: bool,
    members: BTreeMap<VMId, Member>,
}

/// A VM that has a channel.
#[derive(Clone)]
struct Member {
    gpa: GuestPhysAddr,
    line: IrqLine,
}

/// The channels of all VMs of a process.
#[derive(Default)]
pub struct IvcHub {
    channels: Mutex<Vec<Channel>>,
}

impl IvcHub {
    fn lock(&self) -> MutexGuard<'_, Vec<Channel>> {
        self.channels.lock()
    }

    /// How many channels there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is no channel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn publish(&self, channel: Channel) -> Result<(), Error> {
        let mut channels = self.lock();
        check_count(&channels, channel.name.publisher)?;
        if channels.iter().any(|other| other.published && other.name == channel.name) {
            return Err(Error::Published);
        }
        channels.push(channel);
        Ok(())
    }

    /// Adds a member to a published channel, by what `join` makes of its memory and its rights.
    fn subscribe(
        &self,
        name: Name,
        vm: VMId,
        join: impl FnOnce(&SharedMemory, MappingFlags) -> Result<Member, Error>,
    ) -> Result<(), Error> {
        let mut channels = self.lock();
        check_count(&channels, vm)?;
        let named = |channel: &&mut Channel| channel.name == name;
        if channels.iter_mut().filter(named).any(|channel| channel.members.contains_key(&vm)) {
            return Err(Error::Subscribed);
        }
        let channel = channels.iter_mut().filter(named).find(|channel| channel.published);
        let channel = channel.ok_or(Error::NoSuchChannel)?;
        let member = join(&channel.memory, channel.rights)?;
        channel.members.insert(vm, member);
        Ok(())
    }

    /// Takes a VM's part in a channel away, and with its last one the channel; where it was, and
    /// its size. Without its publisher nobody can subscribe any more.
    fn leave(&self, name: Name, vm: VMId) -> Result<(GuestPhysAddr, u64), Error> {
        let mut channels = self.lock();
        let is_in = |channel: &Channel| channel.name == name && channel.members.contains_key(&vm);
        let at = channels.iter().position(is_in).ok_or(Error::NoSuchChannel)?;
        let channel = &mut channels[at];
        channel.published &= vm != name.publisher;
        let size = channel.memory.size();
        let member = channel.members.remove(&vm).ok_or(Error::NoSuchChannel)?;
        if channel.members.is_empty() {
            channels.swap_remove(at);
        }
        Ok((member.gpa, size))
    }

    /// Takes a VM's part in all channels away.
    fn leave_all(&self, vm: VMId) {
        self.lock().retain_mut(|channel| {
            channel.published &= vm != channel.name.publisher;
            channel.members.remove(&vm);
            !channel.members.is_empty()
        });
    }

    /// The lines of all other members of a channel that `vm` has.
    fn others(&self, name: Name, vm: VMId) -> Result<Vec<IrqLine>, Error> {
        let channels = self.lock();
        let is_in = |channel: &&Channel| channel.name == name && channel.members.contains_key(&vm);
        let channel = channels.iter().find(is_in).ok_or(Error::NoSuchChannel)?;
        let others = channel.members.iter().filter(|(member, _)| **member != vm);
        Ok(others.map(|(_, member)| member.line.clone()).collect())
    }
}

/// A VM may have one channel more.
fn check_count(channels: &[Channel], vm: VMId) -> Result<(), Error> {
    let has = channels.iter().filter(|channel| channel.members.contains_key(&vm)).count();
    if has < MOST_CHANNELS { Ok(()) } else { Err(Error::TooMany) }
}
