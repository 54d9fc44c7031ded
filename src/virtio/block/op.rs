//! What is done to a disk: an operation, and its end.

use std::{fmt, io};

use super::image::Image;
use crate::addrspace::GuestBuffer;

/// An operation on a disk. It lies inside of the disk; offsets and lengths are in bytes.
pub enum Op {
    /// Fills the buffer.
    Read { offset: u64, to: GuestBuffer },
    /// Writes the buffer; if it is `durable`, it is on disk at the end.
    Write { offset: u64, from: GuestBuffer, durable: bool },
    /// What is written is on disk at the end.
    Flush,
    /// What is there is needed no longer.
    Discard { offset: u64, len: u64 },
    /// Zeroes, with or without giving their room back; if it is `durable`, on disk at the end.
    WriteZeroes { offset: u64, len: u64, unmap: bool, durable: bool },
}

impl Op {
    /// Does it here and now.
    pub fn run(self, image: &dyn Image) -> io::Result<()> {
        let (done, durable) = match self {
            Self::Read { offset, to } => (image.read(offset, to), false),
            Self::Write { offset, from, durable } => (image.write(offset, from), durable),
            Self::Flush => (image.flush(), false),
            Self::Discard { offset, len } => (image.discard(offset, len), false),
            Self::WriteZeroes { offset, len, unmap, durable } => {
                (image.write_zeroes(offset, len, unmap), durable)
            }
        };
        done?;
        if durable { image.flush() } else { Ok(()) }
    }

    /// What it is about.
    pub fn outline(&self) -> Outline {
        let (what, offset, len) = match self {
            Self::Read { offset, to } => ("read", *offset, to.len() as u64),
            Self::Write { offset, from, .. } => ("write", *offset, from.len() as u64),
            Self::Flush => ("flush", 0, 0),
            Self::Discard { offset, len } => ("discard", *offset, *len),
            Self::WriteZeroes { offset, len, .. } => ("write zeroes", *offset, *len),
        };
        Outline { what, offset, len }
    }
}

/// What an operation is about, for messages and limits.
#[derive(Clone, Copy, Debug)]
pub struct Outline {
    what: &'static str,
    offset: u64,
    /// In bytes.
    pub len: u64,
}

impl fmt::Display for Outline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.len {
            0 => f.write_str(self.what),
            len => write!(f, "{} of {len} bytes at {:#x}", self.what, self.offset),
        }
    }
}

/// An operation that is over, by the slot that it was given, and how.
pub type Done = (u16, io::Result<()>);
