//! Whether a message has come whole, so that nobody waits for the rest of it.

use std::{io, os::fd::RawFd};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv},
};

/// A message's header: request, flags and the length of what follows, 4 bytes each.
const HEADER: usize = 12;
/// The most that follows.
const MOST: usize = 4096;

/// Whether all of a message is there; `Ok(false)` also for none.
///
/// # Errors
/// No more will come, or what comes is no message.
pub fn is_whole(socket: RawFd) -> io::Result<bool> {
    let mut bytes = [0; HEADER + MOST];
    match recv(socket, &mut bytes, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(len) => is_whole_in(&bytes[..len]).ok_or(io::ErrorKind::InvalidData.into()),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// `None`: it is longer than any message.
fn is_whole_in(bytes: &[u8]) -> Option<bool> {
    let Some((_, size)) = bytes.get(..HEADER).and_then(<[u8]>::split_last_chunk) else {
        return Some(false);
    };
    let size = u32::from_ne_bytes(*size) as usize;
    (size <= MOST).then_some(bytes.len() >= HEADER + size)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        os::{fd::AsRawFd, unix::net::UnixStream},
    };

    use super::*;

    #[test]
    fn half_a_message_is_none_yet() {
        let (mut backend, socket) = UnixStream::pair().unwrap();
        let is_whole = || is_whole(socket.as_raw_fd());
        assert!(!is_whole().unwrap());
        let message: Vec<u8> = [2_u32, 1, 4, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
        for byte in message {
            assert!(!is_whole().unwrap());
            backend.write_all(&[byte]).unwrap();
        }
        assert!(is_whole().unwrap());
        drop(backend);
        assert!(is_whole().unwrap(), "it is there though nobody is any more");
    }

    #[test]
    fn what_can_be_no_message_is_an_error() {
        let (mut backend, socket) = UnixStream::pair().unwrap();
        backend.write_all(&[0xff; 12]).unwrap();
        assert!(is_whole(socket.as_raw_fd()).is_err());
        let (backend, socket) = UnixStream::pair().unwrap();
        drop(backend);
        assert!(is_whole(socket.as_raw_fd()).is_err());
    }
}
