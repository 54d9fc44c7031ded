//! What a host program begins with: `CONNECT <port>` and a line feed.

use std::{io, os::fd::AsRawFd, os::unix::net::UnixStream};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv},
};

/// The longest line, with its end: spaces may stand around the number.
const LONGEST: usize = 32;

/// What has come of it so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Not all of the line.
    Incomplete,
    /// The guest's port.
    Port(u32),
}

/// Takes the line from the socket, if all of it is there; what comes behind it stays there.
///
/// # Errors
/// Anything else has come, or nothing will come any more.
pub fn take(socket: &UnixStream) -> io::Result<Greeting> {
    let mut bytes = [0; LONGEST];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    let len = match recv(socket.as_raw_fd(), &mut bytes, flags) {
        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(len) => len,
        Err(Errno::EAGAIN) => return Ok(Greeting::Incomplete),
        Err(errno) => return Err(errno.into()),
    };
    match parse(&bytes[..len]) {
        None => Err(io::ErrorKind::InvalidData.into()),
        Some((Greeting::Incomplete, _)) => Ok(Greeting::Incomplete),
        Some((greeting, used)) => {
            recv(socket.as_raw_fd(), &mut bytes[..used], MsgFlags::MSG_DONTWAIT)?;
            Ok(greeting)
        }
    }
}

/// What these bytes say, and how many of them the line has; `None`: they are no beginning of one.
fn parse(bytes: &[u8]) -> Option<(Greeting, usize)> {
    const WORD: &[u8] = b"CONNECT ";
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        let begins = bytes.iter().zip(WORD).all(|(a, b)| a.eq_ignore_ascii_case(b));
        return (begins && bytes.len() < LONGEST).then_some((Greeting::Incomplete, 0));
    };
    let line = &bytes[..end];
    let (word, port) = line.split_at_checked(WORD.len())?;
    let port = std::str::from_utf8(port).ok()?.trim_matches([' ', '\r']).parse().ok()?;
    word.eq_ignore_ascii_case(WORD).then_some((Greeting::Port(port), end + 1))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_line_may_come_in_pieces_and_what_follows_it_stays() {
        let (mut program, socket) = UnixStream::pair().unwrap();
        assert_eq!(take(&socket).unwrap(), Greeting::Incomplete);
        program.write_all(b"CONN").unwrap();
        assert_eq!(take(&socket).unwrap(), Greeting::Incomplete);
        program.write_all(b"ECT 52\nhello").unwrap();
        assert_eq!(take(&socket).unwrap(), Greeting::Port(52));
        drop(program);
        let mut rest = String::new();
        (&socket).read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "hello");
    }

    #[test]
    fn anything_else_is_an_error() {
        let long = "CONNECT ".to_owned() + &" ".repeat(LONGEST);
        let bad = ["GET / HTTP/1.1\r\n", "CONNECT\n", "CONNECT x\n", "CONNECT 4294967296\n", "\n"];
        for line in bad.into_iter().chain([long.as_str(), "CONNECT -1\n", "CONNECT 1 2\n"]) {
            let (mut program, socket) = UnixStream::pair().unwrap();
            program.write_all(line.as_bytes()).unwrap();
            assert!(take(&socket).is_err(), "{line:?}");
        }
        let (program, socket) = UnixStream::pair().unwrap();
        drop(program);
        assert!(take(&socket).is_err());
        assert_eq!(parse(b"connect  7 \r\n").unwrap().0, Greeting::Port(7));
    }
}
