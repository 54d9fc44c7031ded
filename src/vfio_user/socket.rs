//! Whole messages over a socket, with files that go along, and no longer than until a deadline.

use std::{
    io::{self, IoSlice, Read},
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        unix::net::UnixStream,
    },
    time::Instant,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg},
};

/// Sends all of `message`; the files go with its first byte.
///
/// # Errors
/// `TimedOut`: the other side has not taken it by then. What the host says else.
pub fn send(
    stream: &UnixStream,
    message: &[u8],
    files: &[RawFd],
    deadline: Instant,
) -> io::Result<()> {
    let (mut left, mut files) = (message, files);
    while !left.is_empty() {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let rights = [ControlMessage::ScmRights(files)];
        let control = if files.is_empty() { &[][..] } else { &rights };
        let parts = [IoSlice::new(left)];
        match sendmsg::<UnixAddr>(stream.as_raw_fd(), &parts, control, flags, None) {
            Ok(sent) => (left, files) = (left.get(sent..).unwrap_or_default(), &[]),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => wait(stream, deadline)?,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Waits until there is room for more.
fn wait(stream: &UnixStream, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)], left) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Receives so many bytes. Files that come along are closed by the kernel, as nobody asks for them.
///
/// # Errors
/// `UnexpectedEof`: there are no more; what the host says else.
pub fn receive(mut stream: &UnixStream, bytes: &mut [u8]) -> io::Result<()> {
    stream.read_exact(bytes)
}
