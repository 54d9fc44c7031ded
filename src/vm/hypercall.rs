//! Hypercalls whose number and arguments are in the guest's memory ([`crate::devices::doorbell`]).

use super::AxVM;
use crate::{
    addr::GuestPhysAddr,
    addrspace,
    devices::doorbell::{BLOCK_ALIGN, BLOCK_SIZE, Call, RESULT},
    hal::AxVMHal,
};

/// Why a block is no call.
#[derive(Debug, thiserror::Error)]
enum NoCall {
    #[error("its address is no multiple of {BLOCK_ALIGN}")]
    Unaligned,
    #[error(transparent)]
    Memory(#[from] addrspace::Error),
}

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

    fn try_block(&self, block: GuestPhysAddr) -> Result<(), NoCall> {
        if block.0 % BLOCK_ALIGN != 0 {
            return Err(NoCall::Unaligned);
        }
        // Read once: what other vCPUs write there meanwhile changes nothing.
        let mut bytes = [0; BLOCK_SIZE as usize];
        self.address_space.read(block, &mut bytes)?;
        let Call { nr, args } = Call::of_block(&bytes);
        log::trace!("VM[{}] hypercall {nr:#x} {args:#x?}", self.id);
        let answer = self.devices.handle_hypercall(&self.address_space, nr, args);
        let result = answer.map_or_else(
            || {
                log::debug!("VM[{}] unknown hypercall {nr:#x} by the doorbell", self.id);
                H::UNKNOWN_HYPERCALL
            },
            |answer| answer.value,
        );
        // The whole block was there, and is no longer only if another vCPU has just had it taken
        // away.
        let at = GuestPhysAddr(block.0.wrapping_add(RESULT));
        Ok(self.address_space.write(at, &result.to_le_bytes())?)
    }
}
