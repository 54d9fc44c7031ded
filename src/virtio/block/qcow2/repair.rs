//! What a kill may leave of a qcow2 image: tables in use that are not counted as such (QEMU's
//! `docs/interop/qcow2.rst`). imago refers to a new table at once, and counts its cluster at the next
//! flush; who then takes that cluster for a free one writes over the table. So they are counted
//! before an image is written again.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom},
    os::unix::fs::FileExt,
};

const MAGIC: u32 = u32::from_be_bytes(*b"QFI\xfb");
/// Those that the specification and QEMU allow.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
const MOST_L1_ENTRIES: u64 = 4 << 20;
const MOST_REFCOUNT_ENTRIES: u64 = 1 << 20;
/// The bits of an entry that are a place in the file.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Counts of 16 bits, as all images have that nobody wished otherwise.
const USUAL_ORDER: u32 = 4;

/// Counts the tables of the image in `file` that are in use and not counted. How many there were.
/// What is no image, or one of an unusual kind, is left as it is.
///
/// # Errors
/// A table cannot be counted, or the file not be read or written.
pub fn count_tables(file: &File) -> io::Result<usize> {
    let Some(image) = Tables::of(file)? else { return Ok(0) };
    let mut uncounted = 0;
    for table in image.l1.iter().chain(&image.refcount_blocks) {
        let at = table & OFFSET;
        if at != 0 && at % image.cluster == 0 && at < image.len {
            uncounted += usize::from(image.count(file, at)?);
        }
    }
    if uncounted != 0 {
        file.sync_data()?;
    }
    Ok(uncounted)
}

/// Where an image has its tables.
struct Tables {
    /// In bytes, as is `len`, that of the file.
    cluster: u64,
    len: u64,
    l1: Vec<u64>,
    refcount_blocks: Vec<u64>,
}

impl Tables {
    fn of(file: &File) -> io::Result<Option<Self>> {
        // A block device has no length but this.
        let len = { file }.seek(SeekFrom::End(0))?;
        let mut header = [0; 104];
        match file.read_exact_at(&mut header, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            done => done?,
        }
        let u32_at = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let u64_at = |at| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
        let (version, bits) = (u32_at(4), u32_at(20));
        let order = if version == 2 { USUAL_ORDER } else { u32_at(96) };
        let is_usual = u32_at(0) == MAGIC && matches!(version, 2 | 3) && order == USUAL_ORDER;
        if !is_usual || !CLUSTER_BITS.contains(&bits) {
            return Ok(None);
        }
        let cluster = 1 << bits;
        let (l1_entries, blocks) = (u64::from(u32_at(36)), u64::from(u32_at(56)) * cluster / 8);
        if l1_entries > MOST_L1_ENTRIES || blocks > MOST_REFCOUNT_ENTRIES {
            return Ok(None);
        }
        let tables = (table(file, u64_at(40), l1_entries), table(file, u64_at(48), blocks));
        Ok(match tables {
            (Ok(l1), Ok(refcount_blocks)) => Some(Self { cluster, len, l1, refcount_blocks }),
            // Tables that end behind the file: whoever opens the image says so.
            _ => None,
        })
    }

    /// Has the cluster at `at` count as used. Whether it did not.
    fn count(&self, file: &File, at: u64) -> io::Result<bool> {
        let number = at / self.cluster;
        let per_block = self.cluster / 2;
        let block = self.refcount_blocks.get((number / per_block) as usize);
        let block = block.map_or(0, |entry| entry & OFFSET);
        if block == 0 {
            let why = format!("the table at {at:#x} is not counted: qemu-img check -r all");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let place = block + number % per_block * 2;
        let mut count = [0; 2];
        file.read_exact_at(&mut count, place)?;
        if count == [0; 2] {
            file.write_all_at(&1_u16.to_be_bytes(), place)?;
        }
        Ok(count == [0; 2])
    }
}

fn table(file: &File, at: u64, entries: u64) -> io::Result<Vec<u64>> {
    let mut bytes = vec![0; entries as usize * 8];
    file.read_exact_at(&mut bytes, at)?;
    let number = |bytes: &[u8]| bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    Ok(bytes.chunks_exact(8).map(number).collect())
}
