//! The memory that devices reach by themselves: what the guest may both read and write.

use std::{ops::Deref, sync::Arc};

use vm_memory::GuestMemoryMmap;

use super::{AddrSpace, BufferBuilder, Map};
use crate::addr::GuestPhysAddr;

/// Guest memory at one moment, for devices: it stays mapped as long as this lives, also if the area
/// is taken away meanwhile.
///
/// What a device writes through [`GuestMemoryMmap`] into a piece of lazy memory that the guest's
/// hardware does not have yet the guest may first touch in a way that its host cannot tell (see
/// [`AddrSpace::write`]); [`Self::announce`] comes before.
#[derive(Clone)]
pub struct DeviceMemory {
    space: Arc<AddrSpace>,
    map: Arc<Map>,
}

impl DeviceMemory {
    pub(super) fn new(space: Arc<AddrSpace>, map: Arc<Map>) -> Self {
        Self { space, map }
    }

    /// Bytes of this memory, to be put together.
    pub fn buffer(&self) -> BufferBuilder {
        BufferBuilder::new(self.clone())
    }

    pub(super) fn map(&self) -> &Map {
        &self.map
    }

    /// These bytes will be written: the guest's hardware is to have them.
    pub fn announce(&self, gpa: GuestPhysAddr, len: u64) {
        if !self.map.is_lazy {
            return;
        }
        if let Err(error) = self.space.give_hardware(gpa, len) {
            log::error!("{error}");
        }
    }
}

impl Deref for DeviceMemory {
    type Target = GuestMemoryMmap;

    fn deref(&self) -> &GuestMemoryMmap {
        &self.map.open
    }
}
