//! Memory for tests that no hardware stands behind.

use std::sync::Arc;

use vm_memory::GuestRegionMmap;

use super::AddrSpace;
use crate::{
    addr::{GuestPhysAddrRange, MappingFlags},
    hal::{HalResult, MemorySlots},
};

/// Hardware that takes any memory.
struct NoSlots {
    is_coherent: bool,
}

impl MemorySlots for NoSlots {
    fn map_memory(
        &self,
        _: u32,
        _: &Arc<GuestRegionMmap>,
        _: GuestPhysAddrRange,
        _: MappingFlags,
    ) -> HalResult {
        Ok(())
    }

    fn unmap_memory(&self, _: u32) -> HalResult {
        Ok(())
    }

    fn is_coherent(&self) -> bool {
        self.is_coherent
    }
}

/// An address space with nothing in it.
pub fn empty() -> AddrSpace {
    AddrSpace::new_empty(Arc::new(NoSlots { is_coherent: false }))
}

/// As [`empty`], on hardware that is coherent.
#[cfg(test)]
pub fn coherent() -> AddrSpace {
    AddrSpace::new_empty(Arc::new(NoSlots { is_coherent: true }))
}
