//! What the registers of a device are called, for people who look at its accesses: each device's file
//! has the names that its specification gives them, beside their offsets.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// A register, or several of the same kind at the same distance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterName {
    /// As its specification calls it; with a slash between them, a read's register and a write's.
    pub name: Cow<'static, str>,
    /// From the window's start, in bytes; of system registers, in registers.
    pub offset: u64,
    /// How many bytes one has.
    pub bytes: u64,
    /// How many there are.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u64,
    /// From one to the next, in bytes.
    #[serde(default, skip_serializing_if = "is_none")]
    pub stride: u64,
}

impl RegisterName {
    /// One register.
    pub const fn new(name: &'static str, offset: u64, bytes: u64) -> Self {
        Self { name: Cow::Borrowed(name), offset, bytes, count: 1, stride: 0 }
    }

    /// A byte.
    pub const fn byte(name: &'static str, offset: u64) -> Self {
        Self::new(name, offset, 1)
    }

    /// 32 bits.
    pub const fn dword(name: &'static str, offset: u64) -> Self {
        Self::new(name, offset, 4)
    }

    /// So many of them, `stride` bytes from each to the next.
    pub const fn times(mut self, count: u64, stride: u64) -> Self {
        self.count = count;
        self.stride = stride;
        self
    }

    /// What is at `offset`, if it is part of this: `NAME`, `NAME[2]`, or `NAME+1` inside of one.
    fn at(&self, offset: u64) -> Option<String> {
        let inside = offset.checked_sub(self.offset)?;
        let (number, inside) = match self.stride {
            0 => (0, inside),
            stride => (inside / stride, inside % stride),
        };
        if number >= self.count || inside >= self.bytes {
            return None;
        }
        let mut name = self.name.to_string();
        if self.count > 1 {
            name.push_str(&format!("[{number}]"));
        }
        if inside > 0 {
            name.push_str(&format!("+{inside}"));
        }
        Some(name)
    }
}

/// The names of a device's registers, and which of them prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterMap {
    /// The registers; where two would do, the first counts.
    pub names: Cow<'static, [RegisterName]>,
    /// After so many bytes they begin anew: what a bus has for each of its devices, or a BAR, whose
    /// place is a multiple of its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<u64>,
    /// What is written there is printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prints: Option<Prints>,
}

/// A register whose bytes a person reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prints {
    /// Its offset.
    pub offset: u64,
    /// Not while one of the registers at these offsets has one of these bits: then the write is about
    /// something else.
    pub unless: Cow<'static, [(u64, u64)]>,
}

impl RegisterMap {
    /// Of these names.
    pub fn of(names: impl Into<Cow<'static, [RegisterName]>>) -> Self {
        Self { names: names.into(), repeats: None, prints: None }
    }

    /// The same, with the register at `offset` printing what is written to it, unless one of these
    /// registers has one of these bits.
    pub fn printing(self, offset: u64, unless: &'static [(u64, u64)]) -> Self {
        Self { prints: Some(Prints { offset, unless: unless.into() }), ..self }
    }

    /// The same, over and over.
    pub fn repeating(self, bytes: u64) -> Self {
        Self { repeats: Some(bytes), ..self }
    }

    /// What stands at an offset in the window, if that is known.
    pub fn name_at(&self, offset: u64) -> Option<String> {
        let offset = self.repeats.map_or(Some(offset), |bytes| offset.checked_rem(bytes))?;
        self.names.iter().find_map(|it| it.at(offset))
    }
}

/// The registers of a window on a bus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowRegisters {
    /// The window's first address.
    pub first: u64,
    /// What is in it.
    #[serde(flatten)]
    pub map: RegisterMap,
}

impl WindowRegisters {
    /// What stands at an address, if that is known.
    pub fn name_at(&self, addr: u64) -> Option<String> {
        self.map.name_at(addr.checked_sub(self.first)?)
    }
}

const fn one() -> u64 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_one(count: &u64) -> bool {
    *count == 1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_none(stride: &u64) -> bool {
    *stride == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[RegisterName] = &[
        RegisterName::dword("CTRL", 0),
        RegisterName::byte("FLAG", 4),
        RegisterName::dword("PRIO", 0x10).times(3, 4),
        RegisterName::new("GATE", 0x20, 2).times(2, 0x10),
    ];

    #[test]
    fn what_is_at_an_offset_has_its_name() {
        let map = RegisterMap::of(NAMES);
        for (offset, name) in [
            (0, Some("CTRL")),
            (3, Some("CTRL+3")),
            (4, Some("FLAG")),
            (5, None),
            (0x10, Some("PRIO[0]")),
            (0x1a, Some("PRIO[2]+2")),
            (0x1c, None),
            (0x30, Some("GATE[1]")),
            (0x32, None),
            (0x40, None),
            (u64::MAX, None),
        ] {
            assert_eq!(map.name_at(offset).as_deref(), name, "{offset:#x}");
        }
        let every = map.repeating(0x100);
        assert_eq!(every.name_at(0x304).as_deref(), Some("FLAG"));
        assert_eq!(every.repeating(0).name_at(0), None, "such a file is damaged");
    }

    #[test]
    fn a_map_is_the_same_after_it_was_written_and_read() {
        let map = RegisterMap::of(NAMES).printing(4, &[(0, 0x80)]).repeating(0x40);
        let window = WindowRegisters { first: 0x900_0000, map };
        let text = serde_json::to_string(&window).unwrap();
        assert_eq!(serde_json::from_str::<WindowRegisters>(&text).unwrap(), window);
        assert_eq!(window.name_at(0x900_0004).as_deref(), Some("FLAG"));
        assert_eq!(window.name_at(0), None);
    }
}
