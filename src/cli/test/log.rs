//! A log of bounded length: of what is longer, the beginning and the end.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    path::Path,
};

/// Bytes from the end that are kept at most; no more than from the beginning.
const TAIL: usize = 64 << 10;

/// A file that is written as its bytes come.
#[derive(Debug)]
pub struct Log {
    /// Or what came of a write.
    file: io::Result<File>,
    head: u64,
    /// Bytes that came.
    bytes: u64,
    tail: VecDeque<u8>,
}

impl Log {
    /// A file at `path`, with so many bytes from the beginning.
    pub fn create(path: &Path, head: u64) -> Self {
        Self { file: File::create(path), head, bytes: 0, tail: VecDeque::new() }
    }

    pub fn put(&mut self, bytes: &[u8]) {
        let room = usize::try_from(self.head.saturating_sub(self.bytes)).unwrap_or(usize::MAX);
        self.bytes += bytes.len() as u64;
        let (head, rest) = bytes.split_at(bytes.len().min(room));
        self.write(head);
        let tail = usize::try_from(self.head).unwrap_or(TAIL).min(TAIL);
        self.tail.extend(&rest[rest.len().saturating_sub(tail)..]);
        self.tail.drain(..self.tail.len().saturating_sub(tail));
    }

    /// Writes what is kept of the end; why the file has not all that it should have.
    pub fn finish(mut self) -> io::Result<()> {
        let left_out = self.bytes.saturating_sub(self.head + self.tail.len() as u64);
        if left_out > 0 {
            self.write(format!("\n[axvmm: {left_out} bytes are left out here]\n").as_bytes());
        }
        let tail = std::mem::take(&mut self.tail);
        let (front, back) = tail.as_slices();
        self.write(front);
        self.write(back);
        self.file.map(drop)
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Ok(file) = &mut self.file {
            if let Err(error) = file.write_all(bytes) {
                self.file = Err(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn kept(pieces: &[&[u8]]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::create(&path, 10);
        pieces.iter().for_each(|piece| log.put(piece));
        log.finish().unwrap();
        fs::read(path).unwrap()
    }

    #[test]
    fn what_has_room_is_kept_whole() {
        assert_eq!(kept(&[b"abc", b"", b"def"]), b"abcdef");
        assert_eq!(kept(&[b"0123456789", b"012345", b"6789"]), b"01234567890123456789");
    }

    #[test]
    fn of_what_is_longer_the_middle_is_left_out_and_that_is_told() {
        let longer = kept(&[b"012345678", b"9abcdefgh", b"ij0123", b"456end"]);
        let expected = "0123456789\n[axvmm: 10 bytes are left out here]\n0123456end";
        assert_eq!(String::from_utf8(longer).unwrap(), expected);
        assert!(kept(&[&[b'm'; 10 * TAIL]]).len() < 100);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told_at_the_end() {
        let mut log = Log::create(Path::new("/nonexistent/log"), 10);
        log.put(b"abc");
        assert!(log.finish().is_err());
    }
}
