//! What a driver asks of a disk (virtio 1.2, 5.2.6).
//!
//! Header, data and status lie in a chain however the driver likes to divide it: the header is the
//! first 16 bytes of what is readable, the status the last byte of what is writable.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP,
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    little_endian::{U32, U64},
};

use super::{image::SECTOR, op::Op};
use crate::{addrspace::GuestBuffer, virtio::Chain};

/// The most sectors that one discard may have, or one write of zeroes.
pub const MOST_DISCARD: u32 = u32::MAX;
/// A write of zeroes may have to be done by writing.
pub const MOST_ZEROES: u32 = (32 << 20) / SECTOR as u32;

/// The flag `unmap` of a write of zeroes (5.2.6.1).
const UNMAP: u32 = 1;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    kind: U32,
    reserved: U32,
    sector: U64,
}

const HEADER: usize = size_of::<Header>();

/// What a discard or a write of zeroes is about.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Range {
    sector: U64,
    num_sectors: U32,
    flags: U32,
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok,
    /// It failed, or asks for what is not there.
    IoError,
    /// The device knows no such request.
    Unsupported,
}

impl Status {
    const fn byte(self) -> u8 {
        match self {
            Self::Ok => VIRTIO_BLK_S_OK as u8,
            Self::IoError => VIRTIO_BLK_S_IOERR as u8,
            Self::Unsupported => VIRTIO_BLK_S_UNSUPP as u8,
        }
    }
}

/// What a disk allows, as far as requests depend on it.
#[derive(Clone, Debug)]
pub struct Rules {
    /// In bytes.
    pub size: u64,
    pub readonly: bool,
    /// Whether both sides have this feature.
    pub discard: bool,
    /// Likewise.
    pub write_zeroes: bool,
    /// What GET_ID answers, padded by zeroes.
    pub id: [u8; VIRTIO_BLK_ID_BYTES as usize],
}

/// How a request is answered.
#[derive(Debug)]
pub struct Answer {
    head: u16,
    /// Where the status goes; `None`: there is no room for it, nor for anything.
    status: Option<GuestBuffer>,
    /// The bytes of data that the driver gets if all goes well.
    data: u32,
}

impl Answer {
    /// Writes the status. The chain's head, and how many bytes are written.
    pub fn give(self, status: Status) -> (u16, u32) {
        let Some(place) = self.status else { return (self.head, 0) };
        let _ = place.write_at(0, &[status.byte()]);
        // Of a read that failed the data is not to be relied upon.
        let data = if status == Status::Ok { self.data } else { 0 };
        (self.head, data + 1)
    }
}

/// What is to be done for a request.
pub enum Work {
    /// This, on the image.
    Op(Op),
    /// Nothing more.
    Over(Status),
}

/// Takes a chain apart. `durable`: what is written is to be on disk at once.
pub fn parse(chain: Chain, rules: &Rules, durable: bool) -> (Work, Answer) {
    let Chain { head, readable, writable } = chain;
    let room = writable.len().checked_sub(1).and_then(|at| writable.split_at(at));
    let Some((data_in, status)) = room else {
        return (Work::Over(Status::IoError), Answer { head, status: None, data: 0 });
    };
    // A chain has less than 2^32 bytes.
    let data = data_in.len() as u32;
    let mut answer = Answer { head, status: Some(status), data: 0 };
    let header = readable.read_obj_at::<Header>(0);
    let Some((header, (_, data_out))) = header.zip(readable.split_at(HEADER)) else {
        return (Work::Over(Status::IoError), answer);
    };
    let sector = header.sector.get();
    let work = match header.kind.get() {
        VIRTIO_BLK_T_IN => rules.range(sector, data_in.len() as u64).map(|(offset, _)| {
            answer.data = data;
            Work::Op(Op::Read { offset, to: data_in })
        }),
        VIRTIO_BLK_T_OUT => rules.writable().and_then(|()| {
            let (offset, _) = rules.range(sector, data_out.len() as u64)?;
            Ok(Work::Op(Op::Write { offset, from: data_out, durable }))
        }),
        VIRTIO_BLK_T_FLUSH => Ok(Work::Op(Op::Flush)),
        VIRTIO_BLK_T_GET_ID => {
            let id = &rules.id[..rules.id.len().min(data_in.len())];
            answer.data = id.len() as u32;
            let _ = data_in.write_at(0, id);
            Ok(Work::Over(Status::Ok))
        }
        VIRTIO_BLK_T_DISCARD if rules.discard => {
            rules.discard(&data_out).map(|(offset, len)| Work::Op(Op::Discard { offset, len }))
        }
        VIRTIO_BLK_T_WRITE_ZEROES if rules.write_zeroes => rules
            .zeroes(&data_out)
            .map(|(offset, len, unmap)| Work::Op(Op::WriteZeroes { offset, len, unmap, durable })),
        _ => Err(Status::Unsupported),
    };
    (work.unwrap_or_else(Work::Over), answer)
}

impl Rules {
    fn writable(&self) -> Result<(), Status> {
        if self.readonly { Err(Status::IoError) } else { Ok(()) }
    }

    /// Where so many bytes from a sector on are; whole sectors, at least one, inside of the disk.
    fn range(&self, sector: u64, len: u64) -> Result<(u64, u64), Status> {
        let inside = || {
            let offset = sector.checked_mul(SECTOR)?;
            let end = offset.checked_add(len)?;
            (len > 0 && len % SECTOR == 0 && end <= self.size).then_some((offset, len))
        };
        inside().ok_or(Status::IoError)
    }

    fn discard(&self, data: &GuestBuffer) -> Result<(u64, u64), Status> {
        let range = self.one_range(data, MOST_DISCARD)?;
        // It has no flags at all (5.2.6.2).
        if range.flags.get() != 0 {
            return Err(Status::Unsupported);
        }
        self.range(range.sector.get(), u64::from(range.num_sectors.get()) * SECTOR)
    }

    fn zeroes(&self, data: &GuestBuffer) -> Result<(u64, u64, bool), Status> {
        let range = self.one_range(data, MOST_ZEROES)?;
        let flags = range.flags.get();
        if flags & !UNMAP != 0 {
            return Err(Status::Unsupported);
        }
        let len = u64::from(range.num_sectors.get()) * SECTOR;
        let (offset, len) = self.range(range.sector.get(), len)?;
        Ok((offset, len, flags & UNMAP != 0))
    }

    fn one_range(&self, data: &GuestBuffer, most: u32) -> Result<Range, Status> {
        self.writable()?;
        let range = data.read_obj_at::<Range>(0).filter(|_| data.len() == size_of::<Range>());
        range.filter(|range| range.num_sectors.get() <= most).ok_or(Status::IoError)
    }
}
