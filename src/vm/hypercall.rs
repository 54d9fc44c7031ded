//! Hypercalls whose number and arguments are in the guest's memory ([`crate::devices::doorbell`]).

use super::AxVM;
use crate::{
    addr::{GuestPhysAddr, MappingFlags},
    addrspace,
    devices::doorbell::{BLOCK_SIZE, Call, RESULT},
    hal::AxVMHal,
};

impl<H: AxVMHal> AxVM<H> {
    /// Makes the call whose block is at `block`, and leaves the result there.
    pub(super) fn call_by_block(&self, block: GuestPhysAddr) {
        let Err(error) = self.try_block(block) else { return };
        if let Some(untold) = self.hypercall_trouble.pass() {
            log::warn!(
                "VM[{}] rang for a hypercall at {block}, which is none: {error} ({untold} more \
                 such since the last told)",
                self.id
            );
        }
    }

    fn try_block(&self, block: GuestPhysAddr) -> Result<(), addrspace::Error> {
        // Read once: what other vCPUs write there meanwhile changes nothing.
        let Call { nr, args } = Call::of_block(self.address_space.read_obj(block)?);
        let access = MappingFlags::WRITE;
        if !self.address_space.allows(block, BLOCK_SIZE, access) {
            return Err(addrspace::Error::Forbidden { gpa: block, len: BLOCK_SIZE, access });
        }
        let answer = self.devices.handle_hypercall(&self.address_space, nr, args);
        log::trace!("VM[{}] hypercall {nr:#x} {args:x?}: {answer:x?}", self.id);
        let result = answer.map_or(H::UNKNOWN_HYPERCALL, |answer| answer.value);
        // It was there before the call, and is not now only if the guest has had it taken away.
        let at = GuestPhysAddr(block.0.wrapping_add(RESULT));
        self.address_space.write_obj(at, &result.to_le())
    }
}
