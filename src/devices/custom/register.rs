//! A map of registers.

use crate::{addr::AccessWidth, devices::Access};

/// A register, or several of the same kind that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// As its specification calls it.
    pub name: &'static str,
    /// From the window's start, in bytes; a multiple of the width.
    pub offset: u64,
    /// The one width of access that it takes.
    pub width: AccessWidth,
    /// What may be done with it.
    pub allowed: Allowed,
    /// How many there are, one after the other; at least 1.
    pub count: u64,
}

/// What may be done with a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Both.
    ReadWrite,
    /// Writes are refused.
    Read,
    /// Reads are refused.
    Write,
}

impl Register {
    /// One that may be read and written.
    pub const fn new(name: &'static str, offset: u64, width: AccessWidth) -> Self {
        Self { name, offset, width, allowed: Allowed::ReadWrite, count: 1 }
    }

    /// One of 32 bits that may be read and written.
    pub const fn dword(name: &'static str, offset: u64) -> Self {
        Self::new(name, offset, AccessWidth::Dword)
    }

    /// The same, to be read only.
    pub const fn read_only(self) -> Self {
        Self { allowed: Allowed::Read, ..self }
    }

    /// The same, to be written only.
    pub const fn write_only(self) -> Self {
        Self { allowed: Allowed::Write, ..self }
    }

    /// So many of them, one after the other.
    pub const fn times(self, count: u64) -> Self {
        Self { count, ..self }
    }

    /// The first offset behind it.
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add((self.width.size() as u64).saturating_mul(self.count))
    }

    /// Its name, with its number if it is one of several, for what is at `offset`.
    pub fn name_at(&self, offset: u64) -> String {
        match self.count {
            1 => self.name.to_owned(),
            _ => {
                let number = offset.saturating_sub(self.offset) / self.width.size() as u64;
                format!("{}[{number}]", self.name)
            }
        }
    }
}

/// Where a map ends, in bytes.
pub(super) const fn end(map: &[Register]) -> u64 {
    match map {
        [] => 0,
        [.., last] => last.end(),
    }
}

/// The register at an offset, if it takes such an access.
pub(super) fn find(
    map: &'static [Register],
    offset: u64,
    width: AccessWidth,
    is_write: bool,
) -> Result<&'static Register, Access> {
    let at = map.partition_point(|it| it.offset <= offset);
    let register = at.checked_sub(1).and_then(|at| map.get(at)).filter(|it| offset < it.end());
    let register = register.ok_or(Access::NoRegister)?;
    match register.allowed {
        _ if register.width != width => Err(Access::BadWidth),
        _ if offset % width.size() as u64 != 0 => Err(Access::Unaligned),
        Allowed::Read if is_write => Err(Access::ReadOnly),
        Allowed::Write if !is_write => Err(Access::WriteOnly),
        _ => Ok(register),
    }
}

/// What is wrong with a map for a window of `size` bytes.
pub(super) fn problem(map: &[Register], size: u64) -> Option<String> {
    if size == 0 {
        return Some("it has no registers".to_owned());
    }
    let mut end = 0;
    for register in map {
        let Register { name, offset, width, count, .. } = register;
        let (bytes, here) = (width.size() as u64, register.end());
        if *count == 0 {
            return Some(format!("of {name} there are none"));
        }
        if here == u64::MAX {
            return Some(format!("{name} ends above 2^64"));
        }
        if offset % bytes != 0 {
            return Some(format!("{name} is at {offset:#x}, which is no multiple of {bytes}"));
        }
        if *offset < end {
            return Some(format!(
                "{name}, at {offset:#x}, does not stand behind the one before it"
            ));
        }
        end = here;
    }
    (end > size).then(|| format!("its registers end at {end:#x}, and its window at {size:#x}"))
}
