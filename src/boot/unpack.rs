//! Unpacking a kernel's compressed payload on the host, so that it need be done only once: a start
//! from the cache saves the guest that work, and the memory for both forms.

mod formats;

use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Read, Write},
    os::unix::fs::FileExt,
    sync::Arc,
};

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::Serialize;

use super::{
    Unpacked,
    cache::{Cache, Key},
    error::{Fault, Role},
    file::ImageSource,
};

/// How a payload is compressed: what Linux's `scripts/Makefile.lib` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    Bzip2,
    Gzip,
    Lz4,
    Lzma,
    Lzo,
    Xz,
    Zstd,
}

impl Compression {
    /// From a payload's first bytes.
    pub fn detect(head: &[u8]) -> Option<Self> {
        const MAGICS: [(&[u8], Compression); 7] = [
            (b"BZh", Compression::Bzip2),
            (&[0x1f, 0x8b], Compression::Gzip),
            (&[0x02, 0x21, 0x4c, 0x18], Compression::Lz4), // the legacy frame
            (&[0x5d, 0, 0], Compression::Lzma),
            (&[0x89, b'L', b'Z', b'O'], Compression::Lzo),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
            (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
        ];
        MAGICS.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, found)| *found)
    }

    /// Whether there is a decompressor for it here.
    fn is_known_here(self) -> bool {
        matches!(self, Self::Gzip | Self::Lz4 | Self::Xz | Self::Zstd)
    }

    /// Whether Linux puts the unpacked size behind the compressed data. gzip ends with it anyway.
    fn has_size_behind(self) -> bool {
        self != Self::Gzip
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bzip2 => "bzip2",
            Self::Gzip => "gzip",
            Self::Lz4 => "LZ4",
            Self::Lzma => "LZMA",
            Self::Lzo => "LZO",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        })
    }
}

/// Where in a file the compressed kernel is.
#[derive(Clone, Copy, Debug)]
pub struct Payload {
    pub offset: u64,
    /// In bytes, with the unpacked size that stands behind the compressed data.
    pub len: u64,
    /// What the payload may come to, in bytes.
    pub max_size: u64,
    pub length: Length,
}

/// How it is known what a payload comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Linux has put it into the payload's last four bytes; gzip does so anyway.
    Behind,
    /// The compressed data itself may tell, or not.
    AsItSays,
}

/// When unpacking on the host is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// In any case.
    Always,
    /// If it was done before, or will serve again: the guest's own code is several times faster
    /// than ours, so that doing it once only is a loss. A kernel that is started a second time is
    /// likely to be started more often.
    IfItPays,
}

/// Unpacks to a file in the cache or in memory; one that is in the cache already is used. `None`:
/// it does not pay.
pub fn unpack(
    source: &ImageSource,
    payload: Payload,
    cache: Option<&Cache>,
    effort: Effort,
) -> Result<Option<(ImageSource, Unpacked)>, Fault> {
    let (compression, told) = examine(source, payload)?;
    let unpacked = |size, cache, cache_hit| Unpacked { compression, size, cache, cache_hit };
    let image =
        |file, path, len| ImageSource { role: Role::Kernel, path, file: Arc::new(file), len };

    // An entry in the cache is found by its size, among other things.
    let key = told.and_then(|size| Some((size, Key::of(source, payload.offset, size)?)));
    if let Some((cache, (size, key))) = &cache.zip(key) {
        let size = *size;
        if let Some(file) = cache.get(key) {
            let path = cache.path(key);
            return Ok(Some((image(file, path.clone(), size), unpacked(size, Some(path), true))));
        }
        if effort == Effort::IfItPays && !cache.pays(key) {
            return Ok(None);
        }
        match cache.create(key) {
            Ok(entry) => match decompress(source, payload, compression, told, entry.file()) {
                Ok(size) => match entry.keep() {
                    Ok(file) => {
                        let path = cache.path(key);
                        let image = image(file, path.clone(), size);
                        return Ok(Some((image, unpacked(size, Some(path), false))));
                    }
                    Err(error) => log::debug!("Kernel cache: {error}"),
                },
                Err(Failure::Payload(problem)) => return Err(fault(compression, problem)),
                Err(Failure::Write(error)) => log::debug!("Kernel cache: {error}"),
            },
            Err(error) => log::debug!("Kernel cache: {error}"),
        }
    }
    // No cache, or one that cannot be written: memory will do.
    if effort == Effort::IfItPays {
        return Ok(None);
    }
    let in_memory = || -> Result<(File, u64), Failure> {
        let file = File::from(
            memfd_create("kernel", MFdFlags::MFD_CLOEXEC)
                .map_err(|errno| Failure::Write(errno.into()))?,
        );
        let size = decompress(source, payload, compression, told, &file)?;
        Ok((file, size))
    };
    match in_memory() {
        Ok((file, size)) => {
            Ok(Some((image(file, source.path.clone(), size), unpacked(size, None, false))))
        }
        Err(Failure::Payload(problem)) => Err(fault(compression, problem)),
        Err(Failure::Write(error)) => {
            Err(fault(compression, format!("there is no memory to unpack it to: {error}")))
        }
    }
}

