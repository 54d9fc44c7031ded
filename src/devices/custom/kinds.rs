//! The kinds of devices that a program brings along, and how a configuration names one.

use std::{fmt, marker::PhantomData, sync::Arc};

use serde::{Serialize, Serializer, de::DeserializeOwned};
use serde_json::Value;
use serde_path_to_error::{Segment, Track};

use super::{Clock, CustomDevice, Device, Mapped, Parts, Register, mapped::MakeError, register};
use crate::{
    addr::GuestPhysAddrRange,
    addrspace::AddrSpace,
    devices::{IrqLine, clock::Time},
};

/// Kinds of devices of a program's own, by their names.
#[derive(Clone, Debug, Default)]
pub struct Kinds(Vec<Kind>);

/// What there is to know of a kind before there is a device.
#[derive(Debug)]
pub struct About {
    /// What configurations call it.
    pub kind: &'static str,
    /// Its registers, by ascending offset.
    pub registers: &'static [Register],
    /// How many bytes its window has.
    pub size: u64,
    /// What drivers know it by.
    pub compatible: Option<&'static str>,
    /// Whether it has an interrupt line.
    pub has_interrupt: bool,
    /// What the program calls its type, with the path to it.
    pub type_name: fn() -> &'static str,
}

/// A kind, with what is made of it.
#[derive(Clone, Copy)]
struct Kind {
    about: &'static About,
    check: fn(&Keys) -> Result<(), KeyProblem>,
    make: Make,
}

/// Keys with their values, as configurations have them.
pub type Keys = serde_json::Map<String, Value>;

type Make = fn(&Keys, GuestPhysAddrRange, PartsBut) -> Result<Arc<dyn CustomDevice>, MakeError>;

/// [`Parts`] but for the clock, which is made of the time.
pub struct PartsBut {
    /// What messages call the device.
    pub name: String,
    /// Its interrupt.
    pub line: IrqLine,
    /// The guest's memory.
    pub memory: Arc<AddrSpace>,
    /// Its machine's time.
    pub time: Time,
}

impl PartsBut {
    fn with(self, clock: Arc<dyn Clock>) -> Parts {
        let Self { name, line, memory, time: _ } = self;
        Parts { name, line, memory, clock }
    }
}

/// What is wrong with a device's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyProblem {
    /// Where: a key, then keys or indices inside of its value. Empty: the device as a whole.
    pub path: Vec<String>,
    /// What.
    pub problem: String,
}

/// A device that is asked for: its kind, and the values of its keys.
#[derive(Clone, Serialize)]
pub struct Recipe {
    /// Its kind.
    #[serde(rename = "kind")]
    pub about: &'static About,
    keys: Keys,
    #[serde(skip)]
    make: Make,
}

impl Kinds {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// These, and `D`.
    #[must_use]
    pub fn with<D: Device>(mut self) -> Self {
        let (about, check, make) = (&Of::<D>::ABOUT, Of::<D>::check as _, Of::<D>::make as Make);
        self.0.push(Kind { about, check, make });
        self
    }

    /// What there is to know of each.
    pub fn iter(&self) -> impl Iterator<Item = &'static About> {
        self.0.iter().map(|kind| kind.about)
    }

    /// What keeps a program from using them: it is wrong, not its user.
    pub fn problem(&self) -> Option<String> {
        self.0.iter().enumerate().find_map(|(at, kind)| {
            let About { kind, registers, size, .. } = kind.about;
            let is_taken = || self.0[..at].iter().any(|other| other.about.kind == *kind);
            let is_part = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
            let is_word = !kind.is_empty() && kind.len() <= 31 && kind.chars().all(is_part);
            let form = "its name is small letters, digits and dashes, 31 at most";
            let problem = (!is_word)
                .then(|| form.to_owned())
                .or_else(|| register::problem(registers, *size))
                .or_else(|| is_taken().then(|| "there are two of this name".to_owned()));
            problem.map(|problem| format!("The kind of device {kind:?} cannot be used: {problem}"))
        })
    }

    /// The device of this kind with these keys; `None`: there is no such kind.
    ///
    /// # Errors
    /// What is wrong with the keys.
    pub fn recipe(&self, kind: &str, keys: &Keys) -> Option<Result<Recipe, KeyProblem>> {
        let Kind { about, check, make } = *self.0.iter().find(|it| it.about.kind == kind)?;
        Some(check(keys).map(|()| Recipe { about, keys: keys.clone(), make }))
    }
}

