//! A directory's entries in a reply; with what each is, so that `ls -l` is one request for many.

use zerocopy::{FromZeros, IntoBytes};

use super::reply::{Reply, entry_out};
use crate::virtio::fs::{
    filesystem::{FileSystem, Listed, Name, Result},
    wire::{DirentWire, EntryOut, ReadIn},
};

/// Bytes of a listing at most, whatever the driver has room for.
const MOST: usize = 128 << 10;

/// The part of a listing that `wanted` asks for, in `room` bytes.
pub fn list(
    files: &dyn FileSystem,
    dir: u64,
    wanted: &ReadIn,
    room: usize,
    plus: bool,
) -> Result<Reply> {
    let room = room.min(wanted.size.get() as usize).min(MOST);
    let mut bytes = Vec::with_capacity(room);
    let mut take = |listed: &Listed<'_>| {
        let name = listed.name.to_bytes();
        let with = if plus { size_of::<EntryOut>() } else { 0 };
        let len = with + (size_of::<DirentWire>() + name.len()).next_multiple_of(8);
        if bytes.len() + len > room {
            return false;
        }
        let end = bytes.len() + len;
        if plus {
            bytes.extend_from_slice(look_up(files, dir, listed).as_bytes());
        }
        let entry = DirentWire {
            ino: listed.ino.into(),
            off: listed.next.into(),
            namelen: (name.len() as u32).into(),
            kind: listed.kind.into(),
        };
        bytes.extend_from_slice(entry.as_bytes());
        bytes.extend_from_slice(name);
        bytes.resize(end, 0);
        true
    };
    // What an entry takes beside its name would be fetched in vain.
    let of_names = if plus { room / 4 } else { room };
    files.read_dir(wanted.fh.get(), wanted.offset.get(), of_names, &mut take)?;
    Ok(Reply::from_vec(bytes))
}

/// Of what cannot be looked up the driver gets the name only: it asks again if it wants more.
fn look_up(files: &dyn FileSystem, dir: u64, listed: &Listed<'_>) -> EntryOut {
    let found = Name::new(listed.name).and_then(|name| files.lookup(dir, name));
    found.map_or(EntryOut::new_zeroed(), |entry| entry_out(&entry))
}
