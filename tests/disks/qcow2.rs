//! qcow2 images for the tests: made and read by the crate imago, and checked by its specification
//! alone (QEMU's docs/interop/qcow2.rst).

use std::{collections::HashMap, fs, path::Path};

use imago::{
    DenyImplicitOpenGate, FormatAccess, FormatCreateBuilder, FormatDriverBuilder, Storage,
    StorageCreateOptions, StorageOpenOptions, file::File, qcow2::Qcow2,
};

pub fn create(path: &Path, size: u64) {
    let options = StorageCreateOptions::new().filename(path).overwrite(true);
    let file = File::create_open(options).unwrap();
    // Small clusters are more of them to get wrong.
    Qcow2::<File>::create_builder(file).size(size).cluster_size(4096).create().unwrap();
}

fn open(path: &Path, writable: bool) -> FormatAccess<File> {
    let file = File::open(StorageOpenOptions::new().filename(path).write(writable)).unwrap();
    let image = Qcow2::<File>::builder(file).write(writable);
    FormatAccess::new(image.open(DenyImplicitOpenGate::default()).unwrap())
}

/// Writes the disk's bytes, from the first one on; what is zero in a new image stays away.
#[allow(dead_code)] // each test program uses a part
pub fn write(path: &Path, bytes: &[u8]) {
    let disk = open(path, true);
    for (part, at) in bytes.chunks(4096).zip((0..).step_by(4096)) {
        if part.iter().any(|byte| *byte != 0) {
            disk.write(part, at).unwrap();
        }
    }
    disk.flush().unwrap();
}

/// The disk's bytes.
pub fn read(path: &Path) -> Vec<u8> {
    let disk = open(path, false);
    let mut bytes = vec![0; disk.size() as usize];
    disk.read(&mut bytes[..], 0).unwrap();
    bytes
}

const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// Whether each cluster that is in use is counted as such. How many are counted and not in use:
/// those are lost, which a repair puts right.
pub fn check(path: &Path) -> Result<usize, String> {
    let image = fs::read(path).unwrap();
    let number = |at: u64, len: usize| {
        let bytes = image.get(at as usize..at as usize + len);
        bytes.map(|bytes| bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let number = |at, len| number(at, len).ok_or(format!("{at:#x} is not in the file"));
    if number(0, 4)? != 0x5146_49fb {
        return Err("no qcow2 image".to_owned());
    }
    if number(4, 4)? >= 3 && number(72, 8)? != 0 {
        return Err(format!("incompatible features {:#x}: dirty or corrupt", number(72, 8)?));
    }
    let cluster = 1_u64 << number(20, 4)?;
    let (l1_entries, l1_table) = (number(36, 4)?, number(40, 8)?);
    let (refcount_table, refcount_clusters) = (number(48, 8)?, number(56, 4)?);
    if number(96, 4)? != 4 {
        return Err("refcounts are not of 16 bits".to_owned());
    }
    let mut used: HashMap<u64, u64> = HashMap::new();
    let mut uses = |at: u64, len: u64| {
        for cluster_number in at / cluster..(at + len).div_ceil(cluster) {
            *used.entry(cluster_number).or_default() += 1;
        }
    };
    uses(0, cluster);
    uses(l1_table, 8 * l1_entries);
    uses(refcount_table, refcount_clusters * cluster);
    for l1 in 0..l1_entries {
        let l2_table = number(l1_table + 8 * l1, 8)? & OFFSET;
        if l2_table == 0 {
            continue;
        }
        uses(l2_table, cluster);
        for l2 in 0..cluster / 8 {
            let data = number(l2_table + 8 * l2, 8)? & OFFSET;
            if data != 0 {
                uses(data, cluster);
            }
        }
    }
    let mut blocks = Vec::new();
    for entry in 0..refcount_clusters * cluster / 8 {
        let block = number(refcount_table + 8 * entry, 8)? & OFFSET;
        if block != 0 {
            uses(block, cluster);
            blocks.push((entry, block));
        }
    }
    let per_block = cluster / 2;
    let mut counted = HashMap::new();
    for (entry, block) in blocks {
        for i in 0..per_block {
            let count = number(block + 2 * i, 2)?;
            if count != 0 {
                counted.insert(entry * per_block + i, count);
            }
        }
    }
    for (cluster_number, uses) in &used {
        let count = counted.get(cluster_number).copied().unwrap_or(0);
        if count != *uses {
            return Err(format!("cluster {cluster_number} has {uses} uses and the count {count}"));
        }
    }
    Ok(counted.keys().filter(|cluster_number| !used.contains_key(cluster_number)).count())
}
