//! Packets (virtio 1.2, 5.10.6).

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    little_endian::{U16, U32, U64},
};

use crate::addrspace::GuestBuffer;

/// The host's context id.
pub const HOST_CID: u64 = 2;

/// The length of a header in bytes.
pub const HEADER_LEN: usize = size_of::<Header>();

/// The most bytes of data that a packet may have, either way; Linux sends no more.
pub const MOST_DATA: usize = 64 << 10;

/// The only type of socket here (5.10.6: VIRTIO_VSOCK_TYPE_STREAM).
const STREAM: u16 = 1;

/// One end will not receive any more (VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE).
pub const SHUTDOWN_RECEIVE: u32 = 1;
/// One end will not send any more (VIRTIO_VSOCK_SHUTDOWN_F_SEND).
pub const SHUTDOWN_SEND: u32 = 2;
/// Both.
pub const SHUTDOWN_BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// What every packet begins with (`struct virtio_vsock_hdr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    pub src_cid: U64,
    pub dst_cid: U64,
    pub src_port: U32,
    pub dst_port: U32,
    pub len: U32,
    /// The specification's `type`.
    pub kind: U16,
    pub op: U16,
    pub flags: U32,
    pub buf_alloc: U32,
    pub fwd_cnt: U32,
}

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Op {
    Request = 1,
    Response = 2,
    Rst = 3,
    Shutdown = 4,
    Rw = 5,
    CreditUpdate = 6,
    CreditRequest = 7,
}

impl Op {
    fn from_number(number: u16) -> Option<Self> {
        [
            Self::Request,
            Self::Response,
            Self::Rst,
            Self::Shutdown,
            Self::Rw,
            Self::CreditUpdate,
            Self::CreditRequest,
        ]
        .into_iter()
        .find(|op| *op as u16 == number)
    }
}

/// The two ends of a connection, which name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ports {
    pub host: u32,
    pub guest: u32,
}

/// A packet of the guest's, checked.
#[derive(Debug)]
pub struct Packet {
    pub op: Op,
    pub ports: Ports,
    pub flags: u32,
    pub buf_alloc: u32,
    pub fwd_cnt: u32,
    pub data: GuestBuffer,
}

/// Why a packet of the guest's is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPacket {
    #[error("a packet of {0} bytes has no header")]
    NoHeader(usize),
    #[error("a packet says that it has {len} bytes of data and has {has}; the most is 65536")]
    Length { len: u32, has: usize },
    #[error("a packet from the context id {0}, which is not the guest's")]
    Source(u64),
    /// It is answered by [`Header::refused`], if it is no RST itself.
    #[error("a packet to a context id, of a type, or with an operation that are not known")]
    Unknown(Header),
}

impl Packet {
    /// Takes apart what the guest has sent; its header is read once, as the guest may change it at
    /// any time.
    pub fn read(buffer: GuestBuffer, guest_cid: u64) -> Result<Self, BadPacket> {
        let no_header = BadPacket::NoHeader(buffer.len());
        let header: Header = buffer.read_obj_at(0).ok_or(no_header)?;
        let (_, data) = buffer.split_at(HEADER_LEN).ok_or(no_header)?;
        let wrong = BadPacket::Length { len: header.len.get(), has: data.len() };
        let len = usize::try_from(header.len.get()).map_err(|_| wrong)?;
        if len > MOST_DATA {
            return Err(wrong);
        }
        let (data, _) = data.split_at(len).ok_or(wrong)?;
        if header.src_cid.get() != guest_cid {
            return Err(BadPacket::Source(header.src_cid.get()));
        }
        let op = Op::from_number(header.op.get());
        let is_known = header.dst_cid.get() == HOST_CID && header.kind.get() == STREAM;
        let op = op.filter(|_| is_known).ok_or(BadPacket::Unknown(header))?;
        Ok(Self {
            op,
            ports: Ports { host: header.dst_port.get(), guest: header.src_port.get() },
            flags: header.flags.get(),
            buf_alloc: header.buf_alloc.get(),
            fwd_cnt: header.fwd_cnt.get(),
            data,
        })
    }
}

impl Header {
    /// A packet to the guest without data.
    pub fn new(guest_cid: u64, ports: Ports, op: Op) -> Self {
        Self {
            src_cid: HOST_CID.into(),
            dst_cid: guest_cid.into(),
            src_port: ports.host.into(),
            dst_port: ports.guest.into(),
            len: 0.into(),
            kind: STREAM.into(),
            op: (op as u16).into(),
            flags: 0.into(),
            buf_alloc: 0.into(),
            fwd_cnt: 0.into(),
        }
    }

    /// The RST that answers this, of the same type (5.10.6.4.1).
    pub fn refused(self) -> Self {
        Self {
            src_cid: self.dst_cid,
            dst_cid: self.src_cid,
            src_port: self.dst_port,
            dst_port: self.src_port,
            len: 0.into(),
            kind: self.kind,
            op: (Op::Rst as u16).into(),
            flags: 0.into(),
            buf_alloc: 0.into(),
            fwd_cnt: 0.into(),
        }
    }

    /// Whether it is an RST, which nobody answers.
    pub fn is_rst(&self) -> bool {
        self.op.get() == Op::Rst as u16
    }
}
