//! Room in the guest's memory for a frame to come.

use std::collections::VecDeque;

use super::header::{HEADER, MOST};
use crate::{
    addrspace::GuestBuffer,
    virtio::{Chain, Virtqueue},
};

/// The most pieces of memory to read a frame into: what one system call takes, but for one.
const PIECES: usize = 1023;

/// The most chains that are looked at in one go: a driver that makes one available as fast as this
/// throws one away has its thread for no longer.
const GO: usize = 256;

/// Chains that the driver has made available, in order.
#[derive(Debug, Default)]
pub struct Room {
    chains: VecDeque<Chain>,
    len: usize,
    pieces: usize,
}

impl Room {
    /// How many bytes have room.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many pieces of memory, at least as many as there are chains.
    pub fn pieces(&self) -> usize {
        self.pieces
    }

    /// The chains' memory.
    pub fn buffers(&self) -> impl Iterator<Item = &GuestBuffer> {
        self.chains.iter().map(|chain| &chain.writable)
    }

    /// Takes chains until there is room for the longest frame, or only one if frames cannot span
    /// several. Those that have no room for a header go back unused.
    pub fn fill(&mut self, queue: &mut Virtqueue, spans: bool) {
        for _ in 0..GO {
            let is_enough = if spans { self.len >= MOST } else { self.len > 0 };
            if is_enough {
                return;
            }
            let Some(chain) = queue.pop() else { return };
            let (len, pieces) = (chain.writable.len(), chain.writable.iovecs().len());
            if len < HEADER || pieces > PIECES {
                queue.complete(chain.head, 0);
                continue;
            }
            if self.pieces + pieces > PIECES {
                queue.undo_pop(chain);
                return;
            }
            self.len += len;
            self.pieces += pieces;
            self.chains.push_back(chain);
        }
        // More may be there.
        let _ = queue.doorbell().write(1);
    }

    /// Writes bytes at `offset`, as many as there is room for.
    pub fn write_at(&self, mut offset: usize, mut bytes: &[u8]) {
        for buffer in self.buffers() {
            if let Some(room) = buffer.len().checked_sub(offset) {
                let (here, rest) = bytes.split_at(room.min(bytes.len()));
                let _ = buffer.write_at(offset, here);
                (offset, bytes) = (0, rest);
            } else {
                offset -= buffer.len();
            }
        }
    }

    /// Takes the chains out that the first `len` bytes are in: each one's head, and how many of them.
    pub fn take(&mut self, len: usize) -> Vec<(u16, u32)> {
        let mut taken = Vec::new();
        let mut left = len;
        while left > 0 {
            let Some(chain) = self.chains.pop_front() else { break };
            let here = left.min(chain.writable.len());
            left -= here;
            self.len -= chain.writable.len();
            self.pieces -= chain.writable.iovecs().len();
            // A chain has less than 2^32 bytes.
            taken.push((chain.head, here as u32));
        }
        taken
    }

    /// In how many chains the first `len` bytes are.
    pub fn chains_of(&self, len: usize) -> u16 {
        let begins = self.buffers().scan(0, |end, buffer| {
            let begin = *end;
            *end += buffer.len();
            Some(begin)
        });
        // A queue has fewer than 2^16.
        begins.take_while(|begin| *begin < len).count() as u16
    }
}
