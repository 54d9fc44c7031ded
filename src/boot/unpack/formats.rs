//! The decompressors, each from a reader to a writer that bounds what comes out.

use std::io::{self, Cursor, Read, Write};

use super::Compression;

/// As much as the LZ4 legacy frame puts into a block, unpacked.
const LZ4_BLOCK: usize = 8 << 20;
/// What a block of incompressible data comes to (`LZ4_compressBound`).
const LZ4_MAX_PACKED: usize = LZ4_BLOCK + LZ4_BLOCK / 255 + 16;
/// Linux packs kernels with a dictionary of up to 128 MiB.
const XZ_MEMORY_KIB: u32 = 160 << 10;

/// Unpacks all of `from`, which comes to `size` bytes if it is what it says.
pub fn decompress(
    compression: Compression,
    from: impl Read,
    size: u64,
    to: &mut impl Write,
) -> io::Result<()> {
    match compression {
        Compression::Gzip => pump(&mut flate2::read::GzDecoder::new(from), to),
        Compression::Lz4 => lz4_legacy(from, to),
        Compression::Xz => {
            let memory = XZ_MEMORY_KIB;
            pump(&mut lzma_rust2::XzReader::new_mem_limit(from, false, memory), to)
        }
        Compression::Zstd => zstd(from, size, to),
        Compression::Bzip2 | Compression::Lzma | Compression::Lzo => {
            Err(io::Error::other("only the guest can unpack this format"))
        }
    }
}

fn pump(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => to.write_all(&buffer[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// `lz4/doc/lz4_Frame_format.md`, "Legacy frame": the magic number, then blocks, each with its
/// packed size before it, to the end of the data.
fn lz4_legacy(mut from: impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut word = [0; 4];
    from.read_exact(&mut word)?;
    let magic = u32::from_le_bytes(word);
    let mut packed = Vec::new();
    let mut unpacked = vec![0; LZ4_BLOCK];
    while read_word(&mut from, &mut word)? {
        let size = u32::from_le_bytes(word);
        if size == magic {
            continue; // another frame
        }
        let size = size as usize;
        if size > LZ4_MAX_PACKED {
            return Err(io::Error::other(format!("an LZ4 block of {size} bytes is too large")));
        }
        packed.resize(size, 0);
        from.read_exact(&mut packed)?;
        let len = lz4_flex::block::decompress_into(&packed, &mut unpacked)
            .map_err(|error| io::Error::other(error.to_string()))?;
        to.write_all(&unpacked[..len])?;
    }
    Ok(())
}

/// `false` at the end of the data.
fn read_word(from: &mut impl Read, word: &mut [u8; 4]) -> io::Result<bool> {
    let mut have = 0;
    while have < word.len() {
        match from.read(&mut word[have..])? {
            0 if have == 0 => return Ok(false),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => have += n,
        }
    }
    Ok(true)
}

/// RFC 8878. Linux packs at the highest level from a pipe, so that the frame asks for a window of
/// 128 MiB, more than the decoder grants. No match can reach further back than the data goes, hence
/// a window as large as the data is the same to it.
fn zstd(mut from: impl Read, size: u64, to: &mut impl Write) -> io::Result<()> {
    // Where the size is a bound only, as much as the decoder grants is most likely enough.
    let size = size.min(ZSTD_LARGEST_WINDOW);
    let mut head = [0; 6]; // magic number, frame header descriptor, window descriptor
    from.read_exact(&mut head)?;
    if head[4] & SINGLE_SEGMENT == 0 {
        head[5] = (0..head[5]).find(|smaller| zstd_window(*smaller) >= size).unwrap_or(head[5]);
    }
    let damaged = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
    let whole = Cursor::new(head).chain(from);
    let mut decoder =
        ruzstd::decoding::StreamingDecoder::new(whole).map_err(|error| damaged(&error))?;
    pump(&mut decoder, to)?;
    let frame = decoder.into_frame_decoder();
    match frame.get_checksum_from_data() {
        Some(sum) if frame.get_calculated_checksum() != Some(sum) => {
            Err(io::Error::other("its checksum does not match"))
        }
        _ => Ok(()),
    }
}

/// How much a payload of 6 to 18 bytes says of itself at its beginning.
pub const ZSTD_HEADER: usize = 18;
const SINGLE_SEGMENT: u8 = 1 << 5;
/// The decoder's limit is 100 MiB.
const ZSTD_LARGEST_WINDOW: u64 = 96 << 20;

/// What a frame that begins so comes to, if it says so (RFC 8878, 3.1.1.1).
pub fn zstd_content_size(head: &[u8]) -> Option<u64> {
    let descriptor = *head.get(4)?;
    let single = descriptor & SINGLE_SEGMENT != 0;
    let dictionary_id = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let at = 5 + usize::from(!single) + dictionary_id;
    let (len, add) = match descriptor >> 6 {
        0 if !single => return None,
        0 => (1, 0),
        1 => (2, 256),
        2 => (4, 0),
        _ => (8, 0),
    };
    let bytes = head.get(at..at + len)?;
    let size = bytes.iter().rev().fold(0u64, |size, byte| size << 8 | u64::from(*byte));
    Some(size.saturating_add(add))
}

/// The window size, in bytes, that a window descriptor stands for (RFC 8878, 3.1.1.1.2).
fn zstd_window(descriptor: u8) -> u64 {
    let base = 1u64 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 7)
}