impl Recipe {
    /// Makes the device in its window.
    ///
    /// # Errors
    /// What the device says, and a host that has no timer left.
    pub fn make(
        &self,
        range: GuestPhysAddrRange,
        parts: PartsBut,
    ) -> Result<Arc<dyn CustomDevice>, MakeError> {
        (self.make)(&self.keys, range, parts)
    }
}

/// What a kind is used by.
struct Of<D>(PhantomData<D>);

impl<D: Device> Of<D> {
    const ABOUT: About = About {
        kind: D::KIND,
        registers: D::REGISTERS,
        size: D::SIZE,
        compatible: D::COMPATIBLE,
        has_interrupt: D::HAS_INTERRUPT,
        type_name: std::any::type_name::<D>,
    };

    fn check(keys: &Keys) -> Result<(), KeyProblem> {
        read::<D::Keys>(keys).map(drop)
    }

    fn make(
        keys: &Keys,
        range: GuestPhysAddrRange,
        parts: PartsBut,
    ) -> Result<Arc<dyn CustomDevice>, MakeError> {
        let keys = read::<D::Keys>(keys).map_err(|wrong| MakeError::Refused(wrong.to_string()))?;
        let time = parts.time.clone();
        Ok(Arc::new(Mapped::<D>::new(keys, range, &time, |clock| parts.with(clock))?))
    }
}

/// Reads a device's keys: all that are there, each of the type that it is to have.
pub(super) fn read<K: DeserializeOwned>(keys: &Keys) -> Result<K, KeyProblem> {
    let mut track = Track::new();
    let mut unknown = None;
    let all = Value::Object(keys.clone());
    let tracked = serde_path_to_error::Deserializer::new(all, &mut track);
    let read = serde_ignored::deserialize(tracked, |path| {
        unknown.get_or_insert_with(|| steps(&path));
    });
    match (read, unknown) {
        (Ok(keys), None) => Ok(keys),
        (Ok(_), Some(path)) => Err(KeyProblem { path, problem: "unknown key".to_owned() }),
        (Err(error), _) => {
            let path = track.path();
            let step = |segment: &Segment| match segment {
                Segment::Seq { index } => Some(index.to_string()),
                Segment::Map { key } => Some(key.clone()),
                Segment::Enum { .. } | Segment::Unknown => None,
            };
            let path = path.iter().map_while(step).collect();
            Err(KeyProblem { path, problem: error.to_string() })
        }
    }
}

fn steps(path: &serde_ignored::Path<'_>) -> Vec<String> {
    use serde_ignored::Path;
    let (parent, step) = match path {
        Path::Root => return Vec::new(),
        Path::Seq { parent, index } => (parent, Some(index.to_string())),
        Path::Map { parent, key } => (parent, Some(key.clone())),
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => (parent, None),
    };
    steps(parent).into_iter().chain(step).collect()
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_slice() {
            [] => f.write_str(&self.problem),
            path => write!(f, "{}: {}", path.join("."), self.problem),
        }
    }
}

impl Eq for Recipe {}

impl PartialEq for Recipe {
    fn eq(&self, other: &Self) -> bool {
        self.about.kind == other.about.kind && self.keys == other.keys
    }
}

impl fmt::Debug for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.about.kind, self.keys)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.about.kind)
    }
}

/// Kinds are told apart by their names.
impl PartialEq for About {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Eq for About {}

impl Serialize for About {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.kind)
    }
}
