//! Descriptor chains (virtio 1.2, 2.7.5): what the driver has put together for one request.

use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use vm_memory::{Bytes, GuestMemory, Permissions};
use zerocopy::{
    FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout,
    little_endian::{U16, U32, U64},
};

use crate::{
    addr::GuestPhysAddr,
    addrspace::{BufferBuilder, DeviceMemory, GuestBuffer},
};

/// A request of the driver's: what it gives, and room for the answer. Both are checked to lie in
/// guest memory.
#[derive(Debug)]
pub struct Chain {
    /// What the driver knows it by.
    pub head: u16,
    /// What the device is given.
    pub readable: GuestBuffer,
    /// Where it answers.
    pub writable: GuestBuffer,
}

/// What is wrong with a queue's contents. A driver that does this is broken, or worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what each is")]
pub enum Malformed {
    #[error("the available ring's index has run ahead of the queue")]
    AvailableIndex,
    #[error("descriptor {0} is none of the table's")]
    NoDescriptor(u16),
    #[error("a chain of descriptors is a loop, or longer than the queue")]
    TooLong,
    #[error("a chain of more than 2^32 - 1 bytes")]
    TooManyBytes,
    #[error("{len} bytes at {gpa} do not lie in memory that the guest may read and write")]
    Outside { gpa: GuestPhysAddr, len: u32 },
    #[error("a buffer for the device to read comes after one to write")]
    Order,
    #[error("an indirect descriptor, which the driver has not negotiated")]
    NoIndirect,
    #[error("an indirect descriptor in an indirect table, or with a next one")]
    BadIndirect,
    #[error("an indirect table of {0} bytes: no multiple of 16, none, or more than the queue has")]
    BadTable(u32),
    #[error("the rings do not lie in guest memory any more")]
    NoRings,
}

/// A descriptor (2.7.5), as it lies in guest memory.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Descriptor {
    addr: U64,
    len: U32,
    flags: U16,
    next: U16,
}

const SIZE: u32 = size_of::<Descriptor>() as u32;

/// A table of descriptors, the queue's own or an indirect one.
struct Table {
    at: GuestPhysAddr,
    entries: u16,
    is_indirect: bool,
}

impl Table {
    /// A descriptor, read once: the guest may change it at any time.
    fn get(&self, memory: &DeviceMemory, index: u16) -> Result<Descriptor, Malformed> {
        if index >= self.entries {
            return Err(Malformed::NoDescriptor(index));
        }
        let outside = Malformed::Outside { gpa: self.at, len: SIZE };
        let offset = u64::from(index) * u64::from(SIZE);
        let at = GuestPhysAddr(self.at.0.checked_add(offset).ok_or(outside)?);
        let mut descriptor = Descriptor::new_zeroed();
        memory.read_slice(descriptor.as_mut_bytes(), at.into()).map_err(|_| outside)?;
        Ok(descriptor)
    }
}

/// Where a queue's chains are to be found.
#[derive(Clone, Copy, Debug)]
pub struct Descriptors {
    /// The queue's table.
    pub table: GuestPhysAddr,
    /// How many descriptors it has, which is also the most that a chain may have.
    pub size: u16,
    /// Whether indirect tables have been negotiated.
    pub indirect: bool,
}

