//! The header of an arm64 or riscv `Image`; they are laid out alike (Linux'
//! `Documentation/arch/arm64/booting.rst`, `Documentation/arch/riscv/boot-image-header.rst`).

use crate::{boot::Fault, hal::Arch};

/// Its size in bytes.
#[cfg(test)]
pub const HEADER: usize = 64;

const TEXT_OFFSET: usize = 8;
const IMAGE_SIZE: usize = 16;
const FLAGS: usize = 24;
/// Bit 0 of the flags, in both.
const BIG_ENDIAN: u64 = 1;
/// What holds where an arm64 kernel from before Linux 3.17 says nothing.
const OLD_TEXT_OFFSET: u64 = 0x8_0000;
/// More than any kernel is, and little enough to add to an address.
const LIMIT: u64 = 1 << 40;

/// What the header says about the kernel's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// From a multiple of 2 MiB to the kernel's first byte.
    pub text_offset: u64,
    /// In bytes, from there: what the kernel needs in memory; at least what the file has.
    pub size: u64,
}

impl Header {
    /// Reads the header of a file of `len` bytes, which is for `arch`.
    pub fn parse(arch: Arch, head: &[u8], len: u64) -> Result<Self, Fault> {
        let word = |at: usize| {
            head.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes)
        };
        let (Some(text_offset), Some(size), Some(flags)) =
            (word(TEXT_OFFSET), word(IMAGE_SIZE), word(FLAGS))
        else {
            let problem = format!("the file ends inside the header, after {} bytes", head.len());
            return Err(Fault::new("Image header", problem));
        };
        if flags & BIG_ENDIAN != 0 {
            let problem = "this is a big-endian kernel; the machine is little-endian";
            return Err(Fault::new("flags", problem));
        }
        if size == 0 && arch == Arch::Riscv64 {
            let problem = "is 0, but must say what the kernel needs in memory: is it damaged?";
            return Err(Fault::new("image_size", problem));
        }
        if size == 0 {
            return Ok(Self { text_offset: OLD_TEXT_OFFSET, size: len });
        }
        for (field, value) in [("text_offset", text_offset), ("image_size", size)] {
            if value >= LIMIT {
                return Err(Fault::new(field, format!("{value:#x} bytes are more than there is")));
            }
        }
        // The part that is not in the file is the kernel's zeroed data: never more than half of it
        // in any kernel, but nothing says so. What is shorter than it can be was cut short only if
        // code is missing, which cannot be told from here.
        Ok(Self { text_offset, size: size.max(len) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text_offset: u64, size: u64, flags: u64) -> Vec<u8> {
        let mut head = vec![0; HEADER];
        head[8..16].copy_from_slice(&text_offset.to_le_bytes());
        head[16..24].copy_from_slice(&size.to_le_bytes());
        head[24..32].copy_from_slice(&flags.to_le_bytes());
        head
    }

    #[test]
    fn the_larger_of_file_and_image_size_counts() {
        for (file, size) in [(0x1000, 0x3000), (0x3000, 0x3000), (0x5000, 0x5000)] {
            let parsed = Header::parse(Arch::Riscv64, &header(0x20_0000, 0x3000, 2), file).unwrap();
            assert_eq!(parsed, Header { text_offset: 0x20_0000, size });
        }
    }

    #[test]
    fn an_old_kernel_without_a_size_has_its_usual_offset() {
        let parsed = Header::parse(Arch::Aarch64, &header(0x1234, 0, 0), 0x1000).unwrap();
        assert_eq!(parsed, Header { text_offset: 0x8_0000, size: 0x1000 });
        // There are no such kernels for riscv64.
        let refused = Header::parse(Arch::Riscv64, &header(0x1234, 0, 0), 0x1000).unwrap_err();
        assert_eq!(refused.field, "image_size");
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_field() {
        for (head, field) in [
            (header(0, 0x1000, 1), "flags"),
            (header(1 << 40, 0x1000, 0), "text_offset"),
            (header(0, u64::MAX, 0), "image_size"),
            (header(0, 1, 0)[..31].to_vec(), "Image header"),
        ] {
            for arch in [Arch::Aarch64, Arch::Riscv64] {
                assert_eq!(Header::parse(arch, &head, 0x1000).unwrap_err().field, field);
            }
        }
    }
}
