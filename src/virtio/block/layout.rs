//! A disk's configuration space (virtio 1.2, 5.2.4).

use zerocopy::{
    FromZeros, Immutable, IntoBytes, KnownLayout,
    little_endian::{U16, U32, U64},
};

use super::{
    image::{Image, SECTOR},
    request::{MOST_DISCARD, MOST_ZEROES},
};

/// As it lies in memory; what is not offered as a feature is 0.
#[derive(Clone, Copy, FromZeros, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Layout {
    /// In sectors of 512 bytes.
    pub capacity: U64,
    pub size_max: U32,
    pub seg_max: U32,
    pub cylinders: U16,
    pub heads: u8,
    pub sectors: u8,
    /// In bytes.
    pub blk_size: U32,
    /// The logarithm of how many blocks make a physical one.
    pub physical_block_exp: u8,
    pub alignment_offset: u8,
    /// In blocks.
    pub min_io_size: U16,
    /// In blocks.
    pub opt_io_size: U32,
    pub writeback: u8,
    pub unused0: u8,
    pub num_queues: U16,
    pub max_discard_sectors: U32,
    pub max_discard_seg: U32,
    /// In sectors.
    pub discard_sector_alignment: U32,
    pub max_write_zeroes_sectors: U32,
    pub max_write_zeroes_seg: U32,
    pub write_zeroes_may_unmap: u8,
    pub unused1: [u8; 3],
}

/// Where `writeback` is: the one field that a driver may write.
pub const WRITEBACK: usize = 32;

const _: () = assert!(size_of::<Layout>() == 60);
const _: () = assert!(std::mem::offset_of!(Layout, writeback) == WRITEBACK);

impl Layout {
    /// The layout of a disk with so many queues, each of so many descriptors.
    pub fn new(image: &dyn Image, readonly: bool, queues: u16, queue_size: u16) -> Self {
        let (block, physical) = (image.block_size(), image.physical_block_size());
        let exponent = (physical / block).max(1).ilog2();
        let mut layout = Self::new_zeroed();
        layout.capacity = (image.size() / SECTOR).into();
        // Two descriptors have header and status.
        layout.seg_max = u32::from(queue_size - 2).into();
        layout.blk_size = block.into();
        layout.physical_block_exp = exponent as u8;
        layout.min_io_size = (1_u16 << exponent.min(15)).into();
        layout.writeback = 1;
        layout.num_queues = queues.into();
        if !readonly {
            layout.max_discard_sectors = MOST_DISCARD.into();
            layout.max_discard_seg = 1.into();
            layout.discard_sector_alignment = (physical / SECTOR as u32).into();
            layout.max_write_zeroes_sectors = MOST_ZEROES.into();
            layout.max_write_zeroes_seg = 1.into();
            layout.write_zeroes_may_unmap = 1;
        }
        layout
    }
}
