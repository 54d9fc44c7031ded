//! From a blob to a tree. The blob may be any file: all that is read is checked first.

use std::{ops::Range, str};

use super::{Node, Tree};

/// The header (Devicetree Specification 0.4, 5.2): ten big-endian words.
const HEADER: usize = 40;
const MAGIC: u32 = 0xd00d_feed;
/// The version whose layout this is; its strings block has a size in the header.
const VERSION: u32 = 17;

/// Tokens (5.4.1).
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// As deep as kernels go.
const MAX_DEPTH: usize = 64;

/// Why a blob is no device tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error(
        "it begins with {found:#010x}, and a device tree blob with {MAGIC:#010x} (dtc makes one)"
    )]
    Magic { found: u32 },
    #[error("it is truncated: it has {has} bytes of {needs}")]
    Truncated { has: usize, needs: usize },
    #[error("it has version {version} (compatible with {compatible}), and {VERSION} is understood")]
    Version { version: u32, compatible: u32 },
    #[error("it is damaged at {at:#x}: {problem}")]
    Damaged { at: usize, problem: &'static str },
}

/// Reads a blob, which may be followed by other bytes.
pub fn read(blob: &[u8]) -> Result<Tree, ReadError> {
    let blob = Blob::new(blob)?;
    let mut tree =
        Tree { reserved: blob.reserved()?, boot_cpu: blob.boot_cpu, root: Node::default() };
    // The node that is open, below those that it is inside of.
    let mut open: Vec<Node> = Vec::new();
    blob.walk(|event| match event {
        Event::Begin(name) => open.push(Node::new(name)),
        Event::Property(name, value) => {
            if let Some(node) = open.last_mut() {
                node.set(name, blob.bytes[value].to_vec());
            }
        }
        Event::End => {
            let done = open.pop().unwrap_or_default();
            match open.last_mut() {
                Some(parent) => parent.children.push(done),
                None => tree.root = done,
            }
        }
    })?;
    Ok(tree)
}

/// Where in the blob the value of a property of one of the root's children is.
pub fn property(blob: &[u8], node: &str, name: &str) -> Result<Option<Range<usize>>, ReadError> {
    let (mut path, mut found) = (Vec::new(), None);
    Blob::new(blob)?.walk(|event| match event {
        Event::Begin(name) => path.push(name),
        Event::Property(other, value) => {
            if path[..] == ["", node] && other == name {
                found = Some(value);
            }
        }
        Event::End => {
            path.pop();
        }
    })?;
    Ok(found)
}

/// What the structure block tells, in order. Nodes are well nested in one root, and a property is in
/// a node.
enum Event<'a> {
    Begin(&'a str),
    /// The name, and where in the blob the value is.
    Property(&'a str, Range<usize>),
    End,
}

/// A blob whose header fits it.
struct Blob<'a> {
    bytes: &'a [u8],
    boot_cpu: u32,
    reservations: usize,
    structure: Range<usize>,
    strings: Range<usize>,
}

impl<'a> Blob<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let truncated = |needs| ReadError::Truncated { has: bytes.len(), needs };
        let field = |index: usize| word(bytes, index * 4).ok_or(truncated(HEADER));
        let found = field(0)?;
        if found != MAGIC {
            return Err(ReadError::Magic { found });
        }
        field(HEADER / 4 - 1)?;
        let total = field(1)? as usize;
        let bytes = bytes.get(..total).ok_or(truncated(total))?;
        let (version, compatible) = (field(5)?, field(6)?);
        if version < VERSION || compatible > VERSION {
            return Err(ReadError::Version { version, compatible });
        }
        let block = |offset: u32, size: u32, problem| {
            let range = offset as usize..(offset as usize).saturating_add(size as usize);
            match bytes.get(range.clone()) {
                Some(_) => Ok(range),
                None => Err(ReadError::Damaged { at: range.start, problem }),
            }
        };
        Ok(Self {
            bytes,
            boot_cpu: field(7)?,
            reservations: field(4)? as usize,
            structure: block(field(2)?, field(9)?, "the structure block ends behind the blob")?,
            strings: block(field(3)?, field(8)?, "the strings block ends behind the blob")?,
        })
    }

    /// The memory reservation block (5.3), which ends with a pair of zeros.
    fn reserved(&self) -> Result<Vec<(u64, u64)>, ReadError> {
        let mut reserved = Vec::new();
        let mut at = self.reservations;
        loop {
            let problem = "the memory reservation block has no end";
            let entry = at.checked_add(16).and_then(|end| self.bytes.get(at..end));
            let entry = entry.ok_or(ReadError::Damaged { at, problem })?;
            match (super::big_endian(&entry[..8]), super::big_endian(&entry[8..])) {
                (0, 0) => return Ok(reserved),
                pair => reserved.push(pair),
            }
            at += 16;
        }
    }

    /// Tells `told` what is in the structure block (5.4).
    fn walk(&self, mut told: impl FnMut(Event<'a>)) -> Result<(), ReadError> {
        let structure = &self.bytes[..self.structure.end];
        let mut at = self.structure.start;
        let (mut depth, mut roots) = (0, 0);
        loop {
            let token_at = at;
            let damaged = |problem| ReadError::Damaged { at: token_at, problem };
            let token = word(structure, at).ok_or(damaged("the structure block has no end"))?;
            at += 4;
            match token {
                BEGIN_NODE => {
                    roots += usize::from(depth == 0);
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return Err(damaged("nodes are nested too deep"));
                    }
                    let name = string(structure, at).ok_or(damaged("a node's name has no end"))?;
                    if roots > 1 || (depth == 1) != name.is_empty() {
                        return Err(damaged("there is not one root, without a name"));
                    }
                    at += (name.len() + 1).next_multiple_of(4);
                    told(Event::Begin(name));
                }
                PROP => {
                    let header = (word(structure, at), word(structure, at + 4));
                    let (Some(len), Some(name_at)) = header else {
                        return Err(damaged("a property has no end"));
                    };
                    at += 8;
                    let value = at..at.saturating_add(len as usize);
                    if structure.get(value.clone()).is_none() {
                        return Err(damaged("a property ends behind its block"));
                    }
                    if depth == 0 {
                        return Err(damaged("a property is in no node"));
                    }
                    let strings = &self.bytes[self.strings.clone()];
                    let name = string(strings, name_at as usize)
                        .ok_or(damaged("a property's name is not in the strings block"))?;
                    at = value.end.next_multiple_of(4);
                    told(Event::Property(name, value));
                }
                END_NODE if depth > 0 => {
                    depth -= 1;
                    told(Event::End);
                }
                NOP => {}
                END if depth == 0 && roots == 1 => return Ok(()),
                END => return Err(damaged("the tree ends within a node")),
                _ => return Err(damaged("no token that is known, or one out of place")),
            }
        }
    }
}

/// The big-endian word at an offset.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// The text up to the next NUL.
fn string(bytes: &[u8], at: usize) -> Option<&str> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    str::from_utf8(&rest[..end]).ok()
}