fn fault(compression: Compression, problem: String) -> Fault {
    Fault::new(format!("the {compression} payload"), problem)
}

/// How a payload is compressed and, if that can be told, how many bytes it comes to.
fn examine(source: &ImageSource, payload: Payload) -> Result<(Compression, Option<u64>), Fault> {
    let Payload { offset, len, max_size, length } = payload;
    let unreadable = |error: super::Error| Fault::new("payload_offset", error.to_string());
    if len < 8 {
        return Err(Fault::new("payload_length", format!("{len} bytes are no compressed kernel")));
    }
    let head_len = len.min(formats::ZSTD_HEADER as u64) as usize;
    let head = source.read(offset, head_len, "payload_offset").map_err(unreadable)?;
    let tail = source.read(offset + len - 4, 4, "payload_length").map_err(unreadable)?;
    let compression = Compression::detect(&head).ok_or_else(|| {
        let head = &head[..6];
        Fault::new("payload_offset", format!("{head:02x?} begin no known compressed data"))
    })?;
    if !compression.is_known_here() {
        return Err(fault(compression, "only the guest can unpack this format".into()));
    }
    let size = match (length, compression) {
        (Length::Behind, _) | (_, Compression::Gzip) => {
            Some(tail.iter().rev().fold(0, |size, byte| size << 8 | u64::from(*byte)))
        }
        (Length::AsItSays, Compression::Zstd) => formats::zstd_content_size(&head),
        _ => None,
    };
    if let Some(size) = size.filter(|size| *size == 0 || *size > max_size) {
        let limit = match length {
            Length::Behind => "init_size",
            Length::AsItSays => "what RAM has",
        };
        let problem =
            format!("its unpacked size, {size:#x}, must be from 1 to {limit}, {max_size:#x}");
        return Err(fault(compression, problem));
    }
    Ok((compression, size))
}

/// Why nothing was unpacked: the data's doing, or that of the place it goes to.
#[derive(Debug)]
enum Failure {
    Payload(String),
    Write(io::Error),
}

/// Unpacks to the file `to` and gives what it came to: `told` bytes, where that is known.
fn decompress(
    source: &ImageSource,
    payload: Payload,
    compression: Compression,
    told: Option<u64>,
    to: &File,
) -> Result<u64, Failure> {
    let has_size_behind = payload.length == Length::Behind && compression.has_size_behind();
    let behind = if has_size_behind { 4 } else { 0 };
    let size = told.unwrap_or(payload.max_size);
    let section = Section {
        file: &source.file,
        at: payload.offset,
        end: payload.offset + payload.len - behind,
    };
    let mut out = Bounded { to, left: size, write_error: None };
    let done = formats::decompress(
        compression,
        BufReader::with_capacity(1 << 18, section),
        size,
        &mut out,
    );
    if let Some(error) = out.write_error {
        return Err(Failure::Write(error));
    }
    done.map_err(|error| Failure::Payload(format!("it is damaged: {error}")))?;
    match out.left {
        left if left == 0 || told.is_none() => Ok(size - left),
        left => Err(Failure::Payload(format!("it says {size} bytes and ends {left} before that"))),
    }
}

/// A part of a file.
struct Section<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        let got = self.file.read_at(&mut buffer[..want], self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

/// Takes so many bytes and not one more, whatever the compressed data holds.
struct Bounded<'a> {
    to: &'a File,
    left: u64,
    /// Kept apart, to tell a full disk from damaged data.
    write_error: Option<io::Error>,
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::other(
                "it holds more bytes than it says, or than there is room",
            ));
        }
        match (&mut &*self.to).write_all(bytes) {
            Ok(()) => {
                self.left -= bytes.len() as u64;
                Ok(bytes.len())
            }
            Err(error) => {
                let told = io::Error::new(error.kind(), error.to_string());
                self.write_error = Some(error);
                Err(told)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
