//! Device trees (Devicetree Specification 0.4): a tree of nodes as a value, however it came to be:
//! put together from a plan, or read from a user's file.

mod read;
mod write;

pub use read::{ReadError, property, read};

use crate::addr::{DeviceAddrRange, GuestPhysAddrRange};

/// A whole tree, with what else a blob holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Address and size, in bytes, of what the memory reservation block keeps off (5.3).
    pub reserved: Vec<(u64, u64)>,
    /// The architectural id of the processor that boots.
    pub boot_cpu: u32,
    pub root: Node,
}

/// A node: its properties, then its children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// With the unit address; empty for the root.
    pub name: String,
    pub properties: Vec<(String, Vec<u8>)>,
    pub children: Vec<Node>,
}

impl Node {
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// `NAME@ADDRESS`.
    pub fn at(name: &str, address: u64) -> Self {
        Self::new(format!("{name}@{address:x}"))
    }

    /// A property without a value: what matters is that it is there.
    pub fn flag(self, name: &str) -> Self {
        self.bytes(name, Vec::new())
    }

    pub fn bytes(mut self, name: &str, value: Vec<u8>) -> Self {
        self.set(name, value);
        self
    }

    pub fn cells(self, name: &str, cells: &[u32]) -> Self {
        self.bytes(name, cells.iter().flat_map(|cell| cell.to_be_bytes()).collect())
    }

    pub fn cell(self, name: &str, cell: u32) -> Self {
        self.cells(name, &[cell])
    }

    pub fn u64(self, name: &str, number: u64) -> Self {
        self.bytes(name, number.to_be_bytes().into())
    }

    pub fn text(self, name: &str, text: &str) -> Self {
        self.texts(name, &[text])
    }

    pub fn texts(self, name: &str, texts: &[&str]) -> Self {
        let nul_ended = texts.iter().flat_map(|text| text.bytes().chain([0]));
        self.bytes(name, nul_ended.collect())
    }

    /// `reg`, with two cells each for addresses and sizes.
    pub fn reg(self, ranges: &[GuestPhysAddrRange]) -> Self {
        let numbers = ranges.iter().flat_map(|range| [range.first().0, range.len()]);
        self.bytes("reg", numbers.flat_map(u64::to_be_bytes).collect())
    }

    pub fn child(mut self, child: Self) -> Self {
        self.children.push(child);
        self
    }

    pub fn children(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children);
        self
    }

    /// Gives a property a value, in place of the one that it has.
    pub fn set(&mut self, name: &str, value: Vec<u8>) {
        match self.properties.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = value,
            None => self.properties.push((name.to_owned(), value)),
        }
    }

    pub fn remove(&mut self, name: &str) {
        self.properties.retain(|(other, _)| other != name);
    }

    /// The value of a property.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.properties.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_slice())
    }

    /// A property of one cell.
    pub fn get_cell(&self, name: &str) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(name)?.try_into().ok()?))
    }

    /// A property of one or two cells, as some numbers have either.
    pub fn get_number(&self, name: &str) -> Option<u64> {
        let value = self.get(name)?;
        match value.len() {
            4 | 8 => Some(big_endian(value)),
            _ => None,
        }
    }

    /// The child of this name, with or without a unit address.
    pub fn find(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.is_called(name))
    }

    pub fn find_mut(&mut self, name: &str) -> Option<&mut Self> {
        self.children.iter_mut().find(|child| child.is_called(name))
    }

    /// The child of this name, which is made if there is none.
    pub fn find_or_add(&mut self, name: &str) -> &mut Self {
        let at = self.children.iter().position(|child| child.is_called(name));
        let at = at.unwrap_or_else(|| {
            self.children.push(Self::new(name));
            self.children.len() - 1
        });
        &mut self.children[at]
    }

    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.name.split_once('@').is_some_and(|(before, _)| before == name)
    }

    /// Whether `device_type` says this.
    pub fn is_of_type(&self, device_type: &str) -> bool {
        self.get("device_type").and_then(|value| value.strip_suffix(&[0]))
            == Some(device_type.as_bytes())
    }
}

/// Cells as a number; of more than two, the last two.
pub fn big_endian(cells: &[u8]) -> u64 {
    cells.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests;