impl Descriptors {
    /// The chain that begins at `head`.
    pub fn chain(&self, memory: &DeviceMemory, head: u16) -> Result<Chain, Malformed> {
        let mut table = Table { at: self.table, entries: self.size, is_indirect: false };
        let (mut readable, mut writable) = (memory.buffer(), memory.buffer());
        let (mut next, mut left, mut bytes) = (Some(head), self.size, 0_u32);
        let mut has_writable = false;
        while let Some(index) = next {
            let descriptor = table.get(memory, index)?;
            let (flags, len) = (u32::from(descriptor.flags.get()), descriptor.len.get());
            let gpa = GuestPhysAddr(descriptor.addr.get());
            next = (flags & VRING_DESC_F_NEXT != 0).then(|| descriptor.next.get());
            if flags & VRING_DESC_F_INDIRECT != 0 {
                table = self.indirect_table(memory, &table, gpa, len, next)?;
                next = Some(0);
                continue;
            }
            left = left.checked_sub(1).ok_or(Malformed::TooLong)?;
            bytes = bytes.checked_add(len).ok_or(Malformed::TooManyBytes)?;
            let is_writable = flags & VRING_DESC_F_WRITE != 0;
            if has_writable && !is_writable {
                return Err(Malformed::Order);
            }
            has_writable = is_writable;
            let buffer = if is_writable { &mut writable } else { &mut readable };
            add(buffer, gpa, len)?;
            if is_writable {
                memory.announce(gpa, len.into());
            }
        }
        Ok(Chain { head, readable: readable.build(), writable: writable.build() })
    }

    /// The table that an indirect descriptor refers to (2.7.5.3): the last of its chain.
    fn indirect_table(
        &self,
        memory: &DeviceMemory,
        from: &Table,
        at: GuestPhysAddr,
        len: u32,
        next: Option<u16>,
    ) -> Result<Table, Malformed> {
        if !self.indirect {
            return Err(Malformed::NoIndirect);
        }
        if from.is_indirect || next.is_some() {
            return Err(Malformed::BadIndirect);
        }
        let entries = u16::try_from(len / SIZE).ok();
        let fits = |entries: &u16| len % SIZE == 0 && (1..=self.size).contains(entries);
        let entries = entries.filter(fits).ok_or(Malformed::BadTable(len))?;
        if !memory.check_range(at.into(), len as usize, Permissions::Read) {
            return Err(Malformed::Outside { gpa: at, len });
        }
        Ok(Table { at, entries, is_indirect: true })
    }
}

fn add(buffer: &mut BufferBuilder, gpa: GuestPhysAddr, len: u32) -> Result<(), Malformed> {
    buffer.push(gpa, len).ok_or(Malformed::Outside { gpa, len })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        addr::MappingFlags,
        addrspace::{AddrSpace, testing},
        virtio::testing::RAM,
    };

    /// 64 MiB, of which nothing is touched but the table at the beginning.
    fn memory() -> Arc<AddrSpace> {
        let memory = testing::empty();
        memory.map_alloc(GuestPhysAddr(RAM), 64 << 20, MappingFlags::all(), true).unwrap();
        Arc::new(memory)
    }

    /// The chain of `count` descriptors of `len` bytes in a table of `size`.
    fn chain(size: u16, count: u16, len: u32) -> Result<Chain, Malformed> {
        let memory = memory();
        for index in 0..count.min(size) {
            let flags = if index + 1 == count { 0 } else { VRING_DESC_F_NEXT } as u16;
            let descriptor = Descriptor {
                addr: RAM.into(),
                len: len.into(),
                flags: flags.into(),
                next: ((index + 1) % size).into(),
            };
            let at = RAM + u64::from(SIZE) * u64::from(index);
            memory.write(GuestPhysAddr(at), descriptor.as_bytes()).unwrap();
        }
        let descriptors = Descriptors { table: GuestPhysAddr(RAM), size, indirect: true };
        descriptors.chain(&memory.device_memory(), 0)
    }

    #[test]
    fn as_many_descriptors_as_the_queue_has_and_no_more() {
        for size in [1, 2, 16, 1024] {
            assert_eq!(chain(size, size, 3).unwrap().readable.len(), 3 * usize::from(size));
            assert_eq!(chain(size, size + 1, 3).unwrap_err(), Malformed::TooLong);
        }
    }

    #[test]
    fn as_many_bytes_as_32_bits_count() {
        let (most, half) = (u32::MAX as usize, 32 << 20);
        assert_eq!(chain(128, 127, half).unwrap().readable.len(), most + 1 - half as usize);
        assert_eq!(chain(128, 128, half).unwrap_err(), Malformed::TooManyBytes);
    }
}
