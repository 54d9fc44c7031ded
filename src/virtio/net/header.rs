//! What stands before each frame in a queue (virtio 1.2, 5.1.6: `struct virtio_net_hdr`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, little_endian::U16};

/// The header, which with VERSION_1 always has `num_buffers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    pub flags: u8,
    pub gso_type: u8,
    pub hdr_len: U16,
    pub gso_size: U16,
    pub csum_start: U16,
    pub csum_offset: U16,
    pub num_buffers: U16,
}

/// Its size in bytes.
pub const HEADER: usize = size_of::<Header>();

/// Where in it the number of buffers stands that a received frame takes.
pub const NUM_BUFFERS: usize = 10;

/// An Ethernet header, in bytes: no frame is shorter.
pub const ETHERNET: usize = 14;

/// The longest frame with its header: what segmentation offloads make of the largest packet
/// (5.1.6.3.1), and a VLAN's tag.
pub const MOST: usize = HEADER + 65550 + 4;

const _: () = assert!(HEADER == 12 && std::mem::offset_of!(Header, num_buffers) == NUM_BUFFERS);
