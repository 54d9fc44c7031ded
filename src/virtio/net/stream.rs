//! Frames through a stream socket, each behind its length in 4 bytes, big-endian: the protocol of
//! QEMU's stream sockets and of passt. They have no header, and know no offloads.

use std::{
    io::{self, Read, Write},
    ops::Range,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
};

use virtio_bindings::virtio_net::VIRTIO_NET_HDR_F_DATA_VALID;
use zerocopy::IntoBytes;

use super::{
    backend::{Port, Trouble, retry},
    header::{ETHERNET, HEADER, Header},
    room::Room,
};
use crate::addrspace::GuestBuffer;

/// The length of a frame, in bytes.
const LENGTH: usize = 4;

/// The longest frame that passes; passt ends the connection if one is longer.
const LONGEST: usize = 65535;

/// So much is read at once: several frames, and never less than one.
const CHUNK: usize = 4 * (LENGTH + LONGEST);

/// A connection.
pub struct Stream {
    socket: UnixStream,
    /// Checksums need no second look.
    vouches: bool,
    received: Box<[u8]>,
    /// Which part of it has not been passed on.
    begin: usize,
    end: usize,
    /// What the socket has not taken yet of a frame of which it has taken something.
    unsent: Vec<u8>,
}

impl Stream {
    /// The socket's other end says where the frames come from. With `vouches` it is known not to
    /// send damaged ones.
    pub fn new(socket: UnixStream, vouches: bool) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let received = vec![0; CHUNK].into_boxed_slice();
        Ok(Self { socket, vouches, received, begin: 0, end: 0, unsent: Vec::new() })
    }

    /// Where the next frame is, if all of it is here.
    fn next(&self) -> Result<Option<Range<usize>>, Trouble> {
        let here = &self.received[self.begin..self.end];
        let Some(length) = here.first_chunk::<LENGTH>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if !(ETHERNET..=LONGEST).contains(&length) {
            let what = format!("the other end says that a frame has {length} bytes");
            return Err(Trouble::Gone(io::Error::other(what)));
        }
        let begin = self.begin + LENGTH;
        Ok((begin + length <= self.end).then_some(begin..begin + length))
    }

    /// Reads what there is, behind what is left.
    fn read(&mut self) -> Result<(), Trouble> {
        self.received.copy_within(self.begin..self.end, 0);
        (self.begin, self.end) = (0, self.end - self.begin);
        let Self { socket, received, end, .. } = self;
        match retry(|| (&*socket).read(&mut received[*end..])) {
            Ok(0) => Err(gone()),
            Ok(len) => {
                *end += len;
                Ok(())
            }
            Err(error) => Err(trouble(error)),
        }
    }
}

impl Port for Stream {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn receive(&mut self, room: &Room, spill: &mut [u8]) -> Result<usize, Trouble> {
        let place = loop {
            match self.next()? {
                Some(place) => break place,
                None => self.read()?,
            }
        };
        self.begin = place.end;
        let frame = &self.received[place];
        let flags = if self.vouches { VIRTIO_NET_HDR_F_DATA_VALID as u8 } else { 0 };
        let header = Header { flags, ..Header::default() };
        let len = HEADER + frame.len();
        room.write_at(0, header.as_bytes());
        room.write_at(HEADER, frame);
        // The room has space for the header at least: each of its chains does.
        let in_room = len.min(room.len()) - HEADER;
        spill[..frame.len() - in_room].copy_from_slice(&frame[in_room..]);
        Ok(len)
    }

    fn send(&mut self, frame: &GuestBuffer) -> Result<(), Trouble> {
        self.flush()?;
        let header: Header =
            frame.read_obj_at(0).ok_or_else(|| Trouble::refused("a frame without a header"))?;
        if header.flags != 0 || header.gso_type != 0 {
            return Err(Trouble::refused(
                "the guest wants an offload that it has not been offered",
            ));
        }
        let length = frame.len() - HEADER;
        if length > LONGEST {
            return Err(Trouble::refused("the guest sends a frame of more than 64 KiB"));
        }
        // It fits.
        let before = (length as u32).to_be_bytes();
        let sent = retry(|| frame.write_behind(&before, HEADER, self.socket.as_fd()));
        let sent = sent.map_err(trouble)?;
        if sent < LENGTH + length {
            // The socket must have all of it before it has another; the guest need not wait for that.
            self.unsent.extend_from_slice(before.get(sent..).unwrap_or_default());
            let from = sent.saturating_sub(LENGTH);
            let at = self.unsent.len();
            self.unsent.resize(at + length - from, 0);
            let _ = frame.read_at(HEADER + from, &mut self.unsent[at..]);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        while !self.unsent.is_empty() {
            let sent = retry(|| (&self.socket).write(&self.unsent)).map_err(trouble)?;
            self.unsent.drain(..sent);
        }
        Ok(())
    }
}

fn trouble(error: io::Error) -> Trouble {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => Trouble::Later,
        Some(libc::EPIPE | libc::ECONNRESET) => gone(),
        // Memory that the host lacks just now, say.
        Some(libc::ENOBUFS | libc::ENOMEM | libc::EINVAL) => Trouble::Refused(error),
        _ => Trouble::Gone(error),
    }
}

fn gone() -> Trouble {
    Trouble::Gone(io::Error::other("the connection has been closed"))
}
