//! What is said between a session and its agent: frames, each a kind, a length and so many bytes.
//!
//! A session is one of these rows after the other; `→` is what the agent is told.
//!
//! | frames | |
//! |---|---|
//! | `← Ready` | somebody is there |
//! | `→ Files`…, an empty one | files, as a tar archive |
//! | `→ Start` | a command |
//! | `→ Input`, `Size`, `Signal`; `← Output`, `Errors`, `Taken` | while it runs |
//! | `← Exit` | its status |
//! | `→ Fetch`, `← Files`…, an empty one | files it has made |
//!
//! `← Problem` may come instead of any answer, and ends the session.

use std::io::{self, Read, Write};

/// The most bytes that a frame has.
pub const LONGEST: usize = 32 << 10;
/// Bytes of input that may be on their way to a command that does not read.
pub const WINDOW: usize = 128 << 10;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The agent waits for a session.
    Ready = 0xa0,
    /// A piece of an archive; an empty one is its end.
    Files,
    /// A command, as JSON ([`super::Start`]).
    Start,
    /// Bytes for the command's stdin; none is its end.
    Input,
    /// How many bytes of input the command has taken, in four bytes.
    Taken,
    /// The terminal's columns and rows, in two bytes each.
    Size,
    /// A signal for the command, in one byte.
    Signal,
    /// Bytes that the command has written to its stdout.
    Output,
    /// The same of its stderr.
    Errors,
    /// The command's status, in one byte.
    Exit,
    /// Paths, as a JSON array, of which those that are there are wanted.
    Fetch,
    /// Why it does not go on.
    Problem,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::Ready,
        Self::Files,
        Self::Start,
        Self::Input,
        Self::Taken,
        Self::Size,
        Self::Signal,
        Self::Output,
        Self::Errors,
        Self::Exit,
        Self::Fetch,
        Self::Problem,
    ];
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// At most [`LONGEST`] bytes.
    pub bytes: Vec<u8>,
}

/// Writes a frame, in one piece.
///
/// # Errors
/// Those of the stream.
pub fn write(to: &mut impl Write, kind: Kind, bytes: &[u8]) -> io::Result<()> {
    let mut frame = Vec::with_capacity(5 + bytes.len());
    frame.push(kind as u8);
    frame.extend((bytes.len() as u32).to_le_bytes());
    frame.extend(bytes);
    to.write_all(&frame)
}

/// Reads a frame; `None` at the stream's end.
///
/// # Errors
/// Those of the stream; what is no frame is `InvalidData`.
pub fn read(from: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut head = [0; 5];
    match from.read(&mut head[..1]) {
        Ok(0) => return Ok(None),
        Ok(_) => from.read_exact(&mut head[1..])?,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return read(from),
        Err(error) => return Err(error),
    }
    let [kind, length @ ..] = head;
    let length = u32::from_le_bytes(length) as usize;
    let kind = Kind::ALL.into_iter().find(|it| *it as u8 == kind);
    let (Some(kind), true) = (kind, length <= LONGEST) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "what came is no frame"));
    };
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(Some(Frame { kind, bytes }))
}

/// An archive's bytes on their way out, as frames.
#[derive(Debug)]
pub struct Pieces<W>(pub W);

impl<W: Write> Write for Pieces<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(LONGEST)];
        // An empty one would be the end.
        if !piece.is_empty() {
            write(&mut self.0, Kind::Files, piece)?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Pieces<W> {
    /// Ends the archive.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn finish(mut self) -> io::Result<()> {
        write(&mut self.0, Kind::Files, &[])
    }
}

/// An archive's bytes as they come, out of frames.
#[derive(Debug)]
pub struct Joined<R> {
    from: R,
    piece: Vec<u8>,
    at: usize,
    has_ended: bool,
}

impl<R: Read> Joined<R> {
    /// The archive that begins with the next frame, or with this one.
    pub fn new(from: R, first: Option<Frame>) -> Self {
        let piece = first.map(|frame| frame.bytes);
        Self {
            from,
            has_ended: piece.as_ref().is_some_and(Vec::is_empty),
            piece: piece.unwrap_or_default(),
            at: 0,
        }
    }

    /// Takes what is left of it.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn drain(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink()).map(drop)
    }
}

impl<R: Read> Read for Joined<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() && !self.has_ended {
            let Some(frame) = read(&mut self.from)? else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            match frame.kind {
                Kind::Files => (self.piece, self.at) = (frame.bytes, 0),
                Kind::Problem => {
                    return Err(io::Error::other(
                        String::from_utf8_lossy(&frame.bytes).into_owned(),
                    ));
                }
                other => {
                    let text = format!("{other:?} came in the midst of files");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
            self.has_ended = self.piece.is_empty();
        }
        let rest = &self.piece[self.at..];
        let count = rest.len().min(to.len());
        to[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_as_they_were_sent() {
        let mut stream = Vec::new();
        for kind in Kind::ALL {
            write(&mut stream, kind, format!("{kind:?}").as_bytes()).unwrap();
        }
        let mut from = &stream[..];
        for kind in Kind::ALL {
            let frame = read(&mut from).unwrap().unwrap();
            assert_eq!((frame.kind, frame.bytes), (kind, format!("{kind:?}").into_bytes()));
        }
        assert_eq!(read(&mut from).unwrap(), None);
    }

    #[test]
    fn what_is_no_frame_is_an_error_and_takes_no_memory() {
        for bytes in [&[0_u8; 5][..], &[0xa1, 0xff, 0xff, 0xff, 0xff], &[0xa1, 4, 0, 0, 0, 1]] {
            assert!(read(&mut &bytes[..]).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn an_archive_is_cut_into_frames_and_joined() {
        let bytes: Vec<u8> = (0..3 * LONGEST + 5).map(|it| (it / 7) as u8).collect();
        let mut stream = Vec::new();
        let mut pieces = Pieces(&mut stream);
        pieces.write_all(&bytes).unwrap();
        pieces.finish().unwrap();
        write(&mut stream, Kind::Ready, b"after").unwrap();
        let mut from = &stream[..];
        let mut joined = Vec::new();
        Joined::new(&mut from, None).read_to_end(&mut joined).unwrap();
        assert!(joined == bytes);
        assert_eq!(read(&mut from).unwrap().unwrap().bytes, b"after");
    }
}
