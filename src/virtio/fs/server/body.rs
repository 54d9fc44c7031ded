//! What comes behind a request's header: values of fixed size, then names, each ended by a 0.

use std::ffi::CStr;

use rustix::io::Errno;
use zerocopy::FromBytes;

use crate::virtio::fs::{
    filesystem::{Changes, Name, NewTime, Result, Time},
    wire::{SetattrIn, setattr},
};

/// The bytes that have not been taken yet.
#[derive(Clone, Copy)]
pub struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next value. EINVAL: there are not as many bytes.
    pub fn take<T: FromBytes>(&mut self) -> Result<T> {
        let (value, rest) = T::read_from_prefix(self.0).map_err(|_| Errno::INVAL)?;
        self.0 = rest;
        Ok(value)
    }

    /// The next text. EINVAL: nothing ends it.
    pub fn text(&mut self) -> Result<&'a CStr> {
        let text = CStr::from_bytes_until_nul(self.0).map_err(|_| Errno::INVAL)?;
        self.0 = &self.0[text.count_bytes() + 1..];
        Ok(text)
    }

    /// The next text, which is a name in a directory.
    pub fn name(&mut self) -> Result<Name<'a>> {
        Name::new(self.text()?)
    }
}

/// What a `SETATTR` asks for.
pub fn changes(wanted: &SetattrIn) -> Changes {
    let valid = wanted.valid.get();
    let has = |flag| valid & flag != 0;
    let time = |flag, now, seconds: u64, nanoseconds: u32| match () {
        () if has(now) => Some(NewTime::Now),
        () if has(flag) => Some(NewTime::At(Time {
            seconds: seconds as i64,
            nanoseconds: nanoseconds.min(999_999_999),
        })),
        () => None,
    };
    Changes {
        mode: has(setattr::MODE).then(|| wanted.mode.get() & 0o7777),
        uid: has(setattr::UID).then(|| wanted.uid.get()),
        gid: has(setattr::GID).then(|| wanted.gid.get()),
        size: has(setattr::SIZE).then(|| wanted.size.get()),
        atime: time(setattr::ATIME, setattr::ATIME_NOW, wanted.atime.get(), wanted.atimensec.get()),
        mtime: time(setattr::MTIME, setattr::MTIME_NOW, wanted.mtime.get(), wanted.mtimensec.get()),
    }
}
